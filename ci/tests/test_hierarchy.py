#!/usr/bin/env python3
"""Access routers with forwarding switches below them: a node moves between the DPNs of one DPA, and to a DPN of another one.

Numbered UDP both ways and one TCP connection all the while; then the anchor follows, and control planes are killed. Needs
root and the release binaries.
"""

import ipaddress
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

from demo import TCP, TCP_RATE, UDP_DOWN, UDP_UP, Demo, Stream  # noqa: E402
from hierarchy import DPNS, Hierarchy, dpn_address  # noqa: E402
from namespaces import PYTHON, need_root as setUpModule, tail  # noqa: E402
from topology import CN, NODE, maar_address  # noqa: E402


class AHierarchy(unittest.TestCase):
    """One walk of the node; each step is looked at as it happens."""

    tunnel = "ipv6-in-ipv6"

    @classmethod
    def setUpClass(cls):
        cls.domain = Hierarchy(prefix=f"kedgedpn{os.getpid()}", tunnel=cls.tunnel, routing=True)
        cls.addClassCleanup(cls.domain.remove)
        cls.domain.build()
        cls.domain.start()

    def answers(self, source, count=3):
        output = self.domain.on("mn", "ping", "-6", "-i", "0.2", "-c", str(count), "-W", "2", "-I", source, CN, check=False)
        return f" {count} received" in output

    def settled_at(self, index):
        """The node is at this DPN, at its DPA by way of it, and nowhere else."""
        domain, dpa = self.domain, DPNS[index]

        def settled():
            here, above = domain.node_at(f"dpn{index}"), domain.node_at(f"maar{dpa}")
            others = [domain.node_at(f"dpn{other}") for other in DPNS if other != index]
            return (here and here["state"] == "attached" and here["serving_maar"] == maar_address(dpa)
                    and above and above["state"] == "attached" and above["port"] == f"DPN {dpn_address(index)}" and not any(others))

        domain.wait(settled, 10, f"the node is not at dpn{index} alone")

    def tunnels(self, host):
        return {it["remote"]: it for it in self.domain.kedge(host, "show", "tunnels")}

    def logs(self):
        return "\n".join(f"--- {name}\n{tail(daemon.log)}" for name, daemon in self.domain.daemons.items())

    def test_a_node_walks_through_the_hierarchy(self):
        domain = self.domain
        domain.plug_dpn(1)
        home = domain.preferred_address(1)
        self.settled_at(1)
        self.assertTrue(self.answers(home), self.logs())
        (tunnel,) = [it for remote, it in self.tunnels("maar1").items() if remote == dpn_address(1)]
        self.assertEqual(tunnel["type"], self.tunnel)
        self.assertEqual(list(self.tunnels("dpn1")), [maar_address(1)])

        server = domain.traffic("cn", "tcp-serve", CN, str(TCP), stdout=None)
        time.sleep(0.5)
        streams = {"down": Stream(domain, "cn", CN, "mn", home, UDP_DOWN), "up": Stream(domain, "mn", home, "cn", CN, UDP_UP)}
        client = domain.traffic("mn", "tcp-client", home, CN, str(TCP), str(TCP_RATE), "1000")
        self.assertIn("connected", json.loads(client.stdout.readline()))
        time.sleep(1)
        marks = []

        def step(name):
            marks.append((name, time.monotonic()))

        # Within one DPA: nothing changes for the CMD, and the address stays.
        step("dpn1 -> dpn2, announced")
        domain.plug_dpn(2, announced=True)
        self.settled_at(2)
        self.assertEqual(domain.preferred_address(1), home)
        time.sleep(2)
        step("dpn2 -> dpn1, unannounced")
        domain.plug_dpn(1)
        self.settled_at(1)
        time.sleep(2)

        # To another DPA: the anchor of the address stays, in two tunnels in a row.
        step("dpn1 -> dpn3, announced")
        domain.plug_dpn(3, announced=True)
        self.settled_at(3)
        new = domain.preferred_address(2)
        self.assertTrue(self.answers(new))
        self.assertTrue(self.answers(home))
        binding = next(it for it in domain.kedge("cmd", "show", "bindings") if it["identifier"] == NODE)
        self.assertEqual(binding["serving_maar"], maar_address(2))
        prefix = str(ipaddress.ip_network(f"{home}/64", strict=False))
        (previous,) = binding["previous"]
        self.assertEqual((previous["prefix"], previous["address"]), (prefix, maar_address(1)))
        # Two tunnels in a row take what fits both: nothing is larger than the node was told.
        output = domain.on("mn", "ping", "-6", "-M", "do", "-s", str(1400 - 48), "-c", "2", "-W", "2", "-I", home, CN, check=False)
        self.assertIn(" 2 received", output)
        time.sleep(2)

        # The anchor follows.
        step("relocation")
        answer = domain.kedge("cmd", "relocate", prefix, "--to", maar_address(2))
        self.assertEqual(answer["to"], maar_address(2))
        domain.wait(lambda: domain.bgp_routes().get(prefix) == "maar2", 5, "the route did not follow")
        time.sleep(2)
        self.settled_at(3)
        self.assertTrue(self.answers(home))
        step("end")

        tcp = Demo.end(client)
        for stream in streams.values():
            stream.stop()
        server.terminate()
        lines = []
        for (name, start), (_, end) in zip(marks, marks[1:]):
            each = {way: stream.measure(start, end) for way, stream in streams.items()}
            lines.append(f"{name:<26} sent {each['down']['sent'] + each['up']['sent']:>5}; lost to the node {each['down']['lost']}, from it {each['up']['lost']}; "
                         f"reordered {each['down']['reordered']} and {each['up']['reordered']}; longest silence {each['down']['longest_silence_ms']} and "
                         f"{each['up']['longest_silence_ms']} ms")
            for way, figures in each.items():
                self.assertEqual((figures["reordered"], figures["duplicated"]), (0, 0), f"{name}, {way}: {figures}")
                if name == "relocation" or (way == "down" and name.endswith(", announced")):
                    self.assertEqual(figures["lost"], 0, f"{name}, {way}: {figures}\n{self.logs()}")
                bound = figures["longest_silence_ms"] / 1000 * 200 + 2
                self.assertLessEqual(figures["lost"], bound, f"{name}, {way}: {figures}")
        print("\n".join(["", *lines]), file=sys.stderr)
        self.assertTrue(tcp["ok"], tcp)

        # kill -9 of the control planes: their data planes forward on, and they know what they knew.
        for host in ("dpn3", "maar2"):
            domain.daemons[f"{host}-controlplane"].kill()
            self.assertTrue(self.answers(home))
            domain.daemons[f"{host}-controlplane"].start()
            # Null until the control plane answers.
            control = lambda: (domain.kedge(host, "show", "info", check=False) or {}).get("controlplane") or {}
            domain.wait(lambda: control().get("dataplane_connected"), 20, f"{host} did not come back")
            self.settled_at(3)
            self.assertTrue(self.answers(home) and self.answers(new))
        # And moves go on as before; what has carried much by way of the DPN follows by itself.
        domain.kedge("cmd", "policy", "set", "heavy", "--mobility", "relocate", "--relocate-after-octets", "20000")
        domain.plug_dpn(2)
        self.settled_at(2)
        self.assertTrue(self.answers(home) and self.answers(new))
        previous = lambda: [it["prefix"] for it in domain.kedge("cmd", "show", "bindings")[0]["previous"]]
        self.assertEqual(sorted(previous()), sorted(str(ipaddress.ip_network(f"{it}/64", strict=False)) for it in (home, new)))
        # The first look is where counting begins.
        time.sleep(6)
        domain.on("mn", "ping", "-6", "-i", "0.1", "-s", "1000", "-c", "20", "-W", "2", "-I", home, CN, check=False)
        domain.wait(lambda: prefix not in previous(), 20, f"{prefix} did not follow")
        self.assertEqual(len(previous()), 1)
        self.settled_at(2)
        self.assertTrue(self.answers(home) and self.answers(new))
        # The session ends at the DPA; the DPN is told.
        domain.kedge("maar1", "detach", NODE, "--deregister")
        domain.wait(lambda: not domain.node_at("dpn2"), 10, "dpn2 still has the node")


