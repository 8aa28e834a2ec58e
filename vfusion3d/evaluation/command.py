"""What the benchmark scripts of novel views share: their options, and what they print."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from vfusion3d.errors import CheckpointError, MissingWeightsError, UsageError, VFusion3DError
from vfusion3d.evaluation.comparison import compare
from vfusion3d.evaluation.groups import read_unseen
from vfusion3d.evaluation.memory import memory_errors
from vfusion3d.evaluation.methods import (
    EntryPoint,
    FolderMethod,
    ImageFolder,
    MeshFolder,
    Method,
    Reconstructor,
    VideoFolder,
    weights_identity,
)
from vfusion3d.evaluation.protocol import Protocol, list_protocols
from vfusion3d.evaluation.published import published_rows
from vfusion3d.evaluation.results import RESULTS, Results
from vfusion3d.evaluation.scoring import Lpips, evaluate
from vfusion3d.evaluation.targets import default_cache, render_targets
from vfusion3d.meshes.files import find_meshes
from vfusion3d.models.checkpoints import held_out_names, training_names
from vfusion3d.outputs import make_folder

BOTH = "both"


def build_parser(
    program: str, description: str, protocol: str, renders: Sequence[str] = ("volume", "mesh")
) -> argparse.ArgumentParser:
    """Options of a script whose usual protocol is ``protocol``; the first of ``renders`` is the usual one."""
    parser = argparse.ArgumentParser(
        prog=program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--meshes", nargs="+", required=True, metavar="PATH", help="true meshes: files, and folders of them")
    add("--protocol", default=protocol, help=f"{', '.join(list_protocols())}, or a YAML file (default: {protocol})")
    what = parser.add_argument_group("what is scored (one of these; the shipped checkpoint by default)")
    only = what.add_mutually_exclusive_group()
    only.add_argument("--model", help="shipped name, folder, released file, or owner/name on the hub")
    only.add_argument("--predicted-meshes", metavar="DIR", help="meshes named as the objects")
    only.add_argument("--predicted-images", metavar="DIR", help="folders named as the objects, a picture per view")
    only.add_argument("--predicted-videos", metavar="DIR", help="videos named as the objects, a frame per view")
    only.add_argument("--entry", metavar="MODULE:FUNCTION", help="a function: picture -> object that renders")
    add("--predicted-scale", choices=["raw", "fit"], default="raw", help="raw: predicted meshes are in world units, in "
        "which objects fit the unit sphere; fit: each is scaled and centred to fit (raw)")  # fmt: skip
    add("--predicted-up", choices=["y", "z"], default="y", help="up axis of predicted meshes (y)")
    add("--predicted-lighting", choices=["unlit", "lambert"], default="unlit",
        help="unlit: their colours have the light in them; lambert: light them as the true ones (unlit)")  # fmt: skip
    both = "; both: one beside the other" if BOTH in renders else ""
    add("--render", choices=list(renders), default=renders[0], help="of checkpoints: the volume, or the exported mesh "
        f"with vertex colours, which is another number{both} ({renders[0]})")  # fmt: skip
    add("--exact", action="store_true", help="render checkpoints without skipping empty space")
    add("--up", choices=["y", "z"], default="y", help="up axis of the true meshes (y)")
    add("--unseen", metavar="FILE", help="names of objects the method never saw, one per line; all others then count "
        "as seen. Of the shipped checkpoint both are known, and other objects are a group of their own")  # fmt: skip
    add("--limit", type=int, metavar="N", help="only the first N objects by name, which of a list is another protocol")
    add("--output", type=Path, metavar="DIR", help=f"keeps {RESULTS} and a picture per object; a run that was cut off "
        "goes on there")  # fmt: skip
    add("--cache", type=Path, metavar="DIR", help=f"of true views ({default_cache()})")
    add("--workers", type=int, metavar="N", help="meshes rendered at a time (one per core)")
    add("--device", default="auto", help="auto, cpu, cuda, ... (auto)")
    add("--lpips-weights", metavar="FILE", help="torchvision weights of the LPIPS network (torch hub's cache)")
    add("--json", action="store_true", help="print one JSON document instead of the table")
    return parser


def method_of(arguments: argparse.Namespace, protocol: Protocol) -> Method:
    """What the options name.

    Raises:
        VFusion3DError: if it cannot be used.
    """
    from vfusion3d.pipelines import choose_device

    if arguments.predicted_meshes is not None:
        return MeshFolder(
            arguments.predicted_meshes,
            arguments.predicted_up,
            arguments.predicted_scale,
            arguments.predicted_lighting,
        )
    if arguments.predicted_images is not None:
        return ImageFolder(arguments.predicted_images, protocol.views)
    if arguments.predicted_videos is not None:
        return VideoFolder(arguments.predicted_videos, protocol.views)
    if arguments.entry is not None:
        return EntryPoint(arguments.entry)
    device = str(choose_device(arguments.device))
    return Reconstructor(arguments.model or "nano", device, not arguments.exact, arguments.render)


def _made_elsewhere(arguments: argparse.Namespace) -> bool:
    """Whether something else than a checkpoint is scored."""
    others = (arguments.predicted_meshes, arguments.predicted_images, arguments.predicted_videos, arguments.entry)
    return any(other is not None for other in others)


def known_objects(arguments: argparse.Namespace, objects: Collection[str]) -> tuple[set[str] | None, set[str] | None]:
    """Names that were never trained on, and names that were; None where that is not known.

    Raises:
        UsageError: if the list of --unseen cannot be used for the objects.
    """
    if arguments.unseen is not None:
        return read_unseen(arguments.unseen, objects), None
    if _made_elsewhere(arguments):
        return None, None
    model = arguments.model or "nano"
    try:
        unseen = set(held_out_names(model))
    except CheckpointError:
        return None, None
    return unseen, training_names(model)


def lpips_of(protocol: Protocol, weights: str | None) -> Lpips | None:
    """LPIPS with its pre-trained network; None where that is not to be had.

    Raises:
        CheckpointError: if the given weights cannot be used.
    """
    from vfusion3d.metrics.perceptual import LpipsNetwork, lpips_distance

    try:
        network = LpipsNetwork(protocol.lpips, weights)
    except MissingWeightsError:
        return None

    def distance(prediction: Tensor, target: Tensor) -> Tensor:
        return lpips_distance(prediction, target, network)

    distance.identity = f"{protocol.lpips} {weights_identity(network.network)}"  # type: ignore[attr-defined]
    return distance


def chosen_meshes(arguments: argparse.Namespace, protocol: Protocol) -> tuple[Protocol, dict[str, Path]]:
    """True meshes of the protocol's objects by name, and the protocol; with a limit, one of these objects alone.

    Raises:
        VFusion3DError: if there are none, or the protocol's are not all there.
    """
    for name in ("limit", "workers"):
        number = getattr(arguments, name)
        if number is not None and number < 1:
            raise UsageError(f"Option --{name} must be at least 1, but got {number}.")
    found = find_meshes(arguments.meshes, protocol.objects)
    names = protocol.choose(found)[: arguments.limit]
    if protocol.objects is not None and arguments.limit is not None:
        protocol = dataclasses.replace(protocol, objects=tuple(names))
    return protocol, {name: found[name] for name in names}


def prepare(arguments: argparse.Namespace) -> tuple[Protocol, dict[str, Path], Method]:
    """The protocol, the true meshes of its objects, and what is scored: all that can be wrong, before minutes of
    rendering.

    Raises:
        VFusion3DError: if something cannot be used.
    """
    protocol, meshes = chosen_meshes(arguments, Protocol.load(arguments.protocol))
    method = method_of(arguments, protocol)
    if isinstance(method, FolderMethod):
        method.check_names(meshes)
    return protocol, meshes, method


def run(arguments: argparse.Namespace) -> Results:
    """Score what the options say.

    Raises:
        VFusion3DError: if something cannot be used.
    """
    protocol, meshes, method = prepare(arguments)
    lpips, (unseen, seen) = lpips_of(protocol, arguments.lpips_weights), known_objects(arguments, meshes)
    if arguments.output is not None:
        make_folder(arguments.output)
    scenes = render_targets(protocol, meshes, arguments.cache, arguments.up, arguments.workers)
    with memory_errors(getattr(method, "device", "cpu")):
        results = evaluate(method, scenes, protocol, arguments.output, unseen, lpips, seen, meshes, arguments.up)
    if arguments.output is not None:
        results.save(arguments.output / RESULTS)
    return results


def main(program: str, description: str, protocol: str) -> int:
    """Run a script; 0, or 2 if something cannot be used."""
    arguments = build_parser(program, description, protocol, ("volume", "mesh", BOTH)).parse_args()
    try:
        found = run_each(arguments)
        comparison = compare(found["volume"], found["mesh"], ("volume", "mesh")) if len(found) == 2 else None
    except VFusion3DError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        document = {render: summary(results) for render, results in found.items()}
        compared = {} if comparison is None else {"comparison": comparison.to_dict()}
        print(json.dumps({**document, **compared} if compared else next(iter(document.values()))))
        return 0
    for render, results in found.items():
        print(f"protocol {results.protocol.name} {results.protocol.hash[:12]}: {results.protocol.description}\n")
        print(f"{results.table()}\n")
        if arguments.output is not None:
            print(f"{_output(arguments, render) / RESULTS}: every view's figures, for `vfusion3d compare`.\n")
    if comparison is not None:
        print(f"{comparison.table()}\n")
    published = published_rows(results.protocol.name)
    if published:
        print(published)
    return 0


def run_each(arguments: argparse.Namespace) -> dict[str, Results]:
    """`run` for each kind of render that is asked for: ``volume``, ``mesh``, or one after the other.

    Raises:
        VFusion3DError: if something cannot be used.
    """
    if _made_elsewhere(arguments) and arguments.render != "volume":
        raise UsageError("Option --render is of checkpoints: what was made elsewhere is scored as it is.")
    if arguments.render != BOTH:
        return {arguments.render: run(arguments)}
    each = {}
    for render in ("volume", "mesh"):
        options = {**vars(arguments), "render": render, "output": _output(arguments, render)}
        each[render] = run(argparse.Namespace(**options))
    return each


def _output(arguments: argparse.Namespace, render: str) -> Any:
    """The folder of one kind of render; one of its own where there are two."""
    apart = arguments.render == BOTH and arguments.output is not None
    return arguments.output / render if apart else arguments.output


def summary(results: Results) -> dict[str, Any]:
    """Means, without rows."""
    return {
        "protocol": results.protocol.name,
        "protocol_hash": results.protocol.hash,
        "method": results.method,
        "means": results.means(),
        "failures": results.failures,
        "missing": results.missing,
        "sources": list(results.protocol.sources),
        "environment": results.environment,
    }
