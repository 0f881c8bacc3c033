"""Traffic between two hosts, with what a receiver saw written down. Runs inside a namespace.

    traffic.py udp-send    SOURCE DESTINATION PORT RATE          numbered datagrams until ended
    traffic.py udp-receive ADDRESS PORT                          one line for each: monotonic time, number
    traffic.py fan-send    down|up FILE PEER PORT RATE           numbered datagrams to, or from, each address in FILE in turn
    traffic.py fan-receive ADDRESS PORT                          a line when it is ready; at its end: what became of each flow, as JSON
    traffic.py tcp-serve   ADDRESS PORT                          sends every octet back
    traffic.py tcp-client  SOURCE|- DESTINATION PORT RATE SECONDS  octets per second, each checked on return

All clocks are CLOCK_MONOTONIC, the same in every namespace of a machine. Ends on SIGTERM.
"""

import hashlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from itertools import pairwise

HEADER = struct.Struct("!QQ")
FLOW = struct.Struct("!IQ")
LENGTH = 100
# Of Linux; the module does not name it.
SO_RCVBUFFORCE = 33


def bound(kind, address, port=0):
    it = socket.socket(socket.AF_INET6, kind)
    it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address != "-":
        it.bind((address, port))
    return it


def udp_send(source, destination, port, rate):
    out = bound(socket.SOCK_DGRAM, source)
    interval, number, due = 1 / float(rate), 0, time.monotonic()
    while True:
        message = HEADER.pack(number, time.monotonic_ns()).ljust(LENGTH, b"k")
        try:
            out.sendto(message, (destination, int(port)))
            sent = 1
        except OSError:
            # The link is down, or there is no route: the datagram is lost before it left, and counts as lost.
            sent = 0
        print(f"{time.monotonic():.6f} {number} {sent}")
        number += 1
        due += interval
        time.sleep(max(0, due - time.monotonic()))


def udp_receive(address, port):
    come_in = bound(socket.SOCK_DGRAM, address, int(port))
    come_in.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    while True:
        message = come_in.recv(2048)
        number, sent = HEADER.unpack_from(message)
        print(f"{time.monotonic():.6f} {number}")


def fan_send(way, path, peer, port, rate):
    """One flow for each address. At its end: how many of each flow have left, as JSON."""
    with open(path) as lines:
        addresses = lines.read().split()
    one = bound(socket.SOCK_DGRAM, "-" if way == "up" else peer)
    outs = [bound(socket.SOCK_DGRAM, address) if way == "up" else one for address in addresses]
    sent, interval, due = [0] * len(addresses), 1 / float(rate), time.monotonic()
    while not stopping:
        for flow, address in enumerate(addresses):
            message = FLOW.pack(flow, sent[flow]).ljust(LENGTH, b"k")
            try:
                outs[flow].sendto(message, (peer if way == "up" else address, int(port)))
            except OSError:
                pass  # Lost before it left: it has its number, so it counts as lost.
            sent[flow] += 1
            due += interval
            if stopping:
                break
            time.sleep(max(0, due - time.monotonic()))
    print(json.dumps(sent), flush=True)


def fan_receive(address, port):
    come_in = bound(socket.SOCK_DGRAM, address, int(port))
    come_in.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    come_in.settimeout(0.1)
    print(json.dumps("ready"), flush=True)
    seen, highest, last, silence, reordered, duplicated = {}, {}, {}, {}, {}, {}
    while not stopping:
        try:
            message = come_in.recv(2048)
        except TimeoutError:
            continue
        flow, number = FLOW.unpack_from(message)
        now = time.monotonic()
        if number in seen.setdefault(flow, set()):
            duplicated[flow] = duplicated.get(flow, 0) + 1
        elif number < highest.get(flow, -1):
            reordered[flow] = reordered.get(flow, 0) + 1
        seen[flow].add(number)
        highest[flow] = max(number, highest.get(flow, -1))
        silence[flow] = max(silence.get(flow, 0), now - last.get(flow, now))
        last[flow] = now
    # How many are missing in each place of the row where some are, before the last one that came.
    gaps = {flow: [number - 1 - before for before, number in pairwise([-1, *sorted(numbers)]) if number - 1 > before]
            for flow, numbers in seen.items()}
    print(json.dumps({flow: {"received": len(numbers), "reordered": reordered.get(flow, 0), "duplicated": duplicated.get(flow, 0),
                             "gaps": gaps[flow], "highest": highest[flow], "silence_ms": round(silence[flow] * 1000, 1)}
                      for flow, numbers in seen.items()}), flush=True)


def tcp_serve(address, port):
    listener = bound(socket.SOCK_STREAM, address, int(port))
    listener.listen()
    poll, peers = select.poll(), {}
    poll.register(listener, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                peer, _ = listener.accept()
                peers[peer.fileno()] = peer
                poll.register(peer, select.POLLIN)
                continue
            peer = peers[descriptor]
            try:
                data = peer.recv(65536)
                if data:
                    peer.sendall(data)
            except OSError:
                data = b""
            if not data:
                poll.unregister(peer)
                peers.pop(descriptor).close()


def tcp_client(source, destination, port, rate, seconds):
    """Sends pseudo-random octets and checks that they come back the same, in order."""
    report = {"ok": False, "octets": 0, "source": None, "error": None, "longest_silence_ms": 0}
    try:
        peer = bound(socket.SOCK_STREAM, source)
        peer.settimeout(10)
        peer.connect((destination, int(port)))
        report["source"] = peer.getsockname()[0]
        print(json.dumps({"connected": report["source"]}), flush=True)
        peer.setblocking(False)
        deadline = time.monotonic() + float(seconds)
        chunk_length = max(1, int(float(rate) / 50))
        sent = returned = 0
        expected, got = hashlib.sha256(), hashlib.sha256()
        pending, due, last = b"", time.monotonic(), time.monotonic()
        while True:
            now = time.monotonic()
            stop = now >= deadline or stopping
            if stop and not pending and returned >= sent:
                break
            if now > deadline + 30:
                raise TimeoutError(f"{sent - returned} octets did not come back")
            if not pending and now >= due and not stop:
                pending = os.urandom(chunk_length)
                expected.update(pending)
                sent += len(pending)
                due += 0.02
                if due < now - 1:
                    due = now
            readable, writable, _ = select.select([peer], [peer] if pending else [], [], 0.01)
            if writable:
                pending = pending[peer.send(pending):]
            if readable:
                data = peer.recv(65536)
                if not data:
                    raise ConnectionError("the peer closed the connection")
                got.update(data)
                returned += len(data)
                report["longest_silence_ms"] = max(report["longest_silence_ms"], round((now - last) * 1000))
                last = now
        report["octets"] = returned
        report["ok"] = expected.digest() == got.digest() and returned == sent and returned > 0
    except OSError as error:
        report["error"] = str(error)
    print(json.dumps(report), flush=True)


stopping = False


def stop(*_):
    global stopping
    if sys.argv[1] in ("tcp-client", "fan-send", "fan-receive"):
        stopping = True
    else:
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    {"udp-send": udp_send, "udp-receive": udp_receive, "fan-send": fan_send, "fan-receive": fan_receive, "tcp-serve": tcp_serve, "tcp-client": tcp_client}[sys.argv[1]](
        *sys.argv[2:]
    )
