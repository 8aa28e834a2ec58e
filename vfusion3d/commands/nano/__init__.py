"""``vfusion3d nano``: the whole paper at small size, from nothing to a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from vfusion3d.outputs import say


def build_parser() -> ArgumentParser:
    """The parser of ``vfusion3d nano``."""
    parser = ArgumentParser(
        prog="vfusion3d nano",
        description="The whole paper at small size, on a processor: render objects, fine-tune a video model on their "
        "orbits, let it make orbits of pictures, label and filter them, estimate their elevation, cut them out, pack "
        "them, pre-train a reconstructor on them, fine-tune it on 3D objects, score it on objects that it never saw, "
        "and write DIR/report.html with the pictures and figures of every stage. About twelve minutes on two cores. An "
        "interrupted run goes on where it was; a changed option redoes what depends on it. It needs no file and no "
        "network. Example: vfusion3d nano --output runs/nano",
    )
    add = parser.add_argument
    add("--output", required=True, metavar="DIR", help="where every stage keeps its files, and the report")
    add(
        "--meshes",
        nargs="+",
        metavar="MESH_OR_FOLDER",
        help="at least ten meshes in place of procedural objects (see `vfusion3d render`)",
    )
    add(
        "--video-model",
        metavar="MODEL",
        help="a trained video model in place of training one: a shipped name, a folder that `vfusion3d export` wrote "
        "or owner/name on the Hugging Face hub",
    )
    add("--seed", type=int, default=0, help="decides the objects")
    add("--short", action="store_true", help="a handful of steps each: shows that all runs, nothing else")
    add("--json", action="store_true", help="print one JSON document with the figures on standard output")
    return parser


def run(args: Any) -> int:
    """Run what is not done yet, and write the report.

    Raises:
        VFusion3DError: if an option or the folder cannot be used, or a stage fails.
    """
    import json
    from dataclasses import asdict

    from vfusion3d.commands.nano.settings import chain_settings

    # Before the stages are imported: that takes seconds, and a wrong option none.
    settings = chain_settings(args.short, args.meshes, args.video_model, args.seed)
    from vfusion3d.commands.nano.chain import Chain
    from vfusion3d.commands.nano.links import LINKS
    from vfusion3d.commands.nano.report import write_page

    chain = Chain(Path(args.output), LINKS, settings)
    if args.video_model is not None:
        chain.places["video_model"] = args.video_model
    chain.run()
    page = write_page(chain)
    outcomes = {link.name: chain.outcome(link.name) for link in LINKS}
    if args.json:
        document = {name: asdict(outcome) for name, outcome in outcomes.items() if outcome is not None}
        say(json.dumps({"report": str(page), "stages": document}, indent=2))
        return 0
    benchmark = outcomes["benchmark"]
    assert benchmark is not None
    for row in benchmark.tables[0]["rows"]:
        say(f"{row[0]:<32}{row[1]:>8.2f} dB")
    say(f"{page}: what came of every stage; open it in a browser.")
    return 0
