#!/usr/bin/env python3
"""How long a change of one route takes to the kernel's table of a neighbouring router, and how long thousands take.

    cargo build --release --locked -p kedge-controlplane --example announcer
    perf/routes/bench.py [--changes 200] [--bulk 5000] [--json FILE]      # as root

Kedge's announcer tells GoBGP by gRPC, or BIRD and FRR by the kernel's table; BIRD at the router puts the route into its kernel's. What
is measured is the time from when a route is wanted to the kernel's own word that it is there, or has gone, both by the same clock;
of thousands, to when the last one is in the table.
"""

import argparse
import json
import os
import pathlib
import select
import statistics
import subprocess
import sys
import time
from datetime import datetime

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "ci" / "lib"))

from namespaces import run  # noqa: E402
from topology import Domain  # noqa: E402

ROUTER = """
router id 10.0.0.1;
protocol device {{ scan time 60; }}
protocol direct {{ ipv6; interface "e0"; }}
protocol kernel {{ ipv6 {{ import none; export where source = RTS_BGP; }}; }}
protocol bgp maar {{
  local 2001:db8:9::1 as 65000; neighbor 2001:db8:9::2 as 65001;
  connect retry time 1; connect delay time 1; error wait time 1, 1;
  ipv6 {{ import all; export none; }};
}}
"""
GOBGP = """
[global.config]
as = 65001
router-id = "10.0.1.1"
[[neighbors]]
[neighbors.config]
neighbor-address = "2001:db8:9::1"
peer-as = 65000
[neighbors.timers.config]
connect-retry = 1
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv6-unicast"
"""
BIRD = """
router id 10.0.1.1;
ipv6 table anchored;
protocol device {{ scan time 60; }}
protocol kernel {{ kernel table 5213; learn; scan time 5; ipv6 {{ table anchored; import where krt_source = 213; export none; }}; }}
protocol bgp core {{
  local 2001:db8:9::2 as 65001; neighbor 2001:db8:9::1 as 65000;
  connect retry time 1; connect delay time 1; error wait time 1, 1;
  ipv6 {{ table anchored; import none; export all; }};
}}
"""
FRR = """
route-map anchored permit 10
 match metric 5213
router bgp 65001
 bgp router-id 10.0.1.1
 no bgp ebgp-requires-policy
 neighbor 2001:db8:9::1 remote-as 65000
 neighbor 2001:db8:9::1 timers connect 1
 neighbor 2001:db8:9::1 advertisement-interval 0
 address-family ipv6 unicast
  redistribute kernel route-map anchored
  neighbor 2001:db8:9::1 activate
 exit-address-family
"""
SECTIONS = {
    "gobgp": 'daemon = "gobgp"\nnext_hop = "2001:db8:9::2"\n',
    "bird": 'daemon = "kernel"\nkernel = { table = 5213 }\n',
    "frr": 'daemon = "kernel"\n',
}


