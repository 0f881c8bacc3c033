"""What the profiles share: their tunables, and streams out of packets."""

import argparse

# First: with TRex's API comes TRex's own scapy, which the packets have to be of.
from trex_stl_lib.api import (
    STLPktBuilder,
    STLScVmRaw,
    STLStream,
    STLTXCont,
    STLVmFlowVar,
    STLVmWrFlowVar,
)


class Parser(argparse.ArgumentParser):
    """Raises where argparse would end the program: that would be the console, or a search of hours."""

    def error(self, message):
        raise ValueError(f"{self.prog}: {message}")


def parser(name, sizes=True):
    """The tunables that every profile has. Their names are one word, as TRex may turn dashes into underscores."""
    it = Parser(prog=name, allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    if sizes:
        it.add_argument("--size", type=int, default=78, help="octets of a frame outside the tunnel, with checksum")
    it.add_argument("--prefixes", type=int, default=1, help="/64 prefixes that the packets are spread over")
    it.add_argument("--order", choices=("inc", "random"), default="inc", help="in which order")
    it.add_argument("--vlan", type=int, default=None, help="tag of every frame")
    return it


def stream(traffic, order="inc", pps=1):
    """A continuous stream; its rate is only its share, the run's multiplier says how much."""
    commands = []
    for field in traffic.fields:
        # What does not vary costs the generator time for nothing.
        if field.count == 1:
            continue
        commands.append(
            STLVmFlowVar(
                name=field.name,
                min_value=field.first,
                max_value=field.first + field.count - 1,
                size=4,
                op=order,
            )
        )
        commands.append(STLVmWrFlowVar(fv_name=field.name, pkt_offset=field.offset))
    vm = STLScVmRaw(commands) if commands else None
    return STLStream(packet=STLPktBuilder(pkt=traffic.packet, vm=vm), mode=STLTXCont(pps=pps))
