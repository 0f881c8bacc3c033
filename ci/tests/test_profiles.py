#!/usr/bin/env python3
"""The profiles for TRex and Pktgen, as far as they can be tested without a NIC and without either of them.

TRex's API is a fake that keeps what it is told; what its field engine would do is done here to the packets, which
scapy then reads. Pktgen is a table in Lua that has what Pktgen 23.03 has and nothing else. Needs scapy and lua5.3.
"""

import contextlib
import importlib
import io
import ipaddress
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import types
import unittest

from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.utils import RawPcapReader

PERF = pathlib.Path(__file__).resolve().parent.parent.parent / "perf"
TREX = PERF / "trex"
PKTGEN = PERF / "pktgen"
PROFILES = ("plain_ipv6", "encapsulate", "decapsulate", "imix")


class Told:
    """Any class of TRex's API: what it was told is all there is to it."""

    def __init__(self, *positional, **named):
        self.positional = positional
        self.__dict__.update(named)


def fake_trex():
    api = types.ModuleType("trex_stl_lib.api")
    for name in ("STLPktBuilder", "STLScVmRaw", "STLStream", "STLTXCont", "STLVmFlowVar", "STLVmWrFlowVar"):
        setattr(api, name, type(name, (Told,), {}))
    package = types.ModuleType("trex_stl_lib")
    package.api = api
    sys.modules.update({"trex_stl_lib": package, "trex_stl_lib.api": api})


fake_trex()
sys.path.insert(0, str(TREX))
kedge_packets = importlib.import_module("kedge_packets")
kedge_search = importlib.import_module("kedge_search")
ndr = importlib.import_module("ndr")
fill = importlib.import_module("fill")


def streams(profile, tunables="", direction=0):
    return importlib.import_module(profile).register().get_streams(
        direction=direction, port_id=direction, tunables=tunables.split()
    )


def template(stream):
    """The octets that the generator starts from. A generator fills in its port's addresses; here they are made up."""
    packet = stream.packet.pkt.copy()
    packet[Ether].src, packet[Ether].dst = "02:00:00:00:00:99", "02:00:00:00:00:02"
    return bytes(packet)


def sent(stream, number):
    """Packet `number` of a stream, as TRex's field engine makes it of variables that count up."""
    octets = bytearray(template(stream))
    values = {}
    for command in stream.packet.vm.positional[0] if stream.packet.vm else []:
        if type(command).__name__ == "STLVmFlowVar":
            values[command.name] = (command.min_value, command.max_value, command.size)
        else:
            least, most, size = values[command.fv_name]
            value = least + number % (most - least + 1)
            octets[command.pkt_offset : command.pkt_offset + size] = value.to_bytes(size, "big")
    return bytes(octets)


def read(stream, number=0):
    return Ether(sent(stream, number))


def changed(stream, number):
    """Offsets of the octets in which packet `number` differs from the first."""
    first, other = sent(stream, 0), sent(stream, number)
    return [at for at, (a, b) in enumerate(zip(first, other)) if a != b]


def prefix(address):
    return str(ipaddress.ip_network((address, 64), strict=False))


