"""``vfusion3d reconstruct``: pictures in, a folder with a 3D asset each out."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from vfusion3d.commands.per_picture import each_picture, progress_bar, timed, versions
from vfusion3d.errors import UsageError
from vfusion3d.meshes import MESH_FORMATS

if TYPE_CHECKING:
    from PIL import Image

    from vfusion3d.pipelines import ImageTo3DPipeline

FORMATS = (*MESH_FORMATS, "mp4", "maps")
DEFAULT_FORMATS = ["glb", "mp4"]
AUTO = "auto"

_EXAMPLES = """examples:
  vfusion3d reconstruct owl.png --output out
  vfusion3d reconstruct *.jpg --output out --formats glb obj --elevation 20
  vfusion3d reconstruct owl.png --output out --formats stl --millimetres 60
  vfusion3d reconstruct owl.png --output out --elevation auto --elevation-model elevation/
  vfusion3d reconstruct owl.png --output out --faces 5000 --texture-size 512 --path swing
  vfusion3d reconstruct owl.png --output out --model ./my_model --json > report.json
  vfusion3d reconstruct *.jpg --output out --background rembg --background-weights isnet-general-use.onnx
"""


def build_parser() -> ArgumentParser:
    """The parser of ``vfusion3d reconstruct``."""
    from argparse import RawDescriptionHelpFormatter

    parser = ArgumentParser(
        prog="vfusion3d reconstruct",
        description="Turn pictures of one object each into 3D assets: OUTPUT/<picture name>/ gets mesh.glb, "
        "turntable.mp4, views.png,\ninput.png (what the model saw) and report.json. A picture that cannot be used is "
        "reported and does not stop the others.",
        epilog=_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="picture files; transparency is used where there is some")
    add("--output", required=True, metavar="DIR", help="where the folders are written")
    add("--model", default="nano", metavar="NAME_OR_PATH", help="shipped name, folder or owner/name on the hub (nano)")
    add(
        "--formats",
        nargs="+",
        default=DEFAULT_FORMATS,
        metavar="FORMAT",
        help=f"of {', '.join(FORMATS)}; maps: a scene folder with the turntable's pictures, alpha, depth, normals "
        f"and cameras ({' '.join(DEFAULT_FORMATS)})",
    )
    add(
        "--elevation",
        type=elevation,
        metavar="DEG",
        help="degrees above the horizon from which the pictures were taken (0), or auto: see --elevation-model",
    )
    add(
        "--elevation-model",
        metavar="DIR",
        help="what --elevation auto asks: a folder that `vfusion3d train-elevation` wrote; it knows 0 to 45 degrees",
    )
    add("--border", type=float, metavar="SHARE", help="free share of the frame on each side of the object (0.1)")
    add(
        "--fov",
        type=float,
        metavar="DEG",
        help="field of view along the longer side of the pictures in degrees, if known (a nominal distance is assumed)",
    )
    add(
        "--background",
        default="auto",
        metavar="HOW",
        help="how the object is cut out: alpha (the picture's own), heuristic (offline, for plain backgrounds), rembg "
        "or birefnet (networks; see --background-weights); auto is alpha if there is some, else heuristic (auto)",
    )
    add(
        "--background-weights",
        metavar="FILE",
        help="ONNX file of the network: isnet-general-use.onnx for rembg, birefnet-general.onnx for birefnet",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (auto)")
    add("--resolution", type=int, metavar="N", help="lattice points a side for the mesh (128)")
    add(
        "--threshold",
        type=float,
        metavar="DENSITY",
        help="density at which the mesh's surface is drawn (that of the model, or else fitted to the object's renders)",
    )
    add("--faces", type=int, metavar="N", help="triangles of the mesh at most (20000; with --texture-size 0 all)")
    add(
        "--texture-size",
        type=int,
        metavar="TEXELS",
        help="side of the texture baked for GLB and OBJ; 0 colours the vertices instead (1024)",
    )
    add("--millimetres", type=float, metavar="MM", help="longest side of the object in an STL file (100)")
    add("--frames", type=int, metavar="N", help="frames of the turntable (24)")
    add("--path", choices=["circle", "swing"], default="circle", help="how the turntable's camera moves (circle)")
    add("--turn-elevation", type=float, metavar="DEG", help="degrees above the horizon of the turntable (15)")
    add("--render-size", type=int, metavar="PIXELS", help="side of the rendered views (the model's own)")
    add("--overwrite", action="store_true", help="replace earlier results of the same name")
    add("--json", action="store_true", help="print one JSON document with all reports on standard output")
    return parser


def elevation(text: str) -> float | str:
    """Degrees, or ``auto``.

    Raises:
        ValueError: if it is neither.
    """
    return text if text == AUTO else float(text)


def run(args: Any) -> int:
    """Run the command.

    Returns:
        0, or 2 if a picture failed (the others are there).

    Raises:
        VFusion3DError: if an option is wrong, the model cannot be loaded or nothing can be written.
    """
    check_options(args)
    from vfusion3d.pipelines import ImageTo3DPipeline
    from vfusion3d.preprocessing import ElevationEstimator, check_strategy

    check_strategy(args.background, args.background_weights)
    started = time.perf_counter()
    pipeline = ImageTo3DPipeline.from_pretrained(args.model, args.device)
    estimator = None
    if args.elevation == AUTO:
        estimator = ElevationEstimator(args.elevation_model, device=pipeline.model.device)
    return each_picture(
        args,
        time.perf_counter() - started,
        lambda picture, folder: reconstruct_one(pipeline, picture, folder, args, estimator),
    )


def check_options(args: Any) -> None:
    """Refuse what cannot work before anything heavy is imported.

    Raises:
        UsageError: naming the option.
    """
    for name in args.formats:
        if name not in FORMATS:
            raise UsageError(f"Format '{name}' is unknown; choose from {', '.join(FORMATS)}.")
    if (args.elevation == AUTO) != (args.elevation_model is not None):
        raise UsageError(
            "Options --elevation auto and --elevation-model go together: give a folder that `vfusion3d "
            "train-elevation` wrote, or the elevation in degrees."
        )
    for option, value, low, high in (
        ("--resolution", args.resolution, 16, 1024),
        ("--threshold", args.threshold, 1e-6, 1e6),
        ("--frames", args.frames, 1, 1000),
        ("--render-size", args.render_size, 16, 2048),
        ("--faces", args.faces, 4, 10_000_000),
        ("--millimetres", args.millimetres, 0.1, 10_000),
        ("--turn-elevation", args.turn_elevation, -90, 90),
        ("--elevation", None if args.elevation == AUTO else args.elevation, -90, 90),
        ("--border", args.border, 0, 0.45),
        ("--fov", args.fov, 1, 150),
    ):
        if value is not None and not low <= value <= high:
            raise UsageError(f"Option {option} must be between {low} and {high}, but got {value}.")
    if args.texture_size and not 16 <= args.texture_size <= 8192:
        raise UsageError(f"Option --texture-size must be 0 or between 16 and 8192, but got {args.texture_size}.")


def reconstruct_one(
    pipeline: ImageTo3DPipeline,
    picture: str,
    folder: Path,
    args: Any,
    estimator: Callable[[Image.Image], float] | None = None,
) -> dict[str, Any]:
    """Make one picture's folder and return its report.

    Raises:
        VFusion3DError: if the picture cannot be used or the folder not written; nothing is left behind then.
    """
    from vfusion3d.alpha import pixels_over_white
    from vfusion3d.data.scenes import SceneInfo, write_scene
    from vfusion3d.meshes.writers import MILLIMETRES, write_mesh
    from vfusion3d.models.triplanes import TEXTURE_SIZE
    from vfusion3d.outputs import result_folder
    from vfusion3d.pipelines import MESH_FACES, MESH_RESOLUTION, SHEET_VIEWS
    from vfusion3d.preprocessing import BORDER, ELEVATION
    from vfusion3d.rendering.turntable import FRAMES, FRAMES_PER_SECOND, TURN_ELEVATION, write_video

    config = pipeline.model.config
    meshes = [name for name in MESH_FORMATS if name in args.formats]
    film, maps = "mp4" in args.formats, "maps" in args.formats
    texels = TEXTURE_SIZE if args.texture_size is None else args.texture_size
    settings: dict[str, Any] = {
        "formats": [name for name in FORMATS if name in args.formats],
        "elevation": ELEVATION if args.elevation is None else args.elevation,
        "border": BORDER if args.border is None else args.border,
        "resolution": MESH_RESOLUTION if args.resolution is None else args.resolution,
        "faces": MESH_FACES if args.faces is None and texels else args.faces,
        "texture_size": texels,
        "millimetres": MILLIMETRES if args.millimetres is None else args.millimetres,
        "frames": FRAMES if args.frames is None else args.frames,
        "frames_per_second": FRAMES_PER_SECOND,
        "turntable_elevation": TURN_ELEVATION if args.turn_elevation is None else args.turn_elevation,
        "turntable_path": args.path,
        "render_size": config.render_size if args.render_size is None else args.render_size,
        "fov": pipeline.fov if args.fov is None else args.fov,
        "background": args.background,
        "extent": pipeline.extent,
        "threshold": config.iso_threshold if args.threshold is None else args.threshold,
    }
    seconds: dict[str, float] = {}
    report: dict[str, Any] = {
        "picture": str(picture),
        "folder": str(folder),
        "model": {"name": config.name, "source": str(args.model), "licence": config.license},
        "device": str(pipeline.model.device),
        "settings": settings,
        "seconds": seconds,
    }

    with result_folder(folder, args.overwrite) as partial:
        with timed(seconds, "prepare"):
            prepared = pipeline.prepare(
                picture,
                estimator or settings["elevation"],
                settings["border"],
                args.fov,
                args.background,
                args.background_weights,
            )
        if estimator is not None:
            report["estimated_elevation"] = round(math.degrees(float(prepared.camera.elevations)), 2)
        report["background"] = prepared.background
        report["warnings"] = list(prepared.warnings)
        report["window"] = vars(prepared.window)
        with timed(seconds, "reconstruct"):
            [result] = pipeline.reconstruct([prepared])
        if meshes:
            with timed(seconds, "mesh"), progress_bar(f"{folder.name}: mesh", "chunk") as progress:
                if settings["threshold"] is None:
                    settings["threshold"] = round(result.triplanes.surface_threshold(), 4)
                mesh = result.mesh(settings["resolution"], settings["threshold"], progress, settings["faces"])
            if texels and {"glb", "obj"} & set(meshes):
                with timed(seconds, "texture"), progress_bar(f"{folder.name}: texture", "part") as progress:
                    mesh = result.triplanes.textured(mesh, size=texels, progress=progress)
            report["mesh"] = mesh.report()
            with timed(seconds, "write_mesh"):
                for name in meshes:
                    write_mesh(mesh, partial / f"mesh.{name}", settings["millimetres"])
        with timed(seconds, "render"), progress_bar(f"{folder.name}: views", "view") as progress:
            frames = settings["frames"] if film or maps else SHEET_VIEWS
            turn = (frames, settings["render_size"], settings["turntable_elevation"], progress, args.path)
            if maps:
                shown, cameras = result.maps(*turn)
                views = pixels_over_white(shown.rgba)
            else:
                views = result.turntable(*turn)
        with timed(seconds, "write_views"):
            if maps:
                info = SceneInfo(source=Path(picture).name, layout=f"turntable {args.path}", renderer="vfusion3d")
                write_scene(partial / "maps", shown.rgba, cameras, info, depths=shown.depths, normals=shown.normals)
            if film:
                write_video(views, partial / "turntable.mp4", FRAMES_PER_SECOND)
            result.contact_sheet(views).save(partial / "views.png")
            prepared.image().save(partial / "input.png")
        report["files"] = sorted([*(path.name for path in partial.iterdir()), "report.json"])
        report["versions"] = versions()
        (partial / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report
