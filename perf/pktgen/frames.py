#!/usr/bin/env python3
"""Writes a pcap file for Pktgen, whose own packets cannot have IPv6 in IPv6:

    frames.py decapsulate.pcap --prefixes 1000 --gateway 02:00:00:00:00:02

One frame for each prefix, or --frames of them; Pktgen repeats the file.
"""

import argparse
import pathlib
import sys

from scapy.layers.l2 import Ether
from scapy.utils import RawPcapWriter

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "trex"))

import kedge_packets  # noqa: E402

ETHERNET = 1


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--traffic", choices=("plain", "encapsulate", "decapsulate"), default="decapsulate")
    parser.add_argument("--gateway", required=True, help="link-layer address of the gateway's port")
    parser.add_argument("--source", default="02:00:00:00:00:99", help="link-layer address of the generator's port")
    parser.add_argument("--size", type=int, default=78, help="octets of a frame outside the tunnel, with checksum")
    parser.add_argument("--prefixes", type=int, default=256)
    parser.add_argument("--peers", type=int, default=1, help="of decapsulate: other gateways that it comes from")
    parser.add_argument("--vlan", type=int)
    parser.add_argument("--frames", type=int, help="in the file; default: as many as prefixes")
    options = parser.parse_args(argv)
    frames = options.prefixes if options.frames is None else options.frames
    if not 1 <= frames <= 1 << 20:
        parser.error(f"a file has 1 to {1 << 20} frames, not {frames}: Pktgen keeps them all in memory")
    settings = {"size": options.size, "prefixes": options.prefixes, "vlan": options.vlan}
    if options.traffic == "decapsulate":
        settings["peers"] = options.peers
    try:
        traffic = getattr(kedge_packets, options.traffic)(**settings)
    except ValueError as error:
        parser.error(str(error))
    traffic.packet[Ether].dst = options.gateway
    traffic.packet[Ether].src = options.source
    with RawPcapWriter(str(options.file), linktype=ETHERNET) as writer:
        for number in range(frames):
            writer.write(traffic.frame(number))


if __name__ == "__main__":
    main(sys.argv[1:])
