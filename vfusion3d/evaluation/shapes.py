"""Surfaces against true meshes: figures of a method and of floors under each alignment, kept object by object."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import trimesh
from tqdm import tqdm

from vfusion3d.data.scenes import Scene
from vfusion3d.errors import UsageError, VFusion3DError
from vfusion3d.evaluation.command import build_parser, known_objects, prepare
from vfusion3d.evaluation.environment import environment
from vfusion3d.evaluation.floors import NEAREST, NearestSeen, turn_between
from vfusion3d.evaluation.groups import SEEN, counted, group_of, in_order
from vfusion3d.evaluation.kept import claim, kept_or
from vfusion3d.evaluation.memory import memory_errors
from vfusion3d.evaluation.methods import EvaluationItem, MeshFolder, Reconstructor
from vfusion3d.evaluation.protocol import Protocol, hash_of
from vfusion3d.evaluation.results import METHOD, plain_interval, told_failures, told_interval
from vfusion3d.evaluation.scoring import item_of, truth_key
from vfusion3d.evaluation.targets import mesh_digest, render_targets
from vfusion3d.meshes import normalise, read_mesh
from vfusion3d.meshes.readers import UpAxis
from vfusion3d.metrics.geometry import SAMPLES, THRESHOLD, Alignment, Surface, surface_figures
from vfusion3d.metrics.intervals import bootstrap_interval
from vfusion3d.outputs import make_folder, write_atomically

MEASURING = 1
"""Version of how surfaces are measured; part of the hash."""
BALL_RADIUS = 0.5
"""World units, of objects in the unit sphere."""
BALL = f"ball of radius {BALL_RADIUS:g}"
FIGURES = ("chamfer", "f_score", "normal_consistency")
FAILED = {"chamfer": 2.0, "f_score": 0.0, "normal_consistency": 0.0, "scale": None}
"""Of an object without a surface; the distance is the unit sphere's diameter."""
UNPUBLISHED = (
    "The paper's object list and cameras are unpublished, and how surfaces are measured is ours: figures compare with "
    "each other under one protocol hash."
)
_RESULT = "shapes.json"


