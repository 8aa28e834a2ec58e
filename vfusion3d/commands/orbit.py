"""``vfusion3d orbit``: pictures in, a video around each picture's object out."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from vfusion3d.commands.per_picture import each_picture, progress_bar, timed, versions
from vfusion3d.errors import UsageError

if TYPE_CHECKING:
    import torch

    from vfusion3d.video import OrbitGenerator

FRAMES_PER_SECOND = 8  # 16 frames: a turn in two seconds
SHEET_COLUMNS = 6
PROFILES = ["constant", "linear", "triangle"]

_EXAMPLES = """examples:
  vfusion3d orbit owl.png --output out --model ./my_video_model
  vfusion3d orbit *.jpg --output out --model ./my_video_model --seed 3 --steps 25 --solver dpm
  vfusion3d orbit owl.png --output out --model ./my_video_model --text "an owl carved out of wood" --guidance-text 5
  vfusion3d orbit owl.png --output out --model owner/name --guidance-image 2.5 --profile triangle
  vfusion3d orbit owl.png --output out --model ./my_video_model --elevation 15   # a scene folder with nominal cameras
  vfusion3d orbit owl.png --output out --model svd:stabilityai/stable-video-diffusion-img2vid   # not fine-tuned
"""


def build_parser() -> ArgumentParser:
    """The parser of ``vfusion3d orbit``."""
    from argparse import RawDescriptionHelpFormatter

    parser = ArgumentParser(
        prog="vfusion3d orbit",
        description="Turn pictures of one object each into videos around the object: OUTPUT/<picture name>/ gets "
        "orbit.mp4, images/ (the\nframes), sheet.png (input and frames), input.png (what the model saw) and "
        "report.json (seed, cameras, licences).\nThe object is cut out, set on white and centred as in the training "
        "renders. A picture that cannot be used is reported\nand does not stop the others.",
        epilog=_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="picture files; transparency is used where there is some")
    add("--output", required=True, metavar="DIR", help="where the folders are written")
    add(
        "--model",
        metavar="MODEL",
        help="a folder that `vfusion3d export` made of a video checkpoint, owner/name on the hub, or BACKBONE:SOURCE, "
        "a model that was not fine-tuned (the one that ships with vfusion3d, if any)",
    )
    add("--text", nargs="+", metavar="TEXT", help="what the pictures show, one for all or one for each (nothing)")
    add("--seed", type=int, default=0, metavar="N", help="of the noise; another seed, another video (0)")
    add("--steps", type=int, metavar="N", help="denoising steps (50)")
    add("--solver", metavar="NAME", help="ddim, euler or dpm; not every model has all of them (the model's first)")
    add(
        "--guidance-image",
        type=float,
        metavar="W",
        help="how strongly the picture guides; 1: not beyond training; with another profile, its largest value (2)",
    )
    add("--guidance-text", type=float, metavar="W", help="how strongly the text guides, if there is one (7.5)")
    add(
        "--profile",
        choices=PROFILES,
        default=PROFILES[0],
        help="how the picture's guidance runs over the frames: linear from 1, triangle from 1 and back (constant)",
    )
    add("--resolution", type=int, metavar="PIXELS", help="side of the frames (what the model was trained on)")
    add(
        "--elevation",
        type=float,
        metavar="DEG",
        help="degrees above the horizon from which the pictures were taken, 0 to 45; adds transforms.json with the "
        "nominal cameras, which makes a scene folder of the frames (unknown)",
    )
    add(
        "--background",
        default="auto",
        metavar="HOW",
        help="how the object is cut out: alpha, heuristic, rembg or birefnet, as in `vfusion3d reconstruct` (auto)",
    )
    add("--background-weights", metavar="FILE", help="ONNX file of the network of rembg or birefnet")
    add(
        "--no-check",
        action="store_true",
        help="take pictures of several objects and of objects that an edge cuts off, which are refused otherwise",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (auto)")
    add(
        "--precision",
        choices=["auto", "fp32", "bf16", "fp16"],
        default="auto",
        help="of the denoiser (bf16 on a GPU, else as it was trained)",
    )
    add("--overwrite", action="store_true", help="replace earlier results of the same name")
    add("--json", action="store_true", help="print one JSON document with all reports on standard output")
    return parser


def run(args: Any) -> int:
    """Run the command.

    Returns:
        0, or 2 if a picture failed (the others are there).

    Raises:
        VFusion3DError: if an option is wrong, the model cannot be loaded or nothing can be written.
    """
    check_options(args)
    from vfusion3d.pipelines import choose_device
    from vfusion3d.preprocessing import check_strategy

    check_strategy(args.background, args.background_weights)
    started = time.perf_counter()
    generator = load_generator(args, choose_device(args.device))
    given = args.text or [None]
    texts = iter(given * len(args.images) if len(given) == 1 else given)
    return each_picture(
        args,
        time.perf_counter() - started,
        lambda picture, folder: orbit_one(generator, picture, folder, next(texts), args),
    )


def check_options(args: Any) -> None:
    """Refuse what cannot work before anything heavy is imported.

    Raises:
        UsageError: naming the option.
    """
    for option, value, low, high in (
        ("--seed", args.seed, 0, 2**63 - 1),
        ("--steps", args.steps, 1, 1000),
        ("--guidance-image", args.guidance_image, 0, 100),
        ("--guidance-text", args.guidance_text, 0, 100),
        ("--resolution", args.resolution, 8, 4096),
        ("--elevation", args.elevation, 0, 45),
    ):
        if value is not None and not low <= value <= high:
            raise UsageError(f"Option {option} must be between {low} and {high}, but got {value}.")
    if args.text is not None and len(args.text) not in (1, len(args.images)):
        raise UsageError(
            f"Option --text must be one text or one for each of the {len(args.images)} pictures, but got "
            f"{len(args.text)}; put each in quotes."
        )


def load_generator(args: Any, device: torch.device) -> OrbitGenerator:
    """The generator that the options ask for.

    Raises:
        UsageError: if no model is named and none ships with the package, or an option does not fit the model.
        CheckpointError: if the model cannot be loaded.
    """
    from vfusion3d.video import Guidance, OrbitGenerator
    from vfusion3d.video.backbone import check_text
    from vfusion3d.video.generator import STEPS
    from vfusion3d.video.trained import shipped_video_models

    model = args.model
    if model is None:
        model = next(iter(shipped_video_models()), None)
    if model is None:
        raise UsageError(
            "No video model ships with this version of vfusion3d: name one with --model, a folder that `vfusion3d "
            "export` made of a checkpoint of VideoFineTuner, or owner/name on the Hugging Face hub."
        )
    weights = {"image": args.guidance_image, "text": args.guidance_text}
    precision = args.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else None
    generator = OrbitGenerator.from_pretrained(
        model,
        device,
        precision,
        args.resolution,
        steps=STEPS if args.steps is None else args.steps,
        solver=args.solver,
        guidance=Guidance(profile=args.profile, **{k: v for k, v in weights.items() if v is not None}),
    )
    check_text(generator.backbone, args.text)
    return generator


def orbit_one(generator: OrbitGenerator, picture: str, folder: Path, text: str | None, args: Any) -> dict[str, Any]:
    """Make one picture's folder and return its report.

    Raises:
        VFusion3DError: if the picture cannot be used or the folder not written; nothing is left behind then.
    """
    from PIL import Image

    from vfusion3d.alpha import rgb_pixels
    from vfusion3d.outputs import result_folder
    from vfusion3d.rendering.turntable import contact_sheet, write_video

    seconds: dict[str, float] = {}
    report: dict[str, Any] = {
        "picture": str(picture),
        "folder": str(folder),
        "model": generator.about(),
        "device": str(generator.device),
        "settings": {
            "seed": args.seed,
            "text": text,
            "steps": generator.steps,
            "solver": generator.solver,
            "guidance": asdict(generator.guidance),
            "resolution": generator.size,
            "precision": generator.precision,
            "elevation": args.elevation,
            "background": args.background,
            "check": not args.no_check,
        },
        "rig": asdict(generator.rig),
        "cameras": "unknown" if args.elevation is None else "nominal",
        "seconds": seconds,
    }
    with result_folder(folder, args.overwrite) as partial:
        with timed(seconds, "prepare"):
            prepared = generator.prepare(picture, args.background, args.background_weights, not args.no_check)
        report["background"] = prepared.background
        report["warnings"] = list(prepared.warnings)
        report["window"] = vars(prepared.window)
        with timed(seconds, "generate"), progress_bar(f"{folder.name}: frames", "step") as progress:
            video = generator(prepared, text, args.seed, elevation=args.elevation or 0.0, progress=progress)
        with timed(seconds, "write"):
            frames, source = rgb_pixels(video), rgb_pixels(prepared.on_white())
            (partial / "images").mkdir()
            files = [f"images/{number:03d}.png" for number in range(len(frames))]
            for file, frame in zip(files, frames, strict=True):
                Image.fromarray(frame).save(partial / file)
            write_video(frames, partial / "orbit.mp4", FRAMES_PER_SECOND)
            contact_sheet([source, *frames], SHEET_COLUMNS).save(partial / "sheet.png")
            prepared.image().save(partial / "input.png")
            if args.elevation is not None:
                _write_cameras(partial, generator, files, Path(picture).name, text, args.elevation)
        report["files"] = sorted([*(path.name for path in partial.iterdir()), "report.json"])
        report["versions"] = {**versions(), "diffusers": _diffusers_version()}
        (partial / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def _write_cameras(
    folder: Path, generator: OrbitGenerator, files: list[str], source: str, text: str | None, elevation: float
) -> None:
    """Cameras of the frames, as far as anyone can know them."""
    import math

    from vfusion3d.data.scenes import TRANSFORMS, SceneInfo, transforms_document

    info = SceneInfo(
        source=source,
        licence=" ".join(generator.about()["lineage"]) or None,
        layout="orbit",
        caption=text,
        notes=("The cameras are nominal: generated frames follow them only as well as the video model can.",),
        renderer=generator.about()["name"],
    )
    cameras = generator.rig.cameras(math.radians(elevation))
    document = transforms_document(cameras, files, generator.size, generator.size, info)
    (folder / TRANSFORMS).write_text(json.dumps(document), encoding="utf-8")


def _diffusers_version() -> str:
    import diffusers

    return str(diffusers.__version__)
