#!/usr/bin/env python3
"""The main job, live: a node moves between gateways and its connections live on.

    ci/demo [--seconds-per-stay N] [--tunnel ipv6-in-ipv6|gtpu|gtpu-ipv4|gre] [--switch stay|relocate|hierarchy]
            [--report FILE] [--keep] [--down]
"""

import argparse
import bisect
import ipaddress
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import topology
from namespaces import Failure, last_report, remove_namespaces, run, tail
from topology import CN, MAARS, NODE, TUNNELS, Domain, maar_address, maar_ipv4_address

UDP_DOWN, UDP_UP, TCP = 4001, 4002, 4003
# Datagrams per second in each direction: one in 5 ms, so that a silence is measured to 5 ms.
UDP_RATE = 200
TCP_RATE = 200_000
ROUTE = (1, 2, 3, 1)
# How each move is noticed.
TRIGGERS = ("solicitation", "operator", "solicitation")
# Whether the gateway that the node leaves is told, and so holds its packets.
ANNOUNCED = (True, True, True)
KEPT = "kedge-demo"

NAMES = {address(index): f"maar{index}" for index in MAARS for address in (maar_address, maar_ipv4_address)} | {topology.CMD: "cmd", CN: "cn"}
COLOURS = {"maar1": 36, "maar2": 33, "maar3": 35, "cmd": 32, "demo": 1, "loss": 31}


class Timeline:
    """What happened, one line each, in the order in which it happened.

    Events reach us through several processes, so a line is held back for a moment, in which an
    earlier one may still come in.
    """

    HOLD = 0.15

    def __init__(self):
        self.start, self.lock, self.waiting = time.time(), threading.Lock(), []
        self.colour = sys.stdout.isatty()
        threading.Thread(target=self.print_ripe, daemon=True).start()

    def print_ripe(self):
        while True:
            time.sleep(self.HOLD / 3)
            self.flush(time.time() - self.HOLD)

    def flush(self, until=float("inf")):
        with self.lock:
            self.waiting.sort()
            while self.waiting and self.waiting[0][0] <= until:
                at, _, who, what = self.waiting.pop(0)
                name = f"{who:>6}"
                if self.colour:
                    name = f"\033[{COLOURS.get(who, 0)}m{name}\033[0m"
                print(f"{at - self.start:8.3f}  {name}  {what}", flush=True)

    def say(self, who, what, at=None):
        with self.lock:
            self.waiting.append((at or time.time(), len(self.waiting), who, what))

    def heading(self, text):
        time.sleep(self.HOLD)
        self.flush()
        with self.lock:
            print(f"\n{text}" if not self.colour else f"\n\033[1m{text}\033[0m", flush=True)


