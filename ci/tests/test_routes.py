#!/usr/bin/env python3
"""Routes to anchored prefixes, through three real routing daemons, into the kernel of a router.

                    ┌── maar1, gobgpd told by gRPC
    cn ── core ─────┼── maar2, BIRD that learns from a table of the kernel
          BIRD      └── maar3, FRR that redistributes from the kernel's main table

The router has no route to any home network prefix but those that it hears by BGP. Needs root and the release binaries.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

import topology  # noqa: E402
from namespaces import Daemon, need_root as setUpModule, run  # noqa: E402
from topology import MAARS, NODE, Domain, maar_address, pool  # noqa: E402

FRR = pathlib.Path("/usr/lib/frr")
# By daemon, what `[announce]` says beside it; and a second between two withdrawals, for this test's sake.
ANNOUNCE = {
    1: 'daemon = "gobgp"\ncommunities = ["65001:100"]\nmed = 7',
    2: 'daemon = "kernel"\nkernel = { table = 5213 }',
    3: 'daemon = "kernel"',
}

MAAR_BIRD = """
router id 10.0.2.1;
log "{directory}/maar2-bird.log" all;
ipv6 table anchored;
protocol device {{ scan time 60; }}
protocol kernel {{
  kernel table 5213; learn; scan time 5;
  ipv6 {{ table anchored; import where krt_source = 213; export none; }};
}}
protocol bgp core {{
  local 2001:db8:ca2::2 as 65002; neighbor 2001:db8:ca2::1 as 65000;
  connect retry time 1; connect delay time 1; error wait time 1, 1; hold time 9;
  ipv6 {{ table anchored; import none; export all; }};
}}
"""

# The metric is that of Kedge's routes: no other route of the kernel is told.
MAAR_FRR = """
route-map anchored permit 10
 match metric 5213
router bgp 65003
 bgp router-id 10.0.3.1
 no bgp ebgp-requires-policy
 neighbor 2001:db8:ca3::1 remote-as 65000
 neighbor 2001:db8:ca3::1 timers 3 9
 neighbor 2001:db8:ca3::1 timers connect 1
 neighbor 2001:db8:ca3::1 advertisement-interval 0
 address-family ipv6 unicast
  redistribute kernel route-map anchored
  neighbor 2001:db8:ca3::1 activate
 exit-address-family
"""


class RoutedDomain(Domain):
    """A domain whose router knows nothing of pools."""

    def build_maar(self, index):
        super().build_maar(index)
        self.ip("core", "route", "del", pool(index))

    def write_configurations(self):
        super().write_configurations()
        for index, text in ANNOUNCE.items():
            path = self.directory / f"maar{index}.toml"
            path.write_text(f'{path.read_text()}\n[announce]\nwhat = "prefixes"\nminimum_withdrawal_interval_ms = 1000\n{text}\n')
        cmd = self.directory / "cmd.toml"
        cmd.write_text(cmd.read_text() + "\n[timers]\nmin_delay_before_bce_delete_ms = 100\n")

    def start_daemons(self):
        """Three daemons at the MAARs, one at the router."""
        directory = self.directory
        (directory / "core-bird.conf").write_text(topology.ROUTER_BIRD.format(directory=directory, sessions=topology.router_sessions()))
        (directory / "maar2-bird.conf").write_text(MAAR_BIRD.format(directory=directory))
        (directory / "gobgp.toml").write_text(topology.MAAR_GOBGP.format(number=65001, index=1, net="2001:db8:ca1"))
        bird = lambda host: ["bird", "-f", "-c", str(directory / f"{host}-bird.conf"), "-s", str(directory / f"{host}-bird.ctl")]
        self.start_daemon("core", "bird", *bird("core"))
        self.start_daemon("maar2", "bird", *bird("maar2"))
        self.start_daemon("maar1", "gobgpd", "gobgpd", "-r", "-f", str(directory / "gobgp.toml"), "--api-hosts", "127.0.0.1:50051", "--pprof-disable")
        # They drop root, and have to read and write there.
        frr = directory / "frr"
        frr.mkdir()
        (frr / "zebra.conf").write_text("")
        (frr / "bgpd.conf").write_text(MAAR_FRR)
        directory.chmod(0o755)
        run("chown", "-R", "frr:frr", str(frr))
        for program in ("zebra", "bgpd"):
            self.start_daemon("maar3", program, str(FRR / program), "-f", str(frr / f"{program}.conf"), "-i", str(frr / f"{program}.pid"),
                         "-z", str(frr / "zserv.api"), "--vty_socket", str(frr), "-P", "0")
            if program == "zebra":
                self.wait((frr / "zserv.api").exists, 10, "zebra did not start")
        self.wait(lambda: self.sessions() == 3, 20, "the BGP sessions did not come up")

    def start_daemon(self, host, name, *command):
        daemon = Daemon(f"{host}-{name}", "routing", [*self.inside(host), *command], self.directory / f"{host}-{name}.out")
        self.daemons[daemon.name] = daemon
        daemon.start()

    def kill(self, name):
        """kill -9, after which nobody expects it to be there."""
        daemon = self.daemons[name]
        daemon.kill(signal.SIGKILL)
        daemon.process = None
        return daemon

    def sessions(self):
        output = self.on("core", "birdc", "-s", str(self.directory / "core-bird.ctl"), "show", "protocols", check=False)
        return output.count("Established")

    def routes(self, host="core"):
        """What a host's kernel knows of home network prefixes: next hop by prefix."""
        found = json.loads(self.on(host, "ip", "-j", "-6", "route", "show", "proto", "bird"))
        return {route["dst"]: route.get("gateway") for route in found if re.match("2001:db8:[1-9]0[0-9]:", route["dst"])}

    def announced(self, index):
        shown = self.kedge(f"maar{index}", "show", "routes")
        return {route["prefix"]: route["state"] for route in shown["routes"]}

    def events(self, index, kind):
        log = (self.directory / f"maar{index}-controlplane.log").read_text()
        return [line for line in log.splitlines() if f'kind="{kind}"' in line or f"kind={kind}" in line]


