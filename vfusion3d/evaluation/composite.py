"""Rows that mix two test sets, as the tables of the paper's ablations do."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfusion3d.errors import UsageError
from vfusion3d.evaluation.clip_scores import PICTURE, TEXT, ClipProtocol
from vfusion3d.evaluation.groups import ALL, in_order
from vfusion3d.evaluation.protocol import Protocol, read_fields
from vfusion3d.evaluation.results import METHOD, RESULTS, Results, told_failures


@dataclass(frozen=True)
class CompositeProtocol:
    """Novel views under one protocol, CLIP scores under another."""

    name: str
    description: str
    novel_views: str
    """Of a `Protocol`."""
    clip: str
    """Of a `ClipProtocol`."""

    @property
    def hashes(self) -> tuple[str, str]:
        """Of the two."""
        return Protocol.load(self.novel_views).hash, ClipProtocol.load(self.clip).hash

    @property
    def hash(self) -> str:
        """SHA-256 over the two hashes."""
        return hashlib.sha256("".join(self.hashes).encode()).hexdigest()

    @classmethod
    def load(cls, name: str) -> CompositeProtocol:
        """One of the package's ``protocols/composite``, or of a YAML file.

        Raises:
            UsageError: if there is none, or it cannot be used.
        """
        path, fields = read_fields(name, "composite")
        try:
            return cls(**fields)
        except TypeError as error:
            raise UsageError(f"The composite protocol {path} cannot be used ({error}).") from error


def read_clip_results(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `vfusion3d.evaluation.clip_scores.score` found, from ``results.json`` or the folder that has it.

    Raises:
        UsageError: if it is missing, cut short, or something else.
    """
    file = Path(path) / RESULTS if os.path.isdir(path) else Path(path)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        parts = [document, *document["groups"].values()]
        plain = [document["weights"], document["failures"]]
        for part in parts:
            plain += [part["means"], part["floors"], *part["means"].values(), *part["floors"].values()]
        whole = all(isinstance(part["objects"], int) for part in parts) and isinstance(document["protocol_hash"], str)
        if not whole or not all(isinstance(part, dict) for part in plain):
            raise ValueError("it is not whole")
    except FileNotFoundError as error:
        raise UsageError(f"There are no results {file}; run benchmarks/clip.py with --output first.") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"The results {file} cannot be read ({error}); run benchmarks/clip.py again.") from error
    return document  # type: ignore[no-any-return]


def composite_rows(
    protocol: CompositeProtocol, views: str | os.PathLike[str], clip: str | os.PathLike[str]
) -> dict[str, dict[str, Any]]:
    """A run's row in the table of each group of objects.

    Args:
        protocol: The composite.
        views: Results of novel views.
        clip: Results of CLIP scores, of the same group of objects where they keep it apart, else of all.

    Returns:
        By group: ``ssim``, ``lpips``, per CLIP model ``clip_text`` and ``clip_image`` in ``clip``, of how many objects
        they are, and in ``floors`` the same figures of each floor, by name.

    Raises:
        UsageError: if a file cannot be used, or is of another protocol than the composite's.
    """
    novel, scores = Results.load(views), read_clip_results(clip)
    for place, found, wanted, name in (
        (views, novel.protocol.hash, protocol.hashes[0], protocol.novel_views),
        (clip, scores["protocol_hash"], protocol.hashes[1], protocol.clip),
    ):
        if found != wanted:
            raise UsageError(
                f"The results {os.fspath(place)} have the protocol hash {found[:12]}, but {name} has {wanted[:12]}, so "
                f"they are no part of the composite {protocol.name}; score them under it."
            )
    rows = {}
    for group in novel.groups:
        apart = group in scores["groups"]
        part = scores["groups"][group] if apart else scores
        clip_floors = {
            floor: {model: figures[floor] for model, figures in part["floors"].items() if floor in figures}
            for floor in dict.fromkeys(floor for figures in part["floors"].values() for floor in figures)
        }
        floors = dict.fromkeys([*novel.floors, *clip_floors])
        rows[group] = {
            **_figures(novel, group, METHOD, part["means"]),
            "objects": len(novel.per_object("ssim", group)),
            "clip_objects": part["objects"],
            "clip_group": group if apart else ALL,
            "clip_weights": scores["weights"],
            "lpips_weights": novel.lpips_weights,
            "failures": {"views": novel.failures, "CLIP": scores["failures"]},
            "floors": {floor: _figures(novel, group, floor, clip_floors.get(floor, {})) for floor in floors},
        }
    return rows


def _figures(novel: Results, group: str, of: str, clip: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Figures of the method or of a floor, None where there are none."""
    views = {name: novel.mean(name, group, of).value if of in novel.rows else None for name in ("ssim", "lpips")}
    return {
        **views,
        "clip": {
            model: {figure: None if mean is None else mean["value"] for figure, mean in figures.items()}
            for model, figures in clip.items()
        },
    }


def composite_table(runs: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Markdown of `composite_rows` by run: a table for each group, a pair of columns for each CLIP model, floors below
    (the last run's)."""
    models = list(dict.fromkeys(model for rows in runs.values() for row in rows.values() for model in row["clip"]))
    heads = ["SSIM", "LPIPS", *(f"{model} {what}" for model in models for what in ("text", "picture"))]
    tables = []
    for group in in_order(group for rows in runs.values() for group in rows):
        own = {name: rows[group] for name, rows in runs.items() if group in rows}
        last = list(own.values())[-1]
        lines = [f"| {group} objects | {' | '.join(heads)} |", "| --- " + "| ---: " * len(heads) + "|"]
        for name, row in {**own, **{f"floor: {floor}": row for floor, row in last["floors"].items()}}.items():
            values = [row["ssim"], row["lpips"]]
            values += [row["clip"].get(model, {}).get(figure) for model in models for figure in (TEXT, PICTURE)]
            lines.append(f"| {name} | " + " | ".join("n/a" if v is None else f"{v:.3f}" for v in values) + " |")
        pooled = [name for name, row in own.items() if row["clip_group"] != group]
        if pooled:
            lines.append(f"CLIP scores of {', '.join(pooled)} are of all their objects, {group} or not.")
        tables.append("\n".join(lines))
    return "\n\n".join([*tables, *_remarks(runs)])


def _remarks(runs: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """What failed, and what does not compare for other weights."""
    each = {name: next(iter(rows.values())) for name, rows in runs.items()}
    remarks = [
        line
        for name, row in each.items()
        for what, failures in row["failures"].items()
        for line in told_failures(failures, "scored as empty or 0", f"{name}, {what}")
    ]
    for what in ("lpips_weights", "clip_weights"):
        if any(row[what] != next(iter(each.values()))[what] for row in each.values()):
            remarks.append(f"{what.split('_')[0].upper()} does not compare: the runs' networks have different weights.")
    return remarks
