#!/usr/bin/env python3
"""Home network prefixes behind tunnels that nobody signals, through a real gateway: kernels at both ends, and scapy as a peer. And
whether the gateway knows that a GTP-U peer is there.

    cn ── core ── maar1            the gateway
              └── enb ┄┄ nodes     ends of tunnels (ci/lib/endpoint.py), and the addresses behind them

Needs root, the release binaries, and what ci/setup installs.
"""

import itertools
import json
import pathlib
import signal
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

from namespaces import PYTHON, need_root as setUpModule  # noqa: E402
from topology import CN, Domain, maar_address, maar_ipv4_address, pool  # noqa: E402

ENDPOINT = str(HERE.parent / "lib" / "endpoint.py")
ENB, ENB_IPV4 = "2001:db8:ce::2", "192.0.2.102"
PREAMBLE = "import logging; logging.getLogger('scapy.runtime').setLevel(40)\nfrom scapy.all import *\nfrom scapy.contrib.gtp import *\n"
POOL, IPV4_POOL, GATEWAY_IPV4 = "2001:db8:500::/48", "10.45.0.0/24", "192.0.2.18"
# By device at the far end: type, identifiers at the gateway, the far end's address, the prefix, the node's address.
TUNNELS = {
    "gtpu": ("gtpu", 0x6B656467, 0x65000001, ENB, "2001:db8:500:1::/64", "2001:db8:500:1::1"),
    "gtpu4": ("gtpu", 0x6B656468, 0x65000002, ENB_IPV4, "2001:db8:500:200::/56", "2001:db8:500:2ff::1"),
    "gre": ("gre", 0x6B656469, 0x65000003, ENB, "2001:db8:500:3::/64", "2001:db8:500:3::1"),
    "ip6ip": ("ip6ip", None, None, ENB, "2001:db8:500:4::4/128", "2001:db8:500:4::4"),
}
ADDRESSES = [it[5] for it in TUNNELS.values()]
# A node with both: behind the tunnel of the first.
IPV4_NODE = "10.45.0.1"
# Of the second.
QFI = 9


def binding(table, prefix, kind, local, remote, peer):
    ids = f"local_id = {local}\nremote_id = {remote}\n" if local else ""
    ids += f"qfi = {QFI}\n" if local == TUNNELS["gtpu4"][1] else ""
    kind = "ipv6-in-ipv6" if kind == "ip6ip" else kind
    return f'[[maar.{table}]]\nprefix = "{prefix}"\npeer = "{peer}"\ntunnel = "{kind}"\n{ids}'


