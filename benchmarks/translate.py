"""How much a protocol alone moves the figures: one method under several protocols.

    python benchmarks/translate.py --meshes MESHES --model nano --limit 20
    python benchmarks/translate.py --meshes MESHES --predicted-meshes THEIRS --protocols gso-orbit syncdreamer-views

Takes the options of gso.py, but for --output. `pooled psnr` is what torchmetrics' default makes of the same pictures:
one mean squared error over all of them. The floors stand below each, since a protocol that makes objects smaller raises
them too. The paper's object list and cameras are unpublished, so its figures are of none of these protocols.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import Any

from vfusion3d.errors import UsageError, VFusion3DError
from vfusion3d.evaluation import Protocol
from vfusion3d.evaluation.command import build_parser, run
from vfusion3d.evaluation.results import FIGURES, METHOD, Results, figure_cell, told_failures

PROTOCOLS = ["gso-orbit", "gso-orbit-input", "syncdreamer-views", "novel-view-32"]


COLUMNS = (*FIGURES, "pooled_psnr")


def pooled(results: Results, group: str, of: str) -> float | None:
    """PSNR of the mean squared error over all pictures, dB."""
    levels = [row["psnr"] for row in results.rows[of] if row["group"] == group and row["psnr"] is not None]
    errors = [10 ** (-level / 10) for level in levels]
    return -10 * math.log10(sum(errors) / len(errors)) if errors else None


def figures(results: Results) -> dict[str, Any]:
    """A protocol's figures, of the method and the floors, by group."""
    groups: dict[str, Any] = {}
    for group in results.groups:
        of_each = {of: {name: results.mean(name, group, of).value for name in FIGURES} for of in results.rows}
        groups[group] = {of: {**means, "pooled_psnr": pooled(results, group, of)} for of, means in of_each.items()}
        groups[group] |= {of: dict.fromkeys(COLUMNS) for of in results.missing}
    sources = list(results.protocol.sources)
    objects = {group: len(results.per_object("psnr", group)) for group in groups}
    facts = {"hash": results.protocol.hash, "sources": sources, "failures": results.failures}
    return {**facts, "objects": objects, "groups": groups}


def check_views(arguments: argparse.Namespace) -> None:
    """See that what was rendered elsewhere fits all protocols: pictures are of one protocol's cameras.

    Raises:
        UsageError: naming two protocols of other cameras.
    """
    if arguments.predicted_images is None and arguments.predicted_videos is None:
        return
    first, *others = (Protocol.load(name) for name in arguments.protocols)
    for other in others:
        if other.settings() != first.settings():
            raise UsageError(
                f"The protocols {first.name} and {other.name} have other cameras, so that pictures of one are none of "
                "the other's; name protocols of the same views, or give --predicted-meshes."
            )


def table(method: str, protocols: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    lines = [method, "", "| protocol | objects | of | " + " | ".join(c.replace("_", " ") for c in COLUMNS) + " |"]
    lines.append("| --- | --- | --- " + "| ---: " * len(COLUMNS) + "|")
    for name, found in protocols.items():
        for group, rows in found["groups"].items():
            for of, means in rows.items():
                title = "**method**" if of == METHOD else f"floor: {of}"
                cells = [figure_cell(means[column], column) for column in COLUMNS]
                lines.append(f"| {name} | {found['objects'][group]} {group} | {title} | {' | '.join(cells)} |")
    lines.append("")
    for name, found in protocols.items():
        lines += told_failures(found["failures"], "scored as empty pictures", name)
    lines += ["Figures compare only under one protocol hash:"]
    lines += [f"{name} {found['hash'][:12]}. {' '.join(found['sources'])}" for name, found in protocols.items()]
    return "\n".join(lines)


def main() -> int:
    """Score and print; 0, or 2 if something cannot be used."""
    parser = build_parser("translate.py", __doc__, PROTOCOLS[0])
    parser.add_argument("--protocols", nargs="+", default=PROTOCOLS, help=f"(default: {' '.join(PROTOCOLS)})")
    arguments = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    try:
        if arguments.output is not None or arguments.protocol != PROTOCOLS[0]:
            raise UsageError("It takes --protocols, and neither --protocol nor --output.")
        check_views(arguments)
        for name in arguments.protocols:
            arguments.protocol = name
            results = run(arguments)
            rows[name] = figures(results)
    except VFusion3DError as error:
        print(f"translate.py: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps({"method": results.method, "protocols": rows}))
        return 0
    print(table(results.method, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
