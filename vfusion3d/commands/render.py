"""``vfusion3d render``: mesh files -> scene folders with pictures and cameras."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from vfusion3d.errors import MeshError, UsageError
from vfusion3d.outputs import make_folder, say, write_atomically

if TYPE_CHECKING:
    from vfusion3d.meshes.views import RenderJob

_SHEET_SCENES = 100
_SHEET_CELL = 128


def build_parser() -> ArgumentParser:
    """The parser of ``vfusion3d render``."""
    parser = ArgumentParser(
        prog="vfusion3d render",
        description="Render meshes (GLB, glTF, OBJ, PLY), normalised to the unit sphere, into scene folders: RGBA "
        "pictures and transforms.json (nerfstudio's convention). A scene that exists is skipped, so an interrupted "
        "run continues; a mesh that cannot be rendered is reported and does not stop the others.",
    )
    add = parser.add_argument
    add("meshes", nargs="+", metavar="MESH_OR_FOLDER", help="mesh files, and folders searched for them")
    add("--output", required=True, metavar="DIR", help="where DIR/<mesh name>/ and DIR/contact_sheet.png are written")
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
    add("--unlit", action="store_true", help="base colours without any light")
    add("--workers", type=int, metavar="N", help="worker processes; by default one per processor core")
    add("--timeout", type=float, default=300.0, metavar="SECONDS", help="time limit per mesh")
    add("--overwrite", action="store_true", help="render scenes anew that exist")
    add("--json", action="store_true", help="print one JSON document with the results on standard output")
    return parser


def run(args: Any) -> int:
    """Run the command and return its exit code: 0, or 2 if no scene could be made.

    Raises:
        VFusion3DError: if options, paths or the machine do not allow to start.
    """
    from tqdm import tqdm

    from vfusion3d.data.scenes import remove_partial
    from vfusion3d.meshes.views import RenderJob, ViewSettings, render_scene_in_worker
    from vfusion3d.meshes.vtk_renderer import select_window
    from vfusion3d.meshes.workers import WorkerPool

    started = time.monotonic()
    settings = ViewSettings(
        args.layout, args.views, args.resolution, args.elevation, args.fov, args.offset_noise, args.seed
    )
    workers = args.workers if args.workers is not None else os.cpu_count() or 1
    pool = WorkerPool(render_scene_in_worker, workers, args.timeout)
    output = Path(args.output)
    jobs = [
        RenderJob(mesh, output / name, settings, args.up, "unlit" if args.unlit else "lambert", args.overwrite)
        for name, mesh in find_meshes(args.meshes).items()
    ]
    todo = [job for job in jobs if args.overwrite or not _is_done(job)]
    make_folder(output)
    select_window()

    failed: dict[Path, str] = {}
    progress = tqdm(total=len(todo), desc="render", unit="mesh", file=sys.stderr)
    try:
        with progress, closing(pool.map_unordered(todo)) as outcomes:
            for outcome in outcomes:
                progress.update()
                if outcome.error is not None:
                    failed[outcome.item.mesh] = outcome.error
    finally:  # a worker may have been killed while it wrote
        remove_partial(output, {job.folder.name for job in todo})
    scenes = [job.folder for job in jobs if job.mesh not in failed]
    _write_contact_sheet(scenes[:_SHEET_SCENES], output / "contact_sheet.png")
    for sentence in failed.values():
        print(sentence, file=sys.stderr)

    seconds = round(time.monotonic() - started, 2)
    if args.json:
        document = {
            "output": str(output),
            "scenes": [str(folder) for folder in scenes],
            "rendered": len(todo) - len(failed),
            "skipped": len(jobs) - len(todo),
            "failed": [{"mesh": str(mesh), "error": sentence} for mesh, sentence in failed.items()],
            "layout": args.layout,
            "views": args.views,
            "resolution": args.resolution,
            "seconds": seconds,
        }
        say(json.dumps(document))
    else:
        say(
            f"{output}: {len(todo) - len(failed)} scenes rendered, {len(jobs) - len(todo)} there already, "
            f"{len(failed)} failed, in {seconds:.0f} s."
        )
    return 0 if scenes else 2


def find_meshes(paths: list[str]) -> dict[str, Path]:
    """Mesh files by the name of their scene folder: the file's stem, lengthened where two would share it.

    Args:
        paths: Mesh files, and folders that are searched for them.

    Raises:
        MeshError: if a path does not exist or a folder contains no mesh.
        UsageError: if two files cannot be told apart.
    """
    from vfusion3d.meshes.readers import MESH_SUFFIXES

    found: list[Path] = []
    for text in paths:
        path = Path(text)
        if os.path.isdir(path):  # unlike pathlib's, False where reading is not permitted
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in MESH_SUFFIXES and os.path.isfile(p))
            if not inside:
                raise MeshError(f"The folder {path} contains no meshes ({', '.join(MESH_SUFFIXES)}); name another.")
            found += inside
        elif os.path.isfile(path):
            found.append(path)
        else:
            raise MeshError(f"The mesh {path} does not exist or may not be read; check the path.")
    found = list(dict.fromkeys(found))
    stems = Counter(path.stem for path in found)
    meshes: dict[str, Path] = {}
    for path in found:
        name = path.stem if stems[path.stem] == 1 else f"{path.parent.name}_{path.stem}_{path.suffix[1:].lower()}"
        if name in meshes:
            raise UsageError(f"The meshes {meshes[name]} and {path} would share the scene {name}; rename one of them.")
        meshes[name] = path
    return meshes


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
    try:
        scene = Scene.load(job.folder)
        same = (
            (scene.height, scene.width, scene.info.lighting, scene.info.up) == (size, size, job.lighting, job.up)
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
