#!/usr/bin/env python3
"""Instructions per packet, counted by callgrind, against the committed baseline.

Time is noisy on every machine that tests run on; instructions are not. Where the
path of a packet becomes more than 3 % longer or shorter, this says so and fails:
a longer one is a regression to be explained, a shorter one a baseline to be renewed.

  ci/lib/instructions.py             compare with perf/results/instructions.json
  ci/lib/instructions.py --update    make that file anew
"""

import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASELINE = ROOT / "perf/results/instructions.json"
PROGRAM = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/kedge-perf"
CASES = ["plain", "encapsulate", "decapsulate", "gre-encapsulate", "gre-decapsulate", "gtpu-encapsulate",
         "gtpu-decapsulate", "gtpu4-encapsulate", "gtpu4-decapsulate"]
SHORT, LONG = 20, 220
BURST = 64
TOLERANCE = 0.03


def count(case, bursts):
    """Instructions of one run."""
    with tempfile.TemporaryDirectory(prefix="kedge-callgrind-") as directory:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out", str(PROGRAM),
                   "instructions", "--case", case, "--bursts", str(bursts)]
        # It is in its own session already, as far as it can know: what it would do about that disturbs the count.
        environment = dict(os.environ, KEDGE_PERF_SESSION="1")
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not found:
        sys.exit(f"instructions: {' '.join(command[3:])} failed:\n{done.stderr}")
    return int(found.group(1))


def main():
    update = sys.argv[1:] == ["--update"]
    if sys.argv[1:] and not update:
        sys.exit(__doc__)
    if not PROGRAM.exists():
        sys.exit("instructions: build first: cargo build --release -p kedge-perf")
    compiler = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    rows = []
    # Counts hang on nothing else that runs.
    runs = [(case, bursts) for case in CASES for bursts in (LONG, SHORT)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = dict(zip(runs, pool.map(lambda run: count(*run), runs)))
    for case in CASES:
        each = (counts[case, LONG] - counts[case, SHORT]) / ((LONG - SHORT) * BURST)
        rows.append({"bench": "instructions", "case": case, "subject": "kedge", "prefixes": 500,
                     "metric": "instructions", "unit": "1/packet", "min": round(each, 1), "median": round(each, 1),
                     "max": round(each, 1)})
        print(f"{case:<18} {each:8.1f} instructions per packet", flush=True)
    if update:
        text = ",\n".join("    " + json.dumps(row) for row in rows)
        BASELINE.write_text(f'{{\n  "compiler": {json.dumps(compiler)},\n  "rows": [\n{text}\n  ]\n}}\n')
        return
    baseline = json.loads(BASELINE.read_text())
    before = {row["case"]: row["median"] for row in baseline["rows"]}
    if before.keys() != set(CASES):
        sys.exit(f"the baseline is of other cases ({', '.join(sorted(before.keys() ^ set(CASES)))}): run ci/lib/instructions.py --update")
    moved = []
    for row in rows:
        ratio = row["median"] / before[row["case"]]
        if abs(ratio - 1) > TOLERANCE:
            word = "longer" if ratio > 1 else "shorter"
            moved.append(f"{row['case']}: {before[row['case']]} -> {row['median']} instructions per packet, "
                         f"{abs(ratio - 1):.1%} {word}")
    if not moved:
        print(f"within {TOLERANCE:.0%} of the baseline")
        return
    print("\n".join(moved))
    if baseline["compiler"] != compiler:
        print(f"the baseline is of {baseline['compiler']}, this is {compiler}: no verdict across compilers")
        return
    sys.exit("the path of a packet has changed its length. If that is meant, say why in the commit and run "
             "ci/lib/instructions.py --update")


if __name__ == "__main__":
    main()
