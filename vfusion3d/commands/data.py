"""``vfusion3d data``: convert foreign folders of views to scenes, find their faults, draw them, pack them."""

from __future__ import annotations

import io
import json
import os
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from vfusion3d.errors import OutputError, SceneError, UsageError
from vfusion3d.outputs import make_folder, say, write_atomically

if TYPE_CHECKING:
    from PIL import Image

    from vfusion3d.data.doctor import Finding
    from vfusion3d.data.layouts import Layout, Views

_LAYOUTS = [
    *("auto", "nerfstudio", "openlrm", "instantmesh", "lgm", "objaverse", "photos"),
    *("zero123plus-1.2", "zero123plus-1.1"),
]
_SHEET_VIEWS = 100
_COLUMNS = 8
_SHEET_ITEMS = 8


def build_parser() -> ArgumentParser:
    """The parser of ``vfusion3d data``."""
    parser = ArgumentParser(
        prog="vfusion3d data",
        description="Convert, check and look at the views that training reads. `vfusion3d data ACTION --help` explains "
        "an action.",
    )
    actions = parser.add_subcommands(dest="action", metavar="ACTION")
    for name, action, text in (
        ("convert", _convert_parser(), "folders of other projects to scene folders"),
        ("doctor", _doctor_parser(), "find mistakes in cameras and pictures"),
        ("inspect", _inspect_parser(), "draw the camera rig and all pictures"),
        ("pack", _pack_parser(), "scene folders, or procedural objects, to a shard set"),
    ):
        actions.add_subcommand(name, action, help=text)
        action.prog = f"{parser.prog} {name}"  # adding it sets both otherwise
        action.exit_on_error = False
    return parser


def _convert_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Convert views rendered for OpenLRM, InstantMesh, LGM, Zero-1-to-3 (Objaverse) and Zero123++, "
        "nerfstudio data sets and calibrated photographs into scene folders: RGBA pictures and transforms.json. A "
        "scene that exists is skipped, so an interrupted run continues; an object that cannot be converted is reported "
        "and does not stop the others. Depth and normal pictures are not carried over. Example: vfusion3d data convert "
        "renders/ --output scenes/",
    )
    add = parser.add_argument
    add("source", metavar="FOLDER", help="one object's folder, or one that is searched for such")
    add("--output", required=True, metavar="DIR", help="where DIR/<object>/ is written")
    _add_layout(parser)
    add("--inverted", action="store_true", help="the poses are the inverse of what the layout says (w2c for c2w)")
    add("--flipped", action="store_true", help="the camera axes are the other ones (OpenCV for OpenGL)")
    add("--up", choices=["y", "z"], default="z", help="the world's up axis: z (front +x) or y (front +z)")
    add("--centre", type=float, nargs=3, default=[0.0, 0.0, 0.0], metavar=("X", "Y", "Z"), help="the object's centre")
    add("--scale", type=float, default=1.0, help="factor on all lengths after that; the unit sphere is the target")
    add("--overwrite", action="store_true", help="write scenes anew that exist")
    add("--json", action="store_true", help="print one JSON document with the results on standard output")
    return parser


def _doctor_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Examine scene folders, or folders in any layout that `convert` reads: poses that are "
        "world-to-camera for camera-to-world, OpenCV's axes for OpenGL's, a wrong scale or centre, backgrounds that "
        "are not transparent, depth with three channels, views that are missing or of another size, silhouettes that "
        "contradict the cameras. The exit code is 0 if all is well and 2 if not. Example: vfusion3d data doctor "
        "scenes/",
    )
    add = parser.add_argument
    add("folders", nargs="+", metavar="FOLDER", help="objects' folders, or folders that are searched for such")
    _add_layout(parser)
    add("--json", action="store_true", help="print one JSON document with the findings on standard output")
    return parser


