#!/usr/bin/env python3
"""Nodes with IPv4 behind tunnels of every type, through a real gateway: kernels at both ends, and scapy as a peer.

    cn ── core ── maar1            the gateway
              └── enb ┄┄ nodes     ends of tunnels (ci/lib/endpoint.py), and the addresses behind them

Needs root, the release binaries, and what ci/setup installs.
"""

import json
import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

from namespaces import PYTHON, last_report, need_root as setUpModule  # noqa: E402
from topology import CN_IPV4, Domain, maar_address, maar_ipv4_address, pool  # noqa: E402

ENDPOINT = str(HERE.parent / "lib" / "endpoint.py")
ENB, ENB_IPV4 = "2001:db8:ce::2", "192.0.2.102"
PREAMBLE = "import logging; logging.getLogger('scapy.runtime').setLevel(40)\nfrom scapy.all import *\nfrom scapy.contrib.gtp import *\n"
POOL = "10.45.0.0/24"
GATEWAY_IPV4 = "192.0.2.18"
# By device at the far end: type, identifiers at the gateway, the far end's address, the node's, octets in front.
TUNNELS = {
    "gtpu": ("gtpu", 0x6B656467, 0x65000001, ENB, "10.45.0.1", 64),
    "gtpu4": ("gtpu", 0x6B656468, 0x65000002, ENB_IPV4, "10.45.0.2", 36),
    "gre": ("gre", 0x6B656469, 0x65000003, ENB, "10.45.0.3", 48),
    "ipip": ("ipip", None, None, ENB, "10.45.0.4", 40),
}
# Of the first, which so has 8 octets more.
QFI = 9
ADDRESSES = [it[4] for it in TUNNELS.values()]


def binding(kind, local, remote, peer, address):
    ids = f"local_id = {local}\nremote_id = {remote}\n" if local else ""
    ids += f"qfi = {QFI}\n" if local == TUNNELS["gtpu"][1] else ""
    kind = "ipv6-in-ipv6" if kind == "ipip" else kind
    return f'[[maar.ipv4]]\nprefix = "{address}/32"\npeer = "{peer}"\ntunnel = "{kind}"\n{ids}'


