#!/usr/bin/env python3
"""Every bench of kedge-perf runs, and puts out rows in the documented form: small, short, and without a word about times.

Needs the release build, two cores, and root for huge pages and devices; no network namespaces.
"""

import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/kedge-perf"
COLUMNS = ["bench", "case", "subject", "prefixes", "metric", "unit", "min", "median", "max"]
RUN = {
    "command", "commit", "dpdk", "compiler", "processor", "processor_flags", "kernel", "huge_pages_lent_mib", "huge_pages",
    "transparent_huge_pages", "load_average_before", "load_average_after",
}
SECONDS = 100


class Benches(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="kedge-benches-")
        self.addCleanup(scratch.cleanup)
        self.directory = pathlib.Path(scratch.name)

    def perf(self, *arguments):
        done = subprocess.run([str(PROGRAM), *arguments], capture_output=True, text=True, timeout=SECONDS, cwd=ROOT)
        self.assertEqual(done.returncode, 0, f"kedge-perf {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def bench(self, name, *arguments):
        """Its rows, by case, subject, prefixes and metric."""
        start = time.monotonic()
        file = self.directory / f"{name}.json"
        self.perf(name, "--quick", *arguments, "--json", str(file))
        print(f"  {name}: {time.monotonic() - start:.1f} s", file=sys.stderr)
        text = file.read_text()
        rows = json.loads(text)
        self.assertEqual(len(text.splitlines()), len(rows) + 2, "a row is a line")
        found = {}
        for row in rows:
            self.assertEqual(list(row), COLUMNS)
            self.assertEqual(row["bench"], name)
            for column in ("case", "subject", "metric", "unit"):
                self.assertTrue(isinstance(row[column], str) and row[column], row)
            self.assertTrue(isinstance(row["prefixes"], int) and row["prefixes"] >= 0, row)
            numbers = [row["min"], row["median"], row["max"]]
            # A difference of two measurements of one round is below zero when the machine was busier for the one than for the other.
            least = -math.inf if row["metric"] == "over plain" else 0
            self.assertTrue(all(isinstance(it, (int, float)) and math.isfinite(it) and it >= least for it in numbers), row)
            self.assertEqual(numbers, sorted(numbers), row)
            key = (row["case"], row["subject"], row["prefixes"], row["metric"])
            self.assertNotIn(key, found, "two rows say the same")
            found[key] = row
        run = json.loads(file.with_suffix(".run.json").read_text())
        self.assertEqual(set(run), RUN)
        self.assertIn(f"kedge-perf {name} --quick", run["command"])
        for what in ("compiler", "processor", "processor_flags", "kernel", "load_average_before", "load_average_after"):
            self.assertTrue(run[what], what)
        self.perf("plot", str(file))
        self.assertTrue(list(self.directory.glob(f"{name}*.svg")), "there is a picture")
        return found

    def has(self, rows, case, subject, prefixes, *metrics, unit=None):
        for metric in metrics:
            key = (case, subject, prefixes, metric)
            self.assertIn(key, rows)
            if unit:
                self.assertEqual(rows[key]["unit"], unit, key)

    def test_fib(self):
        rows = self.bench("fib", "--rounds", "2", "--prefixes", "1000,2000")
        for shape in ("pools", "sparse-pools", "scattered", "transit"):
            for subject in ("kedge", "kedge-octets", "kedge-scalar", "rte_fib6-scalar", "rte_lpm6"):
                self.has(rows, shape, subject, 2000, "lookup", unit="cycles")
            self.has(rows, shape, "kedge", 2000, "memory", unit="octets/prefix")
        self.has(rows, "pools", "rte_hash", 2000, "lookup", unit="cycles")

    def test_pipeline(self):
        rows = self.bench("pipeline", "--rounds", "1", "--prefixes", "1,1000")
        cases = ["plain", "encapsulate", "decapsulate", "serve", "gtpu-encapsulate", "gtpu-decapsulate", "gre-encapsulate",
                 "gre-decapsulate", "hold", "release"]
        for case in cases:
            for prefixes in (1, 1000):
                self.has(rows, case, "kedge", prefixes, "total", unit="cycles/packet")
                if case not in ("plain", "hold", "release"):
                    self.has(rows, case, "kedge", prefixes, "over plain" if prefixes == 1 else "to one")
                if case != "release":
                    stages = ["parse", "open", "look-up", "fetch", "decide"]
                    self.has(rows, case, "kedge", prefixes, *stages, unit="cycles/packet")
        self.has(rows, "plain", "rte_fib6-minimal", 1000, "total", unit="cycles/packet")
        for case in ("gtpu-encapsulate", "gtpu4-decapsulate", "gre-decapsulate"):
            self.has(rows, case, "tables-alone", 1000, "total", unit="cycles/packet")
        for case in ("filters-0", "filters-100", "filters-10000", "filters-of-nodes-4", "meter"):
            self.has(rows, case, "kedge", 1000, "total", unit="cycles/packet")

    def test_publish(self):
        rows = self.bench("publish", "--changes", "200", "--seconds", "1", "--prefixes", "1000,2000")
        quantiles = ("median", "p99", "p99.9")
        for way in ("put again", "come and go"):
            for kind in ("prefixes", "tunnels", "holds", "filters"):
                for size in (1, 64):
                    self.has(rows, f"{kind} {way}, transactions of {size}", "kedge", 2000, *quantiles, unit="us")
            self.has(rows, f"all {way}, transactions of 64", "kedge", 2000, *quantiles, unit="us")
            for peer in ("rte_hash", "rte_hash-lf", "rte_fib6"):
                self.has(rows, f"prefixes {way}, transactions of 1", peer, 2000, *quantiles, unit="us")
            beside = f"prefixes {way}, transactions of 64, beside a worker"
            self.has(rows, beside, "kedge", 2000, "sustained", unit="changes/s")

    def test_updates(self):
        rows = self.bench("updates", "--rounds", "1", "--seconds", "0.1", "--prefixes", "2000", "--changes", "20000")
        self.has(rows, "rates", "kedge", 2000, "most", "without loss", "offered to all", unit="Mpps")
        cases = ["quiet"] + [f"{kind} come and go" for kind in ("prefixes", "tunnels", "holds", "filters", "all")]
        for case in [*cases, "prefixes put again", "all put again"]:
            for subject in ("kedge", "rwlock"):
                self.has(rows, case, subject, 2000, "blocked", "quiet blocked", unit="us/s")
                self.has(rows, case, subject, 2000, "burst p99.9", unit="us")
                self.has(rows, case, subject, 2000, "burst p99.9 to quiet", unit="ratio")
        self.assertEqual(rows["quiet", "kedge", 2000, "changes"]["max"], 0)
        self.assertGreater(rows["all come and go", "kedge", 2000, "changes"]["min"], 0)

    def test_scale(self):
        rows = self.bench("scale", "--rounds", "1", "--prefixes", "1000")
        for workers in (1, 2):
            for subject in ("kedge", "apart"):
                self.has(rows, f"{workers} workers", subject, 1000, "rate", unit="Mpps")

    def test_forward(self):
        rows = self.bench("forward", "--cases", "plain,encapsulate", "--prefixes", "100", "--attempts", "2")
        for case in ("plain", "encapsulate"):
            self.has(rows, case, "kedge", 100, "throughput", "pdr", "ndr", unit="Mpps")
            self.has(rows, case, "kedge", 100, "busy", unit="cycles")
        self.has(rows, "plain", "testpmd-mac", 0, "throughput", "pdr", "ndr", unit="Mpps")
        self.has(rows, "plain", "testpmd-mac", 0, "busy", unit="cycles")

    def test_latency(self):
        rows = self.bench("latency", "--seconds", "0.1", "--loads", "50", "--attempts", "2")
        cases = {case for case, *_ in rows}
        for subject in ("kedge", "testpmd-mac"):
            metrics = {metric for case, of, _, metric in rows if of == subject and case.startswith("plain")}
            self.assertLessEqual({"p50", "p99", "p99.9"}, metrics, f"{subject}: {cases}")
        self.assertTrue(list(self.directory.glob("latency*.hgrm")), "histograms lie beside the rows")

    def test_handover(self):
        rows = self.bench("handover", "--switches", "1", "--prefixes", "1", "--gaps", "20", "--attempts", "1")
        subjects = {subject for _, subject, *_ in rows}
        self.assertLessEqual({"kedge", "kedge-without-hold"}, subjects)
        metrics = {metric for *_, metric in rows}
        self.assertLessEqual({"lost", "reordered", "duplicated"}, metrics)

    def test_what_cannot_be_is_refused_by_name(self):
        for arguments, reason in (
            (["publish", "--prefixes", "1"], "--prefixes 1:"),
            (["pipeline", "--prefixes", "0"], "--prefixes 0:"),
            (["fib", "--prefixes", "9999999"], "--prefixes 9999999:"),
            (["updates", "--load", "101"], "--load 101:"),
            (["updates", "--seconds", "0"], "--seconds 0:"),
            (["publish", "--json", "/nowhere/at/all.json"], "/nowhere/at/all.json"),
        ):
            done = subprocess.run([str(PROGRAM), *arguments], capture_output=True, text=True, timeout=SECONDS)
            self.assertNotEqual(done.returncode, 0, arguments)
            self.assertIn(reason, done.stderr)


if __name__ == "__main__":
    if not PROGRAM.exists():
        sys.exit("benches: build first: cargo build --release -p kedge-dataplane -p kedge-perf")
    unittest.main()
