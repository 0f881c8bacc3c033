"""Reads IPv6 packets, one of hexadecimal octets per line, and prints what scapy makes of each as JSON."""

import json
import sys

from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6ND_RS, ICMPv6NDOptPrefixInfo, ICMPv6NDOptSrcLLAddr
from scapy.layers.inet6 import IPv6, MIP6MH_BA, MIP6MH_BE, MIP6MH_BU, Pad1, PadN, in6_chksum


def option(value):
    """Type and data of an option that is not padding."""
    octets = bytes(value)
    return {"type": octets[0], "data": octets[2:].hex()}


def options(message):
    return [option(value) for value in message.options if not isinstance(value, (Pad1, PadN))]


def following(packet, kind):
    out, layer = [], packet.getlayer(kind)
    while layer is not None:
        out.append(layer)
        layer = layer.payload.getlayer(kind)
    return out


def mobility(message):
    if isinstance(message, MIP6MH_BU):
        kind = {
            "kind": "update",
            "flags": int(message.flags),
            "reserved": message.reserved,
            "sequence": message.seq,
            "lifetime": message.mhtime,
        }
    elif isinstance(message, MIP6MH_BA):
        kind = {
            "kind": "acknowledgement",
            "status": message.status,
            "flags": int(message.flags),
            "reserved": message.res2,
            "sequence": message.seq,
            "lifetime": message.mhtime,
        }
    elif isinstance(message, MIP6MH_BE):
        return {"kind": "error", "status": message.status, "home_address": message.ha}
    else:
        raise SystemExit(f"scapy sees {message!r}")
    return {**kind, "options": options(message)}


def discovery(packet):
    addresses = [option.lladdr for option in following(packet, ICMPv6NDOptSrcLLAddr)]
    if ICMPv6ND_RS in packet:
        return {"kind": "solicitation", "link_layer_addresses": addresses}
    message = packet[ICMPv6ND_RA]
    prefixes = [
        [option.prefix, option.prefixlen, option.L, option.A, option.validlifetime, option.preferredlifetime]
        for option in following(packet, ICMPv6NDOptPrefixInfo)
    ]
    return {
        "kind": "advertisement",
        "hop_limit": message.chlim,
        "lifetime": message.routerlifetime,
        "reachable": message.reachabletime,
        "retransmit": message.retranstimer,
        "link_layer_addresses": addresses,
        "prefixes": prefixes,
    }


for line in sys.stdin:
    octets = bytes.fromhex(line.strip())
    packet = IPv6(octets)
    seen = mobility(packet.payload) if packet.nh == 135 else discovery(packet)
    seen["checksum"] = in6_chksum(packet.nh, packet, octets[40:])
    json.dump(seen, sys.stdout)
    print()
