"""TRex STL profile: a mix of sizes, plain or into or out of a tunnel.

28 frames of 78 octets to 16 of 570 and 4 of 1518: what CSIT uses for IPv6. In a tunnel the largest is 40 octets less,
so that it fits a core of 1500 octets; there a gateway would otherwise answer Packet Too Big instead of forwarding.
"""

import kedge_streams
import kedge_packets

LARGEST = {"plain": 1518, "encapsulate": 1478, "decapsulate": 1478}


class Imix:
    def get_streams(self, direction=0, tunables=(), **kwargs):
        parser = kedge_streams.parser("imix.py", sizes=False)
        parser.add_argument("--traffic", choices=sorted(LARGEST), default="plain", help="which question")
        parser.add_argument("--largest", type=int, default=None, help="octets of the largest frame")
        options = parser.parse_args(tunables)
        largest = LARGEST[options.traffic] if options.largest is None else options.largest
        if largest <= 570:
            raise ValueError(f"imix.py: the largest frame must be larger than 570 octets, not {largest}")
        mix = ((78, 28), (570, 16), (largest, 4))
        return [kedge_streams.stream(self.traffic(direction, size, options), options.order, pps) for size, pps in mix]

    @staticmethod
    def traffic(direction, size, options):
        if options.traffic == "plain":
            return kedge_packets.plain(direction, size, options.prefixes, options.vlan)
        make = getattr(kedge_packets, options.traffic)
        return make(size, options.prefixes, options.vlan)


def register():
    return Imix()