class Packets(unittest.TestCase):
    def test_a_plain_frame_is_as_large_as_asked_and_well_formed(self):
        for size in (66, 78, 1518, 9000):
            (stream,) = streams("plain_ipv6", f"--size {size}")
            octets = template(stream)
            self.assertEqual(len(octets) + 4, size)
            packet = Ether(octets)
            self.assertEqual(packet.type, 0x86DD)
            self.assertEqual((packet[IPv6].nh, packet[IPv6].hlim), (17, 64))
            self.assertEqual(packet[IPv6].plen, size - 4 - 14 - 40)
            self.assertEqual(packet[UDP].len, packet[IPv6].plen)

    def test_each_direction_goes_to_the_prefixes_of_the_other_side(self):
        there, back = (read(streams("plain_ipv6", direction=it)[0])[IPv6] for it in (0, 1))
        self.assertEqual((there.src, there.dst), ("2001:db8:e00::1", "2001:db8:f00::1"))
        self.assertEqual((back.src, back.dst), ("2001:db8:f00::1", "2001:db8:e00::1"))

    def test_a_plain_packet_varies_in_its_destinations_prefix_only(self):
        for direction, base in ((0, "f00"), (1, "e00")):
            (stream,) = streams("plain_ipv6", "--prefixes 70000", direction)
            self.assertEqual(prefix(read(stream, 0)[IPv6].dst), f"2001:db8:{base}::/64")
            self.assertEqual(prefix(read(stream, 0xABC)[IPv6].dst), f"2001:db8:{base}:abc::/64")
            # Past 16 bits it carries into the group before; past the last prefix it begins again.
            self.assertEqual(prefix(read(stream, 69999)[IPv6].dst), f"2001:db8:{base[:2]}1:116f::/64")
            self.assertEqual(sent(stream, 70000), sent(stream, 0))
            self.assertEqual(read(stream, 5)[IPv6].src, read(stream, 0)[IPv6].src)
            # Octets 4 to 7 of the destination, which is 24 octets into the IPv6 header.
            self.assertEqual(changed(stream, 69999), [14 + 24 + 5, 14 + 24 + 6, 14 + 24 + 7])

    def test_a_tag_moves_what_varies(self):
        (stream,) = streams("plain_ipv6", "--prefixes 1000 --vlan 100 --size 78")
        packet = read(stream, 999)
        self.assertEqual(packet[Dot1Q].vlan, 100)
        self.assertEqual(len(packet) + 4, 78)
        self.assertEqual(prefix(packet[IPv6].dst), "2001:db8:f00:3e7::/64")

    def test_packets_to_encapsulate_are_plain_and_go_to_anchored_prefixes(self):
        (stream,) = streams("encapsulate", "--prefixes 300 --size 128")
        packet = read(stream, 258)
        self.assertEqual(len(packet) + 4, 128)
        self.assertEqual((packet[IPv6].nh, packet[IPv6].src), (17, "2001:db8:e00::1"))
        self.assertEqual(packet[IPv6].dst, "2001:db8:100:102::1")
        self.assertEqual(changed(stream, 258), [14 + 24 + 6, 14 + 24 + 7])

    def test_packets_to_decapsulate_have_a_tunnel_around_varied_flows(self):
        (stream,) = streams("decapsulate", "--prefixes 300 --size 128")
        packet = read(stream, 258)
        # The size asked for is the inner frame's; the tunnel's header comes on top.
        self.assertEqual(len(packet) + 4, 128 + 40)
        outer, inner = packet[IPv6], packet[IPv6].payload
        self.assertEqual((outer.nh, outer.plen), (41, 128 - 4 - 14))
        self.assertEqual((outer.src, outer.dst), ("2001:db8:b::1", "2001:db8:a::1"))
        self.assertIsInstance(inner, IPv6)
        self.assertEqual((inner.src, inner.dst), ("2001:db8:100:102::1", "2001:db8:e00:102::1"))
        self.assertEqual((inner.nh, inner.plen, inner[UDP].len), (17, 70, 70))
        self.assertEqual(changed(stream, 258), [54 + 8 + 6, 54 + 8 + 7, 54 + 24 + 6, 54 + 24 + 7])

    def test_the_tunnels_other_ends_vary_if_asked(self):
        (stream,) = streams("decapsulate", "--peers 4 --vlan 7")
        self.assertEqual([read(stream, it)[IPv6].src for it in range(5)],
                         [f"2001:db8:b::{it}" for it in (1, 2, 3, 4, 1)])
        self.assertEqual(read(stream, 3)[IPv6].payload.src, "2001:db8:100::1")

    def test_what_is_encapsulated_one_way_is_what_is_decapsulated_the_other(self):
        there = read(streams("encapsulate", "--prefixes 9")[0], 0)[IPv6]
        back = read(streams("decapsulate", "--prefixes 9")[0], 0)[IPv6].payload
        self.assertEqual((there.src, there.dst), (back.dst, back.src))

    def test_link_layer_addresses_are_left_to_the_generators_port(self):
        for profile in PROFILES:
            for stream in streams(profile):
                self.assertNotIn("dst", stream.packet.pkt.fields, profile)
                self.assertNotIn("src", stream.packet.pkt.fields, profile)


class Profiles(unittest.TestCase):
    def test_each_profile_gives_continuous_streams_by_default_and_by_keyword(self):
        for profile in PROFILES:
            register = importlib.import_module(profile).register
            for arguments in ({}, {"direction": 1, "port_id": 1, "tunables": []}):
                found = register().get_streams(**arguments)
                self.assertEqual(len(found), 3 if profile == "imix" else 1)
                for stream in found:
                    self.assertEqual(type(stream.mode).__name__, "STLTXCont")
                    self.assertGreater(stream.mode.pps, 0)

    def test_every_argument_of_get_streams_has_a_default(self):
        # TRex pairs the defaults with the arguments when it lists a profile's tunables.
        for profile in PROFILES:
            it = importlib.import_module(profile).register().get_streams
            self.assertEqual(len(it.__defaults__), it.__code__.co_argcount - 1)
            self.assertEqual(it.__code__.co_varnames[1:3], ("direction", "tunables"))

    def test_one_prefix_needs_no_field_engine(self):
        self.assertIsNone(streams("plain_ipv6")[0].packet.vm)

    def test_the_order_is_passed_on(self):
        for order in ("inc", "random"):
            command = streams("encapsulate", f"--prefixes 2 --order {order}")[0].packet.vm.positional[0][0]
            self.assertEqual((command.op, command.size), (order, 4))

    def test_nonsense_is_refused_with_a_reason(self):
        for profile, tunables, reason in (
            ("plain_ipv6", "--size 65", "66 to 9216"),
            ("plain_ipv6", "--size 69 --vlan 5", "70 to 9216"),
            ("plain_ipv6", "--size 9217", "66 to 9216"),
            ("plain_ipv6", "--prefixes 0", "prefixes must be 1 to"),
            ("encapsulate", "--prefixes 16777217", "prefixes must be 1 to"),
            ("encapsulate", "--vlan 4095", "a VLAN is 1 to 4094"),
            ("encapsulate", "--size many", "invalid int value"),
            ("decapsulate", "--peers 0", "peers must be 1 to"),
            ("decapsulate", "--order down", "invalid choice"),
            ("encapsulate", "--peers 2", "unrecognized arguments"),
            ("imix", "--size 78", "unrecognized arguments"),
            ("imix", "--largest 570", "larger than 570"),
            ("imix", "--traffic both", "invalid choice"),
        ):
            with self.subTest(profile=profile, tunables=tunables), self.assertRaisesRegex(ValueError, reason):
                streams(profile, tunables)

    def test_the_most_prefixes_of_one_kind_do_not_run_into_another(self):
        most = kedge_packets.MOST_PREFIXES
        bases = sorted(
            int(ipaddress.IPv6Address(it)) >> 64
            for it in (kedge_packets.NEAR, kedge_packets.FAR, kedge_packets.ANCHORED)
        )
        for one, next_one in zip(bases, bases[1:]):
            self.assertLessEqual(one + most, next_one)
        ends = read(streams("plain_ipv6", f"--prefixes {most}")[0], most - 1)[IPv6].dst
        self.assertEqual(prefix(ends), "2001:db8:fff:ffff::/64")


