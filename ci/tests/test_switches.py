#!/usr/bin/env python3
"""A gateway is drained under load: a thousand prefixes in use change their anchor, and nothing is lost.

The domain of the demo with routing (GoBGP at each MAAR, BIRD at the core router), and Kea, of which each MAAR has its
pool. One host has the prefixes of a
thousand nodes: each is a node to the gateways, told of by `kedge attach`. All have been at MAAR1 and are at MAAR2, so
that MAAR1 tunnels everything; then `kedge drain` makes MAAR2 the anchor of all of it while traffic runs both ways on
every prefix: a little on each, and much on some, whose datagrams follow each other so closely that every one of their switches has
several of them on either way. Needs root and the release binaries.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

import crowd  # noqa: E402
from flows import Flows, total  # noqa: E402
from namespaces import PYTHON, last_report, need_root as setUpModule  # noqa: E402
from topology import CN, NODE, Domain, MeterAtOne, maar_address  # noqa: E402

NODES = int(os.environ.get("KEDGE_NODES", "1000"))
# Datagrams per second, each way, over all flows.
RATE = int(os.environ.get("KEDGE_RATE", "2000"))
# Flows of which each has so many per second, too.
BUSY = int(os.environ.get("KEDGE_BUSY", "10"))
BUSY_RATE = int(os.environ.get("KEDGE_BUSY_RATE", "100"))
TCP_CONNECTIONS = 8


class Switches(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        crowd.give_domain(cls, "kedgeswitch", NODES)

    def test_a_gateway_is_drained_under_load(self):
        domain = self.domain
        self.crowd.attach(1)
        addresses = self.crowd.addresses()
        self.assertEqual(len(addresses), NODES)
        # The host moves once, and with it everybody.
        self.crowd.move(2)
        prefixes = self.crowd.prefixes()
        domain.wait(lambda: sum(maar == "maar1" for maar in domain.bgp_routes().values()) >= NODES, 30, "routes are missing")

        server = domain.traffic("cn", "tcp-serve", CN, "4003")
        domain.wait(lambda: f":{4003:04X} " in domain.on("cn", "cat", "/proc/net/tcp6"), 10, "the server does not listen")
        clients = [domain.traffic("mn", "tcp-client", address, CN, "4003", "20000", "1000") for address in addresses[:TCP_CONNECTIONS]]
        for client in clients:
            self.assertIn("connected", client.stdout.readline())
        # Eight programs that start at once keep two cores from gateways for longer than af_packet's rings hold what comes, which no
        # counter of DPDK 22.11 says: flows begin when they run.
        kinds = {"": (addresses, RATE, 4001), "busy ": (addresses[-BUSY:], BUSY * BUSY_RATE, 4004)}
        flows = {kind: Flows(domain, *what) for kind, what in kinds.items()}
        time.sleep(2)

        before = sum(domain.kedge(f"maar{index}", "show", "stages")["held"] for index in (1, 2))
        began = time.monotonic()
        answer = domain.kedge("cmd", "drain", maar_address(1))
        took = time.monotonic() - began
        self.assertEqual(answer["to_relocate"], 0)
        self.assertEqual(set(self.crowd.prefixes().values()), {maar_address(2)})
        time.sleep(2)

        tcp = [last_report(client) for client in clients]
        became = {kind: it.end() for kind, it in flows.items()}
        server.terminate()
        lines = []
        for kind, (_, rate, _) in kinds.items():
            for way in ("down", "up"):
                each = [flow for (its, _), flow in became[kind].items() if its == way]
                lost, reordered, duplicated = line = [total(each, key) for key in ("lost", "reordered", "duplicated")]
                lines.append(line)
                print(f"{kind}{way}: {total(each, 'sent')} sent in {len(each)} flows, {lost} lost, {reordered} reordered, {duplicated} duplicated; "
                      f"longest silence of a flow {max(flow['silence_ms'] for flow in each):.0f} ms, "
                      f"{1000 * len(each) / rate:.0f} ms being between two of its datagrams", file=sys.stderr)
        drops = {f"maar{index} {reason}": count for index in (1, 2)
                 for reason, count in domain.kedge(f"maar{index}", "show", "drops").items() if count}
        # What a port had no room for while its worker did not run: two cores have a lot to do here.
        drops |= {f"maar{index} {port['name']} {name}": port[name] for index in (1, 2) for port in domain.kedge(f"maar{index}", "show", "ports")
                  for name in port if ("missed" in name or "no_buffer" in name or "errors" in name) and port[name]}
        # And what hosts and the router between them had none for, or no way.
        for host in ("cn", "mn", "core"):
            lines_of = domain.on(host, "cat", "/proc/net/snmp6").splitlines()
            counted = {name: int(value) for name, value in (line.split() for line in lines_of)}
            drops |= {f"{host} {name}": counted[name] for name in ("Udp6RcvbufErrors", "Ip6InNoRoutes", "Ip6OutNoRoutes", "Ip6InDiscards",
                                                                   "Ip6OutDiscards") if counted[name]}
        waited = sum(domain.kedge(f"maar{index}", "show", "stages")["held"] for index in (1, 2)) - before
        print(f"{NODES} anchors moved in {took:.1f} s, {waited} packets waited; TCP: {sum(it['octets'] for it in tcp)} octets in {len(tcp)} connections; "
              f"drops: {drops}", file=sys.stderr)
        self.assertEqual([it["error"] for it in tcp if not it["ok"]], [])
        self.assertEqual(lines, [[0, 0, 0]] * 2 * len(kinds), drops)
        # Each switch of a busy flow has some on the way: had nothing waited, nothing would have been tried.
        self.assertGreater(waited, BUSY)
        # Every route has followed, and MAAR1 forgets.
        routes = domain.bgp_routes()
        self.assertEqual({routes.get(prefix) for prefix in prefixes}, {"maar2"})
        domain.wait(lambda: not self.crowd.known(1), 30, "maar1 remembers nodes that it has nothing to do with")


class Bounds(unittest.TestCase):
    """Packets wait in vain: what is lost is what a gateway says, to the packet."""

    HOLD = 10

    def test_beyond_the_bounds_as_many_are_lost_as_are_counted(self):
        with Domain(prefix=f"kedgebound{os.getpid()}", dataplane=f"hold.packets_per_prefix = {self.HOLD}", routing=True) as domain:
            domain.start()
            domain.plug(1)
            address = domain.preferred_address(1)
            # A node is away for longer than its prefix may hold.
            flows = Flows(domain, [address], 500)
            time.sleep(0.3)
            domain.kedge("maar1", "detach", NODE)
            time.sleep(0.4)
            domain.plug(2)
            domain.preferred_address(2)
            time.sleep(0.5)
            became = flows.end()
            drops = self.drops(domain)
            down = became["down", address]
            self.report("a node is away", became, drops)
            self.assertGreater(down["lost"], self.HOLD)
            self.assertEqual((drops.get("maar1 hold_prefix_full"), down["reordered"], down["duplicated"]), (down["lost"], 0, 0))

            # Its anchor moves, at a rate at which more wait for the end of the old way than may.
            prefix = next(it["prefix"] for it in domain.kedge("cmd", "show", "bindings")[0]["previous"])
            confirmed = lambda: domain.kedge("cmd", "show", "bindings")[0]["previous"][0]["state"] == "confirmed"
            domain.wait(confirmed, 5, "maar1 does not know where the node is")
            flows = Flows(domain, [address], 2000)
            time.sleep(0.5)
            domain.kedge("cmd", "relocate", prefix, "--to", maar_address(2))
            domain.wait(lambda: domain.bgp_routes().get(prefix) == "maar2", 5, "the route did not follow")
            time.sleep(0.5)
            became = flows.end()
            grown = {reason: count - drops.get(reason, 0) for reason, count in self.drops(domain).items()}
            grown = {reason: count for reason, count in grown.items() if count}
            self.report("kedge relocate", became, grown)
        self.assertEqual([total(became.values(), key) for key in ("reordered", "duplicated")], [0, 0])
        self.assertGreater(became["down", address]["lost"], 0)
        self.assertEqual(total(became.values(), "lost"), sum(grown.values()))
        self.assertLessEqual(set(grown), {"maar2 hold_prefix_full", "maar2 unknown_full"})

    def drops(self, domain):
        return {f"maar{index} {reason}": count for index in (1, 2) for reason, count in domain.kedge(f"maar{index}", "show", "drops").items() if count}

    def report(self, what, became, drops):
        for (way, _), flow in became.items():
            print(f"{what}, {way}: {flow['sent']} sent, {flow['lost']} lost, {flow['reordered']} reordered, {flow['duplicated']} duplicated; drops: {drops}",
                  file=sys.stderr)


class Demo(unittest.TestCase):
    def test_the_anchor_follows_the_node(self):
        """`ci/demo --switch relocate`, by its report."""
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "report.json"
            demo = subprocess.run([PYTHON, str(HERE.parent / "lib" / "demo.py"), "--switch", "relocate", "--seconds-per-stay", "4",
                                   "--report", str(path)], text=True, capture_output=True)
            self.assertEqual(demo.returncode, 0, demo.stdout[-6000:] + demo.stderr)
            report = json.loads(path.read_text())
        hands = [(it["from"], it["to"]) for it in report["relocations"]]
        self.assertEqual(hands, [("maar1", "maar2"), ("maar2", "maar3"), ("maar3", "maar1")])
        for relocation in report["relocations"]:
            self.assertTrue(relocation["no_tunnel"])
            for way, figures in relocation["directions"].items():
                each = {name: figures[name] for name in ("lost", "reordered", "duplicated")}
                self.assertEqual(each, {"lost": 0, "reordered": 0, "duplicated": 0}, (relocation, way))
        self.assertTrue(report["tcp"]["ok"])


# Of the meter "thin", octets.
RATE_OF_THIN, BURST_OF_THIN = 10_000, 200_000
# Datagrams of `fan-send` as IPv6 packets.
OCTETS = 40 + 8 + 100


class Context(unittest.TestCase):
    def test_what_was_counted_and_filters_go_with_the_prefix(self):
        with MeterAtOne(prefix=f"kedgecontext{os.getpid()}", routing=True, maar="charging_interval_s = 1") as domain:
            domain.start()
            domain.plug(1)
            home = domain.preferred_address(1)
            prefix, = [it["prefix"] for node in domain.kedge("maar1", "show", "nodes") for it in node["prefixes"]]
            domain.kedge("maar1", "filter", "add", "rated", "--node", NODE, "--protocol", "udp", "--destination-ports", "4001-4002",
                         "--action", "meter", "--meter", "gold", "--idle-timeout", "600")
            domain.kedge("maar1", "filter", "add", "guard", "--node", NODE, "--protocol", "udp", "--destination-ports", "4999",
                         "--action", "drop")
            # All of the node's, and too much of it to be green for long.
            domain.kedge("maar1", "filter", "add", "all", "--node", NODE, "--protocol", "udp", "--action", "node-meter", "--meter", "thin")
            flows = domain.directory / "flows"
            flows.write_text(home)
            receivers = {"down": domain.traffic("mn", "fan-receive", "::", "4001"), "up": domain.traffic("cn", "fan-receive", "::", "4002")}
            sent = {"down": 0, "up": 0}
            time.sleep(1)

            def senders():
                return {"down": domain.traffic("cn", "fan-send", "down", str(flows), CN, "4001", "300"),
                        "up": domain.traffic("mn", "fan-send", "up", str(flows), CN, "4002", "300")}

            def stop(running):
                for way, sender in running.items():
                    sent[way] += sum(last_report(sender))

            charged = lambda index: {it["prefix"]: it for it in domain.kedge(f"maar{index}", "charging", "show")["prefixes"]}
            began = time.monotonic()
            running = senders()
            time.sleep(2)
            stop(running)
            time.sleep(0.5)
            at_home = charged(1)[prefix]
            self.assertEqual((at_home["to_packets"], at_home["from_packets"]), (sent["down"], sent["up"]))
            domain.plug(2, announced=True)
            domain.preferred_address(2)
            previous = lambda: domain.kedge("cmd", "show", "bindings")[0]["previous"]
            confirmed = lambda: all(it["state"] == "confirmed" for it in previous())
            domain.wait(confirmed, 5, "maar1 does not know where the node is")
            # Tunnelled, and then not any more.
            running = senders()
            time.sleep(2)
            rules = lambda index: {it["name"]: it for it in domain.kedge(f"maar{index}", "filter", "show")}
            domain.kedge("cmd", "relocate", prefix, "--to", maar_address(2))
            self.assertEqual(set(rules(2)), {"rated", "guard", "all"}, "the filters did not come before the prefix")
            time.sleep(4)
            # Whoever dies in between tells when it is back.
            domain.daemons["maar1-controlplane"].kill()
            domain.daemons["cmd-controlplane"].kill()
            domain.daemons["maar1-controlplane"].start()
            domain.daemons["cmd-controlplane"].start()
            domain.wait_ready(1)
            stop(running)
            time.sleep(0.5)
            # To a third one, from where they are only for this prefix.
            domain.plug(3, announced=True)
            domain.preferred_address(3)
            domain.wait(lambda: len(previous()) == 2 and confirmed(), 5, "maar2 does not know where the node is")
            running = senders()
            time.sleep(2)
            domain.kedge("cmd", "relocate", prefix, "--to", maar_address(3))
            time.sleep(4)
            stop(running)
            lasted = time.monotonic() - began
            time.sleep(0.5)
            for index in (1, 2):
                domain.wait(lambda: prefix not in charged(index), 30, f"maar{index} has not handed over what it counted")
            total = lambda: (charged(3)[prefix]["to_packets"], charged(3)[prefix]["from_packets"])
            domain.wait(lambda: sum(total()) >= sum(sent.values()), 10, "not all that was counted has come")
            self.assertEqual(total(), (sent["down"], sent["up"]))
            octets = {way: OCTETS * packets for way, packets in sent.items()}
            self.assertEqual([charged(3)[prefix][f"{way}_bytes"] for way in ("to", "from")], [octets["down"], octets["up"]])
            # Of filters, and of their meters, not a packet is missing and none is there twice.
            by_filter = lambda: {it["name"]: it for it in domain.kedge("maar3", "charging", "show", prefix)["filters"]}
            figures = lambda name, what: [by_filter()[name][f"{way}_node_{what}"] for way in ("to", "from")]
            # What each filter has counted comes by itself.
            all_there = lambda: all(sum(figures(name, "packets")) >= sum(sent.values()) for name in ("rated", "all"))
            domain.wait(all_there, 10, "not all that filters have counted has come")
            print(f"{sent} sent; by filter: {by_filter()}", file=sys.stderr)
            for name in ("rated", "all"):
                self.assertEqual(figures(name, "packets"), [sent["down"], sent["up"]], name)
                self.assertEqual(figures(name, "bytes"), [octets["down"], octets["up"]], name)
            self.assertEqual(figures("guard", "packets"), [0, 0])
            packets, all_octets = sum(sent.values()), sum(octets.values())
            colours = lambda it: [it[f"{colour}_{what}"] for what in ("packets", "bytes") for colour in ("green", "yellow", "red")]
            self.assertEqual(colours(by_filter()["rated"]), [packets, 0, 0, all_octets, 0, 0])
            green, yellow, red, *of_them = colours(by_filter()["all"])
            self.assertEqual((green + yellow, red, sum(of_them)), (packets, 0, all_octets))
            # The burst was there once, and not anew after each move: but for the seconds in which both had some of its packets.
            once = BURST_OF_THIN + RATE_OF_THIN * lasted
            print(f"thin: {of_them[0]} octets green of {all_octets}; one bucket all the time would have let {once:.0f} pass", file=sys.stderr)
            self.assertLess(of_them[0], once + 2 * 3 * RATE_OF_THIN)
            self.assertGreater(all_octets, once + BURST_OF_THIN)
            self.assertEqual(charged(3)[prefix]["first_unix_ms"], at_home["first_unix_ms"])

            # The filters are there with what they had counted, for this prefix alone, and the meters with them.
            rated = rules(3)["rated"]
            self.assertEqual((rated["prefixes"], rated["idle_timeout_s"], rated["configured"]), ([prefix], 600, False))
            self.assertEqual([rated[f"{way}_node_packets"] for way in ("to", "from")], [sent["down"], sent["up"]])
            self.assertEqual((rules(2), rules(1).keys()), ({}, {"rated", "guard", "all"}))
            meter, thin = domain.kedge("maar3", "show", "meters")
            self.assertEqual((meter["name"], meter["configured"], meter["cir_bits_per_second"]), ("gold", False, 100000000))
            use, = meter["uses"]
            self.assertEqual((use["node"], use["filter"], use["green_packets"], use["red_packets"]), (NODE, "rated", packets, 0))
            self.assertEqual(colours(thin["uses"][0]), [green, yellow, red, *of_them])
            metrics = domain.on("maar3", "curl", "-s", "http://[::1]:9110/metrics")
            self.assertIn('kedge_controlplane_meter_packets_total{colour="green",meter="gold"}', metrics)
            dropped = lambda: domain.kedge("maar3", "show", "drops")["flow_filtered"]
            before = dropped()
            running = domain.traffic("mn", "fan-send", "up", str(flows), CN, "4999", "100")
            domain.wait(lambda: dropped() - before >= 20, 10, "the filter does not act where it has come to")
            guarded = sum(last_report(running))

            # Home again, where the rules have stayed for what else the node has. Who receives is there until the end: where nobody
            # is, hosts answer with errors, and those are counted too.
            domain.plug(1, announced=True)
            domain.preferred_address(1)
            domain.wait(lambda: previous() and confirmed(), 5, "maar3 does not know where the node is")
            running = senders()
            time.sleep(2)
            domain.kedge("cmd", "relocate", prefix, "--to", maar_address(1))
            time.sleep(2)
            stop(running)
            domain.wait(lambda: prefix not in charged(3), 30, "maar3 has not handed over what it counted")
            total = lambda: (charged(1)[prefix]["to_packets"], charged(1)[prefix]["from_packets"])
            domain.wait(lambda: sum(total()) >= sum(sent.values()) + guarded, 10, "not all that was counted has come home")
            self.assertEqual(total(), (sent["down"], sent["up"] + guarded))
            by_filter = lambda: {it["name"]: it for it in domain.kedge("maar1", "charging", "show", prefix)["filters"]}
            domain.wait(all_there, 10, "not all that filters have counted has come home")
            print(f"{sent} and {guarded} sent; at home by filter: {by_filter()}", file=sys.stderr)
            self.assertEqual(figures("rated", "packets"), [sent["down"], sent["up"]])
            self.assertEqual(figures("all", "packets"), [sent["down"], sent["up"]])
            self.assertEqual(figures("guard", "packets"), [0, guarded])
            # The second senders began with number 0 again.
            received = {way: sum(flow["received"] + flow["duplicated"] for flow in last_report(receiver).values())
                        for way, receiver in receivers.items()}
            self.assertEqual(received, sent)


class Idle(unittest.TestCase):
    def test_a_prefix_that_nobody_uses_goes_home_and_its_route_goes(self):
        with Domain(prefix=f"kedgeidle{os.getpid()}", routing=True, maar="idle_prefix_s = 3") as domain:
            domain.start()
            domain.plug(1)
            domain.preferred_address(1)
            domain.plug(2, announced=True)
            domain.preferred_address(2)
            prefixes = lambda index: {prefix["prefix"]: prefix["anchor"] for node in domain.kedge(f"maar{index}", "show", "nodes")
                                      for prefix in node["prefixes"]}
            old, = [prefix for prefix in prefixes(2) if prefix.startswith("2001:db8:100:")]
            # While it is used it stays.
            address = next(it for it, _ in domain.node_addresses() if it.startswith("2001:db8:100:"))
            ping = domain.popen("mn", "ping", "-6", "-i", "0.5", "-I", address, CN, stdout=subprocess.DEVNULL)
            confirmed = lambda: domain.kedge("cmd", "show", "bindings")[0]["previous"][0]["state"] == "confirmed"
            domain.wait(confirmed, 5, "maar1 does not know where the node is")
            domain.kedge("cmd", "relocate", old, "--to", maar_address(2))
            domain.wait(lambda: domain.bgp_routes().get(old) == "maar2", 5, "the route did not follow")
            time.sleep(5)
            self.assertEqual(prefixes(2).get(old), maar_address(2))
            ping.terminate()
            domain.wait(lambda: old not in prefixes(2), 15, "it was not given up")
            domain.wait(lambda: old not in domain.bgp_routes(), 5, "the route is still there")
            self.assertEqual(len(prefixes(2)), 1)
            # At home it is free, and the node forgotten.
            domain.wait(lambda: not prefixes(1), 15, "maar1 remembers the node")
            self.assertEqual(domain.kedge("cmd", "show", "bindings")[0]["previous"], [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