def measure(
    method: Reconstructor | MeshFolder,
    scenes: Mapping[str, Scene],
    meshes: Mapping[str, Path],
    protocol: Protocol,
    up: UpAxis = "y",
    alignments: Sequence[Alignment] = get_args(Alignment),
    threshold: float = THRESHOLD,
    output: Path | None = None,
    unseen: Collection[str] | None = None,
    seen: Collection[str] | None = None,
) -> dict[str, Any]:
    """Measure a method's surfaces, and those of the floors.

    Args:
        method: What is measured; an object on which it raises a `VFusion3DError`, or whose surface cannot be measured,
            counts as `FAILED`.
        scenes: True views by object (`render_targets`), of which the method gets the first.
        meshes: True meshes by object.
        protocol: Of the views.
        up: Up axis of the true meshes.
        alignments: As of `vfusion3d.metrics.geometry.align`.
        threshold: Of the F-score, world units.
        output: Folder in which each finished object is kept, so that a run that was cut off goes on; None: nowhere.
            What failed, was cut short, or is of another true mesh is measured anew.
        unseen, seen: As of `vfusion3d.evaluation.scoring.evaluate`.

    Returns:
        What ``shapes.json`` holds: ``rows`` and ``means`` of the method (``method``) and of the floors under their
        names, means by group, alignment and figure; ``missing`` floors with the reasons; the protocol, which here is
        that of the views with the threshold and the number of samples, and its hash.

    Raises:
        VFusion3DError: if a true mesh cannot be used, or ``output`` has objects of something else.
    """
    alignments = [alignment for alignment in get_args(Alignment) if alignment in alignments]
    told = {"views": protocol.to_dict(), "threshold": threshold, "samples": SAMPLES, "measuring": MEASURING}
    told_hash = hash_of({**told, "views": protocol.hash})
    folder = None if output is None else make_folder(output / "shapes")
    if folder is not None:
        facts = {"protocol": told_hash, "method": method.description, "content": method.identity}
        claim(folder, {**facts, "alignments": alignments})
        for part in ("objects", "nearest"):
            make_folder(folder / part)
    groups = {name: group_of(name, unseen, seen) for name in scenes}
    seen_ones = [name for name in scenes if groups[name] == SEEN]
    nearest = NearestSeen.among(scenes, seen_ones)
    missing = nearest.missing
    truths = {name: surface_key(scene, meshes[name]) for name, scene in scenes.items()}
    rows: dict[str, list[dict[str, Any]]] = {METHOD: [], BALL: [], **({} if missing else {NEAREST: []})}
    for name, scene in tqdm(scenes.items(), desc="shapes", unit="object", file=sys.stderr):
        own = partial(_own, method, item_of(name, scene, protocol), meshes[name], up, alignments, threshold)
        done = kept_or(folder and folder / "objects" / f"{name}.json", truths[name], ("figures",), own)
        figures = dict(done["figures"])
        if not missing:  # kept apart, since which of the others were seen is no part of the method's figures
            other = nearest.of(name)
            if other is None:
                figures[NEAREST] = {alignment: dict.fromkeys(FAILED) for alignment in alignments}
            else:
                turn = turn_between(scene.cameras[0], scenes[other].cameras[0])
                beside = partial(_beside, meshes[other], turn.numpy(), meshes[name], up, alignments, threshold)
                truth = f"{truths[name]} {truths[other]}"
                path = folder and folder / "nearest" / f"{name}.json"
                figures[NEAREST] = kept_or(path, truth, ("figures",), beside)["figures"]
        for of, part in figures.items():
            head = {"object": name, "group": groups[name], "failed": done["failed"] if of == METHOD else None}
            rows[of] += [{**head, "alignment": alignment, **part[alignment]} for alignment in alignments]
    there, sizes = in_order(groups.values()), Counter(groups.values())
    return {
        "method": method.description,
        "protocol": told,
        "protocol_hash": told_hash,
        "unpublished": UNPUBLISHED,
        "objects": {group: sizes[group] for group in there},
        "means": {
            of: {group: _means([row for row in part if row["group"] == group], alignments) for group in there}
            for of, part in rows.items()
        },
        "missing": missing,
        "failures": {row["object"]: row["failed"] for row in rows[METHOD] if row["failed"]},
        "environment": environment(getattr(method, "device", None), "scipy", "trimesh"),
        "rows": rows,
    }


def surface_key(scene: Scene, mesh: Path) -> str:
    """What an object's input view and true surface are, from their files' content; inner walls are on no picture."""
    return hashlib.sha256(f"{truth_key(scene)} {mesh_digest(mesh)}".encode()).hexdigest()[:16]


def _own(
    method: Reconstructor | MeshFolder,
    item: EvaluationItem,
    mesh: Path,
    up: UpAxis,
    alignments: Sequence[Alignment],
    threshold: float,
) -> dict[str, Any]:
    """Figures of the method and of the ball, and why the method failed."""
    truth = normalise(read_mesh(mesh, up))[0]
    ball = trimesh.creation.icosphere(4, BALL_RADIUS)
    floor = {alignment: surface_figures(ball, truth, alignment, threshold) for alignment in alignments}
    try:
        surface, failed = method.surface(item), None
        found: dict[Alignment, Any] = {a: surface_figures(surface, truth, a, threshold) for a in alignments}
    except VFusion3DError as error:
        failed, found = str(error), dict.fromkeys(alignments, FAILED)
    return {"failed": failed, "figures": {METHOD: found, BALL: floor}}