class Imix(unittest.TestCase):
    def mix(self, tunables, direction=0):
        return [(len(template(it)) + 4, it.mode.pps) for it in streams("imix", tunables, direction)]

    def test_shares_are_those_of_csit(self):
        self.assertEqual(self.mix(""), [(78, 28), (570, 16), (1518, 4)])
        total = sum(pps for _, pps in self.mix(""))
        mean = sum(size * pps for size, pps in self.mix("")) / total
        self.assertEqual((total, round(mean)), (48, 362))

    def test_into_a_tunnel_the_largest_still_fits_the_core(self):
        self.assertEqual(self.mix("--traffic encapsulate"), [(78, 28), (570, 16), (1478, 4)])
        self.assertEqual(self.mix("--traffic decapsulate"), [(118, 28), (610, 16), (1518, 4)])
        self.assertEqual(self.mix("--traffic encapsulate --largest 9000")[2], (9000, 4))

    def test_every_size_varies_and_knows_its_direction(self):
        for stream in streams("imix", "--prefixes 100", direction=1):
            self.assertEqual(read(stream, 99)[IPv6].dst, "2001:db8:e00:63::1")
        for stream in streams("imix", "--prefixes 100 --traffic decapsulate"):
            self.assertEqual(read(stream, 99)[IPv6].payload.src, "2001:db8:100:63::1")


class Device:
    """Carries `capacity` packets per second; every `hiccup`th trial loses one packet at any rate."""

    def __init__(self, capacity, hiccup=0, extra=0):
        self.capacity, self.hiccup, self.extra = capacity, hiccup, extra
        self.rates = []

    def __call__(self, rate):
        self.rates.append(rate)
        sent = round(rate)
        received = min(sent, round(self.capacity))
        if self.hiccup and len(self.rates) % self.hiccup == 0:
            received -= 1
        return [kedge_search.Count(rate, sent, received + self.extra)]


ONCE = kedge_search.Goal(trials=1, exceed=0)


