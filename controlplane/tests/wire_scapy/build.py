"""Builds messages with scapy and prints each as a line of JSON: name, addresses, hop limit, octets."""

import json
import struct
import sys

from scapy.layers.inet6 import (
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptRouteInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    MIP6MH_BA,
    MIP6MH_BE,
    MIP6MH_BU,
    MIP6MH_HoTI,
    MIP6OptAltCoA,
    MIP6OptMNID,
    MIP6OptUnknown,
    Pad1,
    PadN,
)
from scapy.utils6 import in6_ptop
from socket import AF_INET6, inet_pton

MAAR_1, MAAR_2, CMD = "2001:db8:a::1", "2001:db8:b::1", "2001:db8:c::1"
ROUTER, NODE, ALL_ROUTERS = "fe80::200:5eff:fe00:5213", "fe80::ff:fe00:a01", "ff02::2"


def address(text):
    return inet_pton(AF_INET6, in6_ptop(text))


def unknown(option, data):
    return MIP6OptUnknown(otype=option, odata=data)


def prefix(option, text, length):
    return unknown(option, b"\0" + bytes([length]) + address(text))


def padding(octets):
    if octets == 0:
        return []
    return [Pad1()] if octets == 1 else [PadN(optdata=b"\0" * (octets - 2))]


def aligned(*options):
    """Pads before each (option, x, y) so that it begins at x*n+y, and pads the end to 8."""
    out, at = [], 12
    for option, x, y in options:
        pad = (y - at) % x
        out += padding(pad) + [option]
        at += pad + len(bytes(option))
    return out + padding(-at % 8)


def misaligned(*options):
    """No padding but at the end."""
    at = 12 + sum(len(bytes(option)) for option in options)
    return list(options) + padding(-at % 8)


def common(text, indicator):
    return [
        (MIP6OptMNID(subtype=1, id=b"mn1@example.net"), 1, 0),
        (prefix(22, text, 64), 8, 4),
        (unknown(23, bytes([0, indicator])), 1, 0),
        (unknown(24, bytes([0, 4])), 1, 0),
        (unknown(27, struct.pack("!Q", 1700000000 << 16 | 0x8000)), 8, 2),
        (unknown(25, b"\0\0" + bytes.fromhex("020000000a01")), 1, 0),
    ]


def update(options, **fields):
    return MIP6MH_BU(flags="PA", mhtime=150, autopad=0, options=options, **fields)


def packets():
    link_local = unknown(26, address("::"))
    yield "update", IPv6(src=MAAR_1, dst=CMD) / update(
        aligned(*common("2001:db8:100:1::", 1), (link_local, 8, 6)), seq=1, reserved=0x10
    )
    previous = unknown(67, b"\0\x40" + address(MAAR_1) + address("2001:db8:100:1::"))
    interface = [
        (unknown(69, address(ROUTER)), 8, 6),
        (unknown(70, b"\0\0" + bytes.fromhex("00005e005213")), 1, 0),
    ]
    yield "acknowledgement", IPv6(src=CMD, dst=MAAR_2) / MIP6MH_BA(
        status=0,
        flags="P",
        res2=2,
        seq=2,
        mhtime=150,
        autopad=0,
        options=aligned(*common("2001:db8:200:1::", 3), (previous, 8, 4), *interface),
    )
    vendor = lambda number, *rest: (unknown(19, struct.pack("!I", number) + bytes(rest)), 4, 2)
    teid = bytes.fromhex("feed1234")
    yield "offer", IPv6(src=MAAR_1, dst=CMD) / update(
        aligned(
            *common("2001:db8:100:1::", 4),
            vendor(9, 1, 0, 9, 9),
            vendor(32473, 1, 0, 2, 0, 0, *address(MAAR_1), *teid),
            vendor(32473, 1, 2, 2),
        ),
        seq=8,
        reserved=0x10,
    )
    yield "misaligned", IPv6(src=MAAR_1, dst=CMD) / update(
        misaligned(
            prefix(22, "2001:db8:100:1::", 64),
            unknown(200, b"abc"),
            MIP6OptAltCoA(acoa="2001:db8:a::2"),
            prefix(65, "2001:db8:100:1::", 64),
            prefix(66, "2001:db8:aa::", 48),
            unknown(68, address(MAAR_2)),
            MIP6OptMNID(subtype=1, id=b"mn1@example.net"),
        ),
        seq=9,
        reserved=0x10,
    )
    # No D flag: plain PMIPv6. And no P flag: a mobile node's own update.
    yield "plain", IPv6(src=MAAR_1, dst=CMD) / update(aligned(*common("2001:db8:100:1::", 1)), seq=1)
    yield "no proxy", IPv6(src=MAAR_1, dst=CMD) / MIP6MH_BU(flags="HA", seq=1)
    yield "error", IPv6(src=CMD, dst=MAAR_1) / MIP6MH_BE(status=2, ha="::")
    yield "other", IPv6(src=CMD, dst=MAAR_1) / MIP6MH_HoTI()
    yield "solicitation", IPv6(src=NODE, dst=ALL_ROUTERS, hlim=255) / ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(
        lladdr="02:00:00:00:0a:01"
    )
    yield "advertisement", (
        IPv6(src=ROUTER, dst=NODE, hlim=255)
        / ICMPv6ND_RA(chlim=64, routerlifetime=1800, reachabletime=30000, retranstimer=1000, M=1, prf=1)
        / ICMPv6NDOptRDNSS(lifetime=60, dns=["2001:db8::53"])
        / ICMPv6NDOptPrefixInfo(
            prefix="2001:db8:200:1::", prefixlen=64, L=1, A=1, validlifetime=7200, preferredlifetime=3600
        )
        / ICMPv6NDOptMTU(mtu=1460)
        / ICMPv6NDOptRouteInfo(prefix="2001:db8:aa::", plen=48, rtlifetime=60)
        / ICMPv6NDOptPrefixInfo(
            prefix="2001:db8:100:1::", prefixlen=64, L=0, A=1, validlifetime=0xFFFFFFFF, preferredlifetime=0
        )
        / ICMPv6NDOptSrcLLAddr(lladdr="00:00:5e:00:52:13")
    )


for name, packet in packets():
    octets = bytes(packet)
    line = {
        "name": name,
        "source": packet.src,
        "destination": packet.dst,
        "hop_limit": octets[7],
        "octets": octets[40:].hex(),
    }
    json.dump(line, sys.stdout)
    print()