def _beside(
    other: Path, turn: np.ndarray, mesh: Path, up: UpAxis, alignments: Sequence[Alignment], threshold: float
) -> dict[str, Any]:
    """Figures of another object's true mesh, turned back as its input's camera is turned to the object's."""
    found, truth = (normalise(read_mesh(path, up))[0] for path in (other, mesh))
    theirs = Surface(found.vertices @ turn, found.faces)
    return {"failed": None, "figures": {a: surface_figures(theirs, truth, a, threshold) for a in alignments}}


def _means(rows: Sequence[Mapping[str, Any]], alignments: Sequence[Alignment]) -> dict[str, dict[str, Any]]:
    """Means with intervals over the objects that have a figure, by alignment and figure."""
    return {
        alignment: {
            figure: plain_interval(
                bootstrap_interval(
                    [row[figure] for row in rows if row["alignment"] == alignment and row[figure] is not None]
                )
            )
            for figure in FIGURES
        }
        for alignment in alignments
    }


def table(document: Mapping[str, Any]) -> str:
    """Markdown of `measure`'s document: lines for the method and each floor, groups apart."""
    told = document["protocol"]
    name, number = told["views"]["name"], document["protocol_hash"][:12]
    lines = [f"surfaces under {name} {number}, F-score within {told['threshold']:g}", ""]
    for group, count in document["objects"].items():
        lines.append(f"| {counted(count, group)} | alignment | Chamfer distance | F-score | normal consistency |")
        lines.append("| --- | --- | ---: | ---: | ---: |")
        for of in document["means"]:
            title = f"**{document['method']}**" if of == METHOD else f"floor: {of}"
            for alignment, figures in document["means"][of][group].items():
                cells = [told_interval(figure, 3) for figure in figures.values()]
                lines.append(f"| {title} | {alignment} | {' | '.join(cells)} |")
        lines += [f"| floor: {name} | | n/a | n/a | n/a |" for name in document["missing"]]
        lines.append("")
    lines += told_failures(document["failures"], f"scored as {FAILED['chamfer']:g}, 0 and 0")
    lines += [f"Floor {name}: n/a, {reason}." for name, reason in document["missing"].items()]
    return "\n".join([*lines, document["unpublished"]])


def run(arguments: Any) -> dict[str, Any]:
    """Measure what the options say.

    Raises:
        VFusion3DError: if something given cannot be used.
    """
    if not 0 < arguments.threshold < math.inf:
        raise UsageError(f"Option --threshold must be positive, but got {arguments.threshold:g}.")
    flat = (arguments.predicted_images, arguments.predicted_videos, arguments.entry)
    if any(option is not None for option in flat):
        raise UsageError("Only checkpoints and meshes have surfaces: give --model or --predicted-meshes.")
    protocol, meshes, method = prepare(arguments)
    assert isinstance(method, (Reconstructor, MeshFolder))
    unseen, seen = known_objects(arguments, meshes)
    if arguments.output is not None:
        make_folder(arguments.output)
    scenes = render_targets(protocol, meshes, arguments.cache, arguments.up, arguments.workers)
    given = (arguments.up, arguments.alignments, arguments.threshold, arguments.output, unseen, seen)
    with memory_errors(getattr(method, "device", "cpu")):
        document = measure(method, scenes, meshes, protocol, *given)
    if arguments.output is not None:
        write_atomically(arguments.output / _RESULT, json.dumps(document, indent=1, allow_nan=False).encode())
    return document


def main(program: str, description: str, protocol: str) -> int:
    """Run the script; 0, or 2 if something cannot be used."""
    parser = build_parser(program, description, protocol, renders=("mesh",))
    parser.add_argument("--alignments", nargs="+", choices=get_args(Alignment), default=list(get_args(Alignment)))
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help=f"of the F-score, world units ({THRESHOLD})")
    arguments = parser.parse_args()
    try:
        document = run(arguments)
    except VFusion3DError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps({key: value for key, value in document.items() if key != "rows"}))
        return 0
    print(table(document))
    return 0