class Search(unittest.TestCase):
    def test_it_closes_in_on_the_rate_from_both_sides(self):
        for capacity in (10_500, 1_234_567, 9_990_000):
            answer = kedge_search.search(Device(capacity), 1e4, 1e7, ONCE)
            self.assertLessEqual(answer.lower, capacity + 1)
            self.assertGreater(answer.upper, capacity)
            self.assertLessEqual((answer.upper - answer.lower) / answer.upper, ONCE.width)
            self.assertLess(answer.trials, 20)

    def test_a_narrower_width_gives_a_narrower_answer(self):
        goal = kedge_search.Goal(trials=1, exceed=0, width=0.0005)
        answer = kedge_search.search(Device(3_000_000), 1e4, 1e7, goal)
        self.assertLess(abs(answer.lower - 3_000_000) / 3_000_000, 0.0005)

    def test_a_device_that_carries_all_is_asked_once(self):
        device = Device(2e7)
        self.assertEqual(kedge_search.search(device, 1e4, 1e7, ONCE), kedge_search.Answer(1e7, None, 1))
        self.assertEqual(device.rates, [1e7])

    def test_a_device_that_carries_nothing_has_no_rate(self):
        self.assertEqual(kedge_search.search(Device(5e3), 1e4, 1e7, ONCE), kedge_search.Answer(0, 1e4, 2))

    def test_one_hiccup_spoils_a_single_trial_but_not_many(self):
        # Every third trial loses a packet, whatever the rate.
        strict = kedge_search.search(Device(5e6, hiccup=3), 1e4, 1e7, ONCE)
        self.assertLess(strict.lower, 4e6)
        goal = kedge_search.Goal(trials=9, exceed=0.5)
        lenient = kedge_search.search(Device(5e6, hiccup=3), 1e4, 1e7, goal)
        self.assertLess(abs(lenient.lower - 5e6) / 5e6, 0.01)

    def test_a_rate_is_tried_no_more_often_than_is_needed(self):
        goal = kedge_search.Goal(trials=21, exceed=0.5)
        device = Device(5e6)
        # 10 of 21 may fail: 11 that did not, or 11 that did, decide.
        self.assertEqual(kedge_search.carries(device, 1e6, goal), (True, 11))
        self.assertEqual(kedge_search.carries(device, 6e6, goal), (False, 11))
        none_may_fail = kedge_search.Goal(trials=4, exceed=0)
        self.assertEqual(kedge_search.carries(Device(5e6), 1e6, none_may_fail), (True, 4))
        self.assertEqual(kedge_search.carries(Device(5e6, hiccup=2), 1e6, none_may_fail), (False, 2))
        quarter = kedge_search.Goal(trials=8, exceed=0.25)
        self.assertEqual(kedge_search.carries(Device(5e6, hiccup=2), 1e6, quarter), (False, 6))
        self.assertEqual(kedge_search.carries(Device(5e6, hiccup=4), 1e6, quarter), (True, 7))

    def test_some_loss_may_be_allowed(self):
        goal = kedge_search.Goal(loss=0.005, trials=1, exceed=0, width=0.0005)
        answer = kedge_search.search(Device(5e6), 1e4, 1e7, goal)
        # At 0.5 % above what it carries the device loses 0.5 %.
        self.assertLess(abs(answer.lower - 5e6 / 0.995) / 5e6, 0.001)

    def test_the_worst_direction_counts(self):
        def measure(rate):
            return [kedge_search.Count(rate, round(rate), round(rate)),
                    kedge_search.Count(rate, round(rate), min(round(rate), 2_000_000))]
        answer = kedge_search.search(measure, 1e4, 1e7, ONCE)
        self.assertLess(abs(answer.lower - 2e6) / 2e6, 0.006)

    def test_more_packets_than_were_sent_are_no_loss(self):
        answer = kedge_search.search(Device(2e7, extra=3), 1e4, 1e7, ONCE)
        self.assertEqual(answer.lower, 1e7)

    def test_a_generator_that_is_too_slow_is_no_answer(self):
        def measure(rate):
            return [kedge_search.Count(rate, round(min(rate, 9e6)), round(min(rate, 9e6)))]
        reason = "the generator sent 9000000 packets instead of 10000000"
        with self.assertRaisesRegex(kedge_search.GeneratorTooSlow, reason):
            kedge_search.search(measure, 1e4, 1e7, ONCE)
        with self.assertRaises(kedge_search.GeneratorTooSlow):
            kedge_search.search(lambda rate: [kedge_search.Count(rate, 0, 0)], 1e4, 1e7, ONCE)

    def test_goals_without_sense_are_refused(self):
        for settings, reason in (
            ({"loss": -0.1}, "loss ratio"), ({"loss": 1}, "loss ratio"), ({"trials": 0}, "at least 1 trial"),
            ({"exceed": 1}, "exceed ratio"), ({"exceed": -1}, "exceed ratio"),
            ({"width": 0}, "width"), ({"width": 1}, "width"), ({"loss": math.nan}, "loss ratio"),
        ):
            with self.subTest(settings), self.assertRaisesRegex(ValueError, reason):
                kedge_search.Goal(**settings)
        for lowest, highest in ((0, 1), (-1, 1), (2, 2), (3, 2), (math.nan, 2)):
            with self.subTest((lowest, highest)), self.assertRaisesRegex(ValueError, "lowest rate"):
                kedge_search.search(Device(1), lowest, highest, ONCE)