def _inspect_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Draw the cameras of an object around the unit sphere, and a contact sheet of its pictures over a "
        "checkerboard that shows what is transparent. Works with broken scenes too. Of a shard set, draw some items, "
        "one a row, and say what its columns hold. Examples: vfusion3d data inspect scenes/chair --output chair.png; "
        "vfusion3d data inspect shards/ --query 'elevation > 0.3' --output chosen.png",
    )
    add = parser.add_argument
    add(
        "folder",
        metavar="FOLDER",
        help="one object's folder, a scene or any layout that `convert` reads; or a shard set",
    )
    add("--query", metavar="TEXT", help="of a shard set, only rows such as 'elevation > 0.3 and prompt is not null'")
    add("--output", required=True, metavar="FILE.png", help="the drawing")
    add("--cell", type=int, default=128, metavar="PIXELS", help="side of a picture on the contact sheet")
    _add_layout(parser)
    return parser


def _pack_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Make a shard set: tar files in WebDataset's naming and one Parquet table that says where in them "
        "each picture is, for sets too large for folders or read over HTTP and S3. PNG files become lossless WebP, "
        "which is smaller and decodes faster; others are kept as they are. An interrupted run continues, and what is "
        "there already is skipped; the same scenes give the same bytes. "
        "Examples: vfusion3d data pack scenes/ --output shards/; what a run of `vfusion3d generate` has finished, with "
        "its labels: vfusion3d data pack runs/engine --output shards/; without any file, what a video model makes: "
        "vfusion3d data pack --procedural 64 --orbit --output shards/",
    )
    add = parser.add_argument
    add("scenes", nargs="*", metavar="SCENES", help="scene folders, or folders of such; or a run's folder")
    add("--output", required=True, metavar="DIR", help="the shard set's folder")
    add("--where", metavar="TEXT", help="of a run, only items such as 'quality > 0 and mask_edge_frames == 0'")
    add("--procedural", type=int, metavar="N", help="instead of SCENES, draw N procedural objects on orbits")
    add(
        "--orbit",
        action="store_true",
        help="keep only elevation and rig, as of generated videos, instead of each picture's camera",
    )
    add("--shard-size", type=float, default=512.0, metavar="MIB", help="a shard is full at this size")
    add("--views", type=int, default=16, metavar="N", help="with --procedural: frames per orbit")
    add("--resolution", type=int, default=128, metavar="PIXELS", help="with --procedural: side of the pictures")
    add("--seed", type=int, default=0, metavar="N", help="with --procedural: the first object's seed")
    add("--json", action="store_true", help="print one JSON document with the results on standard output")
    return parser


def _add_layout(parser: ArgumentParser) -> None:
    parser.add_argument("--layout", choices=_LAYOUTS, default="auto", help="by default by what lies in a folder")
    parser.add_argument(
        "--fov",
        type=float,
        metavar="DEG",
        help="field of view in degrees for layouts that do not store it; by default 50 for instantmesh, 49.1 for lgm "
        "and objaverse",
    )


def run(args: Any) -> int:
    """Run an action and return its exit code.

    Raises:
        VFusion3DError: if options or paths do not allow to start.
    """
    actions = {"convert": _convert, "doctor": _doctor, "inspect": _inspect, "pack": _pack}
    return actions[args.action](args[args.action])


def _layout(args: Any) -> Layout | None:
    return None if args.layout == "auto" else args.layout


# -- convert -----------------------------------------------------------------------------------------------------
def _convert(args: Any) -> int:
    """0, or 2 if no scene could be made."""
    from tqdm import tqdm

    from vfusion3d.data.layouts import Reading, find_objects, read_views
    from vfusion3d.data.scenes import remove_partial

    if not args.scale > 0 or not all(abs(number) < float("inf") for number in [args.scale, *args.centre]):
        raise UsageError(f"Argument `scale` must be a positive number, but got {args.scale} (centre {args.centre}).")
    reading = Reading(args.inverted, args.flipped, args.up)
    objects = _named(find_objects(_existing(args.source), _layout(args)), Path(args.source))
    output = make_folder(args.output)
    written, skipped = [], []
    failed: dict[str, str] = {}
    try:
        for name, folder in tqdm(objects.items(), desc="convert", unit="scene", file=sys.stderr):
            try:
                views = read_views(folder, _layout(args), args.fov, reading).moved(args.centre, args.scale)
                if not args.overwrite and _is_done(output / name, views):
                    skipped.append(output / name)
                    continue
                _write(output / name, views, args.overwrite)
                written.append(output / name)
            except SceneError as error:
                failed[str(folder)] = str(error)
    finally:
        remove_partial(output, set(objects))
    for sentence in failed.values():
        print(sentence, file=sys.stderr)
    if args.json:
        document = {
            "output": str(output),
            "scenes": [str(path) for path in sorted(written + skipped)],
            "converted": len(written),
            "skipped": len(skipped),
            "failed": [{"folder": folder, "error": sentence} for folder, sentence in failed.items()],
        }
        say(json.dumps(document))
    else:
        say(
            f"{output}: {len(written)} scenes converted, {len(skipped)} there already, {len(failed)} failed; check "
            f"them with `vfusion3d data doctor {output}`."
        )
    return 0 if written or skipped else 2


