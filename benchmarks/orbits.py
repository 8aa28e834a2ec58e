"""How good the orbits of video models are, beside true renders and beside a video that stands still.

    vfusion3d render MESHES --output SCENES --layout orbit --resolution 512
    python benchmarks/orbits.py --scenes SCENES --models runs/video/exports --output runs/orbits
    python benchmarks/orbits.py --scenes SCENES --ceiling --controls --output runs/ceiling

SCENES is a folder of rendered orbits of objects that no model was trained on; --models takes folders of `vfusion3d
export`, or folders of such folders. Each model makes an orbit from view 0 of each scene; figures are means per frame,
then per object. In every table stand beside it, at the same size, the true renders (the ceiling: even their frames
cannot all be registered) and floors: the first frame repeated, white frames, and the true orbit of the seen object
whose first frame is most alike. --ceiling needs no model and measures the true renders alone, at their own size; with
--controls also the same frames shuffled and each bent in its own way, to which the consistency figures must say no.

Where some scenes are of objects that a model was trained on, --unseen names the others, and the two stand apart. The
authors' test orbits and cameras are unpublished: figures compare only with each other, under one protocol hash.

psnr, lpips: against the true orbit, without the given frame. first_frame_psnr: of frame 0 against the given picture.
loop_closure: 1 is a closed orbit of equal steps. deformation: 0 is one rigid object. match_score: share of neighbours
whose matches fit the cameras. sfm_registered, sfm_within: shares of the frames that COLMAP registers, and that are
within 10 degrees of the orbit; sfm_pass: share of the objects with half of their frames within. Without trained weights
of its network (--lpips) LPIPS reads n/a.

OUTPUT gets report.md, report.json, quality.png (quality against fine-tuning steps, a line per backbone) and, per model
and object, its figures and a picture of truth above sample. What is there is not measured again, so that an interrupted
benchmark continues; --json prints the report as one JSON document.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from vfusion3d.alpha import over_white, rgb_pixels
from vfusion3d.cameras import Cameras
from vfusion3d.data.packing import fit_rig, orbit_elevation
from vfusion3d.data.rendered_module import find_scenes
from vfusion3d.data.resize import area_resize
from vfusion3d.data.scenes import Scene
from vfusion3d.data.views_dataset import SceneItems
from vfusion3d.errors import CheckpointError, MissingExtraError, UsageError, VFusion3DError
from vfusion3d.evaluation.environment import environment
from vfusion3d.evaluation.floors import NEAREST, WHITE, NearestSeen
from vfusion3d.evaluation.groups import ALL, SEEN, counted, group_of, in_order, read_unseen
from vfusion3d.evaluation.memory import memory_errors
from vfusion3d.evaluation.methods import weights_identity
from vfusion3d.evaluation.protocol import hash_of
from vfusion3d.evaluation.scoring import truth_key
from vfusion3d.metrics import match_score, orbit_figures, sfm_figures
from vfusion3d.metrics.consistency import MATCH_LIMIT
from vfusion3d.metrics.sfm import ANGLE_LIMIT, PASSING_SHARE
from vfusion3d.outputs import make_folder, output_errors, write_atomically
from vfusion3d.training.losses import PerceptualLoss
from vfusion3d.video.generator import OrbitGenerator
from vfusion3d.video.trained import CONFIG, WEIGHTS, VideoModelConfig, read_video_config

TRUTH, STILL, SHUFFLED, BENT = "true renders", "first frame repeated", "shuffled", "bent"
BASIC = ("psnr", "first_frame_psnr", "loop_closure", "deformation", "lpips")
MATCH, SFM = ("match_score",), ("sfm_registered", "sfm_within", "sfm_pass")
FIGURES = (*BASIC, *MATCH, *SFM)
DIGITS = {"psnr": 2, "first_frame_psnr": 2}
BEND = 0.1  # of the control: displacement in half frames
STRIP = 128  # pixels a side of the pictures in strips
UNPUBLISHED = (
    "The authors' test orbits and cameras are unpublished, so figures compare only with each other, under one protocol "
    "hash."
)

Row = dict[str, float | None]
Maker = Callable[[Scene, Tensor], Tensor]


# -- methods ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Method:
    """Something that makes an orbit of a scene.

    Args:
        name: What tables call it.
        size: Pixels a side of its frames; the scenes' own if None.
        made: Frames ``[F, 3, H, W]`` of a scene and its true frames; loads a model when first called.
        settings: What its figures depend on besides the scene.
        config: Of a model.
    """

    name: str
    size: int | None
    made: Maker
    settings: dict[str, Any]
    config: VideoModelConfig | None = None


def shuffled(_: Scene, frames: Tensor) -> Tensor:
    """The same frames in a random order."""
    return frames[torch.randperm(len(frames), generator=torch.Generator().manual_seed(0))]


def bent(_: Scene, frames: Tensor) -> Tensor:
    """The same frames, each bent smoothly in its own way."""
    unit = torch.rand(len(frames), 2, 4, 4, generator=torch.Generator().manual_seed(0))
    shift = F.interpolate((2 * unit - 1) * BEND, frames.shape[-2:], mode="bicubic", align_corners=True)
    identity = torch.eye(2, 3).expand(len(frames), 2, 3)
    grid = F.affine_grid(identity, list(frames.shape), align_corners=False) + shift.permute(0, 2, 3, 1)
    return 1 - F.grid_sample(1 - frames, grid, align_corners=False)


def references(
    size: int | None, nearest: NearestSeen | None, scenes: Sequence[Scene], truths: dict[str, str], controls: bool
) -> list[Method]:
    """What stands beside models of a size; the nearest of at least two seen objects, or none."""
    methods = [
        Method(TRUTH, size, lambda _, frames: frames, {}),
        Method(STILL, size, lambda _, frames: frames[:1].expand_as(frames), {}),
        Method(WHITE, size, lambda _, frames: torch.ones_like(frames), {}),
    ]
    if nearest is not None:
        known = {name: truths[name] for name in nearest.seen}
        by_name = {scene.folder.name: scene for scene in scenes}

        def retrieved(scene: Scene, _: Tensor) -> Tensor:
            return true_frames(by_name[str(nearest.of(scene.folder.name))], size)

        methods.append(Method(NEAREST, size, retrieved, {"seen": known}))
    if controls:
        methods += [Method(SHUFFLED, size, shuffled, {}), Method(BENT, size, bent, {"bend": BEND})]
    return methods


def model_folders(given: Sequence[Path]) -> list[Path]:
    """Folders of models among and inside the given ones.

    Raises:
        CheckpointError: naming a folder that has none.
    """
    found: list[Path] = []
    for folder in given:
        inside = [folder] if (folder / CONFIG).is_file() else sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
        if not inside:
            raise CheckpointError(f"{folder} is no video model and holds none; give a folder of `vfusion3d export`.")
        found += inside
    return found


def model_method(folder: Path, options: argparse.Namespace) -> Method:
    """A model's orbits; the weights are read when the first is wanted."""
    config = read_video_config(folder)
    weights = (folder / WEIGHTS).stat() if (folder / WEIGHTS).is_file() else None
    settings = {
        "model": config.to_dict(),
        "weights": None if weights is None else [weights.st_size, weights.st_mtime_ns],
        "sampling_steps": options.steps,
        "seed": options.seed,
    }
    loaded: list[OrbitGenerator] = []

    def made(scene: Scene, frames: Tensor) -> Tensor:
        if not loaded:
            loaded.append(OrbitGenerator.from_pretrained(folder, options.device, steps=options.steps))
        generator = loaded[0]
        text = scene.info.caption if generator.backbone.reads_text else None
        degrees = math.degrees(orbit_elevation(scene.cameras))
        return generator(frames[0], text, options.seed, elevation=degrees).cpu()

    return Method(folder.name, config.size, made, settings, config)


