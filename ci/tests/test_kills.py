#!/usr/bin/env python3
"""Anchors move while one process after the other is killed, with real daemons all around.

The domain of the demo with GoBGP at each MAAR, BIRD at the core router and Kea, of which each MAAR has its pool. A node
for each trial has been at MAAR1 and is at MAAR2. Its prefix is relocated there, and some milliseconds after the CMD has
begun, a process gets kill -9: the control plane of the CMD or of either anchor, either data plane, either routing daemon, the
DHCPv6 server. It is started again; in the end the prefix has one anchor, of which the CMD, both MAARs and the core router's
routes say the same, packets reach it, and a drain moves whatever has stayed. Needs root and the release binaries.

`controlplane/tests/relocation.rs` kills at each single step, in virtual time; this is the same with everything real, at some
of them. KEDGE_KILL_AFTER_MS="0 1 2 ..." tries others.
"""

import os
import pathlib
import subprocess
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

import crowd  # noqa: E402
from namespaces import need_root as setUpModule  # noqa: E402
from topology import maar_address  # noqa: E402

VICTIMS = ["cmd-controlplane", "maar1-controlplane", "maar2-controlplane", "maar1-dataplane", "maar2-dataplane", "maar1-gobgpd",
           "maar2-gobgpd", "core-kea"]
# When, after the CMD has begun; a relocation takes some 20 ms here.
DELAYS_MS = [int(it) for it in os.environ.get("KEDGE_KILL_AFTER_MS", "0 8 16").split()]
# A relocation that gets no answer is given up after 31 s.
SECONDS = 45


class Kills(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        crowd.give_domain(cls, "kedgekill", len(VICTIMS) * len(DELAYS_MS))
        cls.crowd.attach(1)
        cls.crowd.move(2)
        cls.prefixes = sorted(cls.crowd.prefixes())
        # Who was killed before a relocation had ended.
        cls.met = set()

    def says(self, index, prefix):
        """Which anchor of a prefix a MAAR knows; None: none. While it is being started, it says nothing."""
        nodes = self.domain.kedge(f"maar{index}", "show", "nodes", check=False)
        if nodes is None:
            return "nothing"
        return next((it["anchor"] for node in nodes for it in node["prefixes"] if it["prefix"] == prefix), None)

    def agreed(self, prefix):
        """The one anchor that everybody knows and packets go by; None while there is none."""
        bindings = self.domain.kedge("cmd", "show", "bindings", check=False)
        if bindings is None:
            return None
        anchor = self.crowd.prefixes().get(prefix)
        # The one that has given it away forgets it in the end.
        first = {maar_address(1)} if anchor == maar_address(1) else {maar_address(2), None}
        if self.says(2, prefix) != anchor or self.says(1, prefix) not in first:
            return None
        route = {"maar1": maar_address(1), "maar2": maar_address(2)}.get(self.domain.bgp_routes().get(prefix))
        if route != anchor:
            return None
        address = prefix.replace("::/64", "::1")
        reached = self.domain.on("cn", "ping", "-6", "-c1", "-W1", address, check=False)
        return anchor if " 1 received" in reached else None

    def kill(self, victim):
        daemon = self.domain.daemons[victim]
        daemon.kill()
        time.sleep(0.2)
        daemon.start()

    def trial(self, prefix, victim, delay_ms):
        domain = self.domain
        command = [str(domain.binaries / "kedge"), "--run-directory", str(domain.run_directory("cmd")), "relocate", prefix,
                   "--to", maar_address(2)]
        log = domain.directory / "cmd-controlplane.log"
        before = log.stat().st_size
        told = lambda: [line for line in log.read_bytes()[before:].decode(errors="replace").splitlines() if prefix in line]
        asked = domain.popen("cmd", *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 5
        while not told() and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(delay_ms / 1000)
        if not any("is anchored at" in line for line in told()):
            self.met.add(victim)
        began = time.monotonic()
        self.kill(victim)
        said, complained = asked.communicate(timeout=SECONDS)
        answer = (said.strip() or complained.strip()).splitlines()[-1:]
        # Twice: what a CMD that is back goes on with begins with everybody agreeing upon the old anchor.
        for _ in range(2):
            domain.wait(lambda: self.agreed(prefix), SECONDS, f"{victim} was killed {delay_ms} ms after {prefix} was to move: no agreement")
            time.sleep(0.3)
        settled = time.monotonic() - began
        anchor = self.agreed(prefix) or "?"
        self.assertFalse(asked.returncode == 0 and anchor != maar_address(2), f"{victim}, {delay_ms} ms: said to be done, and is not")
        print(f"  {victim:19} {delay_ms:3} ms: at {anchor} after {settled:4.1f} s; {''.join(answer)}", file=sys.stderr)

    def test_whoever_dies_the_prefix_has_one_anchor(self):
        domain, prefixes = self.domain, iter(self.prefixes)
        print(file=sys.stderr)
        for delay_ms in DELAYS_MS:
            for victim in VICTIMS:
                with self.subTest(victim=victim, delay_ms=delay_ms):
                    self.trial(next(prefixes), victim, delay_ms)
        self.assertEqual(self.met, set(VICTIMS), "somebody was never killed while a prefix moved")
        # Nothing stands in the way of what comes after.
        answer = domain.kedge("cmd", "drain", maar_address(1))
        self.assertEqual(answer["to_relocate"], 0)
        self.assertEqual(set(self.crowd.prefixes().values()), {maar_address(2)})
        domain.wait(lambda: {domain.bgp_routes().get(it) for it in self.prefixes} == {"maar2"}, 10, "not every route has followed")
        domain.wait(lambda: not self.crowd.known(1), 30, "maar1 remembers nodes that it has nothing to do with")


if __name__ == "__main__":
    unittest.main(verbosity=2)
