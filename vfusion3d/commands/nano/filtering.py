"""Labels by the oracle, the two learned parts, and what they let through."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from torch import Tensor

from vfusion3d.commands.nano.chain import Chain, Outcome, Progress
from vfusion3d.commands.nano.objects import RENDERED, true_orbit
from vfusion3d.commands.nano.video import model_size, orbit_steps, orbit_store, run_engine
from vfusion3d.data.randomness import hash_order
from vfusion3d.data.shards import ShardSet
from vfusion3d.engine.learning.quality_report import cross_validate, plot_calibration
from vfusion3d.engine.packing import pack
from vfusion3d.engine.plan import Plan, Step
from vfusion3d.engine.stage import item_seed
from vfusion3d.engine.stages.elevation import ElevationLabel
from vfusion3d.engine.stages.features import FEATURES, VideoFeatures
from vfusion3d.engine.stages.masks import FrameMasks
from vfusion3d.engine.stages.pictures import encode_frames
from vfusion3d.engine.stages.planted import KINDS, plant
from vfusion3d.engine.stages.quality import QualityClassifier, QualityScore, threshold_for
from vfusion3d.engine.store import Store
from vfusion3d.errors import UsageError
from vfusion3d.outputs import atomic_file
from vfusion3d.preprocessing import rig_border
from vfusion3d.preprocessing.elevation import train_elevation

GENERATED, TRUE, GRAINY = "generated", "true", "grainy"
SHARDS, EVERYTHING = "shards", "everything"
"""Folders of the shard sets of what the filter kept, and of all orbits."""
_LABELS = "labels.parquet"
_SCHEMA = pa.schema(
    {
        **{"id": pa.string(), "kind": pa.string(), "good": pa.bool_(), "checked": pa.bool_()},
        **{"elevation": pa.float64(), "frames": pa.list_(pa.binary())},
    }
)


def make_labels(chain: Chain, folder: Path, settings: Mapping[str, Any], progress: Progress) -> Outcome:
    """Generated orbits, labelled by how near they are to the true ones; true orbits; and planted failures.

    Of each failure and of the true orbits some are set aside (``checked``), to test the filter by. The others are there
    with noise too, for the elevation network, which is asked about noisy ones.
    """
    store = orbit_store(chain)
    plan = Plan(orbit_steps(chain), store.items.column_names)
    known = [
        row
        for unit in range(store.units)
        for row in store.table(plan, len(plan.steps), unit, ["frames", "oracle_psnr", "true_elevation"]).to_pylist()
        if row["oracle_psnr"] is not None
    ]
    chosen = [known[place] for place in hash_order(row["id"] for row in known)[: settings["labelled"]]]
    threshold = threshold_for(np.array([row["oracle_psnr"] for row in chosen]), settings["good"])
    rows = [
        {
            **{"id": row["id"], "kind": GENERATED, "good": row["oracle_psnr"] >= threshold, "checked": False},
            **{"elevation": row["true_elevation"], "frames": row["frames"]},
        }
        for row in chosen
    ]
    shards, (size, rig) = ShardSet(str(chain.folder("objects") / RENDERED)), model_size(chain)
    other = None
    for item in range(len(shards)):
        truth, elevation = true_orbit(shards, item, size, rig_border(rig)), float(shards.cameras(item).elevations[0])
        if truth is None:
            continue
        key, used = shards.key(item), settings["planted"] + settings["checked"]
        about = {"checked": settings["planted"] <= item < used, "elevation": elevation}
        rows.append({**about, "id": key, "kind": TRUE, "good": True, "frames": encode_frames(truth)})
        if not about["checked"]:
            grainy = encode_frames(add_grain(truth, item_seed(key, stream="grain")))
            rows.append({**about, "id": f"{key}-grainy", "kind": GRAINY, "good": True, "frames": grainy})
        if item < used and other is not None:
            kind = KINDS[item % len(KINDS)]
            bad = plant(kind, truth, other, item_seed(key, stream="planted"))
            rows.append({**about, "id": f"{key}-bad", "kind": kind, "good": False, "frames": encode_frames(bad)})
        other = truth
        progress((item + 1) / len(shards))
    with atomic_file(folder / _LABELS) as file:
        pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), file)
    counts = {kind: sum(row["kind"] == kind for row in rows) for kind in (GENERATED, TRUE, GRAINY, *KINDS)}
    figures = {"generated orbits labelled": len(chosen), "good from, dB": float(threshold)}
    table = {"title": "Labelled orbits", "header": ["kind", "orbits"], "rows": [list(row) for row in counts.items()]}
    return Outcome(figures, [table])


def add_grain(frames: Tensor, seed: int) -> Tensor:
    """Fine and coarse noise on and around the object, as small video models leave it.

    Args:
        frames: On white, ``[F, 3, H, W]`` in [0, 1].
        seed: Of the noise and its strength.
    """
    generator = torch.Generator().manual_seed(seed)
    strength = 0.35 * torch.rand((), generator=generator)
    coarse = torch.randn(len(frames), 3, 8, 8, generator=generator)
    noise = torch.randn(frames.shape, generator=generator)
    noise = noise + F.interpolate(coarse, frames.shape[-2:], mode="bilinear")
    near = F.max_pool2d((frames.amin(1, keepdim=True) < 0.95).float(), 9, 1, 4)
    return (frames + strength * noise * near).clamp(0, 1)


def make_filter(chain: Chain, folder: Path, settings: Mapping[str, Any], progress: Progress) -> Outcome:
    """Train filter and elevation regressor; then score, filter, label and cut out all generated orbits.

    Raises:
        UsageError: if none of them passes.
    """
    labels = _features(chain, folder, lambda share: progress(0.4 * share))
    training = labels.filter(~pc.field("checked"))
    # True orbits count as good examples where a failure was planted into them: as many of each.
    rendered = pc.is_in(pc.field("kind"), pa.array([TRUE, GRAINY]))
    rated = training.filter(~rendered | pc.is_in(pc.field("id"), pa.array(_planted_ids(training))))
    tag = training[FEATURES][0].as_py()
    features, good = _vectors(rated, "quality_features"), np.array(rated["good"].to_pylist())
    validated = cross_validate(features, good, tag)
    generated = np.array([kind == GENERATED for kind in rated["kind"].to_pylist()])
    report = validated.summary(settings["keep"])
    classifier = replace(QualityClassifier.train(features, good, tag), report=report)
    classifier = classifier.with_keep_rate(settings["keep"], validated.decisions[generated])
    classifier.save(folder / "quality")
    plot_calibration(validated, classifier.threshold, folder / "calibration.png")
    true = training.filter(rendered)
    regressor = train_elevation(_vectors(true, "elevation_features"), true["elevation"].to_numpy(), tag)
    regressor.save(folder / "elevation")
    plan, store = engine_plan(chain)
    run_engine(plan, store, lambda share: progress(0.4 + 0.6 * share))
    figures = {"ROC AUC of the filter, cross-validated": report["roc_auc"], **_filter_figures(plan, store, classifier)}
    if not figures["kept"]:
        raise UsageError(
            f"The filter keeps none of the {figures['dropped']} orbits, so there is nothing to train on; give more "
            "objects or a better video model."
        )
    caption = "How the share of good orbits grows with the filter's decision value, on orbits it was not trained on."
    return Outcome(figures, [_unseen(labels, classifier)], [["calibration.png", caption]])


def _unseen(labels: pa.Table, classifier: QualityClassifier) -> dict[str, Any]:
    """A table of what the filter does with the orbits that were set aside."""
    checked = labels.filter(pc.field("checked"))
    kept = classifier.decision(_vectors(checked, "quality_features")) >= classifier.threshold
    kinds = np.array(checked["kind"].to_pylist())
    return {
        "title": "Orbits that the filter never saw: how many of each kind it keeps",
        "header": ["kind", "kept", "of"],
        "rows": [[kind, int(kept[kinds == kind].sum()), int((kinds == kind).sum())] for kind in (TRUE, *KINDS)],
    }


def _planted_ids(table: pa.Table) -> list[str]:
    """True orbits that a failure was planted into."""
    return [key.removesuffix("-bad") for key in table["id"].to_pylist() if key.endswith("-bad")]


def _features(chain: Chain, folder: Path, progress: Progress) -> pa.Table:
    """The labelled orbits with their features."""
    table = pq.read_table(chain.folder("labels") / _LABELS)
    plan = Plan([Step(_video_features())], table.column_names)
    store = Store(folder / "labelled", table)
    run_engine(plan, store, progress)
    columns = [*(name for name in table.column_names if name != "frames"), *plan.owners]
    return pa.concat_tables([store.table(plan, 1, unit, columns) for unit in range(store.units)])


def _video_features() -> VideoFeatures:
    return VideoFeatures("pixels", spread=True)  # needs no weights; the paper's are DINO's


def _vectors(table: pa.Table, column: str) -> np.ndarray:
    return np.array(table[column].to_pylist(), np.float64)


def engine_plan(chain: Chain, filtered: bool = True) -> tuple[Plan, Store]:
    """All of the engine's stages, and their run; labels and masks of all orbits unless ``filtered``."""
    folder, store = chain.folder("filter"), orbit_store(chain)
    threshold = QualityClassifier.load(folder / "quality").threshold
    good = f"quality >= {threshold!r}" if filtered else None
    steps = [
        *orbit_steps(chain),
        Step(_video_features()),
        Step(QualityScore(str(folder / "quality"))),
        Step(ElevationLabel(str(folder / "elevation")), where=good),
        Step(FrameMasks("white"), where=good),
    ]
    return Plan(steps, store.items.column_names), store


