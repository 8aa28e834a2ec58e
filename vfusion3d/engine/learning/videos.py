"""Videos around objects, wherever they lie: what an engine's run made, a shard set, or folders of frames.

People label them, and filters and regressors are trained on them, whatever made them.
"""

from __future__ import annotations

import os
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vfusion3d.cameras import Cameras
from vfusion3d.data.scenes import TRANSFORMS, Scene
from vfusion3d.data.shards import ITEMS, ShardSet
from vfusion3d.engine.stage import ERROR, ID
from vfusion3d.engine.store import STAGES
from vfusion3d.errors import SceneError, ShardError, UsageError

FRAMES = "frames"
_PICTURES = (".png", ".webp", ".jpg", ".jpeg")


class Videos(ABC):
    """Videos by id; frames are read on demand, from any thread.

    Args:
        location: Where they are.
        ids: Their names, in a fixed order.
    """

    def __init__(self, location: str, ids: Sequence[str]) -> None:
        self.location, self.ids = location, list(ids)
        if not self.ids:
            raise UsageError(f"There are no videos in {location}; make some with `vfusion3d orbit` or `generate`.")

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def frames(self, video: str) -> list[bytes]:
        """A video's frames as picture files.

        Raises:
            VFusion3DError: naming what cannot be read.
        """

    def prompt(self, video: str) -> str:
        """What a video shows, "" if unknown."""
        return ""

    def cameras(self, video: str) -> Cameras | None:
        """A video's cameras ``[F]``; None if unknown."""
        return None


def open_videos(location: str | os.PathLike[str]) -> Videos:
    """Videos in a folder or at an address.

    Args:
        location: A folder of the data engine (``vfusion3d generate``) or, where two of its stages made frames, of one
            stage; a shard set; or a folder of folders each of which holds one orbit: ``transforms.json`` or the
            ``images/`` that ``vfusion3d orbit`` writes.

    Raises:
        UsageError: if it is none of these.
        VFusion3DError: if something in it cannot be read.
    """
    name, path = str(location), Path(location)
    if "://" not in name and not path.is_dir():
        raise UsageError(f"The folder {name} does not exist; check the path.")
    if (path / STAGES).is_dir() or path.parent.name == STAGES:
        return RunVideos(path)
    if "://" in name or (path / ITEMS).is_file():
        return ShardVideos(name)
    return FolderVideos(path)


class RunVideos(Videos):
    """What a stage of the data engine made.

    Args:
        folder: The run's folder, or one in its ``stages/``.

    Raises:
        UsageError: if no stage, or more than one, has made frames.
    """

    def __init__(self, folder: Path) -> None:
        stages = [folder] if folder.parent.name == STAGES else sorted((folder / STAGES).iterdir())
        self.run = folder.parent.parent if folder.parent.name == STAGES else folder
        made = [stage for stage in stages if FRAMES in _columns(stage)]
        if len(made) != 1:
            names = ", ".join(stage.name for stage in made)
            raise UsageError(
                f"The run {folder} has frames of {len(made)} stages ({names}); name the folder of one."
                if made
                else f"The run {folder} has made no frames yet; run its stage that makes orbits first."
            )
        self.made_by = made[0].name.rpartition("-")[2]
        """Fingerprint of the stage that made the frames."""
        self._parts = part_files(made[0])
        self._places: dict[str, tuple[int, int]] = {}
        for number, part in enumerate(self._parts):  # of an item that was tried again the last result counts
            table = pq.read_table(part, columns=[ID, ERROR])
            for row, (item, error) in enumerate(zip(*(table[name].to_pylist() for name in (ID, ERROR)), strict=True)):
                if error is None:
                    self._places[item] = number, row
        self._lock, self._read = threading.Lock(), (-1, pa.table({}))
        super().__init__(str(folder), list(self._places))

    def frames(self, video: str) -> list[bytes]:
        """The frames; a part of the run is kept in memory, since neighbours are asked for one after another."""
        number, row = self._places[video]
        with self._lock:
            if self._read[0] != number:
                self._read = number, pq.read_table(self._parts[number], columns=[FRAMES])
            return list(self._read[1][FRAMES][row].as_py())

    def prompt(self, video: str) -> str:
        """Of the table of items."""
        return self._prompts.get(video, "")

    @cached_property
    def _prompts(self) -> dict[str, str]:
        return _texts(pq.read_table(self.run / ITEMS), ID)


