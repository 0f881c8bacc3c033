"""TRex STL profile: plain IPv6 over N prefixes, from port 0 to FAR ones and from port 1 to NEAR ones."""

import kedge_streams
import kedge_packets


class PlainIpv6:
    def get_streams(self, direction=0, tunables=(), **kwargs):
        options = kedge_streams.parser("plain_ipv6.py").parse_args(tunables)
        traffic = kedge_packets.plain(direction, options.size, options.prefixes, options.vlan)
        return [kedge_streams.stream(traffic, options.order)]


def register():
    return PlainIpv6()
