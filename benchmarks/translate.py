"""How much a protocol alone moves the figures: one method under several protocols.

    python benchmarks/translate.py --meshes MESHES --model nano --limit 20
    python benchmarks/translate.py --meshes MESHES --predicted-meshes THEIRS --protocols gso-orbit syncdreamer-views

Takes the options of gso.py, but for --output. `pooled PSNR` is what torchmetrics' default makes of the same pictures:
one mean squared error over all of them. The all-white picture stands beside each, since a protocol that makes objects
smaller raises both.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from vfusion3d.errors import UsageError, VFusion3DError
from vfusion3d.evaluation.command import build_parser, run
from vfusion3d.evaluation.floors import WHITE
from vfusion3d.evaluation.results import FIGURES, METHOD, Results

PROTOCOLS = ["gso-orbit", "gso-orbit-input", "syncdreamer-views", "novel-view-32"]


def pooled(results: Results) -> float:
    """PSNR of the mean squared error over all pictures, dB."""
    errors = [10 ** (-row["psnr"] / 10) for row in results.rows[METHOD]]
    return -10 * math.log10(sum(errors) / len(errors))


def line(results: Results) -> dict[str, Any]:
    """A protocol's figures."""
    means = {name: results.mean(name).value for name in FIGURES}
    white = results.mean("psnr", of=WHITE).value
    return {"hash": results.protocol.hash, **means, "pooled_psnr": pooled(results), "white_psnr": white}


def main() -> int:
    """Score and print; 0, or 2 if something cannot be used."""
    parser = build_parser("translate.py", __doc__, PROTOCOLS[0])
    parser.add_argument("--protocols", nargs="+", default=PROTOCOLS, help=f"(default: {' '.join(PROTOCOLS)})")
    arguments = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    try:
        if arguments.output is not None or arguments.protocol != PROTOCOLS[0]:
            raise UsageError("It takes --protocols, and neither --protocol nor --output.")
        for name in arguments.protocols:
            arguments.protocol = name
            results = run(arguments)
            rows[name] = line(results)
    except VFusion3DError as error:
        print(f"translate.py: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps({"method": results.method, "protocols": rows}))
        return 0
    print(f"{results.method}, {len(results.per_object('psnr'))} objects\n")
    columns = [*FIGURES, "pooled_psnr", "white_psnr"]
    print("| protocol | " + " | ".join(name.replace("_", " ") for name in columns) + " |")
    print("| --- " + "| ---: " * len(columns) + "|")
    for name, row in rows.items():
        digits = {column: 2 if column.endswith("psnr") else 3 for column in columns}
        cells = ["n/a" if row[key] is None else f"{row[key]:.{digits[key]}f}" for key in columns]
        print(f"| {name} | " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
