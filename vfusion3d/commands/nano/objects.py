"""The objects: rendered ones for training, photographed ones for the video model to turn, held-out ones to score by."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from vfusion3d.commands.nano.chain import Chain, Outcome, Progress
from vfusion3d.data.packing import procedural_items, procedural_rig, scene_items
from vfusion3d.data.procedural import object_kind
from vfusion3d.data.randomness import hash_order
from vfusion3d.data.scenes import TRANSFORMS
from vfusion3d.data.shard_writer import Item, ShardWriter
from vfusion3d.data.shards import ShardSet
from vfusion3d.engine.page import strip
from vfusion3d.engine.stages.planted import centred_truth
from vfusion3d.errors import InputImageError, UsageError
from vfusion3d.preprocessing import centre_picture

RENDERED, PICTURED, HELD_OUT = SETS = ("rendered", "pictured", "held_out")
_SHARES = {HELD_OUT: 0.15, PICTURED: 0.35}  # of meshes; the rest is rendered
_FAR = 1_000_000  # seeds between the sets, and between runs of other seeds


def make_objects(chain: Chain, folder: Path, settings: Mapping[str, Any], progress: Progress) -> Outcome:
    """Three shard sets: `SETS`."""
    pack = _pack_meshes if settings.get("meshes") else _pack_procedural
    pack(folder, settings, progress)
    sets = {name: ShardSet(str(folder / name)) for name in SETS}
    rows = [strip_of(sets[RENDERED], item) for item in range(min(4, len(sets[RENDERED])))]
    sheet = Image.new("RGBA", (rows[0].width, sum(row.height + 4 for row in rows)))
    for number, row in enumerate(rows):
        sheet.paste(row, (0, number * (row.height + 4)))
    sheet.save(folder / "objects.png")
    caption = "Rendered objects: every second frame of an orbit each."
    return Outcome({name.replace("_", " "): len(part) for name, part in sets.items()}, [], [["objects.png", caption]])


def strip_of(shards: ShardSet, item: int) -> Image.Image:
    """Some frames of an item's orbit in a row."""
    return strip(shards.members(item, range(int(shards.counts[item]))))


def true_orbit(shards: ShardSet, item: int, size: int, border: float) -> Tensor | None:
    """What a video model should make of an item's first frame: RGB on white, ``[F, 3, size, size]``.

    None if that frame cannot be centred: it shows several objects, or one that is cut off.
    """
    pictures = shards.pictures(item, range(int(shards.counts[item])))
    try:
        window = centre_picture(pictures[0], size, border, check=True).window
    except InputImageError:
        return None
    return centred_truth(pictures, shards.cameras(item), window, size)


def categories(shards: ShardSet, kinds: Sequence[str]) -> list[str | None]:
    """Which of the kinds each procedural object is; None of a mesh."""
    seeds = shards.attributes()["seed"].to_pylist()
    return [None if seed is None else object_kind(seed, kinds) for seed in seeds]


def _pack_procedural(folder: Path, settings: Mapping[str, Any], progress: Progress) -> None:
    total, done, rig = sum(settings[name] for name in SETS), 0, procedural_rig()
    for number, name in enumerate(SETS):
        # Pictures' orbits are compared with generated ones, which can claim nothing but the rig.
        nominal, count = name == PICTURED, settings[name]
        writer = ShardWriter(folder / name, rig if nominal else None)
        seed = (len(SETS) * settings["seed"] + number) * _FAR
        items = procedural_items(count, settings["resolution"], rig, not nominal, seed, writer.keys, settings["kinds"])
        writer.write(_counted(items, lambda made, done=done: progress((done + made) / total)))
        done += count


def _pack_meshes(folder: Path, settings: Mapping[str, Any], progress: Progress) -> None:
    """Render meshes on orbits and divide them among the sets by their names.

    Raises:
        UsageError: if there are too few.
    """
    from vfusion3d.commands import render
    from vfusion3d.commands.arguments import parse

    scenes = folder / "scenes"
    options = ["--output", str(scenes), "--resolution", str(settings["resolution"]), "--seed", str(settings["seed"])]
    with contextlib.redirect_stdout(sys.stderr):
        render.run(parse(render.build_parser(), [*settings["meshes"], *options]))
    folders = sorted(path.parent for path in scenes.glob(f"*/{TRANSFORMS}"))
    if len(folders) < 10:
        raise UsageError(f"Only {len(folders)} meshes of --meshes could be rendered, but nano needs 10; give more.")
    progress(0.8)
    left = [folders[place] for place in hash_order(path.name for path in folders)]
    for name in reversed(SETS):
        count = round(_SHARES[name] * len(folders)) if name in _SHARES else len(left)
        chosen, left = left[:count], left[count:]
        writer = ShardWriter(folder / name)
        writer.write(scene_items(chosen, None, writer.keys, lambda path, error: print(error, file=sys.stderr)))


def _counted(items: Iterator[Item], told: Any) -> Iterator[Item]:
    for made, item in enumerate(items, 1):
        yield item
        told(made)