def _existing(folder: str) -> Path:
    if not os.path.isdir(folder):
        raise SceneError(f"The folder {folder} does not exist or may not be read; check the path.")
    return Path(folder)


def _named(folders: list[Path], root: Path) -> dict[str, Path]:
    """Folders by the name of their scene: their own, lengthened by those above where two would share it."""
    count = Counter(folder.resolve().name for folder in folders)
    names: dict[str, Path] = {}
    for folder in folders:
        name = folder.resolve().name
        if count[name] > 1:
            name = "_".join(folder.relative_to(root).parts)
        if name in names:
            raise UsageError(f"The folders {names[name]} and {folder} would share the scene {name}; rename one.")
        names[name] = folder
    return names


def _is_done(folder: Path, views: Views) -> bool:
    """Whether the scene exists.

    Raises:
        UsageError: if something else is there.
    """
    import torch

    from vfusion3d.data.scenes import Scene

    if not os.path.exists(folder):
        return False
    try:
        there, asked = Scene.load(folder).cameras.vectors, views.cameras.vectors.float()
        same = there.shape == asked.shape and torch.allclose(there, asked, atol=1e-4)
    except SceneError:
        same = False
    if not same:
        raise UsageError(
            f"The folder {folder} exists but does not hold the scene asked for; choose another --output, the options "
            "it was converted with, or --overwrite."
        )
    return True


def _write(folder: Path, views: Views, overwrite: bool) -> None:
    """Write a scene.

    Raises:
        SceneError: if a camera or picture cannot be used, or the pictures differ in size.
    """
    from dataclasses import replace

    import numpy as np
    import torch

    from vfusion3d.data.scenes import write_scene

    pictures: list[np.ndarray] = []
    for index, stated in enumerate(views.sizes):
        pixels = views.pixels(index)
        size = (pixels.shape[1], pixels.shape[0])
        if stated not in (None, size) or (pictures and pictures[0].shape != pixels.shape):
            raise SceneError(
                f"The picture {views.images[index]} is {size[0]} x {size[1]} pixels, unlike its camera or the pictures "
                "before it; a scene needs one size, resize them."
            )
        pictures.append(pixels)
    try:
        views.cameras.validate()
    except ValueError as error:
        raise SceneError(f"The cameras of {views.folder} cannot be used: {error}") from error
    info = replace(views.info, layout=views.info.layout or views.layout)
    write_scene(folder, np.stack(pictures), views.cameras.to(torch.float32), info, overwrite)


# -- doctor ------------------------------------------------------------------------------------------------------
def _doctor(args: Any) -> int:
    """0 if all is well, 2 if not."""
    from tqdm import tqdm

    from vfusion3d.data.doctor import examine
    from vfusion3d.data.layouts import find_objects

    folders = [folder for root in args.folders for folder in find_objects(_existing(root), _layout(args))]
    results: dict[Path, list[Finding]] = {}
    for folder in tqdm(dict.fromkeys(folders), desc="examine", unit="scene", file=sys.stderr):
        results[folder] = examine(folder, _layout(args), args.fov)
    ill = {folder: findings for folder, findings in results.items() if findings}
    if args.json:
        scenes = [
            {"folder": str(folder), "findings": [{"name": f.name, "message": f.message} for f in findings]}
            for folder, findings in results.items()
        ]
        say(json.dumps({"healthy": not ill, "scenes": scenes}))
    else:
        for folder, findings in ill.items():
            say("\n".join(f"{folder}: {finding.name}: {finding.message}" for finding in findings))
        counts = Counter(finding.name for findings in ill.values() for finding in findings)
        what = f" ({', '.join(f'{name} {count}' for name, count in counts.most_common())})" if ill else ""
        say(f"{len(results) - len(ill)} of {len(results)} healthy{what}.")
    return 2 if ill else 0


