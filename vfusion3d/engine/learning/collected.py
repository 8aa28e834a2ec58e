"""A stage's results on chosen videos, kept as they come: what training reads, wherever the videos are."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from vfusion3d.engine.learning.videos import FRAMES, RunVideos, Videos, part_files
from vfusion3d.engine.stage import ERROR, ID, Stage
from vfusion3d.engine.store import STAGES
from vfusion3d.errors import OutputError, VFusion3DError
from vfusion3d.outputs import atomic_file, make_folder

_KEPT = 16  # videos of a file: what a killed process does again


def collect(stage: Stage, videos: Videos, wanted: Sequence[str], folder: Path, quiet: bool = False) -> pa.Table:
    """A stage's columns of videos, in the order asked for; a killed process goes on where it was.

    Args:
        stage: Reads nothing but ``frames``.
        videos: Where they are.
        wanted: Which.
        folder: Where results are kept, in a folder for each place of videos and fingerprint of the stage. What a run of
            the data engine has computed already is taken from there.
        quiet: No progress bar.

    Returns:
        ``id``, the stage's columns and ``error``, which says what failed; that is tried again the next time.

    Raises:
        OutputError: if results cannot be written, or earlier ones not be read.
    """
    names = [ID, *stage.writes, ERROR]
    made_by = videos.made_by if isinstance(videos, RunVideos) else None
    place = f"{stage.name}-{stage.fingerprint({FRAMES: made_by} if made_by else {})}"  # as a run's own stage has it
    kept = make_folder(folder / _place_of(videos) / place)
    earlier = [kept, *([videos.run / STAGES / place] if isinstance(videos, RunVideos) else [])]
    tables = [_sound(_read(path, names)) for one in earlier for path in part_files(one)]
    known = {name for table in tables for name in table[ID].to_pylist()}
    missing = [video for video in wanted if video not in known]
    number = len(part_files(kept))
    with tqdm(total=len(missing), desc=stage.name, unit="video", file=sys.stderr, disable=quiet or not missing) as bar:
        for start in range(0, len(missing), _KEPT):
            some = missing[start : start + _KEPT]
            tables.append(stage(_with_frames(videos, some)).select(names))
            with atomic_file(kept / f"{number:06d}-000.parquet") as file:
                pq.write_table(_sound(tables[-1]), file, compression="zstd")
            number += 1
            bar.update(len(some))
    return _in_order(tables, wanted, names)


def failures(table: pa.Table) -> dict[str, str]:
    """Why videos have no results, by id."""
    failed = table.filter(pc.field(ERROR).is_valid())
    return dict(zip(failed[ID].to_pylist(), failed[ERROR].to_pylist(), strict=True))


def vectors(table: pa.Table, column: str) -> np.ndarray:
    """A column of lists of one length as an array, float32 ``[N, D]``."""
    values = table[column].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(table), -1).astype(np.float32, copy=False)


def _place_of(videos: Videos) -> str:
    """Videos of one name in two places are not the same."""
    location = videos.location if "://" in videos.location else os.path.abspath(videos.location)
    return hashlib.sha256(location.encode()).hexdigest()[:8]


def _sound(table: pa.Table) -> pa.Table:
    return table.filter(pc.field(ERROR).is_null())


def _with_frames(videos: Videos, some: Collection[str]) -> pa.Table:
    """A batch; videos that cannot be read have an error."""
    frames: list[list[bytes] | None] = []
    errors: list[str | None] = []
    for video in some:
        try:
            frames.append(videos.frames(video))
            errors.append(None)
        except VFusion3DError as error:
            frames.append(None)
            errors.append(str(error))
    columns = {ID: pa.array(some, pa.string()), FRAMES: pa.array(frames, pa.list_(pa.binary()))}
    return pa.table({**columns, ERROR: pa.array(errors, pa.string())})


def _in_order(tables: list[pa.Table], wanted: Sequence[str], names: list[str]) -> pa.Table:
    if not tables:
        return pa.table({name: pa.array([], pa.string()) for name in names})
    table = pa.concat_tables(tables, promote_options="permissive")
    place = pc.index_in(pa.array(wanted, pa.string()), value_set=table[ID].combine_chunks())
    return table.take(place)


def _read(path: Path, names: list[str]) -> pa.Table:
    try:
        return pq.read_table(path, columns=names)
    except (pa.ArrowInvalid, OSError) as error:
        raise OutputError(f"The file {path} of an earlier run cannot be read ({error}); remove it.") from error
