"""The video model, and the orbits that it makes of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vfusion3d.cameras import Rig
from vfusion3d.commands.nano.chain import Chain, Outcome, Progress
from vfusion3d.commands.nano.objects import PICTURED, RENDERED, categories, true_orbit
from vfusion3d.commands.nano.settings import VIDEO_RECIPE
from vfusion3d.commands.nano.training import MODEL, PICTURES, fit
from vfusion3d.data.shards import ShardSet
from vfusion3d.engine.plan import Plan, Step
from vfusion3d.engine.runner import run
from vfusion3d.engine.stages.centre import CentrePicture
from vfusion3d.engine.stages.orbits import ImageToOrbit
from vfusion3d.engine.stages.pictures import ReadImage, encode_frames
from vfusion3d.engine.stages.planted import OraclePsnr
from vfusion3d.engine.store import ITEMS, Store
from vfusion3d.engine.worker import Worker
from vfusion3d.preprocessing import rig_border
from vfusion3d.video.trained import find_video_model, read_video_config

_UNIT = 8
RUN = "run"
"""Folder of the engine's run, in that of the orbits."""


def make_video(chain: Chain, folder: Path, settings: Mapping[str, Any], progress: Progress) -> Outcome:
    """Fine-tune a video model and export it; or look at the one that was given."""
    if "model" in settings:
        config = read_video_config(find_video_model(chain.places["video_model"]))
        return Outcome({"given model": config.name, "backbone": config.backbone, "pixels a side": config.size})
    changes, terms = dict(settings["changes"]), {"license": "CC0-1.0"}
    if "meshes" in chain.settings["objects"]:
        terms = {}  # they are the meshes' owners'
        size = changes.get("data", {}).get("init_args", {}).get("resolution", 32)
        root = {"root": str(chain.folder("objects") / RENDERED), "batch_size": 4, "views": 16, "resolution": size}
        changes["data"] = {"class_path": "vfusion3d.OrbitVideoDataModule", "init_args": {**root, "val_fraction": 0.1}}
    trainer = fit(VIDEO_RECIPE, changes, folder, progress, name="nano-orbit", **terms)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    names = {"val/psnr": "orbit PSNR, dB", "val/still_psnr": "PSNR of the first frame repeated, dB"}
    figures = {"steps": trainer.global_step, **{text: logged[name] for name, text in names.items() if name in logged}}
    sheets = sorted((folder / PICTURES).glob("*.png"))[-1:]
    caption = "Orbits of objects that it was not trained on: the true one above, the generated one below."
    return Outcome(figures, [], [[f"{PICTURES}/{sheet.name}", caption] for sheet in sheets])


def video_model(chain: Chain) -> str:
    """The folder of the chain's video model."""
    given = chain.places.get("video_model")
    return str(find_video_model(given)) if given else str(chain.folder("video") / MODEL)


def model_size(chain: Chain) -> tuple[int, Rig]:
    """Pixels a side of the chain's orbits, and their rig."""
    config = read_video_config(find_video_model(video_model(chain)))
    return config.size, config.rig


def make_orbits(chain: Chain, folder: Path, settings: Mapping[str, Any], progress: Progress) -> Outcome:
    """Pictures of objects to orbits, by the engine; each compared with the true one."""
    store = orbit_store(chain)
    plan = Plan(orbit_steps(chain), store.items.column_names)
    run_engine(plan, store, progress)
    rows = [
        row
        for unit in range(store.units)
        for row in store.table(plan, len(plan.steps), unit, ["frames", "oracle_psnr"]).to_pylist()
    ]
    scores = [row["oracle_psnr"] for row in rows if row["oracle_psnr"] is not None]
    made = sum(row["frames"] is not None for row in rows)
    figures: dict[str, Any] = {"pictures": len(rows), "orbits": made}
    if scores:
        figures["mean PSNR of the worst quarter of the frames, dB"] = sum(scores) / len(scores)
    return Outcome(figures)


def orbit_store(chain: Chain) -> Store:
    """The engine's run; its items are pictures, with the true orbits that a video model should make of them."""
    folder = chain.folder("orbits")
    path = folder / RUN / ITEMS
    if path.exists():
        return Store(folder / RUN, pq.read_table(path).replace_schema_metadata(), _UNIT)
    shards = ShardSet(str(chain.folder("objects") / PICTURED))
    size, rig = model_size(chain)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rows, licences = [], shards.attributes()["licence"].to_pylist()
    for item, kind in enumerate(categories(shards, chain.settings["objects"]["kinds"])):
        key, truth = shards.key(item), true_orbit(shards, item, size, rig_border(rig))
        shards.pictures(item, [0])[0].save(folder / "pictures" / f"{key}.png")
        rows.append(
            {
                **{"id": key, "file": f"{key}.png", "category": kind, "licence": licences[item]},
                "true_elevation": float(shards.cameras(item).elevations[0]),
                "truth": None if truth is None else encode_frames(truth),
            }
        )
    kinds = {**dict.fromkeys(("id", "file", "category", "licence"), pa.string()), "true_elevation": pa.float64()}
    items = pa.Table.from_pylist(rows, pa.schema({**kinds, "truth": pa.list_(pa.binary())}))
    if items["category"].null_count == len(items):  # meshes
        items = items.drop_columns(["category"])
    return Store(folder / RUN, items, _UNIT)


def orbit_steps(chain: Chain) -> list[Step]:
    """From pictures to orbits and their distance from the truth."""
    model, settings = video_model(chain), chain.settings["orbits"]
    return [
        Step(ReadImage(chain.folder("orbits") / "pictures")),
        Step(CentrePicture(model)),
        Step(ImageToOrbit(model, steps=settings["steps"], guidance=settings["guidance"])),
        Step(OraclePsnr()),
    ]


def run_engine(plan: Plan, store: Store, progress: Progress) -> None:
    """Do what is missing, a stage after the other, unit by unit so that the chain's bar moves."""
    for number in range(len(plan.steps)):
        worker = Worker(plan, number, store)
        for unit in range(store.units):
            worker.do(unit, wait=True)
            progress((number + (unit + 1) / store.units) / len(plan.steps))
    run(plan, store, quiet=True)  # nothing is left to do but to write its report
