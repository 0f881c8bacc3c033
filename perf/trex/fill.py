#!/usr/bin/env python3
"""Fills a data plane's tables for the profiles here, over the API that a control plane uses:

    fill.py --socket /run/kedge/bench/dataplane.sock --prefixes 20000 \\
        --near port0=02:00:00:00:00:90 --far port1=02:00:00:00:00:91

Run kedge-dataplane alone for that: a control plane would put its own tables back. Needs python3-grpcio,
python3-protobuf and protobuf-compiler.
"""

import argparse
import importlib
import ipaddress
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import kedge_packets  # noqa: E402

PROTO = HERE.parent.parent / "dataplane" / "api" / "proto"
# The generator's ports as routers: where everything goes that the gateway forwards.
NEAR_ROUTER = "2001:db8:ca::1"
FAR_ROUTER = "2001:db8:cb::1"
BATCH = 10000


def number(address):
    return int(ipaddress.IPv6Address(address))


def packed(value):
    return value.to_bytes(16, "big")


def tables(prefixes, peers=1):
    """(prefix, length, next hop) and (tunnel, other end) for all profiles at once; a hop is a side or a tunnel."""
    if not 1 <= prefixes <= kedge_packets.MOST_PREFIXES:
        raise ValueError(f"prefixes must be 1 to {kedge_packets.MOST_PREFIXES}, not {prefixes}")
    if not 1 <= peers <= kedge_packets.MOST_PEERS:
        raise ValueError(f"peers must be 1 to {kedge_packets.MOST_PEERS}, not {peers}")
    tunnels = [(1 + at, number(kedge_packets.PEER) + at) for at in range(peers)]

    def routes():
        # The way to the tunnels' ends first: what is put into a tunnel needs it.
        yield number(kedge_packets.PEER) >> 64 << 64, 64, "far"
        for at in range(prefixes):
            for base, hop in (
                (kedge_packets.NEAR, "near"),
                (kedge_packets.FAR, "far"),
                (kedge_packets.ANCHORED, 1 + at % peers),
            ):
                yield ((number(base) >> 64) + at) << 64, 64, hop

    return routes(), tunnels


def contract(directory):
    """The API's messages, made from its description."""
    command = ["protoc", f"-I{PROTO}", f"--python_out={directory}", "dataplane.proto"]
    subprocess.run(command, check=True)
    sys.path.insert(0, directory)
    return importlib.import_module("dataplane_pb2")


def transactions(api, options):
    routes, tunnels = tables(options.prefixes, options.peers)
    sides = {"near": (options.near, NEAR_ROUTER), "far": (options.far, FAR_ROUTER)}
    it = api.Transaction(replace_all=True)
    gateway = packed(number(kedge_packets.GATEWAY))
    it.put_local_addresses.append(gateway)
    for (port, link_layer), router in sides.values():
        it.put_neighbours.add(port=port, address=packed(number(router)), link_layer_address=link_layer)
    for tunnel, remote in tunnels:
        it.put_tunnels.add(id=tunnel, encapsulation=1, local=gateway, remote=packed(remote), hop_limit=64)
    for at, (address, length, hop) in enumerate(routes, 1):
        entry = it.put_prefixes.add(address=packed(address), length=length)
        if hop in sides:
            (port, _), router = sides[hop]
            entry.next_hop.gateway.port, entry.next_hop.gateway.address = port, packed(number(router))
        else:
            entry.next_hop.tunnel = hop
        if at % BATCH == 0:
            yield it
            it = api.Transaction()
    yield it


def side(text):
    port, _, address = text.partition("=")
    try:
        octets = bytes.fromhex(address.replace(":", ""))
    except ValueError:
        octets = b""
    if not port or len(octets) != 6:
        raise argparse.ArgumentTypeError(f"must be PORT=LINK-LAYER-ADDRESS, not {text!r}")
    return port, octets


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--socket", required=True, help="of the data plane")
    parser.add_argument("--near", type=side, required=True, help="gateway's port toward generator port 0, and that one")
    parser.add_argument("--far", type=side, required=True, help="gateway's port toward generator port 1, and that one")
    parser.add_argument("--prefixes", type=int, default=1, help="of each kind: near, far, anchored")
    parser.add_argument("--peers", type=int, default=1, help="other ends of tunnels")
    options = parser.parse_args(argv)
    try:
        tables(options.prefixes, options.peers)
    except ValueError as error:
        parser.error(str(error))
    return options


def main():
    options = arguments(sys.argv[1:])
    try:
        import grpc
    except ImportError:
        sys.exit("fill.py: install python3-grpcio and python3-protobuf")
    with tempfile.TemporaryDirectory() as directory:
        api = contract(directory)
        with grpc.insecure_channel(f"unix:{options.socket}") as channel:
            apply = channel.unary_unary(
                "/kedge.dataplane.v1.Dataplane/Apply",
                request_serializer=api.Transaction.SerializeToString,
                response_deserializer=api.Applied.FromString,
            )
            try:
                for it in transactions(api, options):
                    generation = apply(it).generation
            except grpc.RpcError as error:
                sys.exit(f"fill.py: the data plane says: {error.details()}")
    print(f"{3 * options.prefixes + 1} prefixes, {options.peers} tunnels, generation {generation}")


if __name__ == "__main__":
    main()
