"""``vfusion3d train-quality``: labels of good and bad videos to a filter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from vfusion3d.commands.label import labels_folder
from vfusion3d.errors import OutputError, UsageError
from vfusion3d.outputs import make_folder, say

_EXAMPLES = """examples:
  vfusion3d train-quality run/ --output quality/
  vfusion3d train-quality run/ --output quality/ --features ./dino-vitb16 --keep-rate 0.675
  vfusion3d train-quality orbits/ --labels my_labels --output quality/ --features pixels --spread
"""


def build_parser() -> ArgumentParser:
    """The parser of ``vfusion3d train-quality``."""
    from argparse import RawDescriptionHelpFormatter

    parser = ArgumentParser(
        prog="vfusion3d train-quality",
        description="Train the filter that tells good videos from bad ones, on labels of `vfusion3d label`: a support "
        "vector machine on\nfeatures averaged over frames. OUTPUT gets quality.json and quality.safetensors (the "
        "filter), calibration.png and\nkeep_rate.png (what cross-validation says of it), and features/, which a second "
        "run reads again.",
        epilog=_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("videos", metavar="DIR", help="the videos, as in `vfusion3d label`")
    add("--output", required=True, metavar="DIR", help="the filter's folder")
    add("--labels", metavar="DIR", help="folder or CSV file of the labels (labels/ in the folder of the videos)")
    add_features(parser)
    add(
        "--spread",
        action="store_true",
        help="features also have the standard deviation over the frames, in which changes show (the paper's have not)",
    )
    add("--keep-rate", type=float, default=0.675, metavar="SHARE", help="of all videos, share to keep (0.675)")
    add("--penalty", type=float, default=1.0, metavar="C", help="of errors on the labelled videos (1)")
    add("--seed", type=int, default=0, metavar="N", help="of the parts of cross-validation (0)")
    add("--overwrite", action="store_true", help="replace an earlier filter in OUTPUT")
    add("--json", action="store_true", help="print the report as JSON on standard output")
    return parser


def add_features(parser: ArgumentParser) -> None:
    """Options that choose what looks at frames."""
    add = parser.add_argument
    add(
        "--features",
        default="facebook/dino-vitb16",
        metavar="MODEL",
        help="what looks at the frames: a folder or owner/name on the hub of a vision transformer, or `pixels`, which "
        "needs no weights and sees only colours and edges (facebook/dino-vitb16)",
    )
    add("--size", type=int, metavar="PIXELS", help="side to which frames are brought for it (the model's own)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (auto)")


def check_output(output: str, name: str, overwrite: bool) -> Path:
    """The folder of a model.

    Raises:
        OutputError: if it holds one already, or cannot be written.
    """
    if (Path(output) / f"{name}.json").exists() and not overwrite:
        raise OutputError(f"Output '{output}' holds a {name}.json already; choose another folder or add --overwrite.")
    return make_folder(output)


def run(args: Any) -> int:
    """Train; returns 0.

    Raises:
        VFusion3DError: if labels or videos cannot be used, or nothing can be written.
    """
    if not 0 < args.keep_rate <= 1:
        raise UsageError(f"Option --keep-rate must be in (0, 1], but got {args.keep_rate}.")
    if not args.penalty > 0:
        raise UsageError(f"Option --penalty must be positive, but got {args.penalty}.")
    from vfusion3d.engine.learning.labels.agreement import agreements, merge_labels
    from vfusion3d.engine.learning.labels.files import read_labels
    from vfusion3d.engine.learning.plots import check_matplotlib
    from vfusion3d.engine.learning.quality_training import train_on_labels
    from vfusion3d.engine.learning.videos import open_videos
    from vfusion3d.engine.stages.features import VideoFeatures

    check_matplotlib()
    videos = open_videos(args.videos)
    people = read_labels(labels_folder(args.videos, args.labels))
    labels, disputed = merge_labels(people)
    stage = VideoFeatures(args.features, args.size, args.spread, args.device)
    output = check_output(args.output, "quality", args.overwrite)
    classifier = train_on_labels(
        videos, labels, stage, output, keep_rate=args.keep_rate, penalty=args.penalty, seed=args.seed
    )
    report = {
        **classifier.report,
        "features": classifier.features,
        "spread": args.spread,
        "labels": {name: len(given) for name, given in people.items()},
        "agreement": [str(one) for one in agreements(people)],
        "disputed": len(disputed),
    }
    if args.json:
        say(json.dumps(report, indent=2))
        return 0
    for line in report["agreement"]:
        say(line)
    at = report["at_keep_rate"]
    say(
        f"{report['videos']} videos, {report['good']} of them good ({len(disputed)} disputed, {report['left_out']} "
        f"left out). Cross-validated in {report['folds']} parts: ROC AUC {report['roc_auc']:.3f}; precision "
        f"{at['precision']:.1%} and recall {at['recall']:.1%} at a keep rate of {at['keep_rate']:.1%}."
    )
    for name, row in report["categories"].items():
        say(
            f"  {name:<10} {row['kept']:>5} of {row['count']:>5} kept ({row['keep_rate']:.0%}, 95 % interval "
            f"{row['low']:.0%} to {row['high']:.0%}); labelled good {row['labelled_good']:.0%}"
        )
    say(f"{output}: quality.json; keep videos with the condition `quality >= {classifier.threshold:.6g}`.")
    return 0