# -- inspect -----------------------------------------------------------------------------------------------------
def _inspect(args: Any) -> int:
    from vfusion3d.data.doctor import examine
    from vfusion3d.data.layouts import detect_layout, read_views
    from vfusion3d.data.shards import is_shard_set

    if not 16 <= args.cell <= 1024:
        raise UsageError(f"Argument `cell` must be from 16 to 1024 pixels, but got {args.cell}.")
    if not args.output.lower().endswith(".png"):
        raise UsageError(f"Argument `output` must name a .png file, but got {args.output}.")
    output = Path(args.output)
    if os.path.isdir(output):
        raise OutputError(f"Output '{output}' is a folder; name a file.")
    if is_shard_set(args.folder):
        return _inspect_set(args.folder, args.query, args.cell, output)
    if args.query is not None:
        raise UsageError(f"Argument `query` needs a shard set, but {args.folder} is none; pack scenes to have one.")
    folder = _existing(args.folder)
    if _layout(args) is None and detect_layout(folder) is None:
        raise SceneError(f"The folder {folder} is no single object; name one object's folder.")
    views = read_views(folder, _layout(args), args.fov)
    findings = examine(folder, _layout(args), args.fov)
    lines = [_summary(views), *(f"{finding.name}: {finding.message}" for finding in findings)]
    _save(_drawing(views, lines, args.cell), output)
    say("\n".join([*lines, f"Drawn to {output}."]))
    return 0


def _save(drawing: Image.Image, output: Path) -> None:
    make_folder(output.parent)
    data = io.BytesIO()
    drawing.save(data, format="PNG")
    write_atomically(output, data.getvalue())


def _summary(views: Views) -> str:
    """What the cameras are, in one line."""
    from vfusion3d.cameras import fov_from_focal

    def between(numbers: Any) -> str:
        low, high = float(numbers.min()), float(numbers.max())
        return f"{low:.4g}" if high - low < 1e-3 * max(abs(high), 1) else f"{low:.4g} to {high:.4g}"

    cameras = views.cameras
    degrees = sorted(fov_from_focal(float(focal)) for focal in cameras.intrinsics[..., 0])
    fov = f"{degrees[0]:.4g}" if degrees[-1] - degrees[0] < 0.1 else f"{degrees[0]:.4g} to {degrees[-1]:.4g}"
    return (
        f"{views.folder}: {len(views)} views ({views.layout}), distance {between(cameras.centers.norm(dim=-1))}, "
        f"elevation {between(cameras.elevations.rad2deg())} degrees, field of view {fov} degrees."
    )