class AHierarchyByGtpU(AHierarchy):
    tunnel = "gtpu"


class Demonstration(unittest.TestCase):
    def test_the_hierarchy_live(self):
        """`ci/demo --switch hierarchy`, by its report."""
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "report.json"
            demo = subprocess.run([PYTHON, str(HERE.parent / "lib" / "demo.py"), "--switch", "hierarchy", "--seconds-per-stay", "3",
                                   "--report", str(path)], text=True, capture_output=True)
            self.assertEqual(demo.returncode, 0, demo.stdout[-6000:] + demo.stderr)
            report = json.loads(path.read_text())
        self.assertEqual([(it["from"], it["to"]) for it in report["moves"]], [("dpn1", "dpn2"), ("dpn2", "dpn3")])
        self.assertEqual([(it["from"], it["to"]) for it in report["relocations"]], [("maar1", "maar2")])
        for it in report["moves"] + report["relocations"]:
            for figures in it["directions"].values():
                self.assertEqual((figures["reordered"], figures["duplicated"]), (0, 0), it)
        # A switch on a busy machine may hear of a node later than the node's packets come.
        for it in report["relocations"]:
            self.assertEqual([figures["lost"] for figures in it["directions"].values()], [0, 0], it)
        self.assertTrue(report["tcp"]["ok"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