class WithIpv4(Domain):
    """One gateway that carries IPv4, and the far ends of its tunnels at a host of the core."""

    def __init__(self):
        keys = f'ipv4_pools = ["{POOL}"]\n' + "".join(binding(*it[:5]) for it in TUNNELS.values())
        super().__init__(tunnel="gtpu-ipv4", maars=(1,), maar=keys, dataplane='inner_ipv4 = "carry"')
        self.ends = []
        self.ruled = False

    def build(self):
        super().build()
        self.ip("core", "route", "add", POOL, "via", GATEWAY_IPV4)
        self.namespace("enb")
        self.on("enb", "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
        self.attach_host("enb", "2001:db8:ce", ENB)
        self.ip("core", "addr", "add", "192.0.2.97/28", "dev", "to-enb")
        self.ip("enb", "addr", "add", f"{ENB_IPV4}/28", "dev", "eth0")
        self.ip("enb", "route", "add", "192.0.0.0/8", "via", "192.0.2.97")
        self.ip("enb", "route", "add", "198.51.100.0/24", "via", "192.0.2.97")

    def start_ends(self):
        for own, gateway in ((ENB, maar_address(1)), (ENB_IPV4, maar_ipv4_address(1))):
            # What comes in at the one end goes out at the other.
            ids = lambda it: f"{it[0]}:{it[2]}:{it[1]}" if it[1] else it[0]
            tunnels = [f"{ids(it)}={name}" for name, it in TUNNELS.items() if it[3] == own]
            self.ends.append(self.popen("enb", PYTHON, "-u", ENDPOINT, own, gateway, *tunnels, stdout=-1))
        for end in self.ends:
            assert end.stdout.readline() == "ready\n"
        for table, (name, it) in enumerate(TUNNELS.items(), 100):
            self.ip("enb", "addr", "add", f"{it[4]}/32", "dev", name)
            self.ip("enb", "link", "set", name, "mtu", "1500", "up")
            # What is from a node goes by its tunnel.
            self.ip("enb", "route", "add", "default", "dev", name, "table", str(table))
            if not self.ruled:
                self.ip("enb", "rule", "add", "from", it[4], "table", str(table))
        self.ruled = True

    def stop_ends(self):
        """What each end has counted, by device."""
        reports = [last_report(end) for end in self.ends]
        self.ends = []
        return reports[0] | reports[1]


class NodesWithIpv4(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.domain = WithIpv4()
        cls.addClassCleanup(cls.domain.remove)
        cls.domain.build()
        cls.domain.start()
        cls.domain.start_ends()
        # ARP, both ways.
        for address in ADDRESSES:
            cls.domain.wait(lambda: cls.ping("cn", address, "-c1", "-W1").endswith("0"), 10, f"{address} is not reached")

    @classmethod
    def ping(cls, host, address, *options):
        """Which packets came back, as text: the last character is 0 if none was lost; else the whole of what ping said."""
        said = cls.domain.on(host, "ping", "-4", "-n", "-q", *options, address, check=False)
        return "lost 0" if " 0% packet loss" in said else said

    def drops(self):
        """Of what has to do with these packets: hosts ask for routers and join groups, too."""
        names = ("tunnel_", "ipv4_", "gtpu_", "gre_", "fragment", "no_", "output_", "transmit_", "packet_too_big", "hop_limit_")
        return {reason: count for reason, count in self.domain.kedge("maar1", "show", "drops").items() if reason.startswith(names)}

    def tunnels(self):
        """Of the gateway, by local identifier."""
        return {it.get("local_teid") or it.get("local_key"): it for it in self.domain.kedge("maar1", "show", "tunnels")}

    def prefixes(self):
        return {it["prefix"]: it for it in self.domain.kedge("maar1", "show", "prefixes")}

    def dropped(self, reason):
        return self.drops().get(reason, 0)

    def test_pings_go_both_ways_and_none_is_lost(self):
        before = self.drops()
        for address in ADDRESSES:
            for size in ("56", "1372"):
                for host, options, to in (("cn", [], address), ("enb", ["-I", address], CN_IPV4)):
                    said = self.ping(host, to, *options, "-c", "50", "-i", "0.02", "-W", "5", "-M", "do", "-s", size)
                    self.assertEqual(said, "lost 0", f"{host} to {to}")
        self.assertEqual(self.drops(), before)

    def test_what_may_be_cut_is_cut_and_put_together_at_the_far_end(self):
        before = self.drops()
        for address in ADDRESSES:
            said = self.ping("cn", address, "-c", "20", "-i", "0.02", "-W", "5", "-M", "dont", "-s", "1472")
            self.assertEqual(said, "lost 0", address)
        self.assertEqual(self.drops(), before)

    def test_what_may_not_be_cut_is_told_what_fits(self):
        for address, overhead in ((it[4], it[5]) for it in TUNNELS.values()):
            self.domain.on("cn", "ip", "route", "flush", "cache")
            said = self.domain.on("cn", "ping", "-4", "-n", "-c1", "-W2", "-M", "do", "-s", "1472", address, check=False)
            self.assertRegex(said, rf"From {GATEWAY_IPV4} .*[Ff]rag needed.*mtu = {1500 - overhead}\)", address)

    def test_tcp_learns_the_mtu_and_comes_through(self):
        server = self.domain.popen("cn", "iperf3", "-4", "-s", "-B", CN_IPV4, stdout=-3)
        for reverse in ([], ["-R"]):
            for address in ADDRESSES:
                run = lambda: self.domain.on("enb", "iperf3", "-4", "-c", CN_IPV4, "-B", address, "-n", "2M", "-J", *reverse, check=False)
                found = []
                def done():
                    found[:] = [json.loads(run() or "{}")]
                    return "end" in found[0] and "error" not in found[0]
                self.domain.wait(done, 60, f"TCP of {address} does not come through")
                # What was still on its way when the sender had said all is not in what the receiver says.
                self.assertGreaterEqual(found[0]["end"]["sum_received"]["bytes"], 1 << 18)
        server.kill()

    def test_counters_add_up(self):
        self.domain.stop_ends()
        before, drops, prefixes = self.tunnels(), self.drops(), self.prefixes()
        self.domain.start_ends()
        for address in ADDRESSES:
            self.ping("cn", address, "-c", "100", "-i", "0.01", "-W", "5")
        counted = self.domain.stop_ends()
        self.addCleanup(self.domain.start_ends)
        after = self.tunnels()
        self.assertEqual(self.drops(), drops)
        self.assertEqual(counted["other"], 0)
        for name, (_, id, *_) in TUNNELS.items():
            grown = lambda key: after[id][key] - before[id][key]
            with self.subTest(name):
                self.assertEqual(grown("encapsulated_packets"), counted[name]["in"])
                self.assertEqual(grown("decapsulated_packets"), counted[name]["out"])
                self.assertGreaterEqual(counted[name]["in"], 100)
                prefix = f"{TUNNELS[name][4]}/32"
                grown = lambda key: self.prefixes()[prefix][key] - prefixes[prefix][key]
                self.assertEqual((grown("to_packets"), grown("from_packets")), (counted[name]["in"], counted[name]["out"]))

    def test_routers_on_the_way_are_seen_and_so_is_what_leads_nowhere(self):
        said = self.domain.on("cn", "ping", "-4", "-n", "-c1", "-W2", "-t", "2", ADDRESSES[0], check=False)
        self.assertIn(f"From {GATEWAY_IPV4}", said)
        self.assertIn("Time to live exceeded", said)
        said = self.domain.on("enb", "ping", "-4", "-n", "-c1", "-W2", "-t", "1", "-I", ADDRESSES[2], CN_IPV4, check=False)
        self.assertIn(f"From {GATEWAY_IPV4}", said)
        said = self.domain.on("cn", "ping", "-4", "-n", "-c1", "-W2", "10.45.0.99", check=False)
        self.assertIn("Destination Net Unreachable", said)

    def scapy(self, text):
        self.domain.on("enb", PYTHON, "-c", PREAMBLE + text)

    def test_what_scapy_builds_is_taken_or_refused_by_name(self):
        to = f'IPv6(src="{ENB}", dst="{maar_address(1)}"'
        (_, teid, _, _, gtpu, _), (_, key, _, _, gre, _) = TUNNELS["gtpu"], TUNNELS["gre"]
        ipip = TUNNELS["ipip"][4]
        inner = lambda source: f'IP(src="{source}", dst="{CN_IPV4}") / UDP(sport=9, dport=9) / b"kedge"'
        kinds = {
            teid: lambda it: f"{to}) / UDP(sport=2152, dport=2152) / GTP_U_Header(gtp_type=255, teid={teid}) / {it}",
            key: lambda it: f"{to}, nh=47) / GRE(proto=0x0800, key_present=1, key={key}) / {it}",
            None: lambda it: f"{to}, nh=4) / {it}",
        }
        for (id, wrap), own, other in zip(kinds.items(), (gtpu, gre, ipip), (gre, ipip, gtpu)):
            before = self.tunnels()[id]["decapsulated_packets"]
            self.scapy(f"send([{wrap(inner(own))}] * 4, verbose=0)")
            taken = lambda: self.tunnels()[id]["decapsulated_packets"] >= before + 4
            self.domain.wait(taken, 10, f"{id} of scapy was not taken")
            for packet, reason in (
                (inner(other), "tunnel_inner_source_invalid"),
                (inner(own).replace("IP(", "IP(chksum=1, "), "ipv4_checksum_wrong"),
                (inner(own).replace("IP(", "IP(ttl=1, "), "hop_limit_exceeded"),
                (inner(own).replace("IP(", "IP(len=2000, "), "tunnel_inner_malformed"),
            ):
                before_drops = self.dropped(reason)
                self.scapy(f"send([{wrap(packet)}] * 4, verbose=0)")
                self.domain.wait(lambda: self.dropped(reason) >= before_drops + 4, 10, f"{packet}: no {reason}")

    def test_a_data_plane_that_has_an_older_file_gets_what_is_not_ipv4(self):
        daemon, new = self.domain.daemons["maar1-dataplane"], self.domain.directory / "maar1.toml"
        old, text = self.domain.directory / "maar1-old.toml", new.read_text()
        self.assertIn(self.domain.maar, text)
        old.write_text(text.replace(self.domain.maar, "").replace(self.domain.dataplane, ""))
        command = daemon.command

        def restart(file):
            daemon.kill()
            daemon.command = [str(file) if it == str(new) else it for it in command]
            daemon.start()
            # Its own ping goes through the data plane.
            self.domain.wait_ready(1)

        self.addCleanup(restart, new)
        info = lambda: self.domain.kedge("maar1", "show", "info")
        remarks = lambda: info()["controlplane"]["dataplane_remarks"]
        before = self.domain.kedge("maar1", "show", "counters")
        restart(old)
        self.assertEqual(info()["dataplane"]["inner_ipv4"], "refuse")
        self.assertEqual(len(remarks()), 1, remarks())
        self.assertIn('dataplane.inner_ipv4 = "carry", its data plane with "refuse"', remarks()[0])
        self.assertIn(pool(1), self.prefixes())
        self.assertFalse(any(it.startswith("10.45.") for it in self.prefixes()))
        # What changes goes in.
        self.domain.kedge("maar1", "filter", "add", "older", "--domain", "--protocol", "99", "--action", "drop")
        self.addCleanup(self.domain.kedge, "maar1", "filter", "delete", "older")
        self.assertFalse(self.ping("cn", ADDRESSES[0], "-c1", "-W1").endswith("0"))
        now = self.domain.kedge("maar1", "show", "counters")
        self.assertGreater(now["inner_ipv4_mismatches"], before["inner_ipv4_mismatches"])
        self.assertEqual(now["transactions_refused"], before["transactions_refused"])
        restart(new)
        for address in ADDRESSES:
            self.domain.wait(lambda: self.ping("cn", address, "-c1", "-W1").endswith("0"), 20, f"{address} is not reached")
        self.assertEqual(remarks(), [])

    def test_scapy_reads_the_qfi(self):
        sniff = (
            "import json\nprint('ready', flush=True)\n"
            "found = sniff(iface='eth0', filter='udp dst port 2152', timeout=20, count=1, lfilter=lambda it: ICMP in it)\n"
            "print(json.dumps([[it[GTP_U_Header].E, it[GTPPDUSessionContainer].type, it[GTPPDUSessionContainer].QFI, it[IP].dst] for it in found]))"
        )
        reader = self.domain.popen("enb", PYTHON, "-u", "-c", PREAMBLE + sniff, stdout=-1)
        assert reader.stdout.readline() == "ready\n"
        address = TUNNELS["gtpu"][4]
        self.domain.wait(lambda: self.ping("cn", address, "-c1", "-W1") and reader.poll() is not None, 20, "nothing was read")
        self.assertEqual(json.loads(reader.stdout.read()), [[1, 0, QFI, address]])
        shown = {it["local_teid"]: (it["qfi"], it["pdu_type"]) for it in self.domain.kedge("maar1", "show", "tunnels")}
        self.assertEqual(shown[TUNNELS["gtpu"][1]], (QFI, "downlink"))
        self.assertEqual(shown[TUNNELS["gtpu4"][1]], (None, None))

    def test_a_data_plane_that_was_killed_has_them_again(self):
        daemon = self.domain.daemons["maar1-dataplane"]
        daemon.kill()
        daemon.start()
        self.domain.wait_ready(1)
        for address in ADDRESSES:
            self.domain.wait(lambda: self.ping("cn", address, "-c1", "-W1").endswith("0"), 20, f"{address} is not reached again")


if __name__ == "__main__":
    unittest.main(verbosity=2)