def _drawing(views: Views, lines: list[str], cell: int) -> Image.Image:
    """Text, the rig and the contact sheet, one below the other."""
    import textwrap

    import numpy as np
    from PIL import Image, ImageDraw

    from vfusion3d.data.rig_plot import FRONT, INK, draw_rig, font
    from vfusion3d.rendering.turntable import contact_sheet

    shown = np.unique(np.linspace(0, len(views) - 1, min(len(views), _SHEET_VIEWS)).round().astype(int)).tolist()
    sheet = contact_sheet([np.asarray(_cell(views, index, cell)) for index in shown], min(len(shown), _COLUMNS))
    rig = draw_rig(views.cameras)
    width = max(rig.width, sheet.width) + 24
    wrapped = [(part, FRONT if k else INK) for k, line in enumerate(lines) for part in textwrap.wrap(line, width // 7)]
    top = 12 + 18 * len(wrapped)
    image = Image.new("RGB", (width, top + rig.height + sheet.height + 24), "white")
    pen = ImageDraw.Draw(image)
    for row, (text, colour) in enumerate(wrapped):
        pen.text((12, 8 + 18 * row), text, fill=colour, font=font(13))
    image.paste(rig, ((width - rig.width) // 2, top))
    image.paste(sheet, ((width - sheet.width) // 2, top + rig.height + 12))
    return image


def _cell(views: Views, index: int, size: int) -> Image.Image:
    """A picture over a checkerboard with its number, or what is wrong with it."""
    from PIL import Image, ImageDraw

    from vfusion3d.data.rig_plot import FRONT, INK, font
    from vfusion3d.rendering.turntable import on_checkerboard

    what = None
    try:
        picture = Image.fromarray(views.pixels(index))
    except SceneError:
        picture = Image.new("RGBA", (size, size))
        what = "unreadable" if views.images[index].is_file() else "missing"
    cell = on_checkerboard(picture, size)
    pen = ImageDraw.Draw(cell)
    if what:
        pen.line((0, 0, size, size), FRONT, 2)
        pen.line((0, size, size, 0), FRONT, 2)
        pen.text((size / 2, size - 10), what, fill=FRONT, font=font(12), anchor="mm")
    pen.text((4, 2), str(index), fill=FRONT if index == 0 else INK, font=font(12), stroke_width=2, stroke_fill="white")
    return cell.convert("RGB")


def _inspect_set(location: str, query: str | None, cell: int, output: Path) -> int:
    """Some items of a shard set, one a row, and what its columns hold."""
    import numpy as np

    from vfusion3d.data.shards import ShardSet
    from vfusion3d.rendering.turntable import contact_sheet, on_checkerboard

    chosen = ShardSet(location, query, cameras=False)
    shown = np.unique(np.linspace(0, len(chosen) - 1, _SHEET_ITEMS).round().astype(int)).tolist()
    columns = min(_COLUMNS, int(chosen.counts[shown].min()))
    cells = []
    for item in shown:
        frames = np.linspace(0, chosen.counts[item] - 1, columns).round().astype(int).tolist()
        cells += [
            np.asarray(on_checkerboard(picture, cell).convert("RGB")) for picture in chosen.pictures(item, frames)
        ]
    _save(contact_sheet(cells, columns), output)
    rig = chosen.rig
    how = (
        "each picture with its own camera"
        if rig is None
        else f"orbits of {rig.frames} frames without cameras: distance {rig.radius:.4g}, field of view {rig.fov:.4g} "
        f"degrees, {'counter-clockwise' if rig.direction > 0 else 'clockwise'} seen from above"
    )
    lines = [f"{location}: {len(chosen)} items in {len(chosen.places.shards)} shards; {how}."]
    table = chosen.attributes()
    lines += [f"  {name}: {_column(table[name].to_pylist())}" for name in table.column_names]
    say("\n".join([*lines, f"Items {', '.join(chosen.key(item) for item in shown)} drawn to {output}."]))
    return 0


def _column(values: list[Any]) -> str:
    """What a column holds, in words."""
    there = [value for value in values if value is not None]
    missing = f", {len(values) - len(there)} without" if len(there) < len(values) else ""
    if not there:
        return "no values"
    if isinstance(there[0], (int, float)) and not isinstance(there[0], bool):
        ordered = sorted(there)
        return f"{ordered[0]:.6g} to {ordered[-1]:.6g}, median {ordered[len(ordered) // 2]:.6g}{missing}"
    common = Counter(there).most_common(3)
    texts = ", ".join(f"{str(value)[:40]!r} ({count})" for value, count in common)
    return f"{len(set(there))} different, {texts}{missing}"


# -- pack --------------------------------------------------------------------------------------------------------
def _pack(args: Any) -> int:
    """0, or 2 if nothing could be packed."""
    from tqdm import tqdm

    from vfusion3d.data.packing import fit_rig, procedural_items, procedural_key, procedural_rig, scene_items
    from vfusion3d.data.scenes import Scene
    from vfusion3d.data.shard_writer import ShardWriter
    from vfusion3d.data.views_dataset import SceneItems

    if bool(args.scenes) == (args.procedural is not None):
        raise UsageError("Name scene folders or --procedural N, one of both.")
    for name, value in (("procedural", args.procedural), ("views", args.views), ("resolution", args.resolution)):
        if value is not None and value < 1:
            raise UsageError(f"Argument `{name}` must be at least 1, but got {value}.")
    if len(args.scenes) == 1 and (Path(args.scenes[0]) / "stages").is_dir():
        return _pack_run(args)
    if args.where is not None:
        raise UsageError("Argument `where` chooses items of a run; name a run's folder.")
    failed: dict[str, str] = {}

    def fail(folder: Path, error: SceneError) -> None:
        failed[str(folder)] = str(error)

    if args.procedural is None:
        folders = _scenes(args.scenes)
        rig = None
        if args.orbit:
            scenes = SceneItems([Scene.load(folder) for folder in folders])
            rig = fit_rig([scenes], "pack it without --orbit, which keeps its cameras")
        writer = ShardWriter(args.output, rig, args.shard_size)
        there = sum(folder.name in writer.keys for folder in folders)
        items, total = scene_items(folders, rig, frozenset(writer.keys), fail), len(folders)
    else:
        orbit = procedural_rig(args.views)
        writer = ShardWriter(args.output, orbit if args.orbit else None, args.shard_size)
        items = procedural_items(
            args.procedural, args.resolution, orbit, not args.orbit, args.seed, frozenset(writer.keys)
        )
        total = args.procedural
        there = sum(procedural_key(args.seed + k) in writer.keys for k in range(total))
    before = len(writer.keys)
    writer.write(tqdm(items, desc="pack", unit="item", total=total - there, file=sys.stderr))
    packed = len(writer.keys) - before
    for sentence in failed.values():
        print(sentence, file=sys.stderr)
    if args.json:
        document = {
            "output": str(writer.folder),
            "items": len(writer.keys),
            "packed": packed,
            "skipped": there,
            "shards": sorted(path.name for path in writer.folder.glob("*.tar")),
            "failed": [{"folder": folder, "error": sentence} for folder, sentence in failed.items()],
        }
        say(json.dumps(document))
    else:
        say(
            f"{writer.folder}: {packed} items packed, {there} there already, {len(failed)} failed; look at them with "
            f"`vfusion3d data inspect {writer.folder} --output sheet.png`."
        )
    return 0 if packed or there else 2


def _pack_run(args: Any) -> int:
    """What is finished of a run of the data engine."""
    from vfusion3d.commands.generate import CONFIG, read_steps
    from vfusion3d.engine import Plan, Store, pack

    folder = Path(args.scenes[0])
    if not (folder / CONFIG).is_file():
        raise UsageError(f"The run {folder} has no {CONFIG}, so its stages are not known; name a folder of `generate`.")
    store = Store.open(folder)
    plan = Plan(read_steps(str(folder / CONFIG))[0], store.unit_items(0).column_names)
    done = pack(plan, store, args.output, args.where, args.shard_size)
    if args.json:
        say(json.dumps({"output": str(args.output), **asdict(done)}))
    else:
        say(
            f"{args.output}: {done.added} items packed, {done.items - done.added} there already, {len(done.labels)} "
            f"tables of labels; look at them with `vfusion3d data inspect {args.output} --output sheet.png`."
        )
    return 0 if done.items else 2


def _scenes(roots: list[str]) -> list[Path]:
    """Scene folders, themselves or in the folders named, by name.

    Raises:
        UsageError: if two share their name, which becomes their key.
    """
    from vfusion3d.data.rendered_module import find_scenes
    from vfusion3d.data.scenes import TRANSFORMS

    found: dict[str, Path] = {}
    for root in roots:
        folder = _existing(root)
        for scene in [folder] if (folder / TRANSFORMS).is_file() else find_scenes(folder):
            name = scene.resolve().name
            if found.setdefault(name, scene).resolve() != scene.resolve():
                raise UsageError(f"The folders {found[name]} and {scene} would share the key {name}; rename one.")
    return [found[name].resolve() for name in sorted(found)]