class Client:
    """A TRex server whose ports are wired to a device of a known rate."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.calls, self.streams, self.sending = [], {}, {}

    def connect(self):
        self.calls.append("connect")

    def disconnect(self):
        self.calls.append("disconnect")

    def get_server_version(self):
        return {"version": "v3.08"}

    def reset(self, ports):
        self.calls.append(("reset", tuple(ports)))

    def add_streams(self, found, ports):
        for port in ports:
            self.streams[port] = found

    def clear_stats(self):
        self.sending = {}

    def start(self, ports, mult, duration, force):
        assert mult.endswith("pps") and force
        self.sending = {port: float(mult[:-3]) * duration for port in ports}
        self.waited, self.duration = False, duration

    def wait_on_traffic(self, ports, timeout):
        assert set(ports) == set(self.sending) and timeout > self.duration
        self.waited = True

    def get_stats(self):
        assert self.waited, "counters were read before the traffic had ended"
        stats = {port: {"opackets": 0, "ipackets": 0} for port in (0, 1)}
        for port, packets in self.sending.items():
            stats[port]["opackets"] = round(packets)
            stats[1 - port]["ipackets"] = round(min(packets, self.capacity * self.duration))
        return stats


class Ndr(unittest.TestCase):
    def run_it(self, text, client):
        options = ndr.arguments(text.split() + ["--settle", "0"])
        with contextlib.redirect_stdout(io.StringIO()):
            return ndr.run(options, client)

    def test_it_writes_the_rows_that_kedge_perf_writes(self):
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "ndr.json"
            client = Client(3e6)
            text = f"encapsulate.py --lowest 1e5 --highest 1e7 --trials 3 --report {path}"
            options = ndr.arguments([*text.split(), "--settle", "0", "--tunables", "--prefixes 20000 --size 128"])
            with contextlib.redirect_stdout(io.StringIO()):
                ndr.run(options, client)
            rows = json.loads(path.read_text())
            run = json.loads((pathlib.Path(directory) / "ndr.run.json").read_text())
        columns = (PERF / "src" / "rows.rs").read_text().split("pub(crate) struct Row {")[1].split("}")[0]
        columns = [line.split("pub(crate) ")[1].split(":")[0] for line in columns.splitlines() if "pub(crate)" in line]
        for row in rows:
            self.assertEqual(list(row), columns)
        first = rows[0]
        self.assertEqual((first["bench"], first["subject"], first["prefixes"]), ("ndr", "kedge", 20000))
        self.assertEqual(first["case"], "encapsulate --prefixes 20000 --size 128")
        self.assertEqual((first["metric"], first["unit"]), ("ndr", "Mpps"))
        self.assertTrue(2.98 <= first["min"] <= first["median"] <= first["max"] <= 3.0, first)
        self.assertEqual([it["metric"] for it in rows], ["ndr", "ndr-upper", "trials"])
        self.assertGreater(rows[1]["min"], 3.0)
        self.assertEqual(run["generator"], "TRex v3.08")
        self.assertIn("--tunables '--prefixes 20000 --size 128'", run["command"])
        self.assertEqual(client.calls, ["connect", ("reset", (0, 1)), "disconnect"])
        self.assertEqual(list(client.streams), [0])

    def test_both_ways_at_once_are_summed_up(self):
        client = Client(2e6)
        out = self.run_it("encapsulate.py --reverse decapsulate.py --lowest 1e5 --highest 1e7 --trials 1", client)
        self.assertEqual(out[0]["case"], "encapsulate+decapsulate")
        self.assertTrue(3.97 <= out[0]["median"] <= 4.0, out[0])
        self.assertEqual(read(client.streams[0][0])[IPv6].nh, 17)
        self.assertEqual(read(client.streams[1][0])[IPv6].nh, 41)

    def test_a_plain_profile_is_told_its_direction(self):
        client = Client(1e9)
        out = self.run_it("plain_ipv6.py --reverse plain_ipv6.py --lowest 1 --highest 1000 --repeats 1", client)
        self.assertEqual([it["metric"] for it in out], ["ndr", "trials"])
        self.assertEqual([prefix(read(client.streams[it][0])[IPv6].dst) for it in (0, 1)],
                         ["2001:db8:f00::/64", "2001:db8:e00::/64"])

    def test_ports_are_as_asked(self):
        client = Client(1e9)
        self.run_it("decapsulate.py --ports 1 0 --lowest 1 --highest 1000", client)
        self.assertEqual(list(client.streams), [1])

    def test_partial_drop_has_a_name_of_its_own(self):
        out = self.run_it("imix.py --lowest 1e3 --highest 1e7 --loss 0.005 --trials 1", Client(1e6))
        self.assertEqual(out[0]["metric"], "pdr-0.005")

    def test_the_connection_is_ended_if_the_generator_fails(self):
        client = Client(1e6)
        client.get_stats = lambda: {0: {"opackets": 1, "ipackets": 0}, 1: {"opackets": 0, "ipackets": 1}}
        with self.assertRaises(kedge_search.GeneratorTooSlow):
            self.run_it("plain_ipv6.py --lowest 1e3 --highest 1e6", client)
        self.assertEqual(client.calls[-1], "disconnect")

    def test_nonsense_is_refused_before_anything_is_sent(self):
        good = "plain_ipv6.py --lowest 1 --highest 2"
        for text, reason in (
            ("plain_ipv6.py", "required: --lowest, --highest"),
            ("plain_ipv6.py --lowest 2 --highest 2", "less than --highest"),
            ("plain_ipv6.py --lowest 0 --highest 2", "more than 0"),
            (good + " --trials 0", "at least 1 trial"),
            (good + " --repeats 0", "--repeats must be at least 1"),
            (good + " --ports 1 1", "two different ports"),
            (good + " --trial-seconds 0", "more than 0 seconds"),
            (good + " --exceed 1", "exceed ratio"),
            (good + " --width 0", "width"),
            (good + " --loss 1", "loss ratio"),
        ):
            errors = io.StringIO()
            with self.subTest(text), contextlib.redirect_stderr(errors), self.assertRaises(SystemExit):
                ndr.arguments(text.split())
            self.assertIn(reason, errors.getvalue())
        client = Client(1)
        with self.assertRaisesRegex(ValueError, "there is no such profile"):
            self.run_it("nothing.py --lowest 1 --highest 2", client)
        with self.assertRaisesRegex(ValueError, "prefixes must be"):
            ndr.run(ndr.arguments(good.split() + ["--tunables", "--prefixes 0"]), client)
        self.assertEqual(client.calls, [])

    def test_without_trex_it_says_where_to_look(self):
        command = [sys.executable, str(TREX / "ndr.py"), "plain_ipv6.py", "--lowest", "1", "--highest", "2"]
        done = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
        self.assertEqual(done.returncode, 1)
        self.assertIn("PYTHONPATH", done.stderr)


class Tables(unittest.TestCase):
    def test_every_packet_of_every_profile_finds_its_way(self):
        routes, tunnels = fill.tables(300, peers=3)
        found = {(prefix(address), length): hop for address, length, hop in routes}
        self.assertEqual(len(found), 3 * 300 + 1)
        remotes = {str(ipaddress.IPv6Address(remote)): tunnel for tunnel, remote in tunnels}

        def hop(address):
            return found[(prefix(address), 64)]

        for number in range(300):
            for direction, side in ((0, "far"), (1, "near")):
                plain = read(streams("plain_ipv6", "--prefixes 300", direction)[0], number)
                self.assertEqual(hop(plain[IPv6].dst), side)
            there = read(streams("encapsulate", "--prefixes 300")[0], number)
            self.assertIn(hop(there[IPv6].dst), remotes.values())
            back = read(streams("decapsulate", "--prefixes 300 --peers 3")[0], number)
            # From the very tunnel that leads to the node.
            self.assertEqual(remotes[back[IPv6].src], hop(back[IPv6].payload.src))
            self.assertEqual(hop(back[IPv6].payload.dst), "near")
            self.assertEqual(hop(back[IPv6].src), "far")

    def test_the_way_to_the_tunnels_ends_is_in_the_first_transaction(self):
        routes, _ = fill.tables(2)
        self.assertEqual(next(iter(routes)), (int(ipaddress.IPv6Address("2001:db8:b::")), 64, "far"))

    def test_nonsense_is_refused(self):
        good = "--socket s --near a=02:00:00:00:00:90 --far b=02:00:00:00:00:91"
        self.assertEqual(fill.arguments(good.split()).far, ("b", bytes.fromhex("020000000091")))
        for text, reason in (
            (good + " --prefixes 0", "prefixes must be 1 to"),
            (good + " --peers 65537", "peers must be 1 to"),
            ("--socket s --near a --far b=02:00:00:00:00:91", "PORT=LINK-LAYER-ADDRESS"),
            ("--socket s --near =02:00:00:00:00:90 --far b=02:00:00:00:00:91", "PORT=LINK-LAYER-ADDRESS"),
            ("--socket s --near a=02:00 --far b=02:00:00:00:00:91", "PORT=LINK-LAYER-ADDRESS"),
        ):
            errors = io.StringIO()
            with self.subTest(text), contextlib.redirect_stderr(errors), self.assertRaises(SystemExit):
                fill.arguments(text.split())
            self.assertIn(reason, errors.getvalue())


class Frames(unittest.TestCase):
    def write(self, directory, arguments):
        path = pathlib.Path(directory) / "frames.pcap"
        command = [sys.executable, str(PKTGEN / "frames.py"), str(path), *arguments.split()]
        return path, subprocess.run(command, capture_output=True, text=True)

    def test_the_file_has_a_tunnelled_frame_for_each_prefix(self):
        with tempfile.TemporaryDirectory() as directory:
            path, done = self.write(directory, "--gateway 02:00:00:00:00:02 --prefixes 300 --peers 2 --size 128")
            self.assertEqual(done.returncode, 0, done.stderr)
            reader = RawPcapReader(str(path))
            with contextlib.closing(reader):
                self.assertEqual(reader.linktype, 1)
                frames = [Ether(octets) for octets, _ in reader]
        self.assertEqual(len(frames), 300)
        self.assertEqual({len(it) for it in frames}, {128 - 4 + 40})
        self.assertEqual({it.dst for it in frames}, {"02:00:00:00:00:02"})
        self.assertEqual({it[IPv6].src for it in frames}, {"2001:db8:b::1", "2001:db8:b::2"})
        self.assertEqual(len({it[IPv6].payload.src for it in frames}), 300)
        self.assertEqual(frames[258][IPv6].payload.dst, "2001:db8:e00:102::1")

    def test_nonsense_is_refused(self):
        with tempfile.TemporaryDirectory() as directory:
            for arguments, reason in (
                ("", "--gateway"),
                ("--gateway 02:00:00:00:00:02 --size 10", "66 to 9216"),
                ("--gateway 02:00:00:00:00:02 --frames 0", "1 to 1048576 frames"),
            ):
                path, done = self.write(directory, arguments)
                self.assertEqual(done.returncode, 2)
                self.assertIn(reason, done.stderr)
                self.assertFalse(path.exists())


# Pktgen 23.03: every function that its Lua has, with how many arguments those take that we use. A device that carries
# CAPACITY packets per second is between port 0 and port 1, on a link of LINK packets per second; time is what is
# delayed.
STUB = r"""
local names = [[quit set start stop set_mac set_ipaddr mac_from_arp set_proto set_type ping4 pcap icmp_echo send_arp seq
  seqTable screen prime delay pause sleep load save clear clr cls update reset port_restart portCount totalPorts vlan
  vlanid cos tos vxlan vxlan_id mpls qinq gre gre_eth set_range ports_per_page page port process capture bonding blink
  help isSending linkState portSizes pktStats portStats portInfo run continue input pattern userPattern latency jitter
  gtpu_teid rnd rnd_list latsampler_params latsampler clock_gettime]]
