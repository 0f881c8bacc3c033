"""The far end of tunnels: a router of the kernel's behind it, and nothing of Kedge's in it. Runs inside a namespace.

    endpoint.py OWN GATEWAY KIND[:LOCAL:REMOTE]=DEVICE...

For each tunnel a TUN device: what the kernel sends by it goes to GATEWAY in a tunnel, and what comes from there goes to the
kernel. KIND is `gtpu` or `gre`, with the TEID or key of what comes in here and of what goes out, `ipip` for IPv4 or `ip6ip` for IPv6;
over IPv4 where OWN is IPv4. Outer headers are the kernel's, by UDP and raw sockets. Ends on SIGTERM; then says as JSON, by device, how many packets went
out and came in, and how many were of no tunnel or no IP.
"""

import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys

GTPU_PORT = 2152
G_PDU = 255
EXTENSION = 0x04
ECHO_REQUEST, ECHO_RESPONSE = 1, 2
PROTOCOLS = {"gre": 47, "ipip": 4, "ip6ip": 41}
ETHERTYPES = {4: 0x0800, 6: 0x86DD}
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
# Of Linux; the module does not name it.
SO_RCVBUFFORCE = 33


def tun(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


class Tunnel:
    def __init__(self, text):
        kind, self.name = text.split("=")
        self.kind, *ids = kind.split(":")
        self.local, self.remote = (int(it, 0) for it in ids) if ids else (None, None)
        self.device = tun(self.name)
        self.out = self.come_in = 0

    def header(self, packet):
        if self.kind == "gtpu":
            return struct.pack("!BBHI", 0x30, G_PDU, len(packet), self.remote)
        if self.kind == "gre":
            return struct.pack("!HHI", 0x2000, ETHERTYPES[packet[0] >> 4], self.remote)
        return b""


def is_of_the_link(packet):
    """What the kernel asks of routers and neighbours on any link with IPv6: from a link-local address or none, or to a group."""
    return packet[0] >> 4 == 6 and (packet[8:10] in (b"\xfe\x80", b"\0\0") or packet[24] == 0xFF)


def read(kind, packet):
    """Which tunnel of its kind a packet is of, and what is within; None if it is not understood."""
    if kind == "gtpu" and len(packet) > 8:
        flags, message, length, teid = struct.unpack_from("!BBHI", packet)
        if flags & ~EXTENSION == 0x30 and message == G_PDU:
            behind = packet[8 : 8 + length]
            # 3GPP TS 29.281 5.2.1: four octets of which the last is the type of the next, and so each extension header ends.
            next, begin = (behind[3], 4) if flags & EXTENSION else (0, 0)
            while next:
                begin += 4 * behind[begin]
                next = behind[begin - 1]
            return teid, behind[begin:]
    if kind == "gre" and len(packet) > 8:
        flags, protocol, key = struct.unpack_from("!HHI", packet)
        if flags == 0x2000 and ETHERTYPES.get(packet[8] >> 4) == protocol:
            return key, packet[8:]
    if kind in ("ipip", "ip6ip"):
        return None, packet
    return None


def main(own, gateway, *tunnels):
    family = socket.AF_INET6 if ":" in own else socket.AF_INET
    tunnels = [Tunnel(it) for it in tunnels]
    sockets = {}
    for kind in {tunnel.kind for tunnel in tunnels}:
        if kind == "gtpu":
            it = socket.socket(family, socket.SOCK_DGRAM)
        else:
            it = socket.socket(family, socket.SOCK_RAW, PROTOCOLS[kind])
        it.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        it.bind((own, GTPU_PORT if kind == "gtpu" else 0))
        it.setblocking(False)
        sockets[kind] = it
    places = {(it.kind, it.local): it for it in tunnels}
    other = 0
    ends = []
    # What comes after that is still in the buffers, and counts.
    signal.signal(signal.SIGTERM, lambda *_: ends.append(True))
    by_file = {it.device: it for it in tunnels} | {it.fileno(): kind for kind, it in sockets.items()}
    print("ready", flush=True)
    while True:
        ready = select.select(list(by_file), [], [], 0.2)[0]
        if not ready and ends:
            break
        for file in ready:
            it = by_file[file]
            if isinstance(it, Tunnel):
                packet = os.read(file, 65536)
                if not is_of_the_link(packet):
                    port = GTPU_PORT if it.kind == "gtpu" else 0
                    sockets[it.kind].sendto(it.header(packet) + packet, (gateway, port))
                    it.out += 1
                continue
            packet, sender = sockets[it].recvfrom(65536)
            # 3GPP TS 29.281 7.2.1: who sends G-PDUs answers. The gateway asks at times of its own.
            if it == "gtpu" and len(packet) >= 12 and packet[1] == ECHO_REQUEST:
                recovery = b"\x0e\x00"
                header = struct.pack("!BBHI", 0x32, ECHO_RESPONSE, 4 + len(recovery), 0)
                sockets[it].sendto(header + packet[8:10] + b"\x00\x00" + recovery, sender)
                continue
            found = read(it, packet)
            tunnel = found and places.get((it, found[0]))
            if not tunnel or found[1][0] >> 4 not in ETHERTYPES:
                other += 1
                continue
            tunnel.come_in += 1
            os.write(tunnel.device, found[1])
    counts = {it.name: {"out": it.out, "in": it.come_in} for it in tunnels}
    print(json.dumps(counts | {"other": other}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
