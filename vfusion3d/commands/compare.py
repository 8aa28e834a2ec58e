"""``vfusion3d compare``: results of benchmarks side by side."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from vfusion3d.outputs import make_folder, say, write_atomically

_EXAMPLES = """examples:
  python benchmarks/gso.py --meshes GSO --model nano --output runs/nano
  python benchmarks/gso.py --meshes GSO --model mine/ --output runs/mine
  vfusion3d compare runs/nano runs/mine                        # the table
  vfusion3d compare runs/nano runs/mine --output comparison    # and plots, worst and best objects
"""


def build_parser() -> ArgumentParser:
    """The parser of ``vfusion3d compare``."""
    from argparse import RawDescriptionHelpFormatter

    parser = ArgumentParser(
        prog="vfusion3d compare",
        description="Compare two results of a benchmark object by object: mean differences with 95 % intervals, so that"
        "\nwhat two methods share (easy and hard objects) drops out. Results under different protocols are refused.",
        epilog=_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("a", metavar="A", help="results.json of a benchmark, or its folder")
    add("b", metavar="B", help="the other")
    add("--names", nargs=2, metavar="NAME", help="what they are called (their folders' names)")
    add("--output", metavar="DIR", help="folder for comparison.json, scatter.png, azimuth.png and index.html")
    add("--json", action="store_true", help="print one JSON document instead of the table")
    return parser


def run(args: Any) -> int:
    """Compare; returns 0.

    Raises:
        VFusion3DError: if results cannot be read or compared, or the output cannot be written.
    """
    from vfusion3d.evaluation import Results, compare
    from vfusion3d.evaluation.comparison import draw, page

    results = Results.load(args.a), Results.load(args.b)
    names = tuple(args.names) if args.names else _names(args.a, args.b)
    comparison = compare(*results, names=(names[0], names[1]))
    if args.output is not None:
        output = make_folder(args.output)
        plots = draw(comparison, output)
        folders = [Path(path) if os.path.isdir(path) else Path(path).parent for path in (args.a, args.b)]
        write_atomically(output / "comparison.json", json.dumps(comparison.to_dict(), indent=1).encode())
        write_atomically(output / "index.html", page(comparison, folders, plots).encode())
    if args.json:
        say(json.dumps(comparison.to_dict()))
    else:
        say(comparison.table())
        if args.output is not None:
            say(f"\n{output / 'index.html'}: plots, worst and best objects.")
    return 0


def _names(a: str, b: str) -> tuple[str, str]:
    """The folders' names, or A and B where they are alike."""
    first, second = ((Path(path) if os.path.isdir(path) else Path(path).parent).resolve().name for path in (a, b))
    return (first, second) if first != second and first and second else ("A", "B")