# -- measuring -------------------------------------------------------------------------------------------------
def measure(frames: Tensor, truth: Tensor, cameras: Cameras, without: Sequence[str], lpips: Any) -> Row:
    """All figures of one orbit; None where there is none."""
    basic = orbit_figures(frames[None], truth[None], cameras.unsqueeze(0), lpips)
    row = {name: float(value[0]) for name, value in basic.items()}
    if "match" not in without:
        row["match_score"] = float(match_score(frames, cameras))
    if "sfm" not in without:
        row.update(sfm_figures(frames, cameras))
    return {name: row[name] if math.isfinite(row.get(name, math.nan)) else None for name in FIGURES}


def true_frames(scene: Scene, size: int | None) -> Tensor:
    """A scene's frames on white, ``[F, 3, size, size]``."""
    images = over_white(scene.images())
    return images if size is None else area_resize(images, size, size)


def strip(truth: Tensor, frames: Tensor) -> Image.Image:
    """Eight true frames above those of a method."""
    shown = range(0, len(truth), max(1, len(truth) // 8))
    rows = [torch.cat([area_resize(part[k], STRIP, STRIP) for k in shown], -1) for part in (truth, frames)]
    return Image.fromarray(rgb_pixels(torch.cat(rows, -2)))


def row_file(output: Path, method: Method, scene: Scene) -> Path:
    """Where a method's figures of a scene are."""
    kind = method.name if method.config is not None else f"{method.name} {method.size or scene.width}"
    return output / "rows" / kind.replace(" ", "-") / f"{scene.folder.name}.json"


def read_row(path: Path, settings: dict[str, Any]) -> Row | None:
    """Figures that were measured with the same settings, if any were."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return document["figures"] if document["settings"] == settings else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def finish(method: Method, scene: Scene, settings: dict[str, Any], options: argparse.Namespace, lpips: Any) -> Row:
    """Make an orbit, measure it and keep the figures and a picture."""
    path = row_file(options.output, method, scene)
    truth = true_frames(scene, method.size)
    frames = method.made(scene, truth)
    cameras = scene.cameras
    if method.config is not None:  # a generated orbit can only claim the nominal cameras
        cameras = method.config.rig.cameras(orbit_elevation(cameras))
    row = measure(frames, truth, cameras, options.without, lpips)
    make_folder(path.parent)
    with output_errors(path):
        strip(truth, frames).save(path.with_suffix(".png"))
    write_atomically(path, json.dumps({"settings": settings, "figures": row}, indent=1).encode())
    return row


# -- protocol ---------------------------------------------------------------------------------------------------
def protocol_of(
    options: argparse.Namespace, methods: Sequence[Method], scenes: Sequence[Scene], lpips: PerceptualLoss | None
) -> dict[str, Any]:
    """What decides a figure besides model and object; what does not is None, which the hash does not count.

    Raises:
        SceneError: if the scenes are no orbits of one rig.
    """
    rig = fit_rig([SceneItems(list(scenes))], "leave it out")
    rig = dataclasses.replace(rig, radius=round(rig.radius, 2), fov=round(rig.fov, 1))  # jitter is no other rig
    return {
        "rig": dataclasses.asdict(rig),
        "sizes": sorted({method.size or scene.width for method in methods for scene in scenes}),
        "sampling_steps": options.steps if options.models else None,
        "seed": options.seed if options.models else None,
        # Random features are no LPIPS.
        "lpips": f"vgg {weights_identity(lpips.distance.network)}" if lpips and lpips.is_lpips else None,
        "without": sorted(set(options.without)),
        "match_limit": None if "match" in options.without else MATCH_LIMIT,
        "sfm_angle_limit": None if "sfm" in options.without else ANGLE_LIMIT,
        "sfm_passing_share": None if "sfm" in options.without else PASSING_SHARE,
        "bend": BEND if options.controls else None,
    }


# -- report ----------------------------------------------------------------------------------------------------
def means(rows: dict[str, Row]) -> Row:
    """Means over the objects that have a figure."""
    result: Row = {}
    for name in FIGURES:
        values = [row[name] for row in rows.values() if row[name] is not None]
        result[name] = sum(values) / len(values) if values else None  # type: ignore[arg-type]
    return result


def cell(name: str, value: float | None) -> str:
    """A figure in a table."""
    return "n/a" if value is None else f"{value:.{DIGITS.get(name, 3)}f}"


def markdown(report: dict[str, Any]) -> str:
    """A table per size of frames and group of objects, and one of the objects."""
    count = len(report["objects"])
    lines = [
        f"Orbit protocol {report['protocol_hash'][:12]}, {count} objects; means per frame, then per object.",
        report["unpublished"],
    ]
    heading = "| | steps | " + " | ".join(FIGURES) + " |\n|---|---|" + "---|" * len(FIGURES)
    for size in sorted({entry["size"] for entry in report["methods"]}):
        for group, names in report["groups"].items():
            apart = "" if group == ALL else f", {counted(len(names), group)}"
            lines += ["", f"## {size} px{apart}", "", heading]
            for entry in report["methods"]:
                if entry["size"] == size:
                    steps = "" if entry["steps"] is None else str(entry["steps"])
                    cells = " | ".join(cell(name, entry["groups"][group][name]) for name in FIGURES)
                    lines.append(f"| {entry['name']} | {steps} | {cells} |")
            lines += [f"| {name} | |{' n/a |' * len(FIGURES)}" for name in report["missing"]]
    lines += ["", *(f"{name}: n/a, {reason}." for name, reason in report["missing"].items())]
    lines += ["", "## Objects", "", heading.replace("| steps |", "| object |")]
    for entry in report["methods"]:
        for name, row in entry["rows"].items():
            cells = " | ".join(cell(figure, row[figure]) for figure in FIGURES)
            lines.append(f"| {entry['name']}, {entry['size']} px | {name} | {cells} |")
    return "\n".join(lines) + "\n"


def plot(report: dict[str, Any], path: Path) -> None:
    """Draw quality against fine-tuning steps, a line per backbone and size; dashed what stands beside. Of the unseen
    objects, where they are kept apart."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    group = next(iter(report["groups"]))
    entries = [{**entry, "means": entry["groups"][group]} for entry in report["methods"]]
    models = [entry for entry in entries if entry["backbone"] is not None]
    beside = [entry for entry in entries if entry["backbone"] is None]
    shown = [name for name in FIGURES if any(entry["means"][name] is not None for entry in models)]
    figure, axes = pyplot.subplots(2, math.ceil(len(shown) / 2), figsize=(3.6 * math.ceil(len(shown) / 2), 6))
    for axis, name in zip(axes.flat, shown, strict=False):
        for kind in sorted({(entry["backbone"], entry["size"]) for entry in models}):
            line = [
                (entry["steps"] or 0, entry["means"][name])
                for entry in models
                if (entry["backbone"], entry["size"]) == kind and entry["means"][name] is not None
            ]
            if line:
                axis.plot(*zip(*sorted(line), strict=True), marker="o", label=f"{kind[0]}, {kind[1]} px")
        for entry in beside:
            value = entry["means"][name]
            if value is not None and not (name.endswith("psnr") and value > 60):  # of pictures against themselves
                axis.axhline(value, linestyle=":", color="0.4" if entry["name"] == TRUTH else "0.7")
                place = {"xy": (0.01, value), "xycoords": ("axes fraction", "data")}
                axis.annotate(f"{entry['name']}, {entry['size']} px", fontsize=6, **place)
        axis.set(title=name, xlabel="fine-tuning steps")
    for axis in list(axes.flat)[len(shown) :]:
        axis.set_visible(False)
    axes.flat[0].legend(fontsize=7)
    if group != ALL:
        figure.suptitle(f"{group} objects")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


# -- command ---------------------------------------------------------------------------------------------------
def parser() -> argparse.ArgumentParser:
    """Options of the script."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = options.add_argument
    add("--scenes", required=True, metavar="DIR", help="folder of scenes written by `vfusion3d render --layout orbit`")
    add("--output", type=Path, required=True, metavar="DIR", help="folder of figures, pictures and the report")
    add("--models", nargs="+", type=Path, default=[], metavar="DIR", help="folders of models, or of such folders")
    add("--ceiling", action="store_true", help="measure the true renders, without any model")
    add("--unseen", metavar="FILE", help="names of scenes of objects no model was trained on, one per line; all others "
        "then count as seen")  # fmt: skip
    add("--controls", action="store_true", help="also shuffled and bent frames of the true renders")
    add("--without", nargs="+", choices=["match", "sfm"], default=[], help="figures to leave out, which take longest")
    add("--lpips", metavar="WEIGHTS", help="`pretrained`, or a torchvision file of VGG-16 (default: LPIPS reads n/a)")
    add("--limit", type=int, help="only the first N scenes")
    add("--steps", type=int, default=50, help="denoising steps (default: 50)")
    add("--seed", type=int, default=0, help="of the samples (default: 0)")
    add("--device", default="cpu", help="cpu, cuda, ... (default: cpu)")
    add("--json", action="store_true", help="print one JSON document instead of Markdown")
    return options


def check_rig(method: Method, scenes: Sequence[Scene]) -> None:
    """Refuse scenes of other cameras than a model was trained on.

    Raises:
        UsageError: naming the model.
    """
    if method.config is None:
        return
    theirs, ours = fit_rig([SceneItems(list(scenes))], "leave it out"), method.config.rig
    near = math.isclose(theirs.radius, ours.radius, rel_tol=0.02) and math.isclose(theirs.fov, ours.fov, rel_tol=0.02)
    if not near or (theirs.direction, theirs.frames) != (ours.direction, ours.frames):
        raise UsageError(
            f"The model {method.name} was trained on orbits of the {ours}, but the scenes have the {theirs}; render "
            "them with the model's."
        )


def nearest_of(scenes: Sequence[Scene], groups: dict[str, str]) -> tuple[NearestSeen | None, dict[str, str]]:
    """The floor of the nearest seen object, or why there is none, under its name."""
    by_name = {scene.folder.name: scene for scene in scenes}
    seen = [name for name in by_name if groups[name] == SEEN]
    nearest = NearestSeen.among(by_name, seen)
    if len(nearest.seen) < 2:
        return None, {NEAREST: "fewer than two of the objects are known to have been trained on"}
    if len({(scene.height, scene.width) for scene in scenes}) > 1:
        return None, {NEAREST: "the scenes are of several sizes"}
    return nearest, {}


def measure_missing(
    methods: Sequence[Method],
    scenes: Sequence[Scene],
    truths: dict[str, str],
    protocol: dict[str, Any],
    options: argparse.Namespace,
    lpips: Any,
) -> list[dict[str, Any]]:
    """What each method is, and its rows by object; measured where OUTPUT has them not."""
    shared = {"without": protocol["without"], "lpips": protocol["lpips"]}
    jobs = []
    for method in methods:
        for scene in scenes:
            settings = json.loads(json.dumps({**shared, **method.settings, "scene": truths[scene.folder.name]}))
            jobs.append((method, scene, settings, read_row(row_file(options.output, method, scene), settings)))
    entries: dict[int, dict[str, Any]] = {}
    with tqdm(total=sum(row is None for *_, row in jobs), unit="orbit", file=sys.stderr) as bar:
        for method, scene, settings, known in jobs:
            row = known
            if row is None:
                bar.set_description(f"{method.name}, {scene.folder.name}")
                row = finish(method, scene, settings, options, lpips)
                bar.update()
            config = method.config
            empty = {
                "name": method.name,
                "size": method.size or scene.width,
                "backbone": None if config is None else config.backbone,
                "steps": None if config is None else config.steps,
                "rows": {},
            }
            entries.setdefault(id(method), empty)["rows"][scene.folder.name] = row
    return list(entries.values())


def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what is missing and gather everything.

    Raises:
        VFusion3DError: if something given cannot be used.
    """
    if not options.models and not options.ceiling:
        raise UsageError("Nothing to measure: give --models, or --ceiling for the true renders alone.")
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"Argument --limit must be at least 1, but got {options.limit}.")
    if options.models:
        try:
            import matplotlib  # noqa: F401 - hours before it is needed
        except ImportError as error:
            raise MissingExtraError("The plot needs matplotlib: pip install matplotlib.") from error
    lpips = PerceptualLoss("vgg", options.lpips) if options.lpips else None
    scenes = [Scene.load(folder) for folder in find_scenes(options.scenes)[: options.limit]]
    methods = [model_method(folder, options) for folder in model_folders(options.models)]
    repeated = {method.name for method in methods if sum(m.name == method.name for m in methods) > 1}
    if repeated:
        raise UsageError(f"Several models are called {sorted(repeated)[0]}; rename their folders.")
    for method in methods:
        check_rig(method, scenes)
    names = [scene.folder.name for scene in scenes]
    unseen = None if options.unseen is None else read_unseen(options.unseen, names)
    groups = {name: group_of(name, unseen, None) for name in names}
    nearest, missing = nearest_of(scenes, groups)
    truths = {scene.folder.name: truth_key(scene) for scene in scenes}
    sizes: list[int | None] = sorted({method.size for method in methods if method.size is not None})
    for size in [*sizes, None] if options.ceiling else sizes:
        methods += references(size, nearest, scenes, truths, options.controls)
    protocol = protocol_of(options, methods, scenes, lpips)
    make_folder(options.output)
    with memory_errors(options.device):
        entries = measure_missing(methods, scenes, truths, protocol, options, lpips)
    there = {group: [name for name in names if groups[name] == group] for group in in_order(groups.values())}
    for entry in entries:
        rows = entry["rows"]
        entry["means"] = means(rows)
        entry["groups"] = {group: means({name: rows[name] for name in names}) for group, names in there.items()}
    return {
        "protocol": protocol,
        "protocol_hash": hash_of(protocol),
        "unpublished": UNPUBLISHED,
        "environment": environment(options.device, "diffusers", "transformers", "scikit-image", "pycolmap"),
        "objects": list(groups),
        "groups": there,
        "missing": missing,
        "methods": entries,
    }


def main() -> int:
    """Measure, draw and print; 0, or 2 if something cannot be used."""
    options = parser().parse_args()
    try:
        report = benchmark(options)
        text = markdown(report)
        written = ["report.md", "report.json"]
        write_atomically(options.output / "report.json", json.dumps(report, indent=1).encode())
        write_atomically(options.output / "report.md", text.encode())
        if options.models:
            with output_errors(options.output):
                plot(report, options.output / "quality.png")
            written.append("quality.png")
    except VFusion3DError as error:
        print(f"orbits.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=1) if options.json else text.rstrip("\n"))
    print(f"Written to {options.output}: {', '.join(written)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
