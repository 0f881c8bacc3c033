"""TRex STL profile: IPv6 in IPv6 from the nodes' other gateways, which this gateway takes out of the tunnel.

To be sent from port 1. The way there is encapsulate.py's, so the direction does not matter here.
"""

import kedge_streams
import kedge_packets


class Decapsulate:
    def get_streams(self, direction=0, tunables=(), **kwargs):
        parser = kedge_streams.parser("decapsulate.py")
        parser.add_argument("--peers", type=int, default=1, help="other gateways that the packets come from")
        options = parser.parse_args(tunables)
        traffic = kedge_packets.decapsulate(options.size, options.prefixes, options.vlan, options.peers)
        return [kedge_streams.stream(traffic, options.order)]


def register():
    return Decapsulate()
