"""``vfusion3d study``: the paper's user study, on a page of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from vfusion3d.errors import UsageError
from vfusion3d.outputs import say

_EXAMPLES = """examples:
  vfusion3d study ours/ theirs/ --inputs pictures/ --votes votes.db --rater anna  # then open the address it prints
  vfusion3d study ours/ theirs/ --inputs pictures/ --votes votes.db --host 0.0.0.0 --port 8765  # several, by network
  vfusion3d study --votes votes.db --report                                        # winner rates
  vfusion3d study --votes votes.db --report --json --csv votes.csv
"""


def build_parser() -> ArgumentParser:
    """The parser of ``vfusion3d study``."""
    from argparse import RawDescriptionHelpFormatter

    parser = ArgumentParser(
        prog="vfusion3d study",
        description="Ask people which of two methods makes the better 3D objects: a page in the browser shows a "
        "picture and the turntables that\nboth made of it, in random order and on random sides, and asks for the "
        "better quality and the more faithful one, by keyboard.\nEvery vote is on the disk at once; who comes back "
        "goes on where they were. The majority of the raters decides each pair.",
        epilog=_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "a",
        metavar="A_DIR",
        nargs="?",
        help="turntables of the first method: NAME.mp4 (or .webm, .gif), or NAME/turntable.mp4 as `vfusion3d "
        "reconstruct` writes them; for --report and --csv the votes are enough",
    )
    add("b", metavar="B_DIR", nargs="?", help="those of the second method, of the same names")
    add("--inputs", metavar="DIR", help="the pictures: NAME.png (or .jpg, .webp), or NAME/input.png")
    add("--votes", metavar="FILE", help="SQLite file of the votes of all raters; made if there is none")
    add("--names", nargs=2, metavar=("A", "B"), help="of the methods; the page shows neither (the folders' names)")
    add("--rater", metavar="NAME", help="who rates; without it the page asks, and several may rate at once")
    add("--checks", type=int, metavar="N", help="attention checks mixed in (3, where there are as many pairs)")
    add("--seed", type=int, default=0, metavar="N", help="decides order, sides and checks (0)")
    add("--port", type=int, default=0, metavar="N", help="where the page is served (any that is free)")
    add("--host", default="127.0.0.1", metavar="HOST", help="address it is served at (127.0.0.1: this machine alone)")
    add("--report", action="store_true", help="print winner rates, agreement and attention checks, and stop")
    add("--threshold", type=float, metavar="SHARE", help="of attention checks a rater needs to be counted (0.75)")
    add("--csv", metavar="FILE", help="write the votes as CSV, and stop")
    add("--json", action="store_true", help="with --report: print one JSON document on standard output")
    return parser


def run(args: Any) -> int:
    """Serve until Ctrl-C, or report; returns 0.

    Raises:
        VFusion3DError: if videos and pictures do not match, or votes cannot be read or written.
    """
    _check_options(args)
    from vfusion3d.study.pairs import Study, find_pairs
    from vfusion3d.study.votes import Votes

    if args.a is None:
        return _tell(args, Votes(args.votes))
    pairs = find_pairs(args.a, args.b, args.inputs)
    study = Study(pairs, _methods(args), args.checks, args.seed)
    if args.report or args.csv is not None:
        if not Path(args.votes).is_file():
            raise UsageError(f"There are no votes in {args.votes}.")
        return _tell(args, Votes(args.votes, study.design))
    from vfusion3d.study.server import StudyServer, StudySession

    votes = Votes(args.votes, study.design)
    server = StudyServer(StudySession(study, votes, args.rater), args.port, args.host)
    study.wrong_videos  # noqa: B018 - a video that cannot be decoded is told before somebody rates
    mixed = f" and {len(study.checks)} attention checks" if study.checks else ""
    say(f"Rate {len(pairs)} pairs{mixed} at {server.address}{f' as {args.rater}' if args.rater else ''}; Ctrl-C ends.")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    given = votes.all()
    raters = len({vote.rater for vote in given})
    say(f"{votes.path}: {len(given)} votes of {raters} rater{'s' * (raters != 1)}.")
    return 0


def _check_options(args: Any) -> None:
    """Refuse combinations that cannot work, before anything heavy is imported.

    Raises:
        UsageError: naming the option.
    """
    told = args.report or args.csv is not None
    if args.votes is None:
        raise UsageError("Option --votes is missing: name the file of the votes, for example --votes votes.db.")
    if args.a is None and not told:
        raise UsageError("The folders are missing: give A_DIR, B_DIR and --inputs, or --report for what was voted.")
    if args.a is not None and (args.b is None or args.inputs is None):
        missing = "The folder B_DIR" if args.b is None else "Option --inputs"
        raise UsageError(f"{missing} is missing: give A_DIR, B_DIR and --inputs.")
    if args.a is None and any(option is not None for option in (args.inputs, args.names, args.checks)):
        raise UsageError("Options --inputs, --names and --checks go with A_DIR and B_DIR; give these too.")
    if (args.json or args.threshold is not None) and not args.report:
        raise UsageError(f"Option {'--json' if args.json else '--threshold'} goes with --report; give that too.")
    if not -(2**63) <= args.seed < 2**63:
        raise UsageError(f"Option --seed must be a 64-bit number, but got {args.seed}.")


def _methods(args: Any) -> tuple[str, str]:
    """The methods' names: given, or those of their folders."""
    first, second = args.names or (Path(folder).expanduser().resolve().name for folder in (args.a, args.b))
    return first, second


def _tell(args: Any, votes: Any) -> int:
    """Write what was asked for of the votes."""
    import json

    from vfusion3d.study.figures import THRESHOLD, make_report

    if args.report:
        threshold = THRESHOLD if args.threshold is None else args.threshold
        report = make_report(votes.design, votes.all(), threshold)
        say(json.dumps(report.plain(), indent=2) if args.json else str(report))
    if args.csv is not None:
        count = votes.write_csv(args.csv)
        if not args.json:
            say(f"{args.csv}: {count} votes.")
    return 0
