#!/usr/bin/env python3
"""Every dependency must be under a licence of ci/licences.allow. Reads `cargo metadata`; needs nothing else."""

import json
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent.parent


def permitted(expression, allowed):
    """Whether an SPDX expression can be satisfied. `/` is an old way to write OR."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    position = 0

    def alternatives():
        nonlocal position
        result = combination()
        while position < len(tokens) and tokens[position] == "OR":
            position += 1
            result = combination() or result
        return result

    def combination():
        nonlocal position
        result = single()
        while position < len(tokens) and tokens[position] == "AND":
            position += 1
            result = single() and result
        return result

    def single():
        nonlocal position
        token = tokens[position]
        position += 1
        if token == "(":
            result = alternatives()
            position += 1
            return result
        if position < len(tokens) and tokens[position] == "WITH":
            token = f"{token} WITH {tokens[position + 1]}"
            position += 2
        return token in allowed

    return alternatives()


def main():
    allowed = {line.strip() for line in (HERE / "licences.allow").read_text().splitlines() if line and line[0] != "#"}
    metadata = json.loads(subprocess.run(["cargo", "metadata", "--format-version", "1", "--locked"], check=True,
                                         capture_output=True, text=True).stdout)
    refused = [f"{package['name']} {package['version']}: {package['license'] or 'no licence stated'}"
               for package in metadata["packages"] if not permitted(package["license"] or "none", allowed)]
    for line in refused:
        print(f"licence not allowed: {line}", file=sys.stderr)
    print(f"{len(metadata['packages'])} packages, {len(refused)} with a licence that is not allowed")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
