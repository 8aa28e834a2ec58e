"""``vfusion3d render``: mesh files -> scene folders with pictures and cameras."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from vfusion3d.errors import MissingExtraError, OutputError, UsageError
from vfusion3d.outputs import make_folder, say, write_atomically

if TYPE_CHECKING:
    from vfusion3d.meshes.failures import FailureTable
    from vfusion3d.meshes.ray_pool import RayPool
    from vfusion3d.meshes.views import RenderJob
    from vfusion3d.meshes.workers import WorkerPool

_SHEET_SCENES = 100
_SHEET_CELL = 128
_NOTES_SHOWN = 20


def build_parser() -> ArgumentParser:
    """The parser of ``vfusion3d render``."""
    parser = ArgumentParser(
        prog="vfusion3d render",
        description="Render meshes (GLB, glTF, OBJ, PLY), normalised to the unit sphere, into scene folders: RGBA "
        "pictures and transforms.json (nerfstudio's convention). A scene that exists is skipped, so an interrupted "
        "run continues; a mesh that cannot be rendered is reported, kept in DIR/failures.csv and does not stop the "
        "others. Example: vfusion3d render meshes/ --output scenes --views 16 --depth --normals",
    )
    add = parser.add_argument
    add("meshes", nargs="+", metavar="MESH_OR_FOLDER", help="mesh files, and folders searched for them")
    add(
        "--output",
        required=True,
        metavar="DIR",
        help="where DIR/<mesh name>/, DIR/contact_sheet.png and DIR/failures.csv are written",
    )
    add(
        "--layout",
        choices=["orbit", "random", "benchmark"],
        default="orbit",
        help="orbit: a circle at one elevation per mesh; random: all around; benchmark: a circle at 20 degrees",
    )
    add("--views", type=int, default=16, help="pictures per mesh")
    add("--resolution", type=int, default=256, help="height and width of a picture in pixels")
    add(
        "--elevation",
        type=float,
        metavar="DEG",
        help="elevation of all cameras in degrees; by default the layout's own: orbit draws it from [0, 45] per mesh",
    )
    add(
        "--fov",
        type=float,
        metavar="DEG",
        help="field of view in degrees; by default 40, and drawn from [30, 60] per mesh by the layout random",
    )
    add("--seed", type=int, default=0, help="seed of all draws")
    add(
        "--offset-noise",
        type=float,
        default=0.0,
        metavar="LENGTH",
        help="largest random shift of each camera per "
        "axis, in units of the normalised mesh's radius (the paper uses 0.05)",
    )
    add(
        "--up",
        choices=["y", "z"],
        default="y",
        help="up axis of the files: y (front +z; what glTF prescribes) or z (front +x)",
    )
    add(
        "--lighting",
        choices=["lambert", "unlit", "random", "hdri"],
        help="lambert: three white lights (the default); unlit: base colours as they are; random: one to four "
        "lights drawn per mesh; hdri: by the picture of --hdri. All lights stand still in the world",
    )
    add("--unlit", action="store_true", help="short for --lighting unlit")
    add("--hdri", metavar="FILE.hdr", help="equirectangular Radiance picture whose light falls on the meshes")
    add("--depth", action="store_true", help="write depth too (16-bit PNG, step in transforms.json)")
    add("--normals", action="store_true", help="write normals too (RGB PNG, world frame)")
    add(
        "--captions",
        metavar="FILE",
        help="what the meshes show: CSV (name,caption, as Cap3D's) or JSON ({name: caption}); name is the file's stem",
    )
    add(
        "--backend",
        choices=["vtk", "blender"],
        default="vtk",
        help="vtk: fast, on any machine; blender: Cycles, whose surfaces shade and reflect each other",
    )
    add(
        "--blender",
        metavar="EXECUTABLE",
        help="`blender`, or a Python that has bpy; by default $VFUSION3D_BLENDER, or `blender` on the path",
    )
    add("--samples", type=int, default=64, help="Cycles' samples per pixel")
    add(
        "--executor",
        choices=["local", "ray"],
        default="local",
        help="local: processes on this machine; ray: tasks on a Ray cluster whose nodes see the same files",
    )
    add("--workers", type=int, metavar="N", help="meshes at a time; by default one per processor core")
    add("--timeout", type=float, default=300.0, metavar="SECONDS", help="time limit per mesh")
    add("--overwrite", action="store_true", help="render scenes anew that exist")
    add("--skip-failed", action="store_true", help="do not try meshes again that DIR/failures.csv names")
    add("--json", action="store_true", help="print one JSON document with the results on standard output")
    return parser


def run(args: Any) -> int:
    """Run the command and return its exit code: 0, or 2 if no scene could be made.

    Raises:
        VFusion3DError: if options, paths or the machine do not allow to start.
    """
    from vfusion3d.data.scenes import TRANSFORMS
    from vfusion3d.meshes.failures import FailureTable

    started = time.monotonic()
    pool = _pool(args)
    output = Path(args.output)
    jobs = _jobs(args)
    table = FailureTable(output)
    todo = [job for job in jobs if args.overwrite or not _is_done(job)]
    for name in _names(jobs) - _names(todo):
        table.rows.pop(name, None)
    if args.skip_failed:
        todo = [job for job in todo if job.folder.name not in table.rows]
    make_folder(output)
    _check_machine(args)

    notes = _render(pool, todo, table)
    table.save()
    failed = [job.folder.name for job in jobs if job.folder.name in table.rows]
    scenes = [job.folder for job in jobs if job.folder.name not in table.rows]
    done = len(_names(todo) - set(failed))
    _write_contact_sheet(scenes[:_SHEET_SCENES], output / "contact_sheet.png")
    _tell(notes[:_NOTES_SHOWN])
    if len(notes) > _NOTES_SHOWN:
        _tell([f"... and {len(notes) - _NOTES_SHOWN} more notes; each scene's {TRANSFORMS} has its own."])
    _tell(table.lines(failed))
    if failed:
        _tell([f"{len(failed)} of {len(jobs)} meshes were not rendered; see {table.path}."])

    seconds = round(time.monotonic() - started, 2)
    present = len(scenes) - done
    if args.json:
        document = {
            "output": str(output),
            "scenes": [str(folder) for folder in scenes],
            "rendered": done,
            "skipped": present,
            "failed": [{"mesh": table.rows[name].mesh, "error": table.rows[name].reason} for name in failed],
            "notes": notes,
            "layout": args.layout,
            "views": args.views,
            "resolution": args.resolution,
            "seconds": seconds,
        }
        say(json.dumps(document))
    else:
        say(f"{output}: {done} scenes rendered, {present} there already, {len(failed)} failed, in {seconds:.0f} s.")
    return 0 if scenes else 2


def _render(pool: WorkerPool | RayPool, todo: list[RenderJob], table: FailureTable) -> list[str]:
    """Render what is to do; failures go into the table, and the notes about the others are returned.

    Raises:
        OutputError: if the disk says no, which concerns all meshes; those done by then are kept.
        MissingExtraError: if the machine cannot draw.
    """
    from tqdm import tqdm

    from vfusion3d.data.scenes import remove_partial
    from vfusion3d.meshes.failures import Failure

    notes: list[str] = []
    progress = tqdm(total=len(todo), desc="render", unit="mesh", file=sys.stderr)
    try:
        with progress, closing(pool.map_unordered(todo)) as outcomes:
            for outcome in outcomes:
                name = outcome.item.folder.name
                if isinstance(outcome.exception, (OutputError, MissingExtraError)):
                    reason = str(outcome.exception).rstrip(".")
                    left = len(todo) - progress.n
                    raise type(outcome.exception)(
                        f"{reason}; then run the same command again for the {left} meshes left."
                    )
                if outcome.error is not None:
                    table.rows[name] = Failure(name, str(outcome.item.mesh), outcome.error)
                else:
                    table.rows.pop(name, None)
                    notes += outcome.value
                progress.update()
    except BaseException:
        with contextlib.suppress(OutputError):  # what stopped the run says more
            table.save()
        raise
    finally:  # a worker may have been killed while it wrote
        for parent in {job.folder.parent for job in todo}:
            remove_partial(parent, _names(todo))
    return notes


def _tell(lines: list[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def _pool(args: Any) -> WorkerPool | RayPool:
    from vfusion3d.meshes.ray_pool import RayPool
    from vfusion3d.meshes.views import render_scene_in_worker
    from vfusion3d.meshes.workers import WorkerPool

    if args.executor == "ray":
        return RayPool(render_scene_in_worker, args.workers, args.timeout)
    workers = args.workers if args.workers is not None else os.cpu_count() or 1
    return WorkerPool(render_scene_in_worker, workers, args.timeout)


def _jobs(args: Any) -> list[RenderJob]:
    """What the options ask for, one job per mesh."""
    from vfusion3d.meshes.blender import BlenderSettings, find_blender
    from vfusion3d.meshes.captions import read_captions
    from vfusion3d.meshes.files import find_meshes
    from vfusion3d.meshes.lighting import read_environment
    from vfusion3d.meshes.views import RenderJob, ViewSettings

    settings = ViewSettings(
        args.layout, args.views, args.resolution, args.elevation, args.fov, args.offset_noise, args.seed
    )
    lighting: Any = args.lighting or ("unlit" if args.unlit else "hdri" if args.hdri else "lambert")
    if args.unlit and lighting != "unlit":
        raise UsageError(f"--unlit and --lighting {lighting} contradict each other; leave one out.")
    if (lighting == "hdri") != (args.hdri is not None):
        raise UsageError("--lighting hdri needs a picture, --hdri FILE.hdr, and no other lighting takes one.")
    if args.hdri is not None:
        read_environment(Path(args.hdri))
    if args.blender is not None and args.backend != "blender":
        raise UsageError("--blender is of use with --backend blender only; add that or leave it out.")
    blender = BlenderSettings(find_blender(args.blender), args.samples) if args.backend == "blender" else None
    captions = {} if args.captions is None else read_captions(args.captions)
    here = Path.cwd() if args.executor == "ray" else Path()  # other nodes' working folders are others
    jobs = [
        RenderJob(
            here / mesh,
            here / args.output / name,
            settings,
            args.up,
            lighting,
            args.overwrite,
            None if args.hdri is None else here / args.hdri,
            args.depth,
            args.normals,
            captions.get(name, captions.get(mesh.stem)),
            blender,
        )
        for name, mesh in find_meshes(args.meshes).items()
    ]
    if captions and not any(job.caption for job in jobs):
        raise UsageError(f"The captions {args.captions} name none of the meshes; its names must be the files' stems.")
    return jobs


def _check_machine(args: Any) -> None:
    """Find out before the first mesh whether this machine can draw."""
    from vfusion3d.meshes.vtk_renderer import select_window

    if args.backend == "vtk" or args.depth or args.normals:
        select_window()


def _names(jobs: list[RenderJob]) -> set[str]:
    return {job.folder.name for job in jobs}


def _is_done(job: RenderJob) -> bool:
    """Whether the job's scene exists.

    Raises:
        UsageError: if it exists but was rendered otherwise, or is broken.
    """
    import torch

    from vfusion3d.data.scenes import Scene
    from vfusion3d.errors import SceneError

    if not os.path.exists(job.folder):
        return False
    cameras = job.settings.cameras(job.folder.name)
    size = job.settings.resolution
    renderer = "vtk" if job.blender is None else "blender"
    try:
        scene = Scene.load(job.folder)
        info = scene.info
        same = (
            (scene.height, scene.width, info.lighting, info.up) == (size, size, job.lighting_label, job.up)
            and info.renderer in (None, renderer)
            and bool(scene.depth_files) >= job.depth
            and bool(scene.normal_files) >= job.normals
            and len(scene) == len(cameras)
            and torch.allclose(scene.cameras.vectors, cameras.vectors, atol=1e-5)
        )
    except SceneError:
        same = False
    if not same:
        raise UsageError(
            f"The folder {job.folder} exists but does not hold the scene asked for; choose another --output, the "
            "options it was rendered with, or --overwrite."
        )
    return True


def _write_contact_sheet(scenes: list[Path], path: Path) -> None:
    """The first picture of each scene on white, ten in a row."""
    from PIL import Image

    from vfusion3d.data.scenes import Scene

    if not scenes:
        return
    columns = min(len(scenes), 10)
    rows = -(-len(scenes) // columns)
    sheet = Image.new("RGBA", (columns * _SHEET_CELL, rows * _SHEET_CELL), "white")
    for index, folder in enumerate(scenes):
        picture = Image.fromarray(Scene.load(folder).pixels(0)).resize((_SHEET_CELL, _SHEET_CELL), Image.Resampling.BOX)
        row, column = divmod(index, columns)
        sheet.alpha_composite(picture, (column * _SHEET_CELL, row * _SHEET_CELL))
    data = io.BytesIO()
    sheet.convert("RGB").save(data, format="PNG")
    write_atomically(path, data.getvalue())
