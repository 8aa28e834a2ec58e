"""``vfusion3d licenses``: what a data set or a model may be used for, and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from vfusion3d.errors import UsageError
from vfusion3d.licences import NOT_RECORDED, TERMS, judge, strictest
from vfusion3d.outputs import say

_EXAMPLES = """examples:
  vfusion3d licenses shards/                       # of a shard set: which rows are under what
  vfusion3d licenses runs/video/checkpoints/last.ckpt
  vfusion3d licenses my_video_model/ --json
  vfusion3d licenses nano                          # the model that ships with vfusion3d
"""


@dataclass(frozen=True)
class Statement:
    """What is written somewhere about a licence.

    Args:
        says: The words.
        where: The file, and the column or key in it.
        items: Of how many items it is said, or None where there are none to count.
    """

    says: str
    where: str
    items: int | None = None


def build_parser() -> ArgumentParser:
    """The parser of ``vfusion3d licenses``."""
    from argparse import RawDescriptionHelpFormatter

    parser = ArgumentParser(
        prog="vfusion3d licenses",
        description="Say what a shard set, a run of the data engine, an exported model, a training checkpoint or scene "
        "folders may be used for, and why:\nall that was recorded of the licences of the weights and data that they "
        "come from is looked up in a table of known licences,\nand the strictest decides. What was not recorded is "
        "unknown. A reading of records, not legal advice.",
        epilog=_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "path",
        metavar="PATH",
        help="a shard set (a folder or an address), a run's folder, a model's folder or a shipped name, a .ckpt file, "
        "or a scene folder or a folder of such",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document on standard output")
    return parser


def run(args: Any) -> int:
    """Print the verdict and what it rests on.

    Raises:
        UsageError: if there is nothing at the path whose licences could be told.
        VFusion3DError: if a file of it cannot be read.
    """
    kind, statements = _lineage(args.path)
    findings = [{**asdict(statement), **asdict(judge(statement.says))} for statement in statements]
    findings.sort(key=lambda finding: -list(TERMS).index(finding["terms"]))
    terms = strictest(finding["terms"] for finding in findings)
    if args.json:
        say(json.dumps({"path": args.path, "kind": kind, "terms": terms, "findings": findings}, indent=2))
        return 0
    say(f"{args.path}, {kind}: {terms} ({TERMS[terms]}).")
    for finding in findings:
        count = "" if finding["items"] is None else f"{finding['items']} item{'s' * (finding['items'] != 1)}, "
        name = "" if finding["licence"] is None else f"{finding['licence']}: "
        say(f"\n{finding['terms']}: {finding['says']}\n  {name}{finding['reason']} ({count}{finding['where']})")
    return 0


def _lineage(path: str) -> tuple[str, list[Statement]]:
    """What kind of thing is at a path, and all that it says of licences.

    Raises:
        UsageError: if it is nothing that has a lineage.
    """
    from vfusion3d.data.shards import is_shard_set
    from vfusion3d.models.checkpoints import SHIPPED

    folder = Path(path).expanduser()
    holds: list[tuple[bool, str, Callable[[str], list[Statement]]]] = [
        (path in SHIPPED, "reconstructor", _reconstructor),
        (folder.is_file() and folder.suffix == ".ckpt", "training checkpoint", _checkpoint),
        ((folder / "stages").is_dir(), "run of the data engine", _engine_run),
        (is_shard_set(path), "shard set", _shard_set),
        ((folder / "video.json").is_file(), "video model", _video_model),
        ((folder / "config.json").is_file(), "reconstructor", _reconstructor),
        ((folder / "transforms.json").is_file() or any(folder.glob("*/transforms.json")), "scenes", _scenes),
    ]
    for found, kind, statements in holds:
        if found:
            return kind, statements(path)
    what = "does not exist" if not folder.exists() else "is none of these"
    raise UsageError(
        f"The path {path} {what}: give a shard set, a run's folder, a model's folder, a .ckpt file or scene folders."
    )


def _counted(texts: Iterable[tuple[str | None, int]], where: str) -> list[Statement]:
    """Statements of items, one a line of their texts, with the number of items that say so."""
    counts: Counter[str] = Counter()
    for text, count in texts:
        for line in dict.fromkeys((text or "").splitlines() or [NOT_RECORDED]):
            counts[line] += count
    return [Statement(line, where, count) for line, count in counts.most_common()]


def _column(table: Any, name: str, where: str) -> list[Statement]:
    """Statements of a table's column."""
    if name not in table.column_names:
        return [Statement(NOT_RECORDED, where, len(table))]
    counts = table[name].value_counts().to_pylist()
    return _counted([(row["values"], row["counts"]) for row in counts], f"{where}, column {name}")


