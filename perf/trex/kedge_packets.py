"""The packets of our questions, and which of their bits vary.

Only scapy is needed here, so that TRex's profiles, Pktgen's pcap files and the tests share one description.

The bench has two sides. Behind generator port 0 are correspondents (NEAR); behind port 1 are other correspondents
(FAR) and the other ends of the tunnels (PEER). Nodes' prefixes (ANCHORED) are anchored at the gateway, and their nodes
are with the peers. All prefixes are /64s that follow each other: number n of them is the base plus n in the
32 bits before bit 64.
"""

import ipaddress
from dataclasses import dataclass

from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

NEAR = "2001:db8:e00::1"
FAR = "2001:db8:f00::1"
ANCHORED = "2001:db8:100::1"
GATEWAY = "2001:db8:a::1"
PEER = "2001:db8:b::1"

# A frame's size counts its checksum, as in RFC 2544; the NIC adds it, so the packets here are without.
FCS = 4
LARGEST_FRAME = 9216
# The bases above are this far apart; more prefixes would run into each other.
MOST_PREFIXES = 1 << 24
MOST_PEERS = 1 << 16

IPV6_SOURCE = 8
IPV6_DESTINATION = 24
IPV6_HEADER = 40
# From the start of an address: the 32 bits that end at bit 64, and the last 32.
PREFIX_WORD = 4
LAST_WORD = 12


@dataclass(frozen=True)
class Field:
    """A 32-bit word of the packet that takes `count` values from `first` on."""

    name: str
    offset: int
    first: int
    count: int


@dataclass(frozen=True)
class Traffic:
    """A packet, and what varies in it."""

    packet: Packet
    fields: tuple

    def frame(self, number):
        """The octets of packet `number`. The packet needs its link-layer addresses for that."""
        octets = bytearray(bytes(self.packet))
        for field in self.fields:
            value = field.first + number % field.count
            octets[field.offset : field.offset + 4] = value.to_bytes(4, "big")
        return bytes(octets)


def plain(direction=0, size=78, prefixes=1, vlan=None):
    """To FAR prefixes, or in direction 1 to NEAR ones: forwarded as it is."""
    source, destination = (NEAR, FAR) if direction == 0 else (FAR, NEAR)
    fields = (_prefixes("destination", _ethernet_length(vlan) + IPV6_DESTINATION, destination, prefixes),)
    return Traffic(_ethernet(vlan) / _datagram(source, destination, size, vlan), fields)


def encapsulate(size=78, prefixes=1, vlan=None):
    """From NEAR to nodes' prefixes: the gateway puts it into a tunnel."""
    fields = (_prefixes("node", _ethernet_length(vlan) + IPV6_DESTINATION, ANCHORED, prefixes),)
    return Traffic(_ethernet(vlan) / _datagram(NEAR, ANCHORED, size, vlan), fields)


def decapsulate(size=78, prefixes=1, vlan=None, peers=1):
    """What the nodes answer, in the tunnel: the gateway takes it out and forwards it to NEAR.

    `size` is that of the frame that leaves the gateway; this one is 40 octets larger. Source and destination of the
    inner packet vary together. The outer source varies over `peers`, for a NIC that spreads by the outer header only.
    """
    if not 1 <= peers <= MOST_PEERS:
        raise ValueError(f"peers must be 1 to {MOST_PEERS}, not {peers}")
    outer = _ethernet_length(vlan)
    inner = outer + IPV6_HEADER
    fields = [
        _prefixes("node", inner + IPV6_SOURCE, ANCHORED, prefixes),
        _prefixes("destination", inner + IPV6_DESTINATION, NEAR, prefixes),
    ]
    if peers > 1:
        fields.append(Field("peer", outer + IPV6_SOURCE + LAST_WORD, _word(PEER, LAST_WORD), peers))
    tunnel = IPv6(src=PEER, dst=GATEWAY, hlim=64)
    return Traffic(_ethernet(vlan) / tunnel / _datagram(ANCHORED, NEAR, size, vlan), tuple(fields))


def _ethernet(vlan):
    """Without addresses: the generator's port knows its own and the gateway's."""
    if vlan is None:
        return Ether()
    if not 1 <= vlan <= 4094:
        raise ValueError(f"a VLAN is 1 to 4094, not {vlan}")
    return Ether() / Dot1Q(vlan=vlan)


def _ethernet_length(vlan):
    # Not by asking scapy: it would go and look for the other end's address.
    return 14 if vlan is None else 18


def _datagram(source, destination, size, vlan):
    headers = _ethernet_length(vlan) + IPV6_HEADER + 8 + FCS
    if not headers <= size <= LARGEST_FRAME:
        raise ValueError(f"a frame is {headers} to {LARGEST_FRAME} octets with its checksum, not {size}")
    # The UDP checksum would be wrong as soon as an address varies, and no gateway looks at it.
    udp = UDP(sport=10000, dport=9, chksum=0)
    return IPv6(src=source, dst=destination, hlim=64) / udp / Raw(b"K" * (size - headers))


def _prefixes(name, address_offset, base, count):
    if not 1 <= count <= MOST_PREFIXES:
        raise ValueError(f"prefixes must be 1 to {MOST_PREFIXES}, not {count}")
    return Field(name, address_offset + PREFIX_WORD, _word(base, PREFIX_WORD), count)


def _word(address, at):
    return int.from_bytes(ipaddress.IPv6Address(address).packed[at : at + 4], "big")