def _filter_figures(plan: Plan, store: Store, classifier: QualityClassifier) -> dict[str, Any]:
    """Whether what was kept is nearer to the truth than what was dropped, and how far elevations are off."""
    names = ["quality", "oracle_psnr", "elevation", "true_elevation"]
    tables = [store.table(plan, len(plan.steps), unit, names) for unit in range(store.units)]
    rows = [row for row in pa.concat_tables(tables).to_pylist() if row["quality"] is not None]
    kept = [row for row in rows if row["quality"] >= classifier.threshold]
    dropped = [row for row in rows if row["quality"] < classifier.threshold]
    figures: dict[str, Any] = {"kept": len(kept), "dropped": len(dropped), "keep rate": len(kept) / max(1, len(rows))}
    for name, part in (("kept", kept), ("dropped", dropped)):
        scores = [row["oracle_psnr"] for row in part if row["oracle_psnr"] is not None]
        if scores:
            figures[f"worst-quarter PSNR of those {name}, dB"] = sum(scores) / len(scores)
    labelled = [row for row in kept if row["elevation"] is not None]
    if labelled:
        errors = [math.degrees(abs(row["elevation"] - row["true_elevation"])) for row in labelled]
        figures["mean error of their elevation, degrees"] = sum(errors) / len(errors)
        middle = [math.degrees(abs(math.pi / 8 - row["true_elevation"])) for row in labelled]
        figures["of always saying 22.5, degrees"] = sum(middle) / len(middle)
    return figures


def make_shards(chain: Chain, folder: Path, settings: Mapping[str, Any], progress: Progress) -> Outcome:
    """Pack what was kept, with its rig, labels and licences; and everything, to compare."""
    plan, store = engine_plan(chain, filtered=False)
    run_engine(plan, store, progress)
    pack(plan, store, folder / EVERYTHING, quiet=True)
    plan, store = engine_plan(chain)
    run_engine(plan, store, progress)  # nothing but its report again
    pack(plan, store, folder / SHARDS, quiet=True)
    shards, everything = (ShardSet(str(folder / name)) for name in (SHARDS, EVERYTHING))
    return Outcome({"items": len(shards), "of": len(everything), "columns": ", ".join(shards.columns)})
