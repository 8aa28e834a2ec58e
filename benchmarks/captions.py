"""Which captions the filters keep, and how often they agree with a person.

    python benchmarks/captions.py --prompts PROMPTS
    python benchmarks/captions.py --prompts PROMPTS --lm meta-llama/Llama-2-13b-hf --device cuda
    python benchmarks/captions.py --prompts PROMPTS --disagreements dev

PROMPTS is a folder of tables of prompts (.txt with one a line; .tsv with a column prompt, Prompt or caption). For each
table: how many captions each filter keeps, and why the rules drop the others. --lm adds a language model's yes or no.

benchmarks/caption_labels.csv says of 400 lines of eight such files, by file, line number and the line's SHA-256 (the
texts belong to others and are not here), whether the caption describes a single object. 300 (dev) were looked at while
the rules were written; 100 (held_out) were drawn and labelled after the rules were finished. Files that are missing or
differ are passed over and said so.

accuracy: share of the labels that a filter agrees with. kappa: Cohen's, 0 is chance and 1 always. precision: share of
the kept captions that are single objects. recall: share of the single objects that are kept.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from vfusion3d.engine import RuleCaptionFilter, Stage, read_items
from vfusion3d.engine.stages.captions import REASONS
from vfusion3d.errors import UsageError, VFusion3DError

LABELS = Path(__file__).with_name("caption_labels.csv")
SPLITS = ("dev", "held_out")
COLUMNS = ("prompt", "Prompt", "caption")
BATCH = 64


@dataclass(frozen=True)
class Label:
    """What a person said of a caption."""

    file: str
    row: int
    caption: str
    split: str
    single: bool


# -- prompts and labels ----------------------------------------------------------------------------------------
def read_prompts(path: Path) -> list[str]:
    """The captions of a table.

    Raises:
        UsageError: if it is no such table.
    """
    if path.suffix == ".txt":
        return read_items(path)["prompt"].to_pylist()
    with path.open(encoding="utf-8", errors="replace") as file:  # `read_items` says what is wrong
        header = file.readline().rstrip("\n").split("\t")
    column = next((name for name in COLUMNS if name in header), COLUMNS[0])
    return read_items(path, column)[column].to_pylist()


def read_tables(folder: Path) -> dict[str, list[str]]:
    """The captions of every table in a folder, by file name.

    Raises:
        UsageError: if there is none.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix in (".txt", ".tsv"))
    if not paths:
        raise UsageError(f"There are no .txt or .tsv tables of prompts in {folder}; give the folder that has them.")
    return {path.name: read_prompts(path) for path in paths}


def read_labels(folder: Path, tables: dict[str, list[str]]) -> tuple[list[Label], list[str]]:
    """The labels whose captions are there, and a sentence for each file whose are not."""
    with LABELS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels, missing = [], []
    for name in sorted({row["file"] for row in rows}):
        mine = [row for row in rows if row["file"] == name]
        if name not in tables:
            missing.append(f"{name} is not in {folder}: its {len(mine)} labels are not used.")
            continue
        lines = (folder / name).read_text(encoding="utf-8").split("\n")
        first = 1 if name.endswith(".txt") else 2
        for row in mine:
            number = int(row["line"])
            line = lines[number - 1] if number <= len(lines) else ""
            if hashlib.sha256(line.encode()).hexdigest() != row["sha256"]:
                missing.append(f"{name} differs from the labelled file in line {number}: its labels are not used.")
                labels = [label for label in labels if label.file != name]
                break
            place = number - first
            labels.append(Label(name, place, tables[name][place], row["split"], row["single_object"] == "yes"))
    return labels, missing


# -- filters ---------------------------------------------------------------------------------------------------
def run(stage: Stage, captions: Sequence[str]) -> pa.Table:
    """A stage's columns for captions."""
    table = pa.table({"id": [str(row) for row in range(len(captions))], "prompt": list(captions)})
    starts = tqdm(range(0, len(table), BATCH), desc=stage.name, unit="batch", file=sys.stderr)
    return pa.concat_tables([stage(table.slice(start, BATCH)) for start in starts])


def agreement(labels: Sequence[Label], kept: dict[str, list[bool]]) -> dict[str, Any]:
    """How a filter's answers compare with labels; None where a figure is not defined."""
    truth = [label.single for label in labels]
    said = [kept[label.file][label.row] for label in labels]
    count = len(labels)
    hits = sum(a and b for a, b in zip(truth, said, strict=True))
    same = sum(a == b for a, b in zip(truth, said, strict=True)) / count
    chance = (sum(truth) * sum(said) + (count - sum(truth)) * (count - sum(said))) / count**2
    return {
        "labels": count,
        "single": sum(truth),
        "accuracy": same,
        "kappa": (same - chance) / (1 - chance) if chance < 1 else None,
        "precision": hits / sum(said) if any(said) else None,
        "recall": hits / sum(truth) if any(truth) else None,
    }