class ShardVideos(Videos):
    """A shard set.

    Args:
        location: Its folder or address.
    """

    def __init__(self, location: str) -> None:
        self.set = ShardSet(location, cameras=False)
        ids = self.set.keys().to_pylist()
        self._items = {key: item for item, key in enumerate(ids)}
        self._lock = threading.Lock()
        super().__init__(location, ids)

    def frames(self, video: str) -> list[bytes]:
        """The members of the shard."""
        item = self._items[video]
        with self._lock:
            return self.set.members(item, range(int(self.set.counts[item])))

    def prompt(self, video: str) -> str:
        """Of its column ``prompt``."""
        return self._prompts.get(video, "")

    @cached_property
    def _prompts(self) -> dict[str, str]:
        return _texts(self.set.attributes(), "key")

    def cameras(self, video: str) -> Cameras | None:
        """Those of renders, or the rig's at the labelled elevation."""
        cameras = self.set.cameras(self._items[video])
        return cameras if bool(cameras.poses.isfinite().all()) else None


class FolderVideos(Videos):
    """Folders of frames: scene folders, or what ``vfusion3d orbit`` writes.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found = [one for one in sorted(folder.iterdir()) if (one / TRANSFORMS).is_file() or (one / "images").is_dir()]
        if not found:
            raise UsageError(
                f"The folder {folder} holds no videos: it is no run of the data engine, no shard set, and no folder of "
                f"orbits (with {TRANSFORMS} or images/ in each)."
            )
        super().__init__(str(folder), [one.name for one in found])

    def frames(self, video: str) -> list[bytes]:
        """The picture files, in the order of the cameras or of their names."""
        folder = self.folder / video
        if (folder / TRANSFORMS).is_file():
            paths = [folder / file for file in Scene.load(folder).files]
        else:
            paths = sorted(path for path in (folder / "images").iterdir() if path.suffix.lower() in _PICTURES)
        try:
            return [path.read_bytes() for path in paths]
        except OSError as error:
            raise SceneError(f"The picture {error.filename} cannot be read ({error.strerror}); restore it.") from error

    def prompt(self, video: str) -> str:
        """The caption of a scene."""
        scene = self._scene(video)
        return (scene.info.caption or "") if scene else ""

    def cameras(self, video: str) -> Cameras | None:
        """Those of a scene; nominal ones, of generated frames, claim what somebody said and are not known."""
        scene = self._scene(video)
        return None if scene is None or any("nominal" in note for note in scene.info.notes) else scene.cameras

    def _scene(self, video: str) -> Scene | None:
        return Scene.load(self.folder / video) if (self.folder / video / TRANSFORMS).is_file() else None


def part_files(stage: Path) -> list[Path]:
    """A stage's files of results, in the order they were made for each unit."""
    return sorted(path for path in stage.glob("*.parquet") if re.fullmatch(r"\d+-\d+", path.stem))


def _columns(stage: Path) -> list[str]:
    """What a stage wrote; nothing if it wrote no results yet."""
    for path in part_files(stage):
        try:
            return list(pq.read_schema(path).names)
        except (pa.ArrowInvalid, OSError) as error:
            raise ShardError(
                f"The file {path} cannot be read ({error}); remove it and run the engine again."
            ) from error
    return []


def _texts(table: pa.Table, key: str) -> dict[str, str]:
    if "prompt" not in table.column_names:
        return {}
    pairs = zip(table[key].to_pylist(), table["prompt"].to_pylist(), strict=True)
    return {item: text for item, text in pairs if text}
