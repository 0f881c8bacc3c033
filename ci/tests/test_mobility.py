#!/usr/bin/env python3
"""How much mobility nodes get by policy, and networks behind nodes that are routers, in the domain of the demo.

A router is a Linux host that forwards, with dhcpcd, or dibbler, as its DHCPv6 client; behind it is a host of its own. Needs root,
the release binaries, and what ci/setup installs.
"""

import ipaddress
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

from namespaces import last_report, need_root as setUpModule  # noqa: E402
from topology import CN, MAARS, Domain, maar_address, pool  # noqa: E402

# Datagrams per second, each way.
RATE = 200


def networks(index):
    """Of which the prefixes for networks behind nodes are."""
    return f"2001:db8:f{index}00::/40"


class WithRouters(Domain):
    """A domain whose MAARs delegate, and whose node is a router with a host behind it."""

    def write_configurations(self):
        super().write_configurations()
        for index in MAARS:
            path = self.directory / f"maar{index}.toml"
            lifetimes = "preferred_lifetime = 8\nvalid_lifetime = 16"
            routers = f'[maar.mobile_routers]\npools = ["{networks(index)}"]\n{lifetimes}\n\n[access]'
            path.write_text(path.read_text().replace("[access]", routers))
        path = self.directory / "cmd.toml"
        text = path.read_text()
        for index in MAARS:
            text = text.replace(f'"{pool(index)}"', f'"{pool(index)}", "{networks(index)}"')
        path.write_text(text)

    def build(self):
        super().build()
        self.namespace("lan")
        self.link("mn", "eth1", "lan", "eth0")
        self.sysctl("mn", all__forwarding=1, eth0__accept_ra=2)
        self.ip("mn", "link", "set", "eth1", "up")
        self.ip("lan", "link", "set", "eth0", "up")
        if not self.routing:
            for index in MAARS:
                self.ip("core", "route", "add", networks(index), "via", f"2001:db8:ca{index}::2")

    def client(self, name):
        """Starts a DHCPv6 client on the router."""
        (self.directory / "dhcpcd.conf").write_text(
            # The link goes and comes back: the prefix is the same, so nothing is to be done about that.
            "duid\nnodev\nnolink\nnoipv4\nnoarp\nnohook resolv.conf, hostname, timesyncd.conf\nipv6only\nnoipv6rs\n"
            "allowinterfaces eth0 eth1\ninterface eth0\n  iaid 7\n  ia_pd 9 eth1/0\n")
        (self.directory / "dibbler.conf").write_text(
            "log-level 7\nlog-mode short\nduid-type duid-ll\nstrict-rfc-no-routing\ndownlink-prefix-ifaces \"eth1\"\n"
            "iface eth0 { pd }\n")
        command = {"dhcpcd": ["dhcpcd", "-B", "-d", "-f", str(self.directory / "dhcpcd.conf"), "-6", "eth0", "eth1"],
                   "dibbler": ["dibbler-client", "run"]}[name]
        # What it writes is gone with it.
        scratch = ("/run", "/var/lib/dhcpcd", "/var/lib/dibbler", "/var/log/dibbler", "/etc/dibbler")
        mounts = " && ".join(f"mount -t tmpfs none {path}" for path in scratch if pathlib.Path(path).is_dir())
        copy = f"{{ cp {self.directory}/dibbler.conf /etc/dibbler/client.conf 2> /dev/null; mkdir -p /run/dhcpcd; true; }}"
        self.log = self.directory / f"{name}.log"
        with open(self.log, "ab") as log:
            return self.popen("mn", "unshare", "-m", "sh", "-c", f'{mounts} && {copy} && exec "$@"', "sh", *command,
                              stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def network(self, index):
        """The prefix of the network behind the node, as a MAAR has it, with its anchor."""
        nodes = self.kedge(f"maar{index}", "show", "nodes")
        found = [(it["prefix"], it["anchor"]) for node in nodes for it in node["prefixes"] if it["network"]]
        return found[0] if found else None

    def on_lan(self, by_hand=False):
        """Gives the host behind the router an address, when the router has one there. By hand: the client leaves that to others."""
        if by_hand:
            self.wait(lambda: self.network(self.at), 20, "the client got no prefix")
            first = ipaddress.ip_network(self.network(self.at)[0])[1]
            self.ip("mn", "addr", "replace", f"{first}/64", "dev", "eth1", "nodad")
        def routers():
            shown = json.loads(self.on("mn", "ip", "-j", "-6", "addr", "show", "dev", "eth1", "scope", "global"))
            return [it["local"] for interface in shown for it in interface.get("addr_info", []) if it.get("local")]
        try:
            self.wait(routers, 20, "the router has no address for its network")
        except Exception as error:
            raise AssertionError(f"{error}\n{self.log.read_text(errors='replace')[-4000:]}") from None
        router = ipaddress.ip_address(routers()[0])
        address = str(router + 0x99)
        self.ip("lan", "addr", "add", f"{address}/64", "dev", "eth0", "nodad")
        self.ip("lan", "route", "replace", "default", "via", str(router))
        return address

    def counter(self, host, name):
        counters = self.kedge(host, "show", "counters")
        if isinstance(counters, list):
            counters = {it["name"]: it["value"] for it in counters}
        elif "controlplane" in counters:
            counters = counters["controlplane"]
        return counters.get(name, 0)


class Routers(unittest.TestCase):
    def test_the_network_behind_a_router_moves_with_it(self):
        with WithRouters(prefix=f"kedgenemo{os.getpid()}", routing=True) as domain:
            domain.start()
            domain.plug(1)
            domain.preferred_address(1)
            domain.client("dhcpcd")
            address = domain.on_lan()
            prefix, anchor = domain.network(1)
            self.assertEqual(anchor, maar_address(1))
            self.assertTrue(ipaddress.ip_network(prefix).subnet_of(ipaddress.ip_network(networks(1))))
            domain.wait(lambda: domain.bgp_routes().get(prefix) == "maar1", 10, "no route leads to the network")
            domain.on("lan", "ping", "-6", "-c3", "-i0.2", "-W1", "-I", address, CN)

            flows = domain.directory / "flows"
            flows.write_text(address + "\n")
            receivers = {"down": domain.traffic("lan", "fan-receive", "::", "4001"),
                         "up": domain.traffic("cn", "fan-receive", "::", "4002")}
            server = domain.traffic("cn", "tcp-serve", CN, "4003")
            time.sleep(0.5)
            senders = {"down": domain.traffic("cn", "fan-send", "down", str(flows), CN, "4001", str(RATE)),
                       "up": domain.traffic("lan", "fan-send", "up", str(flows), CN, "4002", str(RATE))}
            tcp = domain.traffic("lan", "tcp-client", address, CN, "4003", "20000", "1000")
            time.sleep(1)
            domain.plug(2, announced=True)
            domain.preferred_address(2)
            domain.wait(lambda: domain.network(2) == (prefix, maar_address(1)), 5, "maar2 does not know of the network")
            time.sleep(1)
            # The anchor follows, in use.
            domain.kedge("cmd", "relocate", prefix, "--to", maar_address(2))
            domain.wait(lambda: domain.bgp_routes().get(prefix) == "maar2", 5, "the route did not follow")
            self.assertEqual(domain.network(2), (prefix, maar_address(2)))
            time.sleep(1)
            domain.plug(3, announced=True)
            domain.preferred_address(3)
            time.sleep(1)

            ended = last_report(tcp)
            sent = {way: sum(last_report(sender)) for way, sender in senders.items()}
            time.sleep(1)
            received = {way: last_report(receiver) for way, receiver in receivers.items()}
            server.terminate()
            figures = {}
            for way in ("down", "up"):
                flow = {key: sum(it[key] for it in received[way].values()) for key in ("received", "reordered", "duplicated")}
                figures[way] = {"sent": sent[way], "lost": sent[way] - flow["received"], **flow}
            print(f"two moves and a relocation of {prefix}: {figures}; TCP {ended}", file=sys.stderr)
            self.assertTrue(ended["ok"], ended)
            self.assertEqual([figures["down"][it] for it in ("lost", "reordered", "duplicated")], [0, 0, 0], figures)
            self.assertEqual([figures["up"][it] for it in ("reordered", "duplicated")], [0, 0], figures)
            # What the router would send while its link is down, some 10 ms for each move, has nowhere to go.
            self.assertLessEqual(figures["up"]["lost"], 2 * RATE // 10, figures)
            # Whoever serves it renews it: dhcpcd does every 4 s.
            domain.wait(lambda: domain.counter("maar3", "dhcp_messages") >= 1, 15, "the client has not renewed its prefix")
            self.assertEqual(domain.network(3), (prefix, maar_address(2)))
            domain.on("lan", "ping", "-6", "-c3", "-i0.2", "-W1", "-I", address, CN)

    @unittest.skipUnless(shutil.which("dibbler-client"), "dibbler is not installed")
    def test_a_router_that_goes_away_without_a_word_loses_its_network(self):
        with WithRouters(prefix=f"kedgenemo{os.getpid()}") as domain:
            domain.start()
            domain.plug(1)
            domain.preferred_address(1)
            client = domain.client("dibbler")
            address = domain.on_lan(by_hand=True)
            prefix, _ = domain.network(1)
            domain.on("lan", "ping", "-6", "-c3", "-i0.2", "-W1", "-I", address, CN)
            # The MAAR and the CMD are killed: both know what they gave.
            for name in ("maar1-controlplane", "cmd-controlplane"):
                domain.daemons[name].kill()
                domain.daemons[name].start()
            domain.wait(lambda: domain.kedge("maar1", "show", "nodes", check=False), 10, "maar1 did not come back")
            domain.wait(lambda: domain.counter("maar1", "dhcp_messages") >= 1, 15, "the client has not renewed its prefix")
            self.assertEqual(domain.network(1), (prefix, maar_address(1)))
            domain.on("lan", "ping", "-6", "-c3", "-i0.2", "-W1", "-I", address, CN)
            client.kill()
            domain.wait(lambda: not domain.network(1), 30, "the network is still there")
            [binding] = domain.kedge("cmd", "show", "bindings")
            self.assertEqual([it for it in binding["prefixes"] if it.startswith("2001:db8:f")], [])


class Policies(unittest.TestCase):
    def test_how_much_mobility_a_node_gets(self):
        with Domain(prefix=f"kedgepolicy{os.getpid()}", routing=True) as domain:
            domain.start()
            kedge = lambda *arguments: domain.kedge("cmd", "policy", *arguments)
            kedge("set", "calls", "--node-like", "mn*@example.net", "--mobility", "none")
            self.assertEqual([it["name"] for it in kedge("show")], ["calls"])
            domain.plug(1)
            first = domain.preferred_address(1)
            domain.plug(2)
            second = domain.preferred_address(2)
            # The old prefix has ended everywhere, and the host begins nothing with it.
            ended = lambda: dict(domain.node_addresses()).get(first, True)
            domain.wait(ended, 5, "the host prefers an address that has ended")
            [binding] = domain.kedge("cmd", "show", "bindings")
            self.assertEqual(binding["previous"], [])
            domain.wait(lambda: not domain.kedge("maar1", "show", "nodes"), 5, "maar1 remembers the node")
            prefix = str(ipaddress.ip_network(f"{first}/64", strict=False))
            domain.wait(lambda: prefix not in domain.bgp_routes(), 5, "a route leads to a prefix that has ended")
            domain.on("mn", "ping", "-6", "-c3", "-i0.2", "-W1", "-I", second, CN)

            # Now the anchor follows what carries much.
            kedge("set", "calls", "--node-like", "mn*@example.net", "--mobility", "relocate", "--relocate-after-octets", "20000")
            domain.plug(3)
            domain.preferred_address(3)
            prefix = str(ipaddress.ip_network(f"{second}/64", strict=False))
            time.sleep(7)
            self.assertEqual(domain.bgp_routes().get(prefix), "maar2", "nothing was sent")
            ping = domain.popen("mn", "ping", "-6", "-q", "-i", "0.02", "-s", "500", "-I", second, CN, stdout=subprocess.DEVNULL)
            domain.wait(lambda: domain.bgp_routes().get(prefix) == "maar3", 20, "the anchor did not follow")
            ping.terminate()

            # And the flow that lasts, where the CMD leaves that to the MAARs.
            kedge("remove", "calls")
            third = next(it for it, deprecated in domain.node_addresses() if it.startswith("2001:db8:300:") and not deprecated)
            domain.kedge("maar1", "filter", "add", "lasting", "--action", "anchor", "--protocol", "udp", "--destination-ports", "4004",
                         "--relocate-after", "5")
            domain.plug(1)
            domain.preferred_address(1)
            prefix = str(ipaddress.ip_network(f"{third}/64", strict=False))
            ping = domain.popen("mn", "ping", "-6", "-q", "-i", "0.05", "-I", third, CN, stdout=subprocess.DEVNULL)
            time.sleep(12)
            self.assertEqual(domain.bgp_routes().get(prefix), "maar3", "that is no such flow")
            domain.traffic("mn", "udp-send", third, CN, "4004", "20", stdout=subprocess.DEVNULL)
            domain.wait(lambda: domain.bgp_routes().get(prefix) == "maar1", 30, "the anchor did not follow")
            ping.terminate()

            # What is replaced ends in its time, and the host is told when that is.
            kedge("set", "graceful", "--mobility", "tunnel", "--end-after", "6")
            domain.plug(2)
            domain.preferred_address(2)
            held = lambda: [it for binding in domain.kedge("cmd", "show", "bindings") for it in
                            binding["prefixes"] + [previous["prefix"] for previous in binding["previous"]]]
            self.assertGreater(len(held()), 1)
            domain.wait(lambda: len(held()) == 1, 20, "prefixes that were replaced have not ended")
            domain.wait(lambda: len(domain.bgp_routes()) == 1, 5, "a route leads to a prefix that has ended")


if __name__ == "__main__":
    unittest.main(verbosity=2)