def agreements(labels: Sequence[Label], kept: dict[str, list[bool]]) -> dict[str, dict[str, Any]]:
    """`agreement` of each split and each file's part of it."""
    result = {}
    for split in SPLITS:
        mine = [label for label in labels if label.split == split]
        if mine:
            result[split] = agreement(mine, kept)
        for name in sorted({label.file for label in mine}):
            result[f"{split}, {name}"] = agreement([label for label in mine if label.file == name], kept)
    return result


# -- report ----------------------------------------------------------------------------------------------------
def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """Run the filters over everything.

    Raises:
        VFusion3DError: if something given cannot be used.
    """
    tables = read_tables(options.prompts)
    labels, missing = read_labels(options.prompts, tables)
    captions = [caption for name in tables for caption in tables[name]]
    results = {"rules": run(RuleCaptionFilter(), captions)}
    kept = {"rules": results["rules"]["single_object"].to_pylist()}
    if options.lm:
        from vfusion3d.engine import LMCaptionFilter

        results["lm"] = run(LMCaptionFilter(options.lm, device=options.device), captions)
        margins = results["lm"]["caption_margin"].to_pylist()
        kept["lm"] = [margin is not None and margin > options.threshold for margin in margins]
    report: dict[str, Any] = {"files": {}, "agreement": {}, "missing": missing, "lm": options.lm, "disagreements": []}
    start, by_file = 0, {name: {} for name in kept}
    for file, lines in tables.items():
        part = slice(start, start + len(lines))
        start += len(lines)
        for name in kept:
            by_file[name][file] = kept[name][part]
        rules = results["rules"].slice(part.start, len(lines))
        report["files"][file] = {
            "captions": len(lines),
            **{f"kept_{name}": sum(by_file[name][file]) / len(lines) for name in kept},
            "motion": sum(rules["motion"].to_pylist()) / len(lines),
            "reasons": dict(Counter(reason for reason in rules["caption_reason"].to_pylist() if reason)),
        }
    for name in kept if labels else ():
        report["agreement"][name] = agreements(labels, by_file[name])
        for label in labels:
            if label.split == options.disagreements and by_file[name][label.file][label.row] != label.single:
                why = why_dropped(results["rules"], tables, label) if name == "rules" else None
                report["disagreements"].append(
                    {"filter": name, "single": label.single, "reason": why, "caption": label.caption}
                )
    return report


def why_dropped(results: pa.Table, tables: dict[str, list[str]], label: Label) -> str | None:
    """The rules' reason against a labelled caption."""
    names = list(tables)
    before = sum(len(tables[name]) for name in names[: names.index(label.file)])
    return results["caption_reason"][before + label.row].as_py()


def cell(value: float | None) -> str:
    """A figure in a table."""
    return "n/a" if value is None else f"{value:.2f}"


def markdown(report: dict[str, Any]) -> str:
    """The tables of a report."""
    filters = ["rules", "lm"] if report["lm"] else ["rules"]
    columns = [f"kept by {name}" for name in filters]
    lines = [
        "| file | captions | " + " | ".join([*columns, "motion", *REASONS]) + " |",
        "|---|" + "---|" * (len(columns) + len(REASONS) + 2),
    ]
    for name, entry in report["files"].items():
        shares = [f"{entry[f'kept_{kind}']:.0%}" for kind in filters] + [f"{entry['motion']:.0%}"]
        counts = [str(entry["reasons"].get(reason, 0)) for reason in REASONS]
        lines.append(f"| {name} | {entry['captions']} | " + " | ".join(shares + counts) + " |")
    for name, entries in report["agreement"].items():
        lines += [
            "",
            f"Agreement of {name} with the labels:",
            "",
            "| | labels | single | accuracy | kappa | precision | recall |",
            "|---|---|---|---|---|---|---|",
        ]
        for split, entry in entries.items():
            figures = " | ".join(cell(entry[figure]) for figure in ("accuracy", "kappa", "precision", "recall"))
            lines.append(f"| {split} | {entry['labels']} | {entry['single']} | {figures} |")
    if report["disagreements"]:
        lines.append("")
    for entry in report["disagreements"]:
        said = "single, but dropped" if entry["single"] else "not single, but kept"
        reason = f" ({entry['reason']})" if entry["reason"] else ""
        lines.append(f"- {entry['filter']}: {said}{reason}: {entry['caption']}")
    return "\n".join([*lines, *([""] if report["missing"] else []), *report["missing"]])


def parser() -> argparse.ArgumentParser:
    """Options of the script."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = options.add_argument
    add("--prompts", type=Path, default=Path("../shared/data/prompts"), metavar="DIR", help="folder of tables")
    add("--lm", metavar="MODEL", help="a causal language model too: a folder, or owner/name on the hub")
    add("--threshold", type=float, default=0.0, metavar="T", help="margin above which the model keeps (default: 0)")
    add("--device", default="cpu", help="of the language model (default: cpu)")
    add("--disagreements", choices=SPLITS, help="list the labels of a split that a filter disagrees with")
    add("--json", action="store_true", help="print one JSON document instead of Markdown")
    return options


def main() -> int:
    """Run and print; 0, or 2 if something cannot be used."""
    options = parser().parse_args()
    try:
        report = benchmark(options)
    except VFusion3DError as error:
        print(f"captions.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=1) if options.json else markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
