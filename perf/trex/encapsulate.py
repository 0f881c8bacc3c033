"""TRex STL profile: plain IPv6 to nodes that are elsewhere, so that the gateway puts it into a tunnel.

To be sent from port 0. The way back is decapsulate.py's, so the direction does not matter here.
"""

import kedge_streams
import kedge_packets


class Encapsulate:
    def get_streams(self, direction=0, tunables=(), **kwargs):
        options = kedge_streams.parser("encapsulate.py").parse_args(tunables)
        traffic = kedge_packets.encapsulate(options.size, options.prefixes, options.vlan)
        return [kedge_streams.stream(traffic, options.order)]


def register():
    return Encapsulate()