class WithPeers(Domain):
    """One gateway, and a host of the core that ends of tunnels are at, over IPv6 and IPv4."""

    def __init__(self, keys, dataplane=""):
        super().__init__(tunnel="gtpu-ipv4", maars=(1,), maar=f'ipv6_pools = ["{POOL}"]\n{keys}', dataplane=dataplane)

    def build(self):
        super().build()
        self.ip("core", "route", "add", POOL, "via", "2001:db8:ca1::2")
        self.namespace("enb")
        self.on("enb", "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
        self.attach_host("enb", "2001:db8:ce", ENB)
        self.ip("core", "addr", "add", "192.0.2.97/28", "dev", "to-enb")
        self.ip("enb", "addr", "add", f"{ENB_IPV4}/28", "dev", "eth0")
        for net in ("192.0.0.0/8", "198.51.100.0/24", "203.0.113.0/24"):
            self.ip("enb", "route", "add", net, "via", "192.0.2.97")


class WithTunnels(WithPeers):
    """The far ends of tunnels, and nodes behind each."""

    def __init__(self):
        keys = f'ipv4_pools = ["{IPV4_POOL}"]\n' + "".join(binding("ipv6", it[4], *it[:4]) for it in TUNNELS.values())
        super().__init__(keys + binding("ipv4", f"{IPV4_NODE}/32", *TUNNELS["gtpu"][:4]), 'inner_ipv4 = "carry"')
        self.ends = []

    def build(self):
        super().build()
        self.ip("core", "route", "add", IPV4_POOL, "via", GATEWAY_IPV4)

    def start_ends(self):
        for own, gateway in ((ENB, maar_address(1)), (ENB_IPV4, maar_ipv4_address(1))):
            # What comes in at the one end goes out at the other.
            ids = lambda it: f"{it[0]}:{it[2]}:{it[1]}" if it[1] else it[0]
            tunnels = [f"{ids(it)}={name}" for name, it in TUNNELS.items() if it[3] == own]
            self.ends.append(self.popen("enb", PYTHON, "-u", ENDPOINT, own, gateway, *tunnels, stdout=-1))
        for end in self.ends:
            assert end.stdout.readline() == "ready\n"
        for table, (name, it) in enumerate(TUNNELS.items(), 100):
            self.ip("enb", "link", "set", name, "mtu", "1400", "up")
            for address in (it[5], IPV4_NODE) if name == "gtpu" else (it[5],):
                version = "-6" if ":" in address else "-4"
                self.ip("enb", version, "addr", "add", f"{address}/{128 if version == '-6' else 32}", "dev", name)
                # What is from a node goes by its tunnel.
                self.ip("enb", version, "route", "add", "default", "dev", name, "table", str(table))
                self.ip("enb", version, "rule", "add", "from", address, "table", str(table))


class PrefixesBehindTunnels(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.domain = WithTunnels()
        cls.addClassCleanup(cls.domain.remove)
        cls.domain.build()
        cls.domain.start()
        cls.domain.start_ends()
        for address in ADDRESSES:
            cls.domain.wait(lambda: cls.reached(address), 10, f"{address} is not reached")

    @classmethod
    def ping(cls, host, address, *options):
        """Which packets came back, as text; if any was lost, the whole of what ping said."""
        said = cls.domain.on(host, "ping", "-n", "-q", *options, address, check=False)
        return "lost 0" if " 0% packet loss" in said else said

    @classmethod
    def reached(cls, address):
        return cls.ping("cn", address, "-c1", "-W1") == "lost 0"

    def drops(self):
        """Of what has to do with these packets: hosts ask for routers and join groups, too."""
        names = ("tunnel_", "gtpu_", "gre_", "fragment", "no_", "output_", "transmit_", "packet_too_big", "hop_limit_", "source_")
        return {reason: count for reason, count in self.domain.kedge("maar1", "show", "drops").items() if reason.startswith(names)}

    def tunnels(self):
        """Of the gateway, by local identifier."""
        return {it.get("local_teid") or it.get("local_key"): it for it in self.domain.kedge("maar1", "show", "tunnels")}

    def prefixes(self):
        return {it["prefix"]: it for it in self.domain.kedge("maar1", "show", "prefixes")}

    def scapy(self, text):
        # Not at the far end: scapy takes the routes of nodes there for those of the host.
        self.domain.on("cn", PYTHON, "-c", PREAMBLE + text)

    def test_pings_go_both_ways_and_all_is_counted(self):
        drops, before, prefixes = self.drops(), self.tunnels(), self.prefixes()
        for name, (_, id, _, peer, prefix, address) in TUNNELS.items():
            for host, options, to in (("cn", [], address), ("enb", ["-I", address], CN)):
                said = self.ping(host, to, *options, "-c", "50", "-i", "0.02", "-W", "5", "-s", "1300")
                self.assertEqual(said, "lost 0", f"{host} to {to}")
            after = self.tunnels()[id]
            self.assertEqual(after["remote"], peer)
            ways = ("encapsulated_packets", "decapsulated_packets")
            if name == "gtpu":
                # The same tunnel, and the same node.
                self.assertEqual(self.ping("cn", IPV4_NODE, "-c", "10", "-i", "0.02", "-W", "5"), "lost 0")
                after = self.tunnels()[id]
            pings = 110 if name == "gtpu" else 100
            self.assertEqual([after[way] - before[id][way] for way in ways], [pings, pings], name)
            grown = [self.prefixes()[prefix][key] - prefixes[prefix][key] for key in ("to_packets", "from_packets")]
            self.assertEqual(grown, [100, 100], name)
        self.assertEqual(self.drops(), drops)

    def test_what_is_of_the_pool_and_of_no_prefix_leads_nowhere(self):
        self.assertIn(POOL, self.prefixes())
        self.assertIn("Destination unreachable", self.domain.on("cn", "ping", "-n", "-c1", "-W2", "2001:db8:500:99::1", check=False))

    def test_what_scapy_builds_is_taken_or_refused_by_name(self):
        to6 = f'dst="{maar_address(1)}"'
        to4 = f'dst="{maar_ipv4_address(1)}"'
        gtpu = lambda outer, teid, it: f"{outer} / UDP(sport=2152, dport=2152) / GTP_U_Header(gtp_type=255, teid={teid}) / {it}"
        teid, teid4, key = (TUNNELS[name][1] for name in ("gtpu", "gtpu4", "gre"))
        wraps = {
            "gtpu": lambda it: gtpu(f'IPv6(src="{ENB}", {to6})', teid, it),
            "gtpu4": lambda it: gtpu(f'IP(src="{ENB_IPV4}", {to4})', teid4, it),
            "gre": lambda it: f'IPv6(src="{ENB}", {to6}, nh=47) / GRE(proto=0x86dd, key_present=1, key={key}) / {it}',
            "ip6ip": lambda it: f'IPv6(src="{ENB}", {to6}) / {it}',
        }
        inner = lambda source: f'IPv6(src="{source}", dst="{CN}") / UDP(sport=9, dport=9) / b"kedge"'
        said = "tunnel_inner_source_invalid"
        for at, (name, wrap) in enumerate(wraps.items()):
            id, own = TUNNELS[name][1], TUNNELS[name][5]
            another = ADDRESSES[(at + 1) % len(ADDRESSES)]
            with self.subTest(name):
                prefix, before = TUNNELS[name][4], self.prefixes()
                self.scapy(f"send([{wrap(inner(own))}] * 4, verbose=0)")
                taken = lambda: self.prefixes()[prefix]["from_packets"] == before[prefix]["from_packets"] + 4
                self.domain.wait(taken, 10, f"what is of {own} was not taken")
                self.assertGreaterEqual(self.tunnels()[id]["decapsulated_packets"], 4)
                # Of another tunnel's prefix, of none of the pool's, of a node's pool, and of the Internet.
                for source in (another, "2001:db8:500:99::1", pool(1).replace("::/48", ":7::1"), CN):
                    drops = self.drops()[said]
                    self.scapy(f"send([{wrap(inner(source))}] * 4, verbose=0)")
                    self.domain.wait(lambda: self.drops()[said] == drops + 4, 10, f"{source} in {name}: no {said}")
                after = self.prefixes()
                untouched = [it[4] for it in TUNNELS.values() if it[4] != prefix]
                self.assertEqual([after[it]["from_packets"] for it in untouched], [before[it]["from_packets"] for it in untouched])
        own, own4 = TUNNELS["gtpu"][5], TUNNELS["gtpu4"][5]
        for packet, reason in (
            (gtpu(f'IPv6(src="{ENB}", {to6})', teid ^ 1 << 16, inner(own)), "gtpu_teid_unknown"),
            (gtpu(f'IPv6(src="2001:db8:ce::9", {to6})', teid, inner(own)), "gtpu_peer_mismatch"),
            (gtpu(f'IP(src="192.0.2.103", {to4})', teid4, inner(own4)), "gtpu_peer_mismatch"),
            # Over the other version of IP it is another peer.
            (gtpu(f'IP(src="{ENB_IPV4}", {to4})', teid, inner(own)), "gtpu_peer_mismatch"),
        ):
            before = self.drops()[reason]
            self.scapy(f"send([{packet}] * 4, verbose=0)")
            self.domain.wait(lambda: self.drops()[reason] == before + 4, 10, f"{packet}: no {reason}")

    def test_scapy_reads_what_goes_out(self):
        # Over both versions of IP at once.
        sniff = (
            "import json\nprint('ready', flush=True)\n"
            "of = lambda it: (it[IPv6] if it.type == 0x86dd else it[IP])\n"
            "found = sniff(iface='eth0', filter='udp dst port 2152', timeout=20, count=4, lfilter=lambda it: b'kedge' in bytes(it))\n"
            "print(json.dumps([[of(it).src, of(it).dst, it[GTP_U_Header].teid, it.getlayer(IPv6, 2 if it.type == 0x86dd else 1).dst,"
            " it[GTPPDUSessionContainer].QFI if GTPPDUSessionContainer in it else None] for it in found]))"
        )
        reader = self.domain.popen("enb", PYTHON, "-u", "-c", PREAMBLE + sniff, stdout=-1)
        assert reader.stdout.readline() == "ready\n"
        time.sleep(0.5)
        send = "; ".join(f's.sendto(b"kedge", ("{TUNNELS[name][5]}", 9))' for name in ("gtpu", "gtpu4"))
        self.domain.on("cn", PYTHON, "-c", f"import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); {send}; {send}")
        self.domain.wait(lambda: reader.poll() is not None, 25, "nothing was read")
        found = json.loads(reader.stdout.read())
        expected = [
            [maar_address(1), ENB, TUNNELS["gtpu"][2], TUNNELS["gtpu"][5], None],
            [maar_ipv4_address(1), ENB_IPV4, TUNNELS["gtpu4"][2], TUNNELS["gtpu4"][5], QFI],
        ]
        self.assertEqual(sorted(found, key=str), sorted(expected * 2, key=str))

    def test_a_changed_file_changes_what_is_different_and_nothing_else(self):
        file, daemon = self.domain.directory / "maar1.toml", self.domain.daemons["maar1-controlplane"]
        text = file.read_text()
        old, new = TUNNELS["gre"][4], "2001:db8:500:33::/64"

        def restart(text):
            file.write_text(text)
            daemon.kill()
            daemon.start()
            self.domain.wait_ready(1)

        before = self.tunnels()
        self.addCleanup(lambda: self.domain.wait(lambda: self.reached(TUNNELS["gre"][5]), 10, "it is not reached again"))
        self.addCleanup(restart, text)
        restart(text.replace(f'"{old}"', f'"{new}"'))
        self.domain.wait(lambda: new in self.prefixes() and old not in self.prefixes(), 10, "the prefix did not change")
        self.assertFalse(self.reached(TUNNELS["gre"][5]))
        after = self.tunnels()
        self.assertEqual(after.keys(), before.keys())
        for id, tunnel in before.items():
            self.assertEqual(after[id]["id"], tunnel["id"])
            # It counts on.
            self.assertGreaterEqual(after[id]["encapsulated_packets"], tunnel["encapsulated_packets"])
        for name in ("gtpu", "gtpu4", "ip6ip"):
            self.assertTrue(self.reached(TUNNELS[name][5]), name)


# What a peer says to Echo Requests: nothing while it is mute, which SIGUSR1 changes. It tells of each one its sequence number.
PEER = """
import signal, socket, struct, sys
mute = [sys.argv[2] == "mute"]
signal.signal(signal.SIGUSR1, lambda *_: mute.__setitem__(0, not mute[0]))
it = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
it.bind((sys.argv[1], 2152))
print("ready", flush=True)
while True:
    packet, sender = it.recvfrom(2048)
    if packet[1] != 1: continue
    print(struct.unpack("!H", packet[8:10])[0], flush=True)
    if not mute[0]: it.sendto(struct.pack("!BBHI", 0x32, 2, 6, 0) + packet[8:10] + bytes(2) + bytes([14, 0]), sender)
"""


class ANarrowPathOverIpv4(unittest.TestCase):
    """To a peer that is no gateway of Kedge's: its kernel puts together what comes in fragments, and sends such itself."""

    def test_packets_of_1280_octets_go_both_ways_in_fragments(self):
        domain = WithTunnels()
        self.addCleanup(domain.remove)
        domain.build()
        domain.ip("core", "route", "add", f"{ENB_IPV4}/32", "dev", "to-enb", "mtu", "lock", "1000")
        domain.ip("enb", "route", "replace", "198.51.100.0/24", "via", "192.0.2.97", "mtu", "lock", "1000")
        domain.start()
        domain.start_ends()
        for end in domain.ends:
            self.addCleanup(end.stdout.close)
        address = TUNNELS["gtpu4"][5]
        ping = lambda host, to, *options: domain.on(
            host, "ping", "-n", "-q", "-c10", "-i0.05", "-W2", "-M", "do", "-s", "1232", *options, to, check=False)
        all_came = lambda said: " 0% packet loss" in said
        stage = lambda: domain.kedge("maar1", "show", "stages")["fragmented"]
        # The first ones are lost: only then is it known.
        domain.wait(lambda: all_came(ping("cn", address)), 20, "1,280 octets did not get through")
        before = stage()
        for said in (ping("cn", address), ping("enb", CN, "-I", address)):
            self.assertTrue(all_came(said), said)
        # Requests in the one direction and answers in the other: the gateway's way to the peer is the narrow one.
        self.assertEqual(stage(), before + 20)
        drops = domain.kedge("maar1", "show", "drops")
        self.assertEqual([drops.get(it, 0) for it in ("tunnel_mtu_too_small", "tunnel_fragment", "udp_checksum_wrong")], [0, 0, 0])


class PathsToPeers(unittest.TestCase):
    """A peer that stops answering Echo Requests, over IPv6, and one that begins to, over IPv4. It is asked no more often than once in
    60 s (3GPP TS 29.281 section 7.2.1), which is how long this takes."""

    @classmethod
    def setUpClass(cls):
        keys = "".join(binding("ipv6", it[4], *it[:4]) for name, it in TUNNELS.items() if name.startswith("gtpu"))
        keys += "[timers]\ngtpu_echo_interval_ms = 60000\ngtpu_t3_response_ms = 1000\ngtpu_n3_requests = 3\n"
        cls.domain = WithPeers(keys)
        cls.addClassCleanup(cls.domain.remove)
        cls.domain.build()
        cls.domain.start()
        # Again, now that all addresses and neighbours are there: every request goes out.
        daemon = cls.domain.daemons["maar1-controlplane"]
        daemon.kill()
        cls.log_begins = daemon.log.stat().st_size
        cls.peers = {}
        for address, how in ((ENB, "answers"), (ENB_IPV4, "mute")):
            cls.peers[address] = cls.domain.popen("enb", PYTHON, "-u", "-c", PEER, address, how, stdout=-1)
            assert cls.peers[address].stdout.readline() == "ready\n"
        daemon.start()
        cls.domain.wait_ready(1)

    def states(self):
        """What each peer is, as the command line has it, and as the metric has it."""
        text = self.domain.on("maar1", "curl", "-s", "http://[::1]:9110/metrics")
        gauge = {line.split('"')[1]: line.split()[-1] for line in text.splitlines() if line.startswith("kedge_controlplane_gtpu_path_up{")}
        shown = {it["peer"]: it for it in self.domain.kedge("maar1", "show", "paths")}
        return {peer: (it["state"], it["round_trip_us"] is not None, gauge.get(peer)) for peer, it in shown.items()}

    def told(self, kind, peer):
        """How often an event was told of a peer."""
        log = self.domain.daemons["maar1-controlplane"].log.read_bytes()[self.log_begins:].decode()
        return sum(kind in line and peer in line for line in log.splitlines())

    def counter(self, name):
        return self.domain.kedge("maar1", "show", "counters")[name]

    def test_a_path_goes_down_and_comes_up_and_its_tunnels_stay(self):
        up, down = ("up", True, "1"), ("down", False, "0")
        self.domain.wait(lambda: self.states() == {ENB: up, ENB_IPV4: down}, 20, "the first answers are not as expected")
        tunnels = {it["id"] for it in self.domain.kedge("maar1", "show", "tunnels")}
        self.assertEqual((self.counter("gtpu_paths_lost"), self.counter("gtpu_echo_requests_repeated")), (1, 2))
        for peer in self.peers.values():
            peer.send_signal(signal.SIGUSR1)
        self.domain.wait(lambda: self.states() == {ENB: down, ENB_IPV4: up}, 80, "the paths did not change")
        self.assertEqual((self.counter("gtpu_paths_lost"), self.counter("gtpu_echo_requests_repeated")), (2, 4))
        # Each change was told once.
        for kind, peer, times in (("gtpu_path_up", ENB, 1), ("gtpu_path_down", ENB, 1), ("gtpu_path_up", ENB_IPV4, 1), ("gtpu_path_down", ENB_IPV4, 1)):
            self.assertEqual(self.told(kind, peer), times, f"{kind} of {peer}")
        # What is for nodes behind it still goes there: to whom else is not for the gateway to know.
        self.assertEqual({it["id"] for it in self.domain.kedge("maar1", "show", "tunnels")}, tunnels)
        # The one was asked once and then N3-REQUESTS times with one number; the other the other way round.
        for address, pattern in ((ENB, [1, 3]), (ENB_IPV4, [3, 1])):
            self.peers[address].kill()
            numbers = [int(line) for line in self.peers[address].stdout.read().split()]
            self.assertEqual([len(list(same)) for _, same in itertools.groupby(numbers)], pattern, f"{address}: {numbers}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
