"""What a study shows: videos of two methods matched with their inputs, attention checks, and who sees what where."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
from PIL import Image

from vfusion3d.data.randomness import hash_order
from vfusion3d.errors import UsageError
from vfusion3d.rendering.turntable import FRAMES, write_video
from vfusion3d.study.votes import Design, Trial

VIDEOS = (".mp4", ".webm", ".gif")
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
CHECKS = 3
_CHECK_SIZE, _TILE = 256, 16  # most pixels a side of an attention check's wrong video, and of the tiles it is cut into
_MP4, _WEBM, _GIF, _PNG, _JPEG, _WEBP = "video/mp4", "video/webm", "image/gif", "image/png", "image/jpeg", "image/webp"


@dataclass(frozen=True)
class Pair:
    """An input and its two videos.

    Args:
        name: The stem of all three files.
        picture: The input.
        a: The first method's video.
        b: The second's.
    """

    name: str
    picture: Path
    a: Path
    b: Path


@dataclass(frozen=True)
class Shown:
    """A trial as a rater sees it.

    Args:
        trial: Which.
        flipped: Whether the first video (A, or the intact one of an attention check) is on the right.
    """

    trial: Trial
    flipped: bool


def find_pairs(a: str | os.PathLike[str], b: str | os.PathLike[str], inputs: str | os.PathLike[str]) -> list[Pair]:
    """Match the videos of two folders and the pictures of a third by name, sorted.

    Args:
        a: Videos ``NAME.mp4`` (or .webm, .gif) or result folders ``NAME/turntable.mp4``.
        b: The same of the other method.
        inputs: Pictures ``NAME.png`` (or .jpg, .webp) or result folders ``NAME/input.png``.

    Raises:
        UsageError: if a folder holds none, a name is missing in one of the three or is there twice, or a file is not
            what its name says. That nothing may be missing keeps a study from losing a method's failures unseen.
    """
    folders = {
        "video": [find_files(a, "turntable", VIDEOS), find_files(b, "turntable", VIDEOS)],
        "picture": [find_files(inputs, "input", PICTURES)],
    }
    places = [(kind, files, folder) for kind, found in folders.items() for files, folder in found]
    names = sorted({name for _, files, _ in places for name in files})
    for name in names:
        for kind, files, folder in places:
            if name not in files:
                other = next(files[name] for _, files, _ in places if name in files)
                raise UsageError(
                    f"There is no {kind} of '{name}' in {folder}, but {other} is there; add it or move that away."
                )
            media_type(_read(files[name], 16), files[name])
    first, second, pictures = (files for _, files, _ in places)
    return [Pair(name, pictures[name], first[name], second[name]) for name in names]


def find_files(folder: str | os.PathLike[str], inside: str, endings: Sequence[str]) -> tuple[dict[str, Path], Path]:
    """The files of a folder by stem, and those named ``inside`` in its folders by folder; with the folder.

    Raises:
        UsageError: if there are none, or two of one name.
    """
    folder = Path(folder).expanduser()
    kind = "videos" if endings == VIDEOS else "pictures"
    if not folder.is_dir():
        raise UsageError(f"The folder {folder} does not exist; give one of {kind}.")
    found: dict[str, Path] = {}
    flat = [(path.stem, path) for path in folder.iterdir()]
    deep = [(path.parent.name, path) for path in folder.glob(f"*/{inside}.*")]
    for name, path in sorted(flat + deep):
        if path.suffix.lower() not in endings or path.name.startswith(".") or not path.is_file():
            continue
        if name in found:
            raise UsageError(f"The name '{name}' is there twice: {found[name]} and {path}; move one away.")
        found[name] = path
    if not found:
        raise UsageError(
            f"The folder {folder} holds no {kind}: neither NAME{endings[0]} (or {', '.join(endings[1:])}) nor "
            f"NAME/{inside}{endings[0]}."
        )
    return found, folder


def media_type(head: bytes, path: Path) -> str:
    """A file's media type by its first 16 bytes.

    Raises:
        UsageError: if it is no video or picture that a browser shows.
    """
    kinds = {b"\x1aE\xdf\xa3": _WEBM, b"GIF8": _GIF, b"\x89PNG": _PNG, b"\xff\xd8\xff": _JPEG}
    for start, kind in kinds.items():
        if head.startswith(start):
            return kind
    if head[4:8] == b"ftyp":
        return _MP4
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _WEBP
    raise UsageError(f"The file {path} is damaged: it is no {path.suffix[1:].upper()} file.")


class Study:
    """What is shown to whom, where.

    An attention check shows an input with one method's video of it and a wrong one: another input's video, cut into
    tiles that are shuffled, under noise. It is worse in quality and not faithful, whatever the methods are like.

    Args:
        pairs: The pairs, of `find_pairs`.
        methods: Names of the two, A and B.
        checks: How many attention checks are mixed in; `CHECKS` by default, as far as there are as many pairs.
        seed: Decides orders, sides and checks.

    Raises:
        UsageError: if the names are the same, or there are too few pairs for the checks.
    """

    def __init__(
        self, pairs: Sequence[Pair], methods: tuple[str, str], checks: int | None = None, seed: int = 0
    ) -> None:
        if methods[0] == methods[1]:
            raise UsageError(f"Both methods are named {methods[0]!r}; give two names with --names.")
        most = len(pairs) if len(pairs) > 1 else 0
        checks = min(CHECKS, most) if checks is None else checks
        if not 0 <= checks <= most:
            raise UsageError(f"Option --checks must be between 0 and {most} for {len(pairs)} pairs, but got {checks}.")
        self.pairs, self.methods, self.seed = tuple(pairs), methods, seed
        order = [int(place) for place in hash_order((f"check/{pair.name}" for pair in pairs), seed)]
        self.checks = tuple((pairs[order[k]], pairs[order[(k + 1) % len(order)]]) for k in range(checks))
        """Of each attention check the pair whose input it shows, and the pair whose video it breaks."""
        named = [(pair.name, False) for pair in pairs] + [(pair.name, True) for pair, _ in self.checks]
        self.trials = tuple(Trial(number, name, is_check) for number, (name, is_check) in enumerate(named))

    @cached_property
    def design(self) -> Design:
        """What the votes file keeps.

        Raises:
            UsageError: if a file cannot be read.
        """
        digest = blake2b(f"{self.seed} {len(self.checks)}".encode(), digest_size=16)
        for pair in self.pairs:
            digest.update(pair.name.encode() + b"\0")
            for path in (pair.picture, pair.a, pair.b):
                digest.update(blake2b(_read(path)).digest())
        return Design(digest.hexdigest(), self.methods, self.trials)

    def schedule(self, rater: str) -> list[Shown]:
        """The trials in a rater's own order, with sides.

        A function of the seed, the rater and the study alone: who comes back goes on where they were. Each rater sees A
        on the left in half of the pairs (for an odd number, one more or less at random), and so for the checks.
        """
        keys = [f"{rater}/{'check' if trial.is_check else 'pair'}/{trial.name}" for trial in self.trials]
        odd = blake2b(f"{self.seed}/{rater}".encode()).digest()[0] % 2
        flipped = {}
        for is_check in (False, True):
            group = [trial.number for trial in self.trials if trial.is_check is is_check]
            for rank, place in enumerate(hash_order((f"side/{keys[number]}" for number in group), self.seed)):
                flipped[group[place]] = (rank + odd) % 2 == 1
        return [Shown(self.trials[k], flipped[int(k)]) for k in hash_order(keys, self.seed)]

    def media(self, shown: Shown, part: str) -> tuple[bytes, str]:
        """A file of a trial and its media type.

        Args:
            shown: The trial.
            part: ``input``, ``left`` or ``right``.

        Raises:
            UsageError: if there is no such part, or the file cannot be read.
        """
        if part not in ("input", "left", "right"):
            raise UsageError(f"There is no part {part!r}.")
        first, number = (part == "left") is not shown.flipped, shown.trial.number
        if shown.trial.is_check:
            number -= len(self.pairs)
            pair, first_is_a = self.checks[number][0], number % 2 == 0
            if part != "input" and not first:
                return self.wrong_videos[number], _MP4
        else:
            pair, first_is_a = self.pairs[number], True
        path = pair.picture if part == "input" else pair.a if first is first_is_a else pair.b
        data = _read(path)
        return data, media_type(data[:16], path)

    @cached_property
    def wrong_videos(self) -> list[bytes]:
        """The wrong video of each attention check, an MP4 file.

        Raises:
            UsageError: if a video cannot be decoded.
            OutputError: if one cannot be encoded.
        """
        sources = [pair.a if number % 2 == 0 else pair.b for number, (_, pair) in enumerate(self.checks)]
        return [broken_video(source, self.seed) for source in sources]


def broken_video(source: Path, seed: int) -> bytes:
    """A video whose frames are cut into tiles, shuffled in the same way, under the same noise; MP4.

    Raises:
        UsageError: if the video cannot be decoded.
        OutputError: if the result cannot be encoded.
    """
    frames, seconds = read_frames(source)
    rows, columns = frames.shape[1] // _TILE, frames.shape[2] // _TILE
    random = np.random.default_rng(seed)
    tiles = frames.reshape(len(frames), rows, _TILE, columns, _TILE, 3).swapaxes(2, 3)
    tiles = tiles.reshape(len(frames), rows * columns, _TILE, _TILE, 3)[:, random.permutation(rows * columns)]
    shuffled = tiles.reshape(len(frames), rows, columns, _TILE, _TILE, 3).swapaxes(2, 3).reshape(frames.shape)
    noisy = shuffled * 0.7 + random.uniform(0, 255, frames.shape[1:]) * 0.3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "broken.mp4"
        write_video(noisy.astype(np.uint8), path, max(1, round(len(frames) / seconds)))
        return path.read_bytes()


def read_frames(path: Path, most: int = FRAMES) -> tuple[np.ndarray, float]:
    """Up to ``most`` evenly spaced frames of a video, and its length in seconds.

    Returns:
        uint8 ``[F, H, W, 3]``, the sides multiples of 16 and at most 256 pixels.

    Raises:
        UsageError: if it cannot be decoded.
    """
    import imageio_ffmpeg

    try:
        count, seconds = imageio_ffmpeg.count_frames_and_secs(str(path))
        chosen = {k * count // most for k in range(most)}
        reader = imageio_ffmpeg.read_frames(str(path))
        width, height = next(reader)["size"]
        raw = [frame for number, frame in enumerate(reader) if number in chosen]
    except (OSError, RuntimeError, StopIteration) as error:
        raise UsageError(f"The video {path} cannot be decoded; make it anew.") from error
    if not raw:
        raise UsageError(f"The video {path} has no frames; make it anew.")
    shrink = min(1.0, _CHECK_SIZE / max(width, height))
    size = (max(1, int(width * shrink) // _TILE) * _TILE, max(1, int(height * shrink) // _TILE) * _TILE)
    pictures = [Image.frombytes("RGB", (width, height), frame).resize(size) for frame in raw]
    return np.stack([np.asarray(picture) for picture in pictures]), seconds


def _read(path: Path, most: int = -1) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except OSError as error:
        raise UsageError(f"The file {path} cannot be read ({error.strerror}).") from error