class Watch:
    """The events of one gateway, from `kedge watch`."""

    SHOWN = ("message_sent", "node_attached", "registration_completed", "registration_refused", "node_anchored",
             "update_refused", "binding_expired", "attachment_refused", "dataplane_lost", "dataplane_connected",
             "anchor_taken", "anchor_yielded", "anchor_relocated", "relocation_failed", "route_announced",
             "route_withdrawn", "path_ended")

    def __init__(self, domain, host, timeline):
        self.host, self.timeline, self.events = host, timeline, []
        command = [str(domain.binaries / "kedge"), "--run-directory", str(domain.run_directory(host)), "--json", "watch"]
        self.process = domain.popen(host, *command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            event = json.loads(line)
            self.events.append(event)
            if event["kind"] in self.SHOWN:
                text = event["text"]
                for address, name in NAMES.items():
                    text = text.replace(address, name)
                self.timeline.say(self.host, text, event["unix_us"] / 1e6)


class Stream:
    """A numbered UDP stream in one direction, sent and received into files."""

    def __init__(self, domain, source_host, source, target_host, target, port):
        self.sent, self.received = (domain.directory / f"udp-{port}.{end}" for end in ("sent", "received"))
        # Unbuffered: the files are read while the stream runs.
        self.receiver = domain.traffic(target_host, "udp-receive", target, str(port), stdout=open(self.received, "w"))
        time.sleep(0.3)
        self.sender = domain.traffic(source_host, "udp-send", source, target, str(port), str(UDP_RATE), stdout=open(self.sent, "w"))

    def stop(self):
        self.sender.terminate()
        self.sender.wait(5)
        time.sleep(0.5)
        self.receiver.terminate()
        self.receiver.wait(5)

    def arrivals(self):
        """(time, number) of what has come in so far; the last line may be half written."""
        lines = self.received.read_text().split("\n")[:-1]
        return [(float(at), int(number)) for at, number in (line.split() for line in lines)]

    def measure(self, start, end):
        """What became of the datagrams sent in [start, end)."""
        departures = [line.split() for line in self.sent.read_text().split("\n")[:-1]]
        left = {int(number): float(at) for at, number, _ in departures if start <= float(at) < end}
        numbers = set(left)
        arrivals = self.arrivals()
        seen, highest, reordered, duplicated = set(), -1, 0, 0
        for _, number in arrivals:
            if number in seen:
                duplicated += number in numbers
            elif number < highest:
                reordered += number in numbers
            seen.add(number)
            highest = max(highest, number)
        times = [at for at, _ in arrivals]
        inside = times[bisect.bisect_left(times, start):bisect.bisect_left(times, end)]
        marks = [start, *inside, end] if inside else [start, end]
        silence = max(later - earlier for earlier, later in zip(marks, marks[1:]))
        return {"sent": len(numbers), "lost": len(numbers - seen), "reordered": reordered, "duplicated": duplicated,
                "longest_silence_ms": round(silence * 1000, 1), "gaps": self.gaps(left, seen, start)}

    @staticmethod
    def gaps(left, seen, start):
        """The rows of datagrams of which none arrived: how many, and when the first and the last left, after the start."""
        gaps, before = [], None
        for number in sorted(set(left) - seen):
            after_ms = round((left[number] - start) * 1000, 1)
            if number - 1 == before:
                gaps[-1].update(lost=gaps[-1]["lost"] + 1, last_left_ms=after_ms)
            else:
                gaps.append({"lost": 1, "first_left_ms": after_ms, "last_left_ms": after_ms})
            before = number
        return gaps


class Demo:
    gateways = tuple(f"maar{index}" for index in MAARS)
    # Where `--keep` says that the node can be plugged in.
    BRIDGE = "br2"
    OUTCOME = "Connections lived on, new ones went directly, old ones through their anchor"

    def __init__(self, arguments):
        self.arguments, self.timeline = arguments, Timeline()
        self.moves, self.direct, self.tunnelled = [], [], []
        self.relocations = []
        # The types of all tunnels that were ever there.
        self.tunnels = set()
        # Whether their packets were IPv4 outside.
        self.over_ipv4 = set()

    def say(self, what):
        self.timeline.say("demo", what)

    def run(self, domain):
        self.domain = domain
        self.timeline.heading(f"A domain: correspondent host, core router, MAAR1 to MAAR3, CMD, one mobile node; tunnels {domain.tunnel}")
        self.start_domain()
        self.timeline.heading("The node appears at MAAR1")
        domain.plug(1)
        self.home = domain.preferred_address(1)
        self.say(f"the node took {self.home}; it is a plain Linux host with SLAAC")
        self.ping(self.home)
        self.start_traffic()
        time.sleep(1)
        for number, (here, there) in enumerate(zip(ROUTE, ROUTE[1:])):
            self.move(number, here, there)
        self.finish()
        return self.report()

    def start_domain(self):
        domain = self.domain
        domain.start()
        self.say(f"{len(domain.daemons)} daemons run: " + ", ".join(
            f"{daemon.name} ({daemon.process.pid})" for daemon in domain.daemons.values()))
        self.watches = [Watch(domain, host, self.timeline) for host in ("cmd", *self.gateways)]
        time.sleep(0.5)

    def ping(self, source):
        output = self.domain.on("mn", "ping", "-6", "-i", "0.2", "-c", "5", "-W", "2", "-I", source, CN, check=False)
        line = next((line for line in output.splitlines() if "received" in line), "no answer")
        self.say(f"ping from {source} to the correspondent: {line.strip()}")
        if " 0 received" in line or line == "no answer":
            raise Failure(f"the correspondent does not answer a ping from {source}\n{self.diagnosis()}")

    def start_traffic(self):
        domain = self.domain
        self.tcp_server = domain.traffic("cn", "tcp-serve", CN, str(TCP), stdout=None)
        time.sleep(0.5)
        self.streams = {
            "down": Stream(domain, "cn", CN, "mn", self.home, UDP_DOWN),
            "up": Stream(domain, "mn", self.home, "cn", CN, UDP_UP),
        }
        self.long_lived = self.connect(self.home, TCP_RATE, 10_000)
        self.say(f"UDP both ways, {UDP_RATE} datagrams per second each; one TCP connection from {self.home} for the whole demo")

    def connect(self, source, rate, seconds):
        """Opens a TCP connection from the node; `-` lets the node choose its source address."""
        client = self.domain.traffic("mn", "tcp-client", source, CN, str(TCP), str(rate), str(seconds))
        client.started = json.loads(client.stdout.readline() or "{}")
        return client

    @staticmethod
    def end(client):
        """Ends a connection; whether every octet came back right."""
        return last_report(client) or {"ok": False, "error": "the client said nothing"}

    def move(self, number, here, there):
        self.timeline.heading(f"Move {number + 1}: MAAR{here} -> MAAR{there}")
        began_monotonic, began = time.monotonic(), time.time()
        trigger = TRIGGERS[number]
        if ANNOUNCED[number]:
            self.say("the access point that it leaves tells the gateway: kedge detach")
        self.say("the node solicits a router" if trigger == "solicitation" else "the access point tells the gateway: kedge attach")
        self.domain.plug(there, trigger, announced=ANNOUNCED[number])
        self.moves.append({"from": f"maar{here}", "to": f"maar{there}", "began": began_monotonic, "began_unix": began})
        new = self.domain.preferred_address(there)
        time.sleep(0.5)
        self.table()
        self.check_paths(there, new)
        if self.arguments.switch == "relocate":
            self.relocate(there)
        alive = self.long_lived.poll() is None
        self.moves[-1]["tcp_running"] = alive
        time.sleep(max(0.0, self.arguments.seconds_per_stay - (time.monotonic() - began_monotonic)))
        self.say("the long-lived TCP connection " + ("goes on" if alive else "HAS ENDED"))
        self.moves[-1]["attach_to_delivery_ms"] = self.attach_to_delivery(f"maar{there}", began, began_monotonic)

    def attach_to_delivery(self, there, began, began_monotonic):
        """From the first word of the attachment at the new gateway to the first datagram delivered after it."""
        watch = next(watch for watch in self.watches if watch.host == there)
        attached = [event["unix_us"] / 1e6 for event in list(watch.events)
                    if event["kind"] == "node_attached" and event["unix_us"] / 1e6 >= began]
        if not attached:
            return None
        at = began_monotonic + attached[0] - began
        later = [time_ for time_, _ in self.streams["down"].arrivals() if time_ >= at]
        return round((later[0] - at) * 1000, 1) if later else None

    def table(self):
        """Which prefix is anchored where."""
        binding = topology.first(self.domain.kedge("cmd", "show", "bindings"))
        rows = [(prefix, NAMES[binding["serving_maar"]], "here: routed natively") for prefix in binding["prefixes"]]
        rows += [(it["prefix"], NAMES[it["address"]], f"tunnelled by {it['tunnel']}, {it['state']}") for it in binding["previous"]]
        self.say(f"{NODE} is served by {NAMES[binding['serving_maar']]}; its prefixes:")
        for prefix, anchor, how in sorted(rows):
            self.say(f"    {prefix:<22} anchored at {anchor:<6} {how}")

    def counters(self):
        """Packets by tunnel of each gateway, and by prefix."""
        tunnels, prefixes = {}, {}
        for host in self.gateways:
            for it in self.domain.kedge(host, "show", "tunnels"):
                # Of GTP-U there is one for each node.
                out, back = tunnels.get(pair := (host, NAMES[it["remote"]]), (0, 0))
                tunnels[pair] = (out + it["encapsulated_packets"], back + it["decapsulated_packets"])
                self.tunnels.add(it["type"])
                self.over_ipv4.add("." in it["remote"])
            for it in self.domain.kedge(host, "show", "prefixes"):
                prefixes[host, it["prefix"]] = (it["to_packets"], it["from_packets"])
        return tunnels, prefixes

    @staticmethod
    def grown(before, after, key):
        """By how much two counters have grown."""
        return tuple(b - a for a, b in zip(before.get(key, (0, 0)), after.get(key, (0, 0))))

    def check_paths(self, there, new):
        """New connections go directly, old ones through their anchor: by the gateways' own counters."""
        tunnels, prefixes = self.counters()
        client = self.connect("-", 20_000, 1)
        report = json.loads(client.communicate(timeout=60)[0].strip().splitlines()[-1])
        source = report["source"] or ""
        self.say(f"a new TCP connection: from {source}, {report['octets']} octets there and back" + ("" if report["ok"] else f", FAILED: {report['error']}"))
        tunnels_after, prefixes_after = self.counters()
        grown, serving = self.grown, f"maar{there}"
        own = str(ipaddress.ip_network(f"{new}/64", strict=False))
        to, back = grown(prefixes, prefixes_after, (serving, own))
        direct = report["ok"] and source == new and to > 0 and back > 0
        # The prefix of the new connection is in no tunnel: no other MAAR knows anything of it.
        elsewhere = [host for (host, prefix) in prefixes_after if prefix == own and host != serving]
        direct = direct and not elsewhere
        self.direct.append(direct)
        self.say(f"    direct: {serving} delivered {to} packets to {own} and took {back} from it, no tunnel" if direct
                 else f"    NOT DIRECT: source {source}, {to} and {back} packets, known also at {elsewhere}")
        if there == 1 and self.arguments.switch == "stay":
            self.say("    the oldest connections are at home again: no tunnel for them")
            return
        anchor = self.relocations[-1]["to"] if self.relocations else "maar1"
        out = grown(tunnels, tunnels_after, (anchor, serving))
        there_ = grown(tunnels, tunnels_after, (serving, anchor))
        tunnelled = min(*out, *there_) > 0
        self.tunnelled.append(tunnelled)
        self.say(f"    tunnelled meanwhile, old flows: {anchor} -> {serving} {out[0]} packets, {serving} -> {anchor} {there_[0]}; "
                 f"taken out: {there_[1]} and {out[1]}" + ("" if tunnelled else "  NOT TUNNELLED BOTH WAYS"))

    def relocate(self, there):
        """Has the oldest prefix anchored where the node is, while its flows run."""
        prefix = str(ipaddress.ip_network(f"{self.home}/64", strict=False))
        before = self.domain.bgp_routes().get(prefix)
        self.say(f"the operator: kedge relocate {prefix} --to maar{there}; the core router's route leads to {before}")
        began = time.monotonic()
        answer = self.domain.kedge("cmd", "relocate", prefix, "--to", maar_address(there))
        self.domain.wait(lambda: self.domain.bgp_routes().get(prefix) == f"maar{there}", 5, f"the route to {prefix} did not follow")
        self.say(f"    anchored at {NAMES[answer['to']]} after {answer['duration_us'] / 1000:.1f} ms; the route leads there now, no longer to {before}")
        # What was on its way has come, and both ends have forgotten the old way.
        time.sleep(1.5)
        tunnels, _ = self.counters()
        time.sleep(0.5)
        after, _ = self.counters()
        # What goes on to a switch below a MAAR is tunnelled wherever the anchor is.
        between = [pair for pair in after if not any(name.startswith("dpn") for name in pair)]
        quiet = not any(sum(self.grown(tunnels, after, pair)) for pair in between)
        self.say("    no packet is tunnelled between MAARs any more" if quiet else "    PACKETS ARE STILL TUNNELLED")
        self.table()
        self.relocations.append({"prefix": prefix, "from": before, "to": f"maar{there}", "duration_ms": answer["duration_us"] / 1000,
                                 "no_tunnel": quiet, "began": began, "ended": time.monotonic()})

    def finish(self):
        ended = time.monotonic()
        final = self.end(self.long_lived)
        for stream in self.streams.values():
            stream.stop()
        self.final_tcp = final
        self.timeline.heading("What was lost")
        header = f"{'move':<16} {'sent':>6} {'lost to node':>13} {'from node':>10} {'reordered':>10} {'duplicated':>11} {'longest silence':>16} {'attach to delivery':>19}  TCP"
        print(header)
        borders = [move["began"] for move in self.moves] + [ended]
        for move, (start, end) in zip(self.moves, zip(borders, borders[1:])):
            each = {way: stream.measure(start, end) for way, stream in self.streams.items()}
            total = {key: sum(it[key] for it in each.values()) for key in ("sent", "lost", "reordered", "duplicated")}
            move.update({f"udp_{key}": value for key, value in total.items()})
            move["longest_silence_ms"] = max(it["longest_silence_ms"] for it in each.values())
            move["tcp_survived"] = move.pop("tcp_running") and final["ok"]
            move["directions"] = each
            print(f"{move['from']} -> {move['to']:<7} {total['sent']:>6} {each['down']['lost']:>13} {each['up']['lost']:>10} {total['reordered']:>10} "
                  f"{total['duplicated']:>11} {move['longest_silence_ms']:>13.1f} ms {move['attach_to_delivery_ms'] or 0:>16.1f} ms  "
                  + ("survived" if move["tcp_survived"] else "BROKEN"))
        for relocation in self.relocations:
            start, end = relocation.pop("began"), relocation.pop("ended")
            each = {way: stream.measure(start, end) for way, stream in self.streams.items()}
            relocation["directions"] = each
            name = f"anchor {relocation['from']} -> {relocation['to']}"
            print(f"{name:<22} {sum(it['sent'] for it in each.values()):>6} sent; lost to node {each['down']['lost']}, from node {each['up']['lost']}; reordered "
                  f"{each['down']['reordered']} and {each['up']['reordered']}, duplicated {each['down']['duplicated']} and {each['up']['duplicated']}; "
                  f"longest silence {each['down']['longest_silence_ms']} and {each['up']['longest_silence_ms']} ms; took {relocation['duration_ms']:.1f} ms")
        print("From the node: most of it while its own link was down; what gateways dropped has a name:")
        dropped = {f"{host} {reason}": count for host in self.gateways
                   for reason, count in self.domain.kedge(host, "show", "drops").items() if count}
        self.drops = dropped
        print("dropped by gateways: " + (", ".join(f"{name} {count}" for name, count in sorted(dropped.items())) or "nothing"))
        print(f"\nthe long-lived TCP connection: {final['octets']} octets there and back, "
              + ("every one as it was sent" if final["ok"] else f"FAILED: {final.get('error')}"))

    def report(self):
        moves = [{key: value for key, value in move.items() if key not in ("began", "began_unix")} for move in self.moves]
        return {
            "tunnel": self.domain.tunnel,
            "over_ipv4": self.domain.over_ipv4,
            "tunnels_seen": sorted(self.tunnels),
            "over_ipv4_seen": sorted(self.over_ipv4),
            "moves": moves,
            "direct_path_for_new_flows": all(self.direct) and len(self.direct) == len(self.moves),
            "tunnelled_old_flows": all(self.tunnelled) and bool(self.tunnelled),
            "switch": self.arguments.switch,
            "relocations": self.relocations,
            "drops": self.drops,
            "tcp": self.final_tcp,
            "daemons": [daemon.report() for daemon in self.domain.daemons.values()],
        }

    def diagnosis(self):
        parts = []
        for name, daemon in self.domain.daemons.items():
            parts.append(f"--- {name}\n{tail(daemon.log)}")
        return "\n".join(parts)


def succeeded(report):
    # With GTP-U asked for, a domain that fell back to IPv6-in-IPv6 is no success.
    return (report["tunnels_seen"] == [report["tunnel"]] and report["over_ipv4_seen"] == [report["over_ipv4"]] and report["direct_path_for_new_flows"] and report["tunnelled_old_flows"]
            and all(move["tcp_survived"] for move in report["moves"])
            and len(report["relocations"]) == {"stay": 0, "relocate": len(report["moves"]), "hierarchy": 1}[report["switch"]]
            and all(relocation["no_tunnel"] for relocation in report["relocations"]))


def keep_hint(domain, bridge):
    binary, run = domain.binaries / "kedge", domain.directory
    return f"""
It goes on running. To play with it:
  {binary} --run-directory {run}/maar1.run show nodes        (or bindings, tunnels, prefixes, ports, drops, workers)
  {binary} --run-directory {run}/cmd.run watch
  ip netns exec {domain.name('mn')} ping {CN}
  ip -n {domain.name('radio')} link set air down; ip -n {domain.name('radio')} link set air master {bridge}; ip -n {domain.name('radio')} link set air up
To end and remove it: ci/demo --down"""


def down():
    """Removes what `--keep` left, and what a demo that was killed left."""
    names = [line.split()[0] for line in run("ip", "netns", "list").splitlines() if line.startswith(KEPT)]
    remove_namespaces(names)
    for directory in pathlib.Path("/tmp").glob(f"{KEPT}-*"):
        shutil.rmtree(directory, ignore_errors=True)
    print(f"removed {len(names)} namespaces")


def main():
    parser = argparse.ArgumentParser(prog="ci/demo", description=__doc__.splitlines()[0])
    parser.add_argument("--report", metavar="FILE", help="write what was measured as JSON")
    parser.add_argument("--keep", action="store_true", help="leave everything running to play with")
    parser.add_argument("--down", action="store_true", help="remove what --keep left")
    parser.add_argument("--seconds-per-stay", type=float, default=6, metavar="N", help="at each MAAR (default 6, at least 2)")
    parser.add_argument("--tunnel", choices=TUNNELS, default=TUNNELS[0], help="between gateways (default %(default)s)")
    parser.add_argument("--switch", choices=("stay", "relocate", "hierarchy"), default="stay",
                        help="the anchor of the oldest prefix stays where it is, or follows the node by BGP, or there are forwarding "
                             "switches below the MAARs, between which the node moves first (default %(default)s)")
    parser.add_argument("--binaries", help=argparse.SUPPRESS)
    parser.add_argument("--log", default="info", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("ci/demo makes network namespaces: run it as root")
    if arguments.down:
        return down()
    if arguments.seconds_per_stay < 2:
        sys.exit(f"--seconds-per-stay {arguments.seconds_per_stay}: at least 2")
    # A shell may have started this with SIGINT ignored; the other ways to be told to end shall clean up too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("ended from outside"))
    left = [line.split()[0] for line in run("ip", "netns", "list").splitlines() if line.startswith(KEPT)]
    if left and arguments.keep:
        sys.exit("a demo was kept already: remove it with ci/demo --down")
    options = {"prefix": KEPT if arguments.keep else None, "binaries": arguments.binaries, "log_level": arguments.log,
               "tunnel": arguments.tunnel, "routing": arguments.switch != "stay"}
    if arguments.switch == "hierarchy":
        # It builds on this file.
        from demo_hierarchy import HierarchyDemo as Demonstration
        from hierarchy import Hierarchy
        if arguments.tunnel.endswith("-ipv4"):
            sys.exit(f"--tunnel {arguments.tunnel}: tunnels between a MAAR and the switches below it go over IPv6")
        domain = Hierarchy(**options)
    else:
        Demonstration, domain = Demo, Domain(**options)
    kept = False
    try:
        domain.build()
        demo = Demonstration(arguments)
        report = demo.run(domain)
        if arguments.report:
            pathlib.Path(arguments.report).write_text(json.dumps(report, indent=2) + "\n")
        good = succeeded(report)
        demo.timeline.heading(demo.OUTCOME if good else "NOT as it should be: see above")
        kept = arguments.keep
        if kept:
            domain.end_helpers()
            print(keep_hint(domain, demo.BRIDGE))
        return 0 if good else 1
    except Failure as failure:
        print(f"ci/demo: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nci/demo: interrupted; cleaning up", file=sys.stderr)
        return 130
    finally:
        if not kept:
            domain.remove()


if __name__ == "__main__":
    sys.exit(main())
