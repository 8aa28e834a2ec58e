"""``vfusion3d label``: a web page on which a person says which videos are good."""

from __future__ import annotations

import os
from typing import Any

from jsonargparse import ArgumentParser

from vfusion3d.errors import UsageError
from vfusion3d.outputs import say

LABELS = "labels"  # the folder of labels in a folder of videos

_EXAMPLES = """examples:
  vfusion3d label run/ --name anna                 # then open the address that it prints
  vfusion3d label run/ --name ben --limit 500      # the same 500 videos that anna sees first
  vfusion3d label run/ --agreement                 # how far anna and ben agree
  vfusion3d label orbits/ --name anna --labels my_labels --port 9000
then: vfusion3d train-quality run/ --output quality/
"""


def build_parser() -> ArgumentParser:
    """The parser of ``vfusion3d label``."""
    from argparse import RawDescriptionHelpFormatter

    parser = ArgumentParser(
        prog="vfusion3d label",
        description="Label videos around objects as good or bad in a browser, by keyboard (G, B, S to skip, U to undo)."
        "\nEvery label is on the disk at once, in LABELS/NAME.csv; started again, it goes on with the next video.\nThe "
        "order is random, but the same for everyone, so that people who label the first N have labelled the same ones.",
        epilog=_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "videos",
        metavar="DIR",
        help="a folder of `vfusion3d generate`, a shard set, or a folder of orbits as `vfusion3d orbit` or `render "
        "--layout orbit` write them",
    )
    add("--name", metavar="NAME", help="who labels; names the file of labels")
    add("--labels", metavar="DIR", help="folder of the labels (labels/ in the folder of the videos)")
    add("--limit", type=int, metavar="N", help="label only the first N of the order (all)")
    add("--port", type=int, default=8765, metavar="N", help="where the page is served, to this machine alone (8765)")
    add("--agreement", action="store_true", help="say how far people agree, and stop")
    return parser


def run(args: Any) -> int:
    """Serve until Ctrl-C; returns 0.

    Raises:
        VFusion3DError: if there are no videos, or labels cannot be read or written.
    """
    if not args.agreement and args.name is None:
        raise UsageError("Option --name is missing: say who labels, for example --name anna.")
    if args.limit is not None and args.limit < 1:
        raise UsageError(f"Option --limit must be at least 1, but got {args.limit}.")
    from vfusion3d.engine.learning.labels.files import read_labels

    if args.agreement:
        return _say_agreement(read_labels(labels_folder(args.videos, args.labels)))
    from vfusion3d.engine.learning.labels.files import LabelFile
    from vfusion3d.engine.learning.labels.server import LabelServer, LabelSession
    from vfusion3d.engine.learning.videos import open_videos

    videos = open_videos(args.videos)
    labels = LabelFile(labels_folder(args.videos, args.labels), args.name)
    server = LabelServer(LabelSession(videos, labels, args.limit), args.port)
    say(f"Label {len(server.session.order)} videos at {server.address} as {args.name}; Ctrl-C ends.")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    state = server.session.state()
    say(
        f"{labels.path}: {state['done']} of {state['total']} labelled, {state['good']} good, {state['bad']} bad, "
        f"{state['skip']} skipped."
    )
    return 0


def labels_folder(videos: str, labels: str | None) -> str:
    """Where the labels of videos are.

    Raises:
        UsageError: if that has to be said.
    """
    if labels is not None:
        return labels
    if "://" in videos:
        raise UsageError(f"Option --labels is missing: labels cannot be written to {videos}; name a folder for them.")
    stages = os.path.dirname(os.path.abspath(videos))
    return os.path.join(os.path.dirname(stages) if os.path.basename(stages) == "stages" else videos, LABELS)


def _say_agreement(people: dict[str, dict[str, str]]) -> int:
    from collections import Counter

    from vfusion3d.engine.learning.labels.agreement import agreements

    for name, labels in people.items():
        counts = Counter(labels.values())
        said = ", ".join(f"{counts[label]} {label}" for label in ("good", "bad", "skip"))
        say(f"{name}: {len(labels)} labelled, {said}.")
    for one in agreements(people):
        say(str(one))
    return 0