class Routes(unittest.TestCase):
    """In the order of their names: each goes on from where the one before has ended."""

    @classmethod
    def setUpClass(cls):
        cls.domain = RoutedDomain(prefix=f"kedgeroutes{os.getpid()}")
        cls.addClassCleanup(cls.domain.remove)
        cls.domain.build()
        cls.domain.start()
        cls.domain.start_daemons()
        cls.prefixes, cls.addresses = {}, {}

    def route(self, index):
        """Waits until the router has the node's prefix of a MAAR, by that MAAR."""
        expected = {self.prefixes[index]: f"2001:db8:ca{index}::2"}
        self.domain.wait(lambda: expected.items() <= self.domain.routes().items(), 10,
                         f"the router did not learn {expected}")

    def no_route(self, prefix, seconds=10):
        self.domain.wait(lambda: prefix not in self.domain.routes(), seconds, f"the router still has {prefix}")

    def reaches(self, address):
        output = self.domain.on("cn", "ping", "-6", "-i", "0.2", "-c", "3", "-W", "2", address, check=False)
        return " 3 received" in output

    def test_1_a_prefix_is_reached_by_the_route_of_its_anchor_wherever_the_node_is(self):
        self.assertEqual(self.domain.routes(), {})
        for index in MAARS:
            self.domain.plug(index, announced=True)
            self.addresses[index] = address = self.domain.preferred_address(index)
            prefix, = [prefix["prefix"] for node in self.domain.kedge(f"maar{index}", "show", "nodes")
                       for prefix in node["prefixes"] if prefix["preferred"]]
            self.assertIn(f"2001:db8:{index}0", prefix)
            self.prefixes[index] = prefix
            self.route(index)
            self.domain.wait(lambda: self.domain.announced(index) == {prefix: "announced"}, 5, "it did not count as announced")
            # All of them: the older ones by their anchors, and through tunnels.
            for address in self.addresses.values():
                self.assertTrue(self.reaches(address), (index, address))

    def test_2_what_kedge_says(self):
        shown = self.domain.kedge("maar1", "show", "routes")
        self.assertEqual((shown["daemon"], shown["connected"]), ("gobgp", True))
        self.assertEqual(shown["routes"][0]["next_hop"], "2001:db8:ca1::2")
        text = self.domain.on("maar1", str(self.domain.binaries / "kedge"), "--run-directory",
                              str(self.domain.run_directory("maar1")), "show", "routes")
        self.assertIn("announced", text)
        metrics = self.domain.on("maar1", "curl", "-sg", "http://[::1]:9110/metrics")
        self.assertIn('kedge_controlplane_announcer_connected{daemon="gobgp"} 1', metrics)
        self.assertIn('kedge_controlplane_routes{state="announced"} 1', metrics)
        self.assertIn("kedge_controlplane_route_announcement_duration_seconds_count 1", metrics)
        # The attributes have come as they were set; our identifier has not.
        route = self.domain.on("core", "birdc", "-s", str(self.domain.directory / "core-bird.ctl"), "show", "route", "all",
                               self.prefixes[1])
        self.assertIn("BGP.community: (65001,100)", route)
        self.assertIn("BGP.med: 7", route)

    def test_3_a_gobgpd_that_is_killed_gets_its_routes_again_and_no_packet_is_lost(self):
        # It restarts gracefully (RFC 4724): the router keeps its routes until it has them again.
        session = lambda: self.domain.on("core", "birdc", "-s", str(self.domain.directory / "core-bird.ctl"), "show", "protocols", "all", "maar1")
        shown = self.domain.popen("core", "ip", "-6", "monitor", "route", stdout=subprocess.PIPE)
        ping = self.domain.popen("cn", "ping", "-6", "-n", "-i", "0.01", "-W", "2", self.addresses[1], stdout=subprocess.PIPE)
        # Soon enough for the first look, and so late that one at ever longer intervals would come after the session.
        for away in (0.1, 2):
            gobgp = self.domain.kill("maar1-gobgpd")
            self.domain.wait(lambda: "Neighbor graceful restart active" in session(), 5, "the router does not keep the routes")
            self.domain.wait(lambda: not self.domain.kedge("maar1", "show", "routes")["connected"], 5, "nobody noticed")
            time.sleep(away)
            gobgp.start()
            self.domain.wait(lambda: self.domain.sessions() == 3 and "restart active" not in session(), 20, "gobgpd did not come back")
            self.domain.wait(lambda: self.domain.announced(1) == {self.prefixes[1]: "announced"}, 5, "it did not count as announced")
            self.route(1)
        time.sleep(0.5)
        ping.send_signal(signal.SIGINT)
        numbers = [int(it) for it in re.findall(r"icmp_seq=(\d+)", ping.communicate(timeout=10)[0])]
        # Each in its place, and none missing but for what is on its way at the end.
        self.assertEqual(numbers, list(range(1, len(numbers) + 1)))
        self.assertGreater(len(numbers), 200)
        print(f"\n  {len(numbers)} pings through two kills of gobgpd: none lost", file=sys.stderr)
        shown.terminate()
        self.assertNotIn(self.prefixes[1], shown.communicate()[0], "the router's route did not stay as it was")
        self.assertEqual(len(self.domain.events(1, "announcer_lost")), 2)

    def test_4_what_a_killed_control_plane_left_is_withdrawn_and_an_operators_route_stays(self):
        gobgp = lambda *arguments: self.domain.on("maar1", "gobgp", "global", "rib", *arguments, "-a", "ipv6", "nexthop", "2001:db8:ca1::2")
        control = self.domain.kill("maar1-controlplane")
        # As if it had been announced by it, and forgotten.
        gobgp("add", "2001:db8:101:5::/64", "identifier", "5213")
        gobgp("add", "2001:db8:101:6::/64")
        gobgp("add", self.prefixes[1], "med", "99")
        self.domain.wait(lambda: {"2001:db8:101:5::/64", "2001:db8:101:6::/64", self.prefixes[1]} <= set(self.domain.routes()), 10,
                         "GoBGP did not announce")
        control.start()
        self.no_route("2001:db8:101:5::/64", 20)
        self.domain.wait_ready(1)
        self.domain.wait(lambda: self.domain.announced(1) == {self.prefixes[1]: "announced"}, 5, "it did not count as announced")
        self.assertIn("2001:db8:101:6::/64", self.domain.routes())
        self.route(1)
        self.assertTrue(self.domain.events(1, "routes_found_unwanted"))
        rib = json.loads(self.domain.on("maar1", "gobgp", "-j", "global", "rib", "-a", "ipv6"))
        self.assertEqual({prefix: len(paths) for prefix, paths in rib.items()}, {"2001:db8:101:6::/64": 1, self.prefixes[1]: 2})
        for prefix in rib:
            self.domain.on("maar1", "gobgp", "global", "rib", "del", prefix, "-a", "ipv6")
        self.no_route("2001:db8:101:6::/64")
        self.assertIn(self.prefixes[1], self.domain.routes())

    def test_5_a_route_that_somebody_removes_from_the_kernel_comes_back(self):
        for index, table in ((2, "5213"), (3, "main")):
            host = f"maar{index}"
            show = lambda: self.domain.ip(host, "-6", "route", "show", "table", table, "proto", "213").split()
            self.assertEqual(show()[:2], ["unreachable", self.prefixes[index]])
            self.domain.ip(host, "-6", "route", "flush", "table", table, "proto", "213")
            self.domain.wait(show, 5, f"{host} did not put it there again")
            self.route(index)
            self.assertTrue(self.domain.events(index, "route_gone"))

    def test_6_a_routing_daemon_that_is_killed_learns_again_from_the_kernel(self):
        for name, index in (("maar2-bird", 2), ("maar3-bgpd", 3)):
            daemon = self.domain.kill(name)
            # FRR tells its neighbours that it can restart gracefully (RFC 4724): the router keeps its route.
            if index == 2:
                self.no_route(self.prefixes[index])
            self.domain.wait(lambda: self.domain.sessions() == 2, 10, f"the router did not notice the end of {name}")
            daemon.start()
            self.domain.wait(lambda: self.domain.sessions() == 3, 20, f"{name} did not come back")
            self.route(index)
            self.assertTrue(self.reaches(self.addresses[index]))

    def test_7_the_next_hop_of_a_relocated_prefix_changes_hands_without_a_gap(self):
        # The node is at MAAR3. What GoBGP announced at MAAR1, BIRD's neighbour FRR announces now.
        prefix = self.prefixes[1]
        shown = self.domain.popen("core", "ip", "-6", "monitor", "route", stdout=subprocess.PIPE)
        ping = self.domain.popen("cn", "ping", "-6", "-n", "-i", "0.01", "-c", "300", "-W", "2", self.addresses[1], stdout=subprocess.PIPE)
        time.sleep(0.5)
        self.domain.kedge("cmd", "relocate", prefix, "--to", maar_address(3))
        self.domain.wait(lambda: self.domain.routes().get(prefix) == "2001:db8:ca3::2", 5, "the next hop did not change")
        self.domain.wait(lambda: prefix not in self.domain.announced(1), 5, "the old anchor still announces it")
        self.assertEqual(self.domain.announced(3)[prefix], "announced")
        output, _ = ping.communicate(timeout=20)
        self.assertIn(" 300 received", output)
        shown.terminate()
        changes = [line for line in shown.communicate()[0].splitlines() if line.split()[:1] == [prefix] or prefix in line]
        # Replaced, never deleted.
        self.assertTrue(any("2001:db8:ca3::2" in line for line in changes), changes)
        self.assertEqual([line for line in changes if line.startswith("Deleted") and "2001:db8:ca3::2" in line], [], changes)
        self.no_gap(changes)

    def no_gap(self, changes):
        """A route is there after every change: it is replaced, or deleted when another has been added."""
        there = 1
        for line in changes:
            there += -1 if line.startswith("Deleted") else 1
            self.assertGreater(there, 0, changes)

    def test_8_a_session_that_ends_takes_its_routes_with_it(self):
        self.domain.kedge("maar3", "detach", NODE, "--deregister")
        for index in MAARS:
            self.no_route(self.prefixes[index])
            self.domain.wait(lambda: not self.domain.announced(index), 5, f"maar{index} still announces")
        for host, table in (("maar2", "5213"), ("maar3", "main")):
            self.assertEqual(self.domain.ip(host, "-6", "route", "show", "table", table, "proto", "213").strip(), "")

    def test_9_a_maar_that_has_lost_its_state_withdraws_what_it_announced(self):
        self.domain.plug(2, trigger="operator")
        self.domain.preferred_address(2)
        self.domain.wait(lambda: len(self.domain.announced(2)) == 1, 10, "nothing is announced")
        prefix, = self.domain.announced(2)
        self.prefixes[2] = prefix
        self.route(2)
        control = self.domain.kill("maar2-controlplane")
        for path in (self.domain.directory / "maar2.state").iterdir():
            path.unlink()
        self.assertIn(prefix, self.domain.routes())
        control.start()
        self.no_route(prefix, 20)


if __name__ == "__main__":
    unittest.main(verbosity=2)
