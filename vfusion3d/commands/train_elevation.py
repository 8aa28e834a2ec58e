"""``vfusion3d train-elevation``: renders to a model that sees from how high pictures were taken."""

from __future__ import annotations

import json
from typing import Any

from jsonargparse import ArgumentParser

from vfusion3d.commands.train_quality import add_features, check_output
from vfusion3d.errors import UsageError
from vfusion3d.outputs import say

_EXAMPLES = """examples:
  vfusion3d train-elevation orbits/ --output elevation/          # what `render --layout orbit` wrote
  vfusion3d train-elevation shards/ --output elevation/ --features ./dino-vitb16
  vfusion3d data pack --procedural 1000 --orbit --output shards/ && \\
    vfusion3d train-elevation shards/ --output elevation/ --features pixels
then: vfusion3d reconstruct owl.png --output out --elevation auto --elevation-model elevation/
"""


def build_parser() -> ArgumentParser:
    """The parser of ``vfusion3d train-elevation``."""
    from argparse import RawDescriptionHelpFormatter

    parser = ArgumentParser(
        prog="vfusion3d train-elevation",
        description="Train the model that says from what elevation, between 0 and 45 degrees, a picture or a video "
        "around an object was\ntaken: two layers on features, trained on renders with known cameras. OUTPUT gets "
        "elevation.json and\nelevation.safetensors (the model), video.png and picture.png (its errors on objects that "
        "it was not trained on), and\nfeatures/, which a second run reads again.",
        epilog=_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("videos", metavar="DIR", help="orbits with cameras: scene folders or a shard set")
    add("--output", required=True, metavar="DIR", help="the model's folder")
    add_features(parser)
    add(
        "--for",
        dest="kinds",
        choices=["both", "video", "picture"],
        default="both",
        help="what it will look at: videos, whose features are averaged over four frames, single pictures, or both "
        "(both)",
    )
    add("--steps", type=int, metavar="N", help="optimiser steps (by the number of renders, 1000 to 20000)")
    add("--seed", type=int, default=0, metavar="N", help="of weights, order and cross-validation (0)")
    add("--overwrite", action="store_true", help="replace an earlier model in OUTPUT")
    add("--json", action="store_true", help="print the report as JSON on standard output")
    return parser


def run(args: Any) -> int:
    """Train; returns 0.

    Raises:
        VFusion3DError: if the renders cannot be used, or nothing can be written.
    """
    if args.steps is not None and not 1 <= args.steps <= 1_000_000:
        raise UsageError(f"Option --steps must be between 1 and 1000000, but got {args.steps}.")
    from vfusion3d.engine.learning.elevation_training import FrameFeatures, elevation_data, plot_errors, train_on
    from vfusion3d.engine.learning.plots import check_matplotlib
    from vfusion3d.engine.learning.videos import open_videos

    check_matplotlib()
    videos = open_videos(args.videos)
    stage = FrameFeatures(args.features, args.size, args.device)
    output = check_output(args.output, "elevation", args.overwrite)
    kinds = ("video", "picture") if args.kinds == "both" else (args.kinds,)
    data = elevation_data(videos, stage, output / "features")
    model, errors = train_on(data, kinds, steps=args.steps, seed=args.seed)
    for kind in kinds:
        plot_errors(errors[kind], output / f"{kind}.png")
    model.save(output)
    report = {**model.report, "features": model.features, "left_out": len(data.left_out)}
    if args.json:
        say(json.dumps(report, indent=2))
        return 0
    for kind in kinds:
        found = report[kind]
        say(
            f"{kind}: mean error {found['mean']:.1f} degrees on orbits that it was not trained on, median "
            f"{found['median']:.1f}; always saying the mean: {found['mean_of_constant']:.1f}."
        )
    say(f"{output}: elevation.json, trained on {report['orbits']} orbits ({len(data.left_out)} left out).")
    return 0
