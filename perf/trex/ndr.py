#!/usr/bin/env python3
"""Searches for the highest rate that a gateway forwards without loss, by means of a running TRex server.

    ndr.py encapsulate.py --lowest 100000 --highest 14000000 --tunables '--prefixes 20000' --report ndr.json
    ndr.py encapsulate.py --reverse decapsulate.py ...      both ways at once, at the same rate each

PYTHONPATH must contain automation/trex_control_plane/interactive of TRex's directory. Rates on the command line are
packets per second and direction; those of the report are sums over the directions, as CSIT's are.
"""

import argparse
import importlib.util
import json
import pathlib
import platform
import shlex
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import kedge_search  # noqa: E402


class Bench:
    """Both ports of a TRex server, and what each is to send."""

    def __init__(self, client, sends, seconds, settle):
        self.client = client
        # (from, to, streams)
        self.sends = sends
        self.seconds = seconds
        self.settle = settle

    def prepare(self):
        self.client.reset(ports=sorted({port for send in self.sends for port in send[:2]}))
        for port, _, streams in self.sends:
            self.client.add_streams(streams, ports=[port])

    def measure(self, rate):
        """One trial at `rate` packets per second in each direction."""
        ports = [port for port, _, _ in self.sends]
        self.client.clear_stats()
        # Force: whether the rate was sent is seen from the counters, not from the link's nominal speed.
        self.client.start(ports=ports, mult=f"{rate:.0f}pps", duration=self.seconds, force=True)
        self.client.wait_on_traffic(ports=ports, timeout=self.seconds + 60)
        # What is on its way still has to arrive.
        time.sleep(self.settle)
        stats = self.client.get_stats()
        return [
            kedge_search.Count(rate * self.seconds, stats[port]["opackets"], stats[to]["ipackets"])
            for port, to, _ in self.sends
        ]


def load(name, direction, port, tunables):
    """The streams of a profile, which is a file here or elsewhere."""
    path = pathlib.Path(name)
    if not path.exists():
        path = HERE / name
    if not path.exists():
        raise ValueError(f"{name}: there is no such profile")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.register().get_streams(direction=direction, port_id=port, tunables=tunables)