def _shard_set(path: str) -> list[Statement]:
    from vfusion3d.data.shards import ITEMS, ShardSet

    counts = ShardSet(path, cameras=False).licences()
    return _counted(counts.items(), f"{ITEMS}, column licence")


def _engine_run(path: str) -> list[Statement]:
    import pyarrow.parquet as pq

    from vfusion3d.engine.store import ITEMS, STAGES

    folder = Path(path).expanduser()
    items = pq.read_table(folder / ITEMS)
    statements = _column(items, "licence", ITEMS) if "licence" in items.column_names else []
    for stage in sorted((folder / STAGES).iterdir()):
        texts: Counter[str | None] = Counter()
        columns: set[str] = set()
        for part in stage.glob("*.parquet"):
            schema = pq.read_schema(part)
            columns |= (names := {name for name in schema.names if name.endswith("licence")})
            for column in pq.read_table(part, columns=[*names]).itercolumns():
                texts.update(column.drop_null().to_pylist())
        if columns:
            statements += _counted(texts.items(), f"{STAGES}/{stage.name}, column {', '.join(sorted(columns))}")
    return statements or [Statement(NOT_RECORDED, ITEMS, len(items))]


def _video_model(path: str) -> list[Statement]:
    from vfusion3d.video.trained import CONFIG, read_video_config

    config = read_video_config(Path(path).expanduser())
    own = Statement(f"Trained weights: {config.licence}", f"{CONFIG}, key licence")
    return [own, *(Statement(line, f"{CONFIG}, key lineage") for line in config.lineage or (NOT_RECORDED,))]


def _reconstructor(path: str) -> list[Statement]:
    from vfusion3d.models.checkpoints import CONFIG, read_config

    config = read_config(path)
    own = Statement(f"Trained weights: {config.license}", f"{CONFIG}, key license")
    return [own, *(Statement(line, f"{CONFIG}, key lineage") for line in config.lineage or (NOT_RECORDED,))]


def _checkpoint(path: str) -> list[Statement]:
    from vfusion3d.models import ReconstructorConfig
    from vfusion3d.training.checkpoint_io import read_checkpoint
    from vfusion3d.training.export import MODEL
    from vfusion3d.training.export_video import video_lineage
    from vfusion3d.training.lineage import LICENCES, reconstructor_lineage
    from vfusion3d.training.video import VIDEO

    checkpoint = read_checkpoint(path)
    settings, licences = checkpoint.get("hyper_parameters", {}), checkpoint.get(LICENCES)
    if VIDEO in checkpoint:
        lines = video_lineage(checkpoint[VIDEO], licences)
    elif "architecture" in settings:
        config = ReconstructorConfig.from_dict(checkpoint.get(MODEL, {}).get("config") or {})
        lines = reconstructor_lineage(settings, config, licences)
    else:
        raise UsageError(
            f"The checkpoint {path} was written by another module than ReconstructorTraining and VideoFineTuner; what "
            "it comes from is unknown."
        )
    return [Statement(line, Path(path).name) for line in lines]


def _scenes(path: str) -> list[Statement]:
    from vfusion3d.data.rendered_module import find_scenes
    from vfusion3d.data.scenes import TRANSFORMS, Scene

    folder = Path(path).expanduser()
    folders = [folder] if (folder / TRANSFORMS).is_file() else find_scenes(folder)
    return _counted([(Scene.load(one).info.licence, 1) for one in folders], TRANSFORMS)
