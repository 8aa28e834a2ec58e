"""What the benchmark scripts of novel views share: their options, and what they print."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from vfusion3d.data.held_out import excluded_names
from vfusion3d.errors import CheckpointError, MissingWeightsError, UsageError, VFusion3DError
from vfusion3d.evaluation.methods import EntryPoint, ImageFolder, MeshFolder, Method, Reconstructor, VideoFolder
from vfusion3d.evaluation.protocol import Protocol, list_protocols
from vfusion3d.evaluation.published import published_rows
from vfusion3d.evaluation.results import RESULTS, Results
from vfusion3d.evaluation.scoring import Lpips, evaluate
from vfusion3d.evaluation.targets import default_cache, render_targets
from vfusion3d.meshes.files import find_meshes
from vfusion3d.models.checkpoints import held_out_names, training_names
from vfusion3d.outputs import make_folder


def build_parser(program: str, description: str, protocol: str) -> argparse.ArgumentParser:
    """Options of a script whose usual protocol is ``protocol``."""
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
    add("--render", choices=["volume", "mesh"], default="volume", help="of checkpoints: the volume, or the exported "
        "mesh with vertex colours, which is another number (volume)")  # fmt: skip
    add("--exact", action="store_true", help="render checkpoints without skipping empty space")
    add("--up", choices=["y", "z"], default="y", help="up axis of the true meshes (y)")
    add("--unseen", metavar="FILE", help="names of objects the method never saw, one per line; all others then count "
        "as seen. Of the shipped checkpoint both are known, and other objects are a group of their own")  # fmt: skip
    add("--limit", type=int, metavar="N", help="only the first N objects by name")
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


def known_objects(arguments: argparse.Namespace) -> tuple[set[str] | None, set[str] | None]:
    """Names that were never trained on, and names that were; None where that is not known.

    Raises:
        UsageError: if the list of --unseen cannot be read.
    """
    if arguments.unseen is not None:
        return excluded_names(arguments.unseen), None
    others = (arguments.predicted_meshes, arguments.predicted_images, arguments.predicted_videos, arguments.entry)
    if any(other is not None for other in others):
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

    content = b"" if weights is None else Path(weights).read_bytes()
    distance.identity = f"{protocol.lpips} {hashlib.sha256(content).hexdigest()}"  # type: ignore[attr-defined]
    return distance


def chosen_meshes(arguments: argparse.Namespace) -> dict[str, Path]:
    """True meshes by object.

    Raises:
        VFusion3DError: if there are none.
    """
    if arguments.limit is not None and arguments.limit < 1:
        raise UsageError(f"Option --limit must be at least 1, but got {arguments.limit}.")
    return dict(sorted(find_meshes(arguments.meshes).items())[: arguments.limit])


def run(arguments: argparse.Namespace) -> Results:
    """Score what the options say.

    Raises:
        VFusion3DError: if something cannot be used.
    """
    protocol, meshes = Protocol.load(arguments.protocol), chosen_meshes(arguments)
    method = method_of(arguments, protocol)  # before minutes of rendering
    lpips, (unseen, seen) = lpips_of(protocol, arguments.lpips_weights), known_objects(arguments)
    if arguments.output is not None:
        make_folder(arguments.output)
    scenes = render_targets(protocol, meshes, arguments.cache, arguments.up, arguments.workers)
    results = evaluate(method, scenes, protocol, arguments.output, unseen, lpips, seen)
    if arguments.output is not None:
        results.save(arguments.output / RESULTS)
    return results


def main(program: str, description: str, protocol: str) -> int:
    """Run a script; 0, or 2 if something cannot be used."""
    arguments = build_parser(program, description, protocol).parse_args()
    try:
        results = run(arguments)
    except VFusion3DError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps(summary(results)))
        return 0
    print(f"protocol {results.protocol.name} {results.protocol.hash[:12]}: {results.protocol.description}\n")
    print(results.table())
    published = published_rows(results.protocol.name)
    if published:
        print(f"\n{published}")
    if arguments.output is not None:
        print(f"\n{arguments.output / RESULTS}: every view's figures; compare with `vfusion3d compare`.")
    return 0


def summary(results: Results) -> dict[str, Any]:
    """Means, without rows."""
    return {
        "protocol": results.protocol.name,
        "protocol_hash": results.protocol.hash,
        "method": results.method,
        "means": results.means(),
        "failures": results.failures,
        "environment": results.environment,
    }
