"""``vfusion3d export``: a training checkpoint to a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import ActionYesNo, ArgumentParser

from vfusion3d.outputs import check_replaceable, say


def build_parser() -> ArgumentParser:
    """The parser of ``vfusion3d export``."""
    parser = ArgumentParser(
        prog="vfusion3d export",
        description="Turn a training checkpoint (.ckpt) into a folder. Of a reconstructor: config.json and "
        "model.safetensors, for `vfusion3d reconstruct --model`, TriplaneReconstructor.from_pretrained and the Hugging "
        "Face hub. Of a video model: video.json and trained.safetensors, for `vfusion3d orbit --model`, "
        "OrbitGenerator.from_pretrained and the hub. Both with a model card, README.md, that says what the checkpoint "
        "knows of its training. Nothing in the checkpoint is run. Example: vfusion3d export "
        "runs/nano/lightning_logs/version_0/checkpoints/last.ckpt --output my-model --half --license Apache-2.0",
    )
    add = parser.add_argument
    add("checkpoint", metavar="CKPT", help=".ckpt file of a run of `vfusion3d fit`")
    add("--output", required=True, metavar="DIR", help="the folder; appears complete or not at all")
    add("--half", action="store_true", help="store float16, half the size")
    add("--name", help="name of the model in reports and the card; by default the architecture's")
    add("--license", help="licence of the weights, as SPDX names it, e.g. Apache-2.0; by default the architecture's")
    parser.add_argument(
        "--ema",
        action=ActionYesNo(no_prefix="no-"),
        default=True,
        help="take the running average of the weights if the run kept one; --no-ema: those of the last step",
    )
    add("--overwrite", action="store_true", help="replace an earlier export; other files in its folder stay")
    return parser


def run(args: Any) -> int:
    """Export and say where to.

    Raises:
        VFusion3DError: if the checkpoint or the folder cannot be used.
    """
    from vfusion3d.training.checkpoint_io import read_checkpoint
    from vfusion3d.training.video import VIDEO

    return _export_video(args) if VIDEO in read_checkpoint(args.checkpoint) else _export_reconstructor(args)


def _export_reconstructor(args: Any) -> int:
    from vfusion3d.models.checkpoints import WEIGHTS
    from vfusion3d.training.export import export_model, load_trained

    output = Path(args.output)
    check_replaceable(output, args.overwrite, marker=WEIGHTS)
    model, facts = load_trained(args.checkpoint, args.ema)
    export_model(model, output, facts, half=args.half, name=args.name, license=args.license, overwrite=args.overwrite)
    size = (output / WEIGHTS).stat().st_size / 2**20
    average = ", averaged" if facts.averaged else ""
    say(
        f"{output}: {model.config.name}, {model.parameter_count() / 1e6:.1f} M weights{average}, {size:.1f} MiB, "
        f"licence {model.config.license}; use it with `vfusion3d reconstruct PICTURE --model {output}`."
    )
    return 0


def _export_video(args: Any) -> int:
    from vfusion3d.training.export_video import load_trained_video
    from vfusion3d.video.trained import CONFIG, WEIGHTS, save_video_model

    output = Path(args.output)
    check_replaceable(output, args.overwrite, marker=CONFIG)
    backbone, config = load_trained_video(args.checkpoint, args.ema, args.name, args.license)
    save_video_model(backbone, output, config, half=args.half, overwrite=args.overwrite)
    size = (output / WEIGHTS).stat().st_size / 2**20
    say(
        f"{output}: {config.name}, what was trained of {config.backbone} ({config.train}), {size:.1f} MiB, licence "
        f"{config.licence}; use it with `vfusion3d orbit PICTURE --model {output}`."
    )
    return 0
