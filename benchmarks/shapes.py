"""Surfaces against true meshes: Chamfer distance, F-score and normal consistency, under each alignment.

    python benchmarks/shapes.py --meshes GSO --model nano
    python benchmarks/shapes.py --meshes GSO --predicted-meshes THEIRS --alignments none scale similarity

Takes the options of gso.py for what is scored (--model or --predicted-meshes; the protocol says what the input is).
True meshes are centred and scaled into the unit sphere. Distances are in those units; the F-score counts points within
--threshold. `none` compares as predicted; `scale` takes out the size, `similarity` size, place and turn: three
different numbers, so all three are given. An object without a surface is a failure: F-score and consistency 0, and the
distance of 2, the sphere's diameter. --output keeps shapes.json.
"""

from __future__ import annotations

import json
import sys
from typing import Any, get_args

from tqdm import tqdm

from vfusion3d.errors import UsageError, VFusion3DError
from vfusion3d.evaluation.command import build_parser, chosen_meshes, method_of
from vfusion3d.evaluation.methods import MeshFolder, Reconstructor
from vfusion3d.evaluation.protocol import Protocol
from vfusion3d.evaluation.results import plain_interval, told_interval
from vfusion3d.evaluation.scoring import item_of
from vfusion3d.evaluation.targets import render_targets
from vfusion3d.meshes import normalise, read_mesh
from vfusion3d.metrics.geometry import THRESHOLD, Alignment, surface_figures
from vfusion3d.metrics.intervals import bootstrap_interval
from vfusion3d.outputs import make_folder, write_atomically

FAILED = {"chamfer": 2.0, "f_score": 0.0, "normal_consistency": 0.0, "scale": None}
FIGURES = ("chamfer", "f_score", "normal_consistency")


def measure(arguments: Any) -> dict[str, Any]:
    """Rows and means.

    Raises:
        VFusion3DError: if something given cannot be used.
    """
    if arguments.threshold <= 0:
        raise UsageError(f"Option --threshold must be positive, but got {arguments.threshold:g}.")
    protocol, meshes = Protocol.load(arguments.protocol), chosen_meshes(arguments)
    method = method_of(arguments, protocol)
    if not isinstance(method, (Reconstructor, MeshFolder)):
        raise UsageError("Only checkpoints and meshes have surfaces: give --model or --predicted-meshes.")
    scenes = render_targets(protocol, meshes, arguments.cache, arguments.up, arguments.workers)
    rows: list[dict[str, Any]] = []
    for name, scene in tqdm(scenes.items(), desc="shapes", unit="object", file=sys.stderr):
        truth = normalise(read_mesh(meshes[name], arguments.up))[0]
        try:
            predicted, failed = method.surface(item_of(name, scene, protocol)), None
        except VFusion3DError as error:
            predicted, failed = None, str(error)
        for alignment in arguments.alignments:
            found: dict[str, Any] = dict(FAILED)
            if predicted is not None:
                found |= surface_figures(predicted, truth, alignment, arguments.threshold)
            rows.append({"object": name, "alignment": alignment, "failed": failed, **found})
    means = {
        alignment: {
            figure: plain_interval(bootstrap_interval([row[figure] for row in rows if row["alignment"] == alignment]))
            for figure in FIGURES
        }
        for alignment in arguments.alignments
    }
    return {
        "method": method.description,
        "protocol_hash": protocol.hash,
        "threshold": arguments.threshold,
        "objects": len(scenes),
        "means": means,
        "failures": {row["object"]: row["failed"] for row in rows if row["failed"]},
        "rows": rows,
    }


def main() -> int:
    """Measure and print; 0, or 2 if something cannot be used."""
    parser = build_parser("shapes.py", __doc__, "gso-orbit")
    parser.add_argument("--alignments", nargs="+", choices=get_args(Alignment), default=list(get_args(Alignment)))
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help=f"of the F-score, world units ({THRESHOLD})")
    arguments = parser.parse_args()
    try:
        document = measure(arguments)
        if arguments.output is not None:
            text = json.dumps(document, indent=1, allow_nan=False)
            write_atomically(make_folder(arguments.output) / "shapes.json", text.encode())
    except VFusion3DError as error:
        print(f"shapes.py: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps(document))
        return 0
    print(f"{document['method']}, {document['objects']} objects, F-score within {arguments.threshold:g}\n")
    print("| alignment | Chamfer distance | F-score | normal consistency |\n| --- | ---: | ---: | ---: |")
    for alignment, figures in document["means"].items():
        cells = [told_interval(figure, 3) for figure in figures.values()]
        print(f"| {alignment} | " + " | ".join(cells) + " |")
    if document["failures"]:
        first = next(iter(document["failures"].items()))
        print(f"\n{len(document['failures'])} objects have no surface, the first {first[0]}: {first[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
