#!/usr/bin/env python3
"""The main job, with assertions: the demo's own run, its figures, and what must survive bad input and kill -9.

Needs root, for network namespaces, and the release binaries (ci/test builds them).
"""

import ipaddress
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

import topology  # noqa: E402
from namespaces import need_root, run, tail  # noqa: E402
from topology import CMD, CN, CN_IPV4, NODE, Domain, maar_address  # noqa: E402

DEMO = HERE.parent / "lib" / "demo.py"
SCAPY = "/usr/bin/python3"


def setUpModule():
    need_root()
    for name in ("kedge-dataplane", "kedge-controlplane", "kedge"):
        path = topology.REPOSITORY / "target" / "release" / name
        if not path.exists():
            raise RuntimeError(f"{path} is not there: cargo build --release")


def namespaces(prefix="kedge"):
    return [line.split()[0] for line in run("ip", "netns", "list").splitlines() if line.startswith(prefix)]


class TheDemo(unittest.TestCase):
    """One run of the demo; each test looks at another side of its report."""

    # By which the gateways send each other the node's packets: a subclass may take another one.
    tunnel = "ipv6-in-ipv6"

    @classmethod
    def setUpClass(cls):
        cls.before = namespaces()
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "report.json"
            run = subprocess.run([sys.executable, str(DEMO), "--seconds-per-stay", "3", "--tunnel", cls.tunnel,
                                  "--report", str(path)], capture_output=True, text=True, timeout=240)
            cls.output = run.stdout + run.stderr
            cls.code = run.returncode
            cls.report = json.loads(path.read_text()) if path.exists() else {"moves": []}
        # Said at once: what was not as it should be is of more use than that it was not.
        for move in cls.report["moves"]:
            for way, figures in move["directions"].items():
                if figures["lost"] or figures["reordered"] or figures["duplicated"]:
                    print(f"{cls.tunnel}, {move['from']} -> {move['to']}, {way}: {figures}", file=sys.stderr)

    def test_it_succeeds(self):
        self.assertEqual(self.code, 0, self.output)

    def test_the_node_goes_round(self):
        moves = [(move["from"], move["to"]) for move in self.report["moves"]]
        self.assertEqual(moves, [("maar1", "maar2"), ("maar2", "maar3"), ("maar3", "maar1")], self.output)

    def test_tcp_survives_every_move_without_a_wrong_octet(self):
        self.assertTrue(all(move["tcp_survived"] for move in self.report["moves"]), self.output)
        self.assertTrue(self.report["tcp"]["ok"])

    def test_new_flows_go_directly_and_old_ones_by_tunnel(self):
        self.assertTrue(self.report["direct_path_for_new_flows"], self.output)
        self.assertTrue(self.report["tunnelled_old_flows"], self.output)

    def test_all_tunnels_are_of_the_type_asked_for(self):
        kind = self.tunnel.removesuffix("-ipv4")
        self.assertEqual((self.report["tunnel"], self.report["tunnels_seen"]), (kind, [kind]), self.output)
        self.assertEqual(self.report["over_ipv4_seen"], [kind != self.tunnel])

    def test_nothing_is_lost_on_the_way_to_the_node(self):
        lost = {f"{move['from']} -> {move['to']}": move["directions"]["down"]["lost"] for move in self.report["moves"]}
        self.assertEqual(set(lost.values()), {0}, f"{lost}\n{self.output}")

    def test_nothing_is_lost_but_during_the_silence_of_a_move(self):
        for move in self.report["moves"]:
            self.assertGreater(move["udp_sent"], 500, self.output)
            self.assertEqual((move["udp_reordered"], move["udp_duplicated"]), (0, 0), move)
            for way, figures in move["directions"].items():
                # 200 datagrams a second: what a silence can swallow, and one at each of its ends.
                bound = figures["longest_silence_ms"] / 1000 * 200 + 2
                self.assertLessEqual(figures["lost"], bound, f"{move['from']} -> {move['to']}, {way}: {figures}")

    def test_delivery_resumes_after_the_attachment(self):
        for move in self.report["moves"]:
            self.assertIsNotNone(move["attach_to_delivery_ms"], self.output)

    def test_all_daemons_are_reported(self):
        daemons = {(daemon["name"], daemon["role"]) for daemon in self.report["daemons"]}
        expected = {("cmd-controlplane", "cmd")}
        expected |= {(f"maar{index}-{plane}", "maar") for index in (1, 2, 3) for plane in ("controlplane", "dataplane")}
        self.assertEqual(daemons, expected)

    def test_nothing_is_left_behind(self):
        self.assertEqual(namespaces(), self.before)
        for daemon in self.report["daemons"]:
            self.assertFalse(pathlib.Path(f"/proc/{daemon['pid']}").exists(), daemon)

    def test_ctrl_c_cleans_up(self):
        demo = subprocess.Popen([sys.executable, str(DEMO)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        time.sleep(2.5)
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=60)
        self.assertEqual(demo.returncode, 130)
        self.assertEqual(namespaces(), self.before)


class InADomain(unittest.TestCase):
    """A domain with the node at MAAR2, anchored at MAAR1 too, and what the tests ask of it."""

    tunnel = "ipv6-in-ipv6"
    # Octets that a link between MAAR1 and MAAR2 takes; none is narrower than 1,500 otherwise.
    narrow = None
    scene = Domain

    @classmethod
    def setUpClass(cls):
        cls.domain = cls.scene(prefix=f"kedgetest{os.getpid()}", tunnel=cls.tunnel, narrow=cls.narrow)
        cls.addClassCleanup(cls.domain.remove)
        cls.domain.build()
        cls.domain.start()
        cls.domain.plug(1)
        cls.home = cls.domain.preferred_address(1)
        cls.domain.plug(2)
        cls.address = cls.domain.preferred_address(2)

    def answers(self, source, count=3):
        output = self.domain.on("mn", "ping", "-6", "-i", "0.2", "-c", str(count), "-W", "2", "-I", source, CN, check=False)
        return f" {count} received" in output

    def works(self):
        """Old and new address both reach the correspondent."""
        return self.answers(self.home) and self.answers(self.address)

    def assert_alive(self):
        for name, daemon in self.domain.daemons.items():
            self.assertTrue(daemon.alive(), f"{name} has ended:\n{tail(daemon.log)}")

    def counter(self, host, name):
        return self.domain.kedge(host, "show", "counters").get(name, 0)

    def drops(self, host, reason):
        return self.domain.kedge(host, "show", "drops").get(reason, 0)

    def bindings(self):
        keep = ("identifier", "serving_maar", "prefixes", "state")
        return [{key: binding[key] for key in keep} for binding in self.domain.kedge("cmd", "show", "bindings")]

    def scapy(self, host, program, *arguments):
        """Runs a scapy program on a host; what it prints comes back."""
        return self.domain.on(host, SCAPY, "-c", "from scapy.all import *\nimport sys\nconf.verb = 0\n" + program, *arguments)


class SignallingInATunnel:
    """What the node, at MAAR2, sends from its first address to the gateway that gave it, MAAR1, comes by the tunnel."""

    def test_signalling_in_a_tunnel_does_not_come_to_the_gateway(self):
        gateway = maar_address(1)
        ping = self.domain.on("mn", "ping", "-6", "-i", "0.2", "-c", "3", "-W", "2", "-I", self.home, gateway, check=False)
        self.assertIn(" 3 received", ping)
        before = self.drops("maar1", "tunnel_inner_control")
        said = self.scapy("mn", f"""
front = Ether(dst="{topology.ROUTER_MAC}", src="{topology.NODE_MAC}") / IPv6(src="{self.home}", dst="{gateway}", hlim=255)
options = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"")])
frames = [
    front / MIP6MH_BU(), front / options / MIP6MH_BU(), front / IPv6ExtHdrFragment(m=1, id=1) / MIP6MH_BU(),
    front / ICMPv6ND_NS(tgt="{gateway}"), front / ICMPv6ND_NA(tgt="{CN}", S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr="{topology.NODE_MAC}"),
    front / ICMPv6ND_RS(), front / ICMPv6ND_RA(), front / ICMPv6ND_Redirect(), front / ICMPv6MLReport2(), front / ICMPv6MLDone(),
    front / UDP(sport=547, dport=546) / DHCP6_Reply(), front / UDP(sport=546, dport=547) / DHCP6_Solicit(),
    front / UDP(sport=2152, dport=2152) / (bytes([0x32, 26, 0, 4]) + bytes(8)),
    front / TCP(sport=40000, dport=179, flags="S"), front / TCP(sport=179, dport=40000, flags="R"),
]
sendp(frames, iface="eth0")
print(len(frames))
""")
        dropped = lambda: self.drops("maar1", "tunnel_inner_control") - before
        self.domain.wait(lambda: dropped() == int(said), 5, f"not all {said.strip()} were dropped as tunnel_inner_control")
        self.assertTrue(self.works())


class TheDomain(SignallingInATunnel, InADomain):
    """Each test does something bad to it."""

    # kill -9

    def test_a_data_plane_that_is_killed_is_refilled(self):
        self.assertTrue(self.works())
        daemon = self.domain.daemons["maar2-dataplane"]
        daemon.kill()
        daemon.start()
        self.domain.wait(self.works, 20, "after kill -9 of the data plane traffic did not flow again")

    def test_a_control_plane_that_is_killed_comes_back_with_its_bindings(self):
        before = self.bindings()
        for name in ("maar1-controlplane", "cmd-controlplane"):
            self.domain.daemons[name].kill()
        # Headless: the data plane goes on forwarding its last state.
        self.assertTrue(self.works())
        for name in ("maar1-controlplane", "cmd-controlplane"):
            self.domain.daemons[name].start()
        self.domain.wait(lambda: self.domain.kedge("cmd", "show", "bindings", check=False), 10, "the CMD did not come back")
        self.assertEqual(self.bindings(), before)
        self.domain.wait_ready(1)
        self.assertTrue(self.works())
        # And the domain still moves nodes.
        self.domain.plug(3)
        self.domain.preferred_address(3)
        self.domain.plug(2)
        self.domain.preferred_address(2)
        self.assertTrue(self.works())

    # Bad signalling

    UPDATE = """
def update(source, timestamp=None, prefix="2001:db8:900::"):
    import struct, time, socket
    seconds = time.time() if timestamp is None else timestamp
    stamp = struct.pack("!Q", (int(seconds) << 16) | int(seconds % 1 * 65536))
    hnp = bytes([0, 64]) + socket.inet_pton(socket.AF_INET6, prefix)
    def option(kind, data): return bytes([kind, len(data)]) + data
    def pad(count): return b"" if count == 0 else b"\\0" if count == 1 else bytes([1, count - 2]) + bytes(count - 2)
    body = bytes([59, 0, 5, 0, 0, 0]) + struct.pack("!HHH", 9, 0x8210, 150)
    for kind, data, (x, y) in [(8, b"\\1thief@example.net", (1, 0)), (22, hnp, (8, 4)), (23, b"\\0\\4", (1, 0)),
                               (24, b"\\0\\4", (1, 0)), (27, stamp, (8, 2))]:
        body += pad((y - len(body)) % x) + option(kind, data)
    body += pad(-len(body) % 8)
    return bytes([59, len(body) // 8 - 1]) + body[2:]
"""

    def refusal(self, host, source, **options):
        """Sends the CMD an update from a host; gives the status that it answers."""
        program = self.UPDATE + f"""
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 135)
s.settimeout(3)
s.bind(("{source}", 0))
s.sendto(update("{source}", {options.get('timestamp')}), ("{CMD}", 0))
while True:
    answer, peer = s.recvfrom(2048)
    if answer[2] == 6: break
print(answer[6])
"""
        return int(self.scapy(host, program).strip())

    def test_an_update_from_a_stranger_is_refused_with_154_and_leaves_nothing(self):
        before, count = self.bindings(), self.counter("cmd", "updates_refused_stranger")
        self.assertEqual(self.refusal("cn", CN), 154)
        self.assertEqual(self.bindings(), before)
        self.assertEqual(self.counter("cmd", "updates_refused_stranger"), count + 1)

    def test_a_prefix_of_another_pool_is_refused_with_155(self):
        count = self.counter("cmd", "updates_refused")
        self.assertEqual(self.refusal("maar3", maar_address(3)), 155)
        self.assertEqual(self.counter("cmd", "updates_refused"), count + 1)

    def test_a_stale_timestamp_is_refused_with_156(self):
        self.assertEqual(self.refusal("maar3", maar_address(3), timestamp=1_000_000_000), 156)

    def test_malformed_mobility_headers_are_counted_and_harm_nobody(self):
        before = self.bindings()
        program = self.UPDATE + f"""
import os, random, socket
random.seed(1)
good = update("{CN}")
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 135)
s.bind(("{CN}", 0))
for target in {[CMD, maar_address(1), maar_address(2)]!r}:
    messages = [good[:end] for end in range(8, len(good), 8)]
    messages += [bytes([59, 255]) + good[2:], bytes([6]) + good[1:], good[:2] + bytes([77]) + good[3:]]
    messages += [bytes([59, 1, 5, 0, 0, 0]) + os.urandom(10) for _ in range(20)]
    for _ in range(200):
        broken = bytearray(good)
        for _ in range(4):
            broken[random.randrange(6, len(broken))] = random.randrange(256)
        messages.append(bytes(broken))
    for message in messages:
        s.sendto(message, (target, 0))
"""
        self.scapy("cn", program)
        time.sleep(0.5)
        self.assert_alive()
        self.assertEqual(self.bindings(), before)
        counters = self.domain.kedge("cmd", "show", "counters")
        refused = {name: value for name, value in counters.items() if name.startswith("mobility_") and value}
        self.assertTrue(any("truncated" in name or "header" in name or "option" in name for name in refused), counters)
        self.assertTrue(self.works())

    # Bad packets

    def test_a_source_that_is_not_the_nodes_is_dropped_and_counted(self):
        before = self.drops("maar2", "source_not_bound")
        self.scapy("mn", f"""
frame = Ether(dst="{topology.ROUTER_MAC}", src="{topology.NODE_MAC}")
sendp([frame / IPv6(src="2001:db8:bad::1", dst="{CN}") / UDP(sport=1, dport=9)] * 5, iface="eth0")
# The right prefix, but another node's link-layer address.
sendp([Ether(dst="{topology.ROUTER_MAC}", src="02:00:00:00:0a:99") / IPv6(src="{self.address}", dst="{CN}") / UDP(dport=9)] * 5, iface="eth0")
""")
        self.domain.wait(lambda: self.drops("maar2", "source_not_bound") == before + 10, 5, "ten packets were not dropped as source_not_bound")

    def test_tunnelled_packets_from_a_stranger_are_dropped_and_counted(self):
        unknown, inner = (self.drops("maar1", "tunnel_unknown_peer"), self.drops("maar1", "tunnel_inner_source_invalid"))
        self.scapy("cn", f"""
inner = IPv6(src="{self.home}", dst="2001:db8:cd::2") / UDP(dport=9) / b"x"
send([IPv6(src="{CN}", dst="{maar_address(1)}") / inner] * 4)
# Nested, and with the encapsulation limit option in front.
send([IPv6(src="{CN}", dst="{maar_address(1)}") / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=4, optlen=1, optdata=b"\\x04")]) / IPv6(src="{CN}", dst="{maar_address(1)}") / inner] * 3)
""")
        self.domain.wait(lambda: self.drops("maar1", "tunnel_unknown_peer") == unknown + 7, 5, "seven tunnelled packets of a stranger were not dropped")
        # A peer of ours, but an inner source that it does not serve.
        self.scapy("maar3", f"""
import socket
payload = raw(IPv6(src="2001:db8:100:77::1", dst="{CN}") / UDP(dport=9) / b"x")
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 41)
s.bind(("{maar_address(3)}", 0))
for _ in range(5): s.sendto(payload, ("{maar_address(1)}", 0))
""")
        after = lambda: (self.drops("maar1", "tunnel_unknown_peer") - unknown - 7
                         + self.drops("maar1", "tunnel_inner_source_invalid") - inner)
        self.domain.wait(lambda: after() == 5, 5, "five packets with a foreign inner source were not dropped")

    def test_hop_limit_and_unallocated_prefixes_are_answered(self):
        output = self.domain.on("cn", "ping", "-6", "-c1", "-W2", "-t", "2", self.home, check=False)
        self.assertIn("Time exceeded", output)
        output = self.domain.on("cn", "ping", "-6", "-c1", "-W2", "2001:db8:100:ffff::1", check=False)
        self.assertIn("No route", output)

    def test_a_large_packet_to_a_tunnelled_prefix_is_told_the_mtu(self):
        output = self.domain.on("cn", "ping", "-6", "-M", "do", "-s", "1452", "-c1", "-W2", self.home, check=False)
        self.assertIn("mtu=1460", output.replace(" ", ""), output)

    # Flows

    def test_a_flow_breaks_out_where_the_node_is_while_the_rest_goes_by_the_old_anchor(self):
        def tunnelled():
            return sum(it["decapsulated_packets"] for it in self.domain.kedge("maar1", "show", "tunnels"))

        def heard(ports, counts):
            """Sends so many datagrams from the old address to each port; what came to the correspondent, by port."""
            receive = self.domain.popen("cn", SCAPY, "-c", f"""
import select, socket
sockets = []
for port in {ports}:
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.bind(("::", port))
    sockets.append(s)
print("ready", flush=True)
counts = dict.fromkeys({ports}, 0)
while ready := select.select(sockets, [], [], 2)[0]:
    for s in ready:
        if s.recvfrom(2000)[1][0] == "{self.home}":
            counts[s.getsockname()[1]] += 1
print([counts[port] for port in {ports}], flush=True)
""", stdout=subprocess.PIPE)
            self.assertEqual(receive.stdout.readline().strip(), "ready")
            self.domain.on("mn", SCAPY, "-c", f"""
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("{self.home}", 0))
for port, count in zip({ports}, {counts}):
    for _ in range(count):
        s.sendto(b"kedge", ("{CN}", port))
""")
            return json.loads(receive.communicate(timeout=20)[0])

        self.assertTrue(self.works())
        self.domain.kedge("maar2", "filter", "add", "breakout", "--node", NODE, "--direction", "from-node", "--protocol", "udp",
                          "--destination-ports", "7777", "--action", "local-breakout", "--idle-timeout", "3")
        # Of the whole domain: DPDK's classifier.
        self.domain.kedge("maar2", "filter", "add", "guard", "--domain", "--protocol", "udp", "--destination-ports", "7779-7780",
                          "--action", "drop")
        shown = lambda: {it["name"]: it for it in self.domain.kedge("maar2", "filter", "show")}
        there = lambda: {it["id"] for it in self.domain.kedge("maar2", "charging", "show")["filters"]}
        # One for each prefix that the node has, wherever the tests before this one have taken it, and one of all.
        binding = topology.first(self.domain.kedge("cmd", "show", "bindings"))
        wanted = len(binding["prefixes"]) + len(binding["previous"]) + 1
        self.domain.wait(lambda: len(there()) == wanted, 5, "the filters did not reach the data plane")
        before, dropped = tunnelled(), self.drops("maar2", "flow_filtered")
        self.assertEqual(heard([7777, 7778, 7779], [11, 7, 5]), [11, 7, 0])
        self.assertEqual(tunnelled() - before, 7, "only the rest went by the old anchor")
        self.assertEqual(self.drops("maar2", "flow_filtered") - dropped, 5)
        counts = shown()
        self.assertEqual((counts["breakout"]["from_node_packets"], counts["guard"]["from_node_packets"]), (11, 5))
        # Nobody needs it any more: it goes by itself.
        self.domain.wait(lambda: "breakout" not in shown(), 20, "the idle filter did not go")
        self.assertEqual(heard([7777], [3]), [3])
        self.assertEqual(tunnelled() - before, 10, "the flow is with its anchor again")
        self.domain.kedge("maar2", "filter", "delete", "guard")
        # For charging: a reading where the node is, that resets.
        prefix = str(ipaddress.ip_network(f"{self.home}/64", strict=False))
        reading = self.domain.kedge("maar2", "charging", "reset", prefix)
        self.assertGreater(reading["prefixes"][0]["from_packets"], 9)
        self.assertEqual(self.domain.kedge("maar2", "charging", "show", prefix)["prefixes"][0]["from_packets"], 0)

    def test_a_flow_is_held_and_released_in_order_while_the_rest_of_its_prefix_goes_on(self):
        self.assertTrue(self.works())
        receive = self.domain.popen("mn", SCAPY, "-c", """
import json, select, socket, time
sockets = []
for port in (7790, 7791):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.bind(("::", port))
    sockets.append(s)
print("ready", flush=True)
came = {7790: [], 7791: []}
while ready := select.select(sockets, [], [], 3)[0]:
    for s in ready:
        came[s.getsockname()[1]].append((int(s.recv(100)), time.monotonic()))
print(json.dumps(came), flush=True)
""", stdout=subprocess.PIPE)
        self.assertEqual(receive.stdout.readline().strip(), "ready")
        flow = ("--node", NODE, "--direction", "to-node", "--protocol", "udp", "--destination-ports", "7790")
        charging = lambda: self.domain.kedge("maar1", "charging", "show")["filters"]
        self.domain.kedge("maar1", "filter", "add", "call", *flow, "--action", "hold", "--lifetime", "30")
        self.domain.wait(lambda: len(charging()) > 0, 5, "the filter did not reach the data plane")
        send = self.domain.popen("cn", SCAPY, "-c", f"""
import socket, time
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for number in range(60):
    for port in (7790, 7791):
        s.sendto(str(number).encode(), ("{self.home}", port))
    time.sleep(0.01)
""")
        holds = lambda: self.domain.kedge("maar1", "show", "holds")
        self.domain.wait(lambda: holds()["held_packets"] >= 30, 5, "the flow does not wait")
        self.assertEqual({it["state"] for it in holds()["prefixes"] if it["filter"]}, {"hold"})
        released = time.monotonic()
        # In the middle of the flow: what comes now is behind what waits.
        self.domain.kedge("maar1", "filter", "add", "call", *flow, "--action", "anchor")
        send.wait(timeout=20)
        came = json.loads(receive.communicate(timeout=20)[0])
        for port in ("7790", "7791"):
            self.assertEqual([number for number, _ in came[port]], list(range(60)), f"port {port}")
        self.assertGreater(came["7790"][0][1], released, "nothing of the flow came before it was released")
        self.assertLess(came["7791"][20][1], released, "the rest of the prefix did not wait")
        self.assertEqual([it for it in holds()["prefixes"] if it["filter"]], [])
        self.assertEqual([it["to_node_packets"] for it in charging()], [60], "counted once each")
        self.domain.kedge("maar1", "filter", "delete", "call")

    # What operators look at

    def test_packets_wait_for_a_node_that_has_left(self):
        holds = lambda: self.domain.kedge("maar2", "show", "holds")
        self.domain.kedge("maar2", "detach", topology.NODE)
        # Its own prefix, and those that other MAARs anchor and send here.
        self.domain.wait(lambda: len(states := [it["state"] for it in holds()["prefixes"]]) > 1 and set(states) == {"hold"}, 5,
                         "its prefixes are not on hold")
        ping = self.domain.popen("cn", "ping", "-6", "-n", "-i", "0.2", "-c", "5", "-W", "5", self.home, stdout=subprocess.PIPE)
        self.domain.wait(lambda: holds()["held_packets"] >= 3, 5, "no packet waits")
        self.domain.kedge("maar2", "attach", topology.NODE, "--port", "access", "--link-layer-address", topology.NODE_MAC)
        self.assertIn(" 5 received", ping.communicate(timeout=20)[0])
        self.domain.wait(lambda: not holds()["prefixes"] and not holds()["held_packets"], 5, "something still waits")

    def test_the_command_line_tells_people_and_programs_the_same(self):
        nodes = self.domain.kedge("maar2", "show", "nodes")
        self.assertEqual([(it["identifier"], it["state"]) for it in nodes], [(NODE, "attached")])
        self.assertEqual({it["prefix"][:12] for it in nodes[0]["prefixes"]} & {"2001:db8:200", "2001:db8:100"},
                         {"2001:db8:200", "2001:db8:100"})
        text = self.domain.on("maar2", str(self.domain.binaries / "kedge"), "--run-directory",
                              str(self.domain.run_directory("maar2")), "show", "nodes")
        self.assertIn(NODE, text)
        for what in ("bindings", "tunnels", "prefixes", "ports", "drops", "workers", "info"):
            self.assertTrue(self.domain.kedge("maar2", "show", what), what)

    def test_a_scan_of_a_link_leaves_its_router_reachable(self):
        """A node sends to addresses of the core link that nobody has (RFC 6583)."""
        limited = lambda: sum(int(line.split()[-1]) for line in self.domain.on("maar2", "curl", "-s", "http://[::1]:9111/metrics").splitlines()
                              if 'kind="neighbour_limited"' in line)
        source = next(address for address, deprecated in self.domain.node_addresses() if address.startswith("2001:db8:200:") and not deprecated)
        before = limited()
        self.domain.on("mn", SCAPY, "-c", f"""
import socket, time
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("{source}", 0))
for host in range(4000):
    s.sendto(b"kedge", (f"2001:db8:ca2::{{host + 256:x}}", 9))
    if host % 40 == 0: time.sleep(0.005)
""")
        self.domain.wait(lambda: limited() - before > 1000, 5, "nobody limits what is asked for")
        neighbours = self.domain.on("maar2", "ip", "-6", "neigh", "show", "dev", "kcore").splitlines()
        self.assertLess(len(neighbours), 400)
        # The next hop is not among what the kernel has no room for, not even where it has forgotten it.
        self.domain.on("maar2", "ip", "-6", "neigh", "flush", "dev", "kcore")
        self.domain.wait(self.works, 5, "the router is not found")

    def test_metrics_of_both_daemons_are_served(self):
        fetch = "import urllib.request, sys; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"
        for port, names in ((9111, ("kedge_dataplane_drops_total", "kedge_dataplane_port_receive_packets_total",
                                    "kedge_dataplane_snapshot_generation", "kedge_dataplane_held_packets")),
                            (9110, ("kedge_controlplane",))):
            text = self.domain.on("maar2", SCAPY, "-c", fetch, f"http://[::1]:{port}/metrics")
            for name in names:
                self.assertIn(name, text)


class TheDemoOverGtpU(TheDemo):
    """The same over GTP-U, which the domain has agreed upon in its Mobility Headers."""

    tunnel = "gtpu"

    # Once is enough.
    test_ctrl_c_cleans_up = None


class TheDemoOverGtpUInIpv4(TheDemoOverGtpU):
    """The same, the packets between the gateways being IPv4 outside."""

    tunnel = "gtpu-ipv4"


class TheDemoOverGre(TheDemoOverGtpU):
    """The same by GRE, with the keys that the GRE Key option tells."""

    tunnel = "gre"


class TheDomainOverGtpU(SignallingInATunnel, InADomain):
    """Gateways that tunnel by GTP-U, among peers that scapy plays."""

    tunnel = "gtpu"
    # Correspondent and gateways as they know each other, in the words of sockets and of scapy.
    family, layer, cn, gateway, other = "AF_INET6", "IPv6", CN, maar_address(1), maar_address(2)

    def ask(self, message, answer):
        """Sends a GTP-U message, in scapy's words, to MAAR1 from the correspondent; gives what it answers."""
        program = f"""
from scapy.contrib.gtp import *
import socket
s = socket.socket(socket.{self.family}, socket.SOCK_DGRAM)
s.bind(("{self.cn}", {answer}))
s.settimeout(5)
s.sendto(raw({message}), ("{self.gateway}", 2152))
octets, peer = s.recvfrom(2048)
print(peer[1], GTPHeader(octets).command(), octets.hex())
"""
        return self.scapy("cn", program).strip()

    def test_old_and_new_addresses_work(self):
        self.assertTrue(self.works())
        types = {tunnel["type"] for host in ("maar1", "maar2") for tunnel in self.domain.kedge(host, "show", "tunnels")}
        self.assertEqual(types, {"gtpu"})

    def test_the_paths_between_gateways_are_up(self):
        for host in ("maar1", "maar2"):
            self.domain.wait(lambda: self.counter(host, "gtpu_echo_responses_received") > 0, 10, f"{host}: no Echo Response")
            self.assertEqual(self.counter(host, "gtpu_paths_lost"), 0)
            path, = self.domain.kedge(host, "show", "paths")
            self.assertEqual((path["state"], path["types"], path["tunnels"], path["mtu"]), ("up", ["gtpu"], 1, 1500))
            self.assertLess(path["round_trip_us"], 3_000_000)

    def test_an_echo_request_is_answered_to_its_port(self):
        said = self.ask("GTPHeader(seq=0x1234, S=1, teid=0) / GTPEchoRequest()", answer=45678)
        self.assertIn("2152 ", said)
        self.assertIn("gtp_type=2", said)
        self.assertIn("seq=4660", said)
        self.assertIn("IE_Recovery(", said)

    def test_a_teid_that_nobody_has_is_told_to_its_sender(self):
        before = self.drops("maar1", "gtpu_teid_unknown")
        inner = f'IPv6(src="{CN}", dst="{self.home}") / UDP(dport=9)'
        said = self.ask(f"GTP_U_Header(gtp_type=255, teid=0x01020304) / {inner}", answer=2152)
        self.assertIn("gtp_type=26", said)
        # TEID Data I, and where the G-PDU was sent to; scapy reads no information elements behind an extension header.
        address = ipaddress.ip_address(self.gateway).packed
        self.assertIn(f"100102030485{len(address):04x}{address.hex()}", said)
        self.assertEqual(self.drops("maar1", "gtpu_teid_unknown"), before + 1)

    def test_an_error_indication_of_the_anchor_has_its_tunnel_signalled_again(self):
        ends = lambda: {(it["local_teid"], it["remote_teid"]) for it in self.domain.kedge("maar2", "show", "tunnels")}

        def indicate(source):
            # TEID Data I and GTP-U Peer Address, as who has lost the tunnel would send them (3GPP TS 29.281 section 7.3.1).
            (_, teid), = ends()
            address = ipaddress.ip_address(source).packed
            body = bytes(4) + b"\x10" + teid.to_bytes(4, "big") + b"\x85" + len(address).to_bytes(2, "big") + address
            message = bytes([0x32, 26]) + len(body).to_bytes(2, "big") + bytes(4) + body
            self.scapy("cn", f"""
send({self.layer}(src="{source}", dst="{self.other}") / UDP(sport=2152, dport=2152) / Raw(bytes.fromhex("{message.hex()}")))
""")

        before = ends()
        strangers = self.counter("maar2", "gtpu_messages_of_strangers")
        indicate(self.cn)
        self.domain.wait(lambda: self.counter("maar2", "gtpu_messages_of_strangers") > strangers, 5, "the stranger was not counted")
        self.assertEqual(ends(), before)

        def again():
            # Soon after a registration it means nothing, so it is said until it does.
            indicate(self.gateway)
            time.sleep(1)
            return not ends() & before
        self.domain.wait(again, 15, "the anchor's Error Indication changed nothing")
        self.assertGreater(self.counter("maar2", "tunnels_refused_signalled"), 0)
        # Both ends have the new one.
        turned = lambda: {(it["remote_teid"], it["local_teid"]) for it in self.domain.kedge("maar1", "show", "tunnels")}
        self.domain.wait(lambda: turned() == ends(), 10, "the ends of the tunnel do not know each other")
        self.assertTrue(self.works())

    def test_a_stranger_with_a_right_teid_gets_nowhere(self):
        teid = next(it["local_teid"] for it in self.domain.kedge("maar1", "show", "tunnels") if it["local_teid"])
        before = self.drops("maar1", "gtpu_peer_mismatch")
        self.scapy("cn", f"""
from scapy.contrib.gtp import *
inner = IPv6(src="{self.home}", dst="{CN}") / UDP(dport=9)
send([{self.layer}(src="{self.cn}", dst="{self.gateway}") / UDP(sport=7, dport=2152) / GTP_U_Header(gtp_type=255, teid={teid}) / inner] * 4)
""")
        self.domain.wait(lambda: self.drops("maar1", "gtpu_peer_mismatch") == before + 4, 5, "four G-PDUs of a stranger were not dropped")

    def test_when_the_node_goes_on_the_end_marker_of_its_anchor_is_relayed(self):
        # The last one by its name: the node has one anchor more after it.
        before = self.counter("maar2", "end_markers_relayed")
        relayed = lambda: self.counter("maar2", "end_markers_relayed") > before
        # It comes to MAAR2 beside the news of the node, and goes on when what waited there has; where the machine is too slow for
        # that, another one does.
        for index in (3, 2) * 3:
            self.domain.plug(index)
            self.domain.wait(lambda: self.answers(self.home, 1), 20, f"the node is not reached at MAAR{index}")
            until = time.monotonic() + 2
            while not relayed() and time.monotonic() < until:
                time.sleep(0.1)
            if relayed():
                break
        self.assertTrue(relayed())
        self.assertTrue(self.works())

    def test_a_restarted_control_plane_keeps_its_tunnels(self):
        before = {(it["local_teid"], it["remote_teid"]) for it in self.domain.kedge("maar1", "show", "tunnels")}
        # What is a few milliseconds old is not stored yet, and would be told again by the CMD.
        self.assertTrue(self.works())
        daemon = self.domain.daemons["maar1-controlplane"]
        daemon.kill()
        self.assertTrue(self.works(), "headless")
        daemon.start()
        self.domain.wait_ready(1)
        self.assertTrue(self.works())
        after = {(it["local_teid"], it["remote_teid"]) for it in self.domain.kedge("maar1", "show", "tunnels")}
        self.assertEqual(before, after)


class TheDomainOverGre(SignallingInATunnel, InADomain):
    """Gateways that tunnel by GRE, and scapy as stranger and as peer."""

    tunnel = "gre"

    def test_old_and_new_addresses_work(self):
        self.assertTrue(self.works())
        tunnels = [tunnel for host in ("maar1", "maar2") for tunnel in self.domain.kedge(host, "show", "tunnels")]
        self.assertEqual({tunnel["type"] for tunnel in tunnels}, {"gre"})
        self.assertEqual({tunnel["local_key"] for tunnel in tunnels}, {tunnel["remote_key"] for tunnel in tunnels})

    def send(self, source, header, inner):
        self.scapy("cn", f"""
inner = {inner}
send([IPv6(src="{source}", dst="{maar_address(1)}", nh=47) / GRE({header}) / inner] * 4)
""")

    def test_what_scapy_builds_is_taken_or_refused_by_name(self):
        tunnel = next(it for it in self.domain.kedge("maar1", "show", "tunnels"))
        key, peer = tunnel["local_key"], tunnel["remote"]
        inner = f'IPv6(src="{self.home}", dst="{CN}") / UDP(dport=9)'
        with_key = f"key_present=1, key={key}, proto=0x86dd"
        taken = lambda: self.domain.kedge("maar1", "show", "tunnels")[0]["decapsulated_packets"]
        for header in (with_key, f"chksum_present=1, {with_key}", f"seqnum_present=1, sequence_number=7, {with_key}"):
            before = taken()
            self.send(peer, header, inner)
            self.domain.wait(lambda: taken() >= before + 4, 5, f"GRE({header}) of scapy was not taken")
        for source, header, reason in (
            (CN, with_key, "gre_tunnel_unknown"),
            (peer, f"key_present=1, key={key ^ 1}, proto=0x86dd", "gre_tunnel_unknown"),
            (peer, "proto=0x86dd", "gre_tunnel_unknown"),
            (peer, f"chksum_present=1, chksum=1, {with_key}", "gre_checksum_wrong"),
            (peer, f"routing_present=1, {with_key}", "gre_bits_unsupported"),
            (peer, f"version=1, {with_key}", "gre_version_unsupported"),
            (peer, f"key_present=1, key={key}, proto=0x0806", "gre_protocol_unsupported"),
            (peer, f"key_present=1, key={key}, proto=0x0800", "tunnel_inner_ipv4"),
        ):
            before = self.drops("maar1", reason)
            self.send(source, header, inner)
            self.domain.wait(lambda: self.drops("maar1", reason) >= before + 4, 5, f"GRE({header}): no {reason}")

    def test_the_keys_are_in_the_gre_key_option(self):
        said = self.domain.on("maar2", "true")  # The events are in the log of each daemon.
        log = (self.domain.directory / "maar2-controlplane.log").read_text()
        self.assertIn("GRE key 0x", log + said)


class TheDomainOverGtpUInIpv4(TheDomainOverGtpU):
    """The same over IPv4, in which scapy leaves the UDP checksum out where it is told to."""

    tunnel = "gtpu-ipv4"
    family, layer, cn = "AF_INET", "IP", CN_IPV4
    gateway, other = topology.maar_ipv4_address(1), topology.maar_ipv4_address(2)

    def test_the_tunnels_are_over_ipv4(self):
        ends = {(tunnel["local"], tunnel["remote"]) for tunnel in self.domain.kedge("maar1", "show", "tunnels")}
        self.assertEqual(ends, {(topology.maar_ipv4_address(1), topology.maar_ipv4_address(2))})

    def test_ipv4_to_the_node_itself_is_the_kernels_and_all_else_is_dropped(self):
        ping = self.domain.on("cn", "ping", "-c", "2", "-i", "0.2", "-W", "2", self.gateway, check=False)
        self.assertIn(" 2 received", ping)
        # To its port, but for another address: the core routes it here, and it goes no further.
        self.domain.ip("core", "route", "replace", "198.51.100.99/32", "via", "192.0.2.18")
        before = self.drops("maar1", "ipv4_not_for_us")
        self.domain.on("cn", "ping", "-c", "2", "-i", "0.2", "-W", "1", "198.51.100.99", check=False)
        self.assertEqual(self.drops("maar1", "ipv4_not_for_us"), before + 2)

    def test_checksums_may_be_missing_and_may_not_be_wrong(self):
        inner = f'IPv6(src="{CN}", dst="{self.home}") / UDP(dport=9)'
        for checksum, reason in ((0, "gtpu_teid_unknown"), (1, "udp_checksum_wrong")):
            before = self.drops("maar1", reason)
            self.scapy("cn", f"""
from scapy.contrib.gtp import *
send(IP(src="{self.cn}", dst="{self.gateway}") / UDP(sport=7, dport=2152, chksum={checksum}) / GTP_U_Header(gtp_type=255, teid=9) / {inner})
""")
            self.domain.wait(lambda: self.drops("maar1", reason) == before + 1, 5, reason)

    def test_when_a_router_quotes_eight_octets_it_is_believed_and_stops_nothing(self):
        path = lambda: next(path for path in self.domain.kedge("maar1", "show", "paths") if path["peer"] == self.other)
        before = self.drops("maar1", "tunnel_error_invalid")
        program = f"""
quoted = bytes(IP(src="{self.gateway}", dst="{self.other}", flags="DF", len=1500) / UDP(sport=50000, dport=2152, len=1480))[:28]
send(IP(src="{self.cn}", dst="{self.gateway}") / ICMP(type=3, code=4, nexthopmtu=int(sys.argv[1])) / Raw(quoted))
"""
        self.scapy("cn", program, "619")
        self.domain.wait(lambda: self.drops("maar1", "tunnel_error_invalid") == before + 1, 5, "619 octets were not refused")
        self.assertEqual((path()["mtu"], path()["from"]), (1500, "port"))
        self.scapy("cn", program, "700")
        self.domain.wait(lambda: (path()["mtu"], path()["from"]) == (700, "router"), 5, "700 octets were not learned")
        self.assertTrue(self.works())
        # It was made up: what does not fit comes whole all the same.
        said = self.domain.on("cn", "ping", "-6", "-M", "do", "-s", "1232", "-i", "0.2", "-c", "5", "-W", "2", self.home, check=False)
        self.assertIn(" 5 received", said)
        for host in ("maar1", "maar2"):
            stages = self.domain.kedge(host, "show", "stages")
            self.assertEqual((stages["fragmented"], stages["fragment_received"]), (0, 0), host)


class ANarrowLinkBetweenAnchors(InADomain):
    """TCP by the tunnel, over a path that is narrower in its middle than at its ends."""

    narrow = 1400
    overhead = 40
    # As the gateways know each other.
    ends = maar_address(1), maar_address(2)
    # Each way, at once. What machines that run tests carry without losses of their own.
    megabits = 10

    def stage(self, host, name):
        return self.domain.kedge(host, "show", "stages")[name]

    def iperf3(self, *arguments):
        """Both ways at once, from the node's older address; what iperf3 says of it."""
        server = self.domain.popen("cn", "iperf3", "-6", "-s", "-1", "-B", CN, stdout=subprocess.DEVNULL)
        self.domain.wait(lambda: "5201" in self.domain.on("cn", "ss", "-6", "-ltnH"), 5, "iperf3 did not start")
        output = self.domain.on("mn", "iperf3", "-6", "-c", CN, "-B", self.home, "--bidir", "-J", *arguments, check=False)
        server.wait(10)
        return json.loads(output)

    def needless(self, host):
        """Segments that a host need not have sent again, as the other end told it (RFC 2883): it may tell of several at once."""
        names, numbers = [line.split()[1:] for line in self.domain.on(host, "cat", "/proc/net/netstat").splitlines()
                          if line.startswith("TcpExt:")]
        values = dict(zip(names, map(int, numbers)))
        return max(values["TCPDSACKRecv"] + values["TCPDSACKOfoRecv"], values.get("TCPDSACKRecvSegs", 0))

    def path_mtu(self, host, peer):
        return next(path for path in self.domain.kedge(host, "show", "paths") if path["peer"] == peer)

    def what_is_lost(self):
        """All that a gateway could do to a segment but forward it."""
        lost = {}
        for host in ("maar1", "maar2"):
            drops = self.domain.kedge(host, "show", "drops")
            # Neighbour discovery and advertisements of the hosts go on meanwhile; they are no segments.
            lost |= {(host, reason): drops[reason] for reason in ("packet_too_big", "tunnel_mtu_too_small", "no_headroom",
                                                                  "output_full", "transmit_queue_full", "tunnel_error_invalid")}
            lost |= {(host, stage): self.stage(host, stage) for stage in ("fragmented", "fragment_received")}
        return lost

    def test_the_path_is_learned_and_then_nothing_is_lost(self):
        # A host that knows the path tells the other end to send no more than fits it: then that one learns nothing.
        for host in ("cn", "mn"):
            self.domain.on(host, "ip", "-6", "route", "flush", "cache")
        self.iperf3("-t", "1")
        for host, peer in zip(("maar2", "maar1"), self.ends):
            path = self.path_mtu(host, peer)
            self.assertEqual((path["mtu"], path["from"]), (self.narrow, "router"), path)
            tunnels = [it for it in self.domain.kedge(host, "show", "tunnels") if it["remote"] == peer]
            self.assertEqual({it["mtu_in_force"] for it in tunnels}, {self.narrow - self.overhead}, tunnels)
            # Of a whole window that was too large only some segments are answered: errors are limited.
            self.assertGreater(self.stage(host, "tunnel_error_translated") + self.stage(host, "icmpv6_error_sent"), 0)
        # Both hosts were told what fits the tunnel.
        for host, source, destination in (("cn", CN, self.home), ("mn", self.home, CN)):
            route = self.domain.on(host, "ip", "-6", "route", "get", destination, "from", source)
            self.assertIn(f"mtu {self.narrow - self.overhead}", route)
        before = self.what_is_lost()
        needless = {host: self.needless(host) for host in ("cn", "mn")}
        report = self.iperf3("-t", "4", "-b", f"{self.megabits}M")
        self.assertEqual(self.what_is_lost(), before)
        # Of the streams, while they last: a host that sends the end of a connection again need not be told that it was needless.
        for host, way in (("mn", "sum_sent"), ("cn", "sum_sent_bidir_reverse")):
            again = report["end"][way]["retransmits"]
            self.assertLessEqual(again, self.needless(host) - needless[host], (host, report["end"][way]))
        for way in ("sum_received", "sum_received_bidir_reverse"):
            rate = report["end"][way]["bits_per_second"]
            self.assertGreater(rate, 0.95 * self.megabits * 1e6, report["end"][way])

    def test_the_gateway_itself_tells_what_fits(self):
        # With the domain's first large packet, or an earlier one.
        size = str(1500 - self.overhead - 48)
        self.domain.on("cn", "ping", "-6", "-M", "do", "-s", size, "-c1", "-W1", self.home, check=False)
        self.domain.wait(lambda: self.path_mtu("maar1", self.ends[1])["mtu"] == self.narrow, 5, "the path was not learned")
        self.domain.on("cn", "ip", "-6", "route", "flush", "cache")
        output = self.domain.on("cn", "ping", "-6", "-M", "do", "-s", size, "-c1", "-W2", self.home, check=False)
        self.assertIn(f"mtu={self.narrow - self.overhead}", output.replace(" ", ""), output)
        metrics = self.domain.on("maar1", "curl", "-s", "http://[::1]:9111/metrics")
        self.assertIn(f'kedge_dataplane_path_mtu_bytes{{peer="{self.ends[1]}"}} {self.narrow}', metrics)


class ANarrowLinkBetweenAnchorsOverGtpU(ANarrowLinkBetweenAnchors):
    """The same with 56 octets of headers."""

    tunnel = "gtpu"
    overhead = 56


class ANarrowLinkBetweenAnchorsOverGtpUInIpv4(ANarrowLinkBetweenAnchors):
    """The same over IPv4, 36 octets: routers say it by ICMPv4."""

    tunnel = "gtpu-ipv4"
    overhead = 36
    ends = topology.maar_ipv4_address(1), topology.maar_ipv4_address(2)


class TheNarrowestLinkBetweenAnchors(InADomain):
    """A path that takes 1,280 octets: so does the tunnel, in fragments (RFC 2473 section 7.1)."""

    narrow = 1280

    def stage(self, host, name):
        return self.domain.kedge(host, "show", "stages")[name]

    def test_packets_of_1280_octets_go_through_in_fragments(self):
        ping = lambda: self.domain.on("mn", "ping", "-6", "-M", "do", "-s", "1232", "-i", "0.2", "-c", "5", "-W", "2",
                                      "-I", self.home, CN, check=False)
        # The first ones are lost: only then is it known.
        self.domain.wait(lambda: " 5 received" in ping(), 20, "1,280 octets did not get through")
        for host in ("maar1", "maar2"):
            self.assertGreaterEqual(self.stage(host, "fragmented"), 5)
            self.assertGreaterEqual(self.stage(host, "reassembled"), 5)
            self.assertEqual(self.drops(host, "reassembly_timeout"), 0)

    def test_scapys_fragments_of_a_peer_are_put_together_and_a_strangers_are_not(self):
        before, unknown = self.stage("maar1", "reassembled"), self.drops("maar1", "tunnel_unknown_peer")
        invalid = self.drops("maar1", "tunnel_inner_source_invalid")
        # MAAR2 is a peer of MAAR1. What it says it carries is refused, but only after it is whole.
        program = f"""
inner = IPv6(src="2001:db8:100:77::1", dst="{CN}") / UDP(dport=9) / (b"x" * 1400)
for identification in range(5):
    packet = IPv6(src=sys.argv[1], dst="{maar_address(1)}") / IPv6ExtHdrFragment(id=identification) / inner
    fragments = fragment6(packet, 1280)
    assert len(fragments) == 2
    send(fragments[::-1] if identification % 2 else fragments)
"""
        self.scapy("maar2", program, maar_address(2))
        self.domain.wait(lambda: self.stage("maar1", "reassembled") == before + 5, 5,
                         "five packets in scapy's fragments were not put together")
        self.domain.wait(lambda: self.drops("maar1", "tunnel_inner_source_invalid") == invalid + 5, 5, "five packets were not refused")
        self.scapy("cn", program, CN)
        self.domain.wait(lambda: self.drops("maar1", "tunnel_unknown_peer") == unknown + 10, 5,
                         "ten fragments of a stranger were not dropped")
        self.assertEqual(self.stage("maar1", "reassembled"), before + 5)


class FragmentsAsTheyCome(Domain):
    """MAAR1 puts outer packets over IPv4 together itself: its core port is no af_packet device, by which Linux would have done it before."""

    def write_configurations(self):
        super().write_configurations()
        path = self.directory / "maar1.toml"
        path.write_text(path.read_text().replace("net_af_packet0,iface=core0", "net_pcap_core,rx_iface_in=core0,tx_iface=core0"))


class FragmentsOverIpv4(InADomain):
    """Scapy sends in a peer's name what Kedge's own gateways do not send: fragments without a checksum."""

    tunnel = "gtpu-ipv4"
    scene = FragmentsAsTheyCome

    def test_scapys_fragments_of_a_peer_are_put_together_if_they_have_a_checksum(self):
        names = ("gtpu_teid_unknown", "udp_checksum_zero", "tunnel_fragment")
        reassembled = lambda: self.domain.kedge("maar1", "show", "stages")["reassembled"]
        before = {name: self.drops("maar1", name) for name in names}
        count = lambda: [self.drops("maar1", name) - before[name] for name in names] + [reassembled()]
        program = f"""
from scapy.contrib.gtp import *
inner = IPv6(src="{CN}", dst="{self.home}") / UDP(dport=9) / (b"x" * 1300)
for identification in range(5):
    for checksum in (None, 0):
        packet = IP(src=sys.argv[1], dst="{topology.maar_ipv4_address(1)}", id=2 * identification + (checksum is None))
        packet /= UDP(sport=50000, dport=2152, chksum=checksum) / GTP_U_Header(gtp_type=255, teid=9) / inner
        fragments = fragment(packet, 1000)
        assert len(fragments) == 2
        send(fragments[::-1] if identification % 2 else fragments)
"""
        # MAAR2 is a peer of MAAR1. The TEID is of no tunnel, but that is seen only when it is whole.
        self.scapy("maar2", program, topology.maar_ipv4_address(2))
        self.domain.wait(lambda: count() == [5, 5, 0, 10], 5, "ten packets in scapy's fragments were not put together")
        # Of a stranger's the first is dropped, and the other is the kernel's.
        self.scapy("cn", program, CN_IPV4)
        self.domain.wait(lambda: count() == [5, 5, 10, 10], 5, "ten fragments of a stranger were not dropped")
        self.assertTrue(self.works())


class TheNarrowestLinkBetweenAnchorsOverGtpUInIpv4(InADomain):
    """A path over IPv4 that takes less than 1,280 octets and the tunnel's headers: they go in fragments (RFC 4213 section 3.2.2). MAAR1
    puts them together itself; for MAAR2 Linux does."""

    narrow = 1300
    tunnel = "gtpu-ipv4"
    scene = FragmentsAsTheyCome
    ends = topology.maar_ipv4_address(1), topology.maar_ipv4_address(2)

    def ping(self, size="1232"):
        return self.domain.on("mn", "ping", "-6", "-M", "do", "-s", size, "-i", "0.2", "-c", "5", "-W", "2", "-I", self.home, CN, check=False)

    def pass_whole(self):
        # The first ones are lost: only then is it known.
        self.domain.wait(lambda: " 5 received" in self.ping(), 20, "1,280 octets did not get through")

    def stages(self, host):
        return self.domain.kedge(host, "show", "stages")

    def path_mtu(self, host, peer):
        return next(path["mtu"] for path in self.domain.kedge(host, "show", "paths") if path["peer"] == peer)

    def test_packets_of_1280_octets_go_through_in_fragments(self):
        self.pass_whole()
        before = {host: self.stages(host) for host in ("maar1", "maar2")}
        self.assertIn(" 5 received", self.ping())
        grown = lambda host, stage: self.stages(host)[stage] - before[host][stage]
        for host in before:
            self.assertEqual(grown(host, "fragmented"), 5, host)
            for reason in ("tunnel_mtu_too_small", "tunnel_fragment", "reassembly_timeout", "udp_checksum_zero", "udp_checksum_wrong"):
                self.assertEqual(self.drops(host, reason), 0, (host, reason))
        self.assertEqual((grown("maar1", "fragment_received"), grown("maar1", "reassembled")), (10, 5))

    def test_an_independent_reader_puts_what_is_on_the_wire_together(self):
        self.pass_whole()
        file = self.domain.directory / "fragments.pcap"
        expression = f"src host {self.ends[0]} and ip[6:2] & 0x3fff != 0"
        capture = self.domain.popen("core", "tcpdump", "-U", "--immediate-mode", "-c", "10", "-i", "to-edge", "-w", str(file), expression,
                                    stderr=subprocess.DEVNULL)
        self.domain.wait(lambda: file.exists() and file.stat().st_size > 0, 5, "tcpdump did not start")
        self.assertIn(" 5 received", self.ping())
        self.domain.wait(lambda: capture.poll() is not None, 5, "there were less than ten fragments")
        said = self.scapy("core", """
fragments = [it[IP] for it in rdpcap(sys.argv[1]) if IP in it and (it[IP].flags.MF or it[IP].frag)]
assert all(it.len <= 1300 and not it.flags.DF for it in fragments), fragments
whole = [IP(bytes(it)) for it in defragment(fragments)]
assert not any(it.flags.MF or it.frag for it in whole), whole
for packet in whole:
    told = packet[UDP].chksum
    del packet[UDP].chksum
    assert told and IP(bytes(packet))[UDP].chksum == told, packet
print(len(fragments), len(whole), len({it.id for it in whole}))
""", str(file))
        self.assertEqual(said.split(), ["10", "5", "5"])

    def test_what_is_narrower_still_is_learned_and_fragments_become_smaller(self):
        self.pass_whole()
        self.domain.ip("core", "route", "replace", f"{self.ends[1]}/32", "via", "192.0.2.130", "mtu", "lock", "1000")
        # Routers may cut fragments again.
        self.assertIn(" 5 received", self.ping())
        # But not what goes whole.
        self.domain.wait(lambda: " 5 received" in self.ping("1100"), 20, "1,148 octets did not get through")
        self.assertEqual(self.path_mtu("maar1", self.ends[1]), 1000)
        before = self.stages("maar1")["fragmented"]
        self.assertIn(" 5 received", self.ping("1100"))
        self.assertIn(" 5 received", self.ping())
        self.assertEqual(self.stages("maar1")["fragmented"], before + 10)


if __name__ == "__main__":
    unittest.main(verbosity=2)