class Bench(Domain):
    """Two hosts: a router, and a MAAR of which there is only the announcer."""

    def build(self):
        for host in ("core", "maar"):
            self.namespace(host)
        self.on("core", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        self.link("core", "e0", "maar", "e0")
        for host, address in (("core", "2001:db8:9::1/64"), ("maar", "2001:db8:9::2/64")):
            self.ip(host, "addr", "add", address, "dev", "e0", "nodad")
            self.ip(host, "link", "set", "e0", "up")

    def begin(self, daemon):
        directory = self.directory
        write = lambda name, text: (directory / name).write_text(text) and directory / name
        bird = lambda host, text: ["bird", "-f", "-c", str(write(f"{host}.conf", text.format())), "-s", str(directory / f"{host}.ctl")]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.popen("core", *bird("core", ROUTER), **quiet)
        if daemon == "gobgp":
            self.popen("maar", "gobgpd", "-f", str(write("gobgp.toml", GOBGP)), "--api-hosts", "127.0.0.1:50051", "--pprof-disable", **quiet)
        elif daemon == "bird":
            self.popen("maar", *bird("maar", BIRD), **quiet)
        else:
            frr = directory / "frr"
            frr.mkdir()
            (frr / "zebra.conf").write_text("")
            (frr / "bgpd.conf").write_text(FRR)
            directory.chmod(0o755)
            run("chown", "-R", "frr:frr", str(frr))
            for program in ("zebra", "bgpd"):
                self.popen("maar", f"/usr/lib/frr/{program}", "-f", str(frr / f"{program}.conf"), "-i", str(frr / f"{program}.pid"),
                           "-z", str(frr / "zserv.api"), "--vty_socket", str(frr), "-P", "0", **quiet)
                self.wait((frr / "zserv.api").exists, 10, "zebra did not start")
        established = lambda: "Established" in self.on("core", "birdc", "-s", str(directory / "core.ctl"), "show", "protocols", check=False)
        self.wait(established, 30, "the BGP session did not come up")
        section = write("section.toml", SECTIONS[daemon])
        program = self.binaries / "examples" / "announcer"
        self.announcer = self.popen("maar", str(program), str(section), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.monitor = self.popen("core", "stdbuf", "-oL", "ip", "-6", "-ts", "monitor", "route", stdout=subprocess.PIPE)
        time.sleep(1)

    def want(self, first, count):
        """Says what is wanted; gives the time of that in seconds."""
        self.announcer.stdin.write(f"{first} {count}\n")
        self.announcer.stdin.flush()
        return int(self.announcer.stdout.readline()) / 1e6

    def routes(self):
        """How many routes the router's kernel has of these."""
        return self.on("core", "ip", "-6", "route", "show", "proto", "bird").count("2001:db8:1:")

    def changes(self, deadline):
        """What the router's kernel says, as (time in seconds, prefix, is there)."""
        while True:
            ready, _, _ = select.select([self.monitor.stdout], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                return
            words = self.monitor.stdout.readline().split()
            if len(words) > 2 and words[0].startswith("["):
                at = datetime.fromisoformat(words[0].strip("[]")).timestamp()
                gone = words[1] == "Deleted"
                prefix = words[2] if gone else words[1]
                if prefix.startswith("2001:db8:1"):
                    yield at, prefix, not gone


def measure(daemon, changes, bulk, binaries):
    rows = []

    def row(case, metric, unit, samples, prefixes):
        samples = sorted(samples)
        rows.append({"bench": "routes", "case": case, "subject": daemon, "prefixes": prefixes, "metric": metric, "unit": unit,
                     "min": round(samples[0], 3), "median": round(statistics.median(samples), 3), "max": round(samples[-1], 3)})

    with Bench(prefix=f"kedgebench{os.getpid()}", binaries=binaries) as bench:
        bench.begin(daemon)
        announced, withdrawn = [], []
        for number in range(changes):
            prefix = f"2001:db8:1:{number + 1:x}::/64"
            for count, there, samples in ((1, True, announced), (0, False, withdrawn)):
                begin = bench.want(prefix, count)
                found = next((at for at, it, is_there in bench.changes(time.monotonic() + 60) if it == prefix and is_there is there), None)
                if found is None:
                    raise SystemExit(f"{daemon}: {prefix} did not {'come' if there else 'go'} within 60 s")
                samples.append((found - begin) * 1e3)
        for case, samples in (("one announced", announced), ("one withdrawn", withdrawn)):
            row(case, "time to the neighbour's kernel table", "ms", samples, 1)
            samples.sort()
            row(case, "the same, 95th percentile", "ms", [samples[len(samples) * 95 // 100]], 1)
        # Of so many, netlink loses some on the way to a listener: here the table is counted instead, as often as that goes.
        bench.monitor.kill()
        for case, count in (("many announced", bulk), ("many withdrawn", 0)):
            begin = bench.want("2001:db8:1:1::/64", count)
            while (there := bench.routes()) != count:
                if time.time() > begin + 120:
                    raise SystemExit(f"{daemon}: {case}: {there} routes after 120 s")
                time.sleep(0.02)
            row(case, "time to the neighbour's kernel table", "ms", [(time.time() - begin) * 1e3], bulk)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--bulk", type=int, default=5000)
    parser.add_argument("--daemons", nargs="*", default=list(SECTIONS))
    parser.add_argument("--binaries", type=pathlib.Path, default=REPOSITORY / "target" / "release")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    rows = []
    for daemon in arguments.daemons:
        found = measure(daemon, arguments.changes, arguments.bulk, arguments.binaries)
        for row in found:
            print(f"{row['subject']:6} {row['case']:16} {row['metric']:40} {row['median']:10.3f} {row['unit']}   ({row['min']} to {row['max']})", flush=True)
        rows += found
    if arguments.json:
        arguments.json.write_text("[\n" + ",\n".join("  " + json.dumps(row, separators=(",", ":")) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