def row(options, metric, unit, samples):
    """As kedge-perf writes them; the middle of an even number of samples is the upper one there too."""
    samples = sorted(samples)
    return {
        "bench": "ndr",
        "case": options.case,
        "subject": options.subject,
        "prefixes": prefixes(options.tunables),
        "metric": metric,
        "unit": unit,
        "min": round(samples[0], 3),
        "median": round(samples[len(samples) // 2], 3),
        "max": round(samples[-1], 3),
    }


def prefixes(tunables):
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--prefixes", type=int, default=1)
    return parser.parse_known_args(tunables)[0].prefixes


def rows(options, answers):
    directions = 2 if options.reverse else 1
    metric = "ndr" if options.loss == 0 else f"pdr-{options.loss:g}"
    scale = directions / 1e6
    out = [row(options, metric, "Mpps", [it.lower * scale for it in answers])]
    failed = [it.upper * scale for it in answers if it.upper is not None]
    if failed:
        out.append(row(options, f"{metric}-upper", "Mpps", failed))
    out.append(row(options, "trials", "trials", [float(it.trials) for it in answers]))
    return out


def write(path, out, options, version):
    text = "[\n" + ",\n".join("  " + json.dumps(it, separators=(",", ":")) for it in out) + "\n]\n"
    path.write_text(text)
    # How the rows came about. The processor here is the generator's; the gateway's has to be noted beside it.
    run = {
        "command": shlex.join(["ndr.py", *options.command]),
        "generator": f"TRex {version}",
        "generator_kernel": platform.release(),
        "trial_seconds": options.trial_seconds,
        "trials": options.trials,
        "exceed": options.exceed,
        "loss": options.loss,
        "width": options.width,
    }
    path.with_suffix(".run.json").write_text(json.dumps(run, indent=2) + "\n")


def arguments(argv):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("profile", help="what the first port sends")
    parser.add_argument("--reverse", help="what the second port sends at the same time")
    parser.add_argument("--tunables", type=shlex.split, default=[], help="of the profiles, in one word")
    parser.add_argument("--reverse-tunables", type=shlex.split, help="of the second one; default: the same")
    parser.add_argument("--ports", type=int, nargs=2, default=(0, 1), help="of the generator: from, to")
    parser.add_argument("--server", default="127.0.0.1", help="of TRex")
    parser.add_argument("--lowest", type=float, required=True, help="packets/s that are surely carried")
    parser.add_argument("--highest", type=float, required=True, help="packets/s where the search begins")
    parser.add_argument("--trial-seconds", type=float, default=1.0, help="of each trial; 60 by RFC 2544")
    parser.add_argument("--trials", type=int, default=21, help="at most, at one rate; 1 by RFC 2544")
    parser.add_argument("--exceed", type=float, default=0.5, help="share of the trials that may lose more")
    parser.add_argument("--loss", type=float, default=0.0, help="ratio that is no loss yet; 0.005 is CSIT's PDR")
    parser.add_argument("--width", type=float, default=0.005, help="of the answer, as a ratio")
    parser.add_argument("--repeats", type=int, default=3, help="searches")
    parser.add_argument("--settle", type=float, default=1.0, help="seconds after a trial until its counters are read")
    parser.add_argument("--case", help="in the report; default: the profiles and their tunables")
    parser.add_argument("--subject", default="kedge", help="who is measured, in the report")
    parser.add_argument("--report", type=pathlib.Path, help="where to write the rows")
    options = parser.parse_args(argv)
    options.command = argv
    if options.reverse_tunables is None:
        options.reverse_tunables = options.tunables
    if options.trial_seconds <= 0 or options.settle < 0:
        parser.error("a trial takes more than 0 seconds, settling at least 0")
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    if options.ports[0] == options.ports[1]:
        parser.error("--ports must be two different ports")
    if not 0 < options.lowest < options.highest:
        parser.error("--lowest must be more than 0 and less than --highest")
    try:
        options.goal = kedge_search.Goal(options.loss, options.trials, options.exceed, options.width)
    except ValueError as error:
        parser.error(str(error))
    if options.case is None:
        names = [pathlib.Path(it).stem for it in (options.profile, options.reverse) if it]
        options.case = " ".join(["+".join(names), *options.tunables])
    return options


def run(options, client):
    """Does the searches, one after the other, with a client of TRex."""
    there, back = options.ports
    sends = [(there, back, load(options.profile, 0, there, options.tunables))]
    if options.reverse:
        sends.append((back, there, load(options.reverse, 1, back, options.reverse_tunables)))
    bench = Bench(client, sends, options.trial_seconds, options.settle)
    client.connect()
    try:
        version = client.get_server_version().get("version", "")
        bench.prepare()
        # The first packets meet cold tables and links that have just come up; they are not counted.
        bench.measure(options.lowest)
        answers = []
        for number in range(options.repeats):
            answer = kedge_search.search(bench.measure, options.lowest, options.highest, options.goal)
            upper = "nothing failed" if answer.upper is None else f"failed at {answer.upper:.0f}"
            found = f"carried {answer.lower:.0f} packets/s, {upper}, {answer.trials} trials"
            print(f"search {number + 1}: {found}", flush=True)
            answers.append(answer)
    finally:
        client.disconnect()
    out = rows(options, answers)
    for it in out:
        print(f"{it['case']}  {it['metric']}  {it['min']} {it['median']} {it['max']} {it['unit']}")
    if options.report:
        write(options.report, out, options, version)
    return out


def main():
    options = arguments(sys.argv[1:])
    try:
        # Not above: the arguments can be checked where there is no TRex.
        from trex_stl_lib.api import STLClient
    except ImportError:
        sys.exit("ndr.py: TRex's API is not there; put automation/trex_control_plane/interactive into PYTHONPATH")
    try:
        run(options, STLClient(server=options.server))
    except (ValueError, kedge_search.GeneratorTooSlow) as error:
        sys.exit(f"ndr.py: {error}")


if __name__ == "__main__":
    main()