local range_names = [[dst_mac src_mac set_type src_ip dst_ip ip_proto src_port dst_port ttl hop_limits vlan_id
  mpls_entry qinqids gre_key pkt_size cos tos traffic_class]]
local arguments = { quit = 0, set = 3, start = 1, stop = 1, screen = 1, delay = 1, set_range = 2, pcap = 2,
  portStats = 2, ["range.set_type"] = 2, ["range.ip_proto"] = 2, ["range.dst_mac"] = 3, ["range.src_ip"] = 3,
  ["range.dst_ip"] = 3, ["range.src_port"] = 3, ["range.dst_port"] = 3, ["range.hop_limits"] = 3,
  ["range.pkt_size"] = 3 }
local capacity, link = tonumber(os.getenv("CAPACITY")), tonumber(os.getenv("LINK"))
local rate, sending, sent, received, fresh = 0, false, 0, 0, 0
local does = {}
function does.set(_, what, value) if what == "rate" then rate = value * link / 100 end end
function does.start() sending = true end
function does.stop() sending, fresh = false, 0 end
function does.delay(ms)
  if sending then
    sent = sent + rate * ms / 1000
    received = received + math.min(rate, capacity) * ms / 1000
  end
  fresh = fresh + ms
end
function does.portStats(port, type)
  assert(type == "port", "only totals are exact")
  assert(not sending and fresh >= 2000, "the counters are not up to date yet")
  return { n = 1, [tonumber(port)] = {
    opackets = port == "0" and math.floor(sent) or 0, ipackets = port == "1" and math.floor(received) or 0 } }
