#!/usr/bin/env python3
"""A gateway is drained under load: a thousand prefixes in use change their anchor, and nothing is lost.

The domain of the demo with routing (GoBGP at each MAAR, BIRD at the core router). One host has the prefixes of a
thousand nodes: each is a node to the gateways, told of by `kedge attach`. All have been at MAAR1 and are at MAAR2, so
that MAAR1 tunnels everything; then `kedge drain` makes MAAR2 the anchor of all of it while traffic runs both ways on
every prefix. Needs root and the release binaries.
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

import topology  # noqa: E402
from topology import CN, NODE_MAC, Domain, maar_address  # noqa: E402

TRAFFIC = str(HERE.parent / "lib" / "traffic.py")
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
NODES = int(os.environ.get("KEDGE_NODES", "1000"))
# Datagrams per second, each way, over all flows.
RATE = int(os.environ.get("KEDGE_RATE", "2000"))
TCP_CONNECTIONS = 8
LINK_LOCAL = "fe80::ff:fe00:a01"


def setUpModule():
    if os.geteuid() != 0:
        raise RuntimeError("the scenario makes network namespaces: run it as root")


class Switches(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.domain = domain = Domain(prefix=f"kedgeswitch{os.getpid()}", routing=True)
        cls.addClassCleanup(domain.remove)
        domain.build()
        # The prefixes of so many nodes are given to the host by hand; the router it learns as ever.
        domain.sysctl("mn", eth0__accept_ra_pinfo=0)
        domain.start()
        domain.plug(1)

    def attach(self, index):
        """Every node attaches, as an access point tells the gateway."""
        domain = self.domain
        kedge = f"{domain.binaries / 'kedge'} --run-directory {domain.run_directory(f'maar{index}')}"
        loop = (f"for i in $(seq {NODES}); do {kedge} attach s$i@example.net --port access --link-layer-address {NODE_MAC} "
                f"--link-local-address {LINK_LOCAL} > /dev/null || exit 1; done")
        domain.on(f"maar{index}", "bash", "-c", loop)
        served = lambda: sum(node["state"] == "attached" and node["identifier"].startswith("s")
                             for node in domain.kedge(f"maar{index}", "show", "nodes"))
        domain.wait(lambda: served() == NODES, 30, f"maar{index} does not serve {NODES} nodes")

    def prefixes(self):
        """Where the CMD says that the first prefix of each node is anchored."""
        found = {}
        for binding in self.domain.kedge("cmd", "show", "bindings"):
            if not binding["identifier"].startswith("s"):
                continue
            anchored = {prefix: binding["serving_maar"] for prefix in binding["prefixes"]}
            anchored |= {previous["prefix"]: previous["address"] for previous in binding["previous"]}
            found |= {prefix: anchor for prefix, anchor in anchored.items() if prefix.startswith("2001:db8:100:")}
        return found

    def start(self, host, *arguments):
        return self.domain.popen(host, PYTHON, "-u", TRAFFIC, *arguments, stdout=subprocess.PIPE)

    def end(self, process):
        process.terminate()
        return json.loads(process.communicate(timeout=60)[0].strip().splitlines()[-1])

    def test_a_gateway_is_drained_under_load(self):
        domain = self.domain
        self.attach(1)
        prefixes = sorted(self.prefixes())
        self.assertEqual(len(prefixes), NODES)
        addresses = [prefix.replace("::/64", "::1") for prefix in prefixes]
        flows = domain.directory / "flows"
        flows.write_text("\n".join(addresses))
        batch = domain.directory / "addresses"
        batch.write_text("".join(f"addr add {address}/128 dev lo nodad\n" for address in addresses))
        domain.ip("mn", "-batch", str(batch))
        # The host moves once, and with it everybody.
        domain.plug(2)
        self.attach(2)
        moved = lambda: all(state["state"] == "confirmed" for binding in domain.kedge("cmd", "show", "bindings")
                            for state in binding["previous"])
        domain.wait(moved, 60, "not every anchor has confirmed where its node is")
        self.assertEqual(set(self.prefixes().values()), {maar_address(1)})
        domain.wait(lambda: sum(maar == "maar1" for maar in domain.bgp_routes().values()) >= NODES, 30, "routes are missing")

        server = self.start("cn", "tcp-serve", CN, "4003")
        receivers = {"down": self.start("mn", "fan-receive", "::", "4001"), "up": self.start("cn", "fan-receive", "::", "4002")}
        time.sleep(1)
        senders = {"down": self.start("cn", "fan-send", "down", str(flows), CN, "4001", str(RATE)),
                   "up": self.start("mn", "fan-send", "up", str(flows), CN, "4002", str(RATE))}
        clients = [self.start("mn", "tcp-client", address, CN, "4003", "20000", "1000") for address in addresses[:TCP_CONNECTIONS]]
        time.sleep(2)

        began = time.monotonic()
        answer = domain.kedge("cmd", "drain", maar_address(1))
        took = time.monotonic() - began
        self.assertEqual(answer["to_relocate"], 0)
        self.assertEqual(set(self.prefixes().values()), {maar_address(2)})
        time.sleep(2)

        tcp = [self.end(client) for client in clients]
        sent = {way: self.end(sender) for way, sender in senders.items()}
        time.sleep(1)
        received = {way: self.end(receiver) for way, receiver in receivers.items()}
        server.terminate()
        lines = []
        for way in ("down", "up"):
            each = received[way].values()
            figures = {key: sum(flow[key] for flow in each) for key in ("received", "reordered", "duplicated")}
            lost = sum(sent[way]) - figures["received"]
            silence = max(flow["silence_ms"] for flow in each)
            lines.append((lost, figures["reordered"], figures["duplicated"]))
            print(f"{way}: {sum(sent[way])} sent in {len(sent[way])} flows, {lost} lost, {figures['reordered']} reordered, "
                  f"{figures['duplicated']} duplicated; longest silence of a flow {silence:.0f} ms, "
                  f"{1000 * NODES / RATE:.0f} ms being between two of its datagrams", file=sys.stderr)
        drops = {f"maar{index} {reason}": count for index in (1, 2)
                 for reason, count in domain.kedge(f"maar{index}", "show", "drops").items() if count}
        # What a port had no room for while its worker did not run: two cores have a lot to do here.
        drops |= {f"maar{index} {port['name']} {name}": port[name] for index in (1, 2) for port in domain.kedge(f"maar{index}", "show", "ports")
                  for name in port if ("missed" in name or "no_buffer" in name or "errors" in name) and port[name]}
        print(f"{NODES} anchors moved in {took:.1f} s; TCP: {sum(it['octets'] for it in tcp)} octets in {len(tcp)} connections; "
              f"drops: {drops}", file=sys.stderr)
        self.assertEqual([it["error"] for it in tcp if not it["ok"]], [])
        self.assertEqual(lines, [(0, 0, 0), (0, 0, 0)], drops)
        # Every route has followed, and MAAR1 forgets.
        routes = domain.bgp_routes()
        self.assertEqual({routes.get(prefix) for prefix in prefixes}, {"maar2"})
        domain.wait(lambda: not [node for node in domain.kedge("maar1", "show", "nodes") if node["identifier"].startswith("s")],
                    30, "maar1 remembers nodes that it has nothing to do with")


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