end
local function describe(prefix, list)
  local it = {}
  for name in list:gmatch("%S+") do
    local full = prefix .. name
    it[name] = function(...)
      local wanted = arguments[full]
      assert(wanted, "this test does not know how " .. full .. " is called")
      assert(select("#", ...) == wanted, full .. " takes " .. wanted .. " arguments")
      local words = { full }
      for _, word in ipairs({ ... }) do words[#words + 1] = tostring(word) end
      io.stderr:write(table.concat(words, " "), "\n")
      if does[full] then return does[full](...) end
    end
  end
  return setmetatable(it, { __index = function(_, key) error("23.03 has no pktgen." .. prefix .. key) end })
end
pktgen = describe("", names)
rawset(pktgen, "range", describe("range.", range_names))
dofile(arg[1])
"""


class Pktgen(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if shutil.which("lua5.3") is None:
            raise RuntimeError("lua5.3 is missing: apt-get install lua5.3")
        cls.directory = tempfile.TemporaryDirectory()
        cls.stub = pathlib.Path(cls.directory.name) / "stub.lua"
        cls.stub.write_text(STUB)

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def run_it(self, name, **settings):
        environment = {"PATH": os.environ["PATH"], "CAPACITY": "4e6", "LINK": "1e7"}
        environment["KEDGE_GATEWAY"] = "02:00:00:00:00:02"
        environment.update(settings)
        command = ["lua5.3", str(self.stub), str(PKTGEN / f"{name}.lua")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        calls = done.stderr.splitlines()
        self.assertEqual(calls[-1], "quit", "it must always leave Pktgen")
        return done.stdout, calls

    def test_plain_packets_are_a_range_over_the_prefixes(self):
        out, calls = self.run_it("plain_ipv6", KEDGE_PREFIXES="1000", KEDGE_RATE="30", KEDGE_SECONDS="10")
        for call in (
            "set 0 count 0", "range.set_type 0 ipv6", "range.ip_proto 0 udp", "set_range 0 on", "set 0 rate 30",
            "range.dst_mac 0 start 02:00:00:00:00:02", "range.dst_mac 0 inc 00:00:00:00:00:00",
            "range.src_ip 0 start 2001:db8:e00:0::1", "range.src_ip 0 inc ::",
            "range.dst_ip 0 start 2001:db8:f00:0::1", "range.dst_ip 0 min 2001:db8:f00:0::1",
            "range.dst_ip 0 max 2001:db8:f00:3e7::1", "range.dst_ip 0 inc 0:0:0:1::",
            "range.pkt_size 0 start 78", "range.pkt_size 0 inc 0", "range.src_port 0 start 10000",
            "range.dst_port 0 start 9", "range.hop_limits 0 start 64",
        ):
            self.assertIn(call, calls)
        self.assertLess(calls.index("set_range 0 on"), calls.index("start 0"))
        self.assertEqual(calls[calls.index("start 0") + 1 : calls.index("start 0") + 3], ["delay 10000", "stop 0"])
        self.assertIn("plain_ipv6: sent 30000000 received 30000000, 3.000 Mpps out, 3.000 Mpps back, lost 0.0", out)

    def test_its_packets_are_those_of_the_trex_profiles(self):
        for script, profile in (("plain_ipv6", "plain_ipv6"), ("encapsulate", "encapsulate")):
            _, calls = self.run_it(script, KEDGE_PREFIXES="70000")
            said = dict(call.rsplit(" ", 1) for call in calls if call.startswith("range.") and call.count(" ") == 3)
            (stream,) = streams(profile, "--prefixes 70000")
            first, last = (read(stream, it)[IPv6] for it in (0, 69999))
            def same(call, address):
                self.assertEqual(ipaddress.IPv6Address(said[call]), ipaddress.IPv6Address(address))
            same("range.src_ip 0 start", first.src)
            same("range.dst_ip 0 start", first.dst)
            same("range.dst_ip 0 max", last.dst)
            step, begin, end = (
                int(ipaddress.IPv6Address(it)) for it in (said["range.dst_ip 0 inc"], first.dst, last.dst)
            )
            self.assertEqual(begin + step * 69999, end)

    def test_loss_is_told(self):
        out, _ = self.run_it("encapsulate", KEDGE_RATE="80", KEDGE_SECONDS="1")
        self.assertIn("encapsulate: sent 8000000 received 4000000, 8.000 Mpps out, 4.000 Mpps back, lost 0.500000", out)

    def test_tunnelled_packets_are_those_of_a_file(self):
        _, calls = self.run_it("decapsulate")
        self.assertIn("pcap 0 on", calls)
        self.assertFalse([it for it in calls if it.startswith("range.") or it.startswith("set_range")])

    def test_other_ports_can_be_named(self):
        out, calls = self.run_it("decapsulate", KEDGE_SEND="1", KEDGE_RECEIVE="0")
        self.assertIn("start 1", calls)
        self.assertIn("nothing was sent: is the link of port 1 up?", out)

    def test_the_search_finds_the_devices_rate(self):
        path = pathlib.Path(self.directory.name) / "ndr.json"
        for traffic in ("plain_ipv6", "encapsulate", "decapsulate"):
            out, calls = self.run_it("ndr", KEDGE_TRAFFIC=traffic, KEDGE_PREFIXES="20", KEDGE_REPORT=str(path))
            rates = [float(it.split()[-1]) for it in calls if it.startswith("set 0 rate")]
            # Warm-up at the lowest rate, then the highest first: it may be all that is needed.
            self.assertEqual(rates[:2], [1, 100])
            rows = json.loads(path.read_text())
            self.assertEqual([it["metric"] for it in rows], ["ndr", "trials"])
            self.assertEqual((rows[0]["case"], rows[0]["prefixes"], rows[0]["unit"]), (traffic, 20, "Mpps"))
            self.assertTrue(3.98 <= rows[0]["median"] <= 4.0, rows[0])
            # 2 of 5 may fail, so 3 trials decide at each rate.
            self.assertEqual(rows[1]["median"], len(rates) - 1)
            self.assertEqual(rows[1]["median"] % 3, 0)
            self.assertIn(f"{traffic}: carried", out)

    def test_a_link_that_is_all_carried_is_tried_at_its_highest_rate_only(self):
        out, calls = self.run_it("ndr", KEDGE_TRAFFIC="decapsulate", KEDGE_TRIALS="1", CAPACITY="1e9")
        self.assertIn("carried 100.000 % of the link, 10.000 Mpps, 1 trials", out)
        out, _ = self.run_it("ndr", KEDGE_TRAFFIC="decapsulate", KEDGE_TRIALS="1", CAPACITY="10")
        self.assertIn("carried 0.000 % of the link, 0.000 Mpps, 2 trials", out)

    def test_nonsense_is_refused_before_anything_is_sent(self):
        for script, settings, reason in (
            ("plain_ipv6", {"KEDGE_PREFIXES": "0"}, "KEDGE_PREFIXES must be a number from 1"),
            ("plain_ipv6", {"KEDGE_PREFIXES": "1.5"}, "must be a whole number"),
            ("plain_ipv6", {"KEDGE_SIZE": "65"}, "KEDGE_SIZE must be a number from 66"),
            ("plain_ipv6", {"KEDGE_RATE": "101"}, "KEDGE_RATE must be"),
            ("plain_ipv6", {"KEDGE_RATE": "fast"}, "not 'fast'"),
            ("encapsulate", {"KEDGE_GATEWAY": ""}, "KEDGE_GATEWAY must be a link-layer address"),
            ("ndr", {}, "KEDGE_TRAFFIC must be"),
            ("ndr", {"KEDGE_TRAFFIC": "imix"}, "KEDGE_TRAFFIC must be"),
            ("ndr", {"KEDGE_TRAFFIC": "decapsulate", "KEDGE_TRIALS": "0"}, "at least 1 trial"),
            ("ndr", {"KEDGE_TRAFFIC": "decapsulate", "KEDGE_EXCEED": "1"}, "exceed ratio"),
            ("ndr", {"KEDGE_TRAFFIC": "decapsulate", "KEDGE_WIDTH": "0"}, "width"),
            ("ndr", {"KEDGE_TRAFFIC": "decapsulate", "KEDGE_LOSS": "1"}, "loss ratio"),
            ("ndr", {"KEDGE_TRAFFIC": "decapsulate", "KEDGE_LOWEST": "100"}, "lowest rate"),
            ("ndr", {"KEDGE_TRAFFIC": "decapsulate", "KEDGE_SUBJECT": 'a"b'}, "KEDGE_SUBJECT may have"),
        ):
            with self.subTest(script=script, settings=settings):
                out, calls = self.run_it(script, **settings)
                self.assertIn(reason, out)
                self.assertNotIn("start 0", calls)


if __name__ == "__main__":
    unittest.main()
