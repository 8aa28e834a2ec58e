"""CLIP scores of turntables against captions and input pictures, for anyone's videos."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vfusion3d.alpha import pixels_over_white
from vfusion3d.errors import InputImageError, MissingExtraError, MissingWeightsError, UsageError, VFusion3DError
from vfusion3d.evaluation.environment import environment
from vfusion3d.evaluation.floors import NEAREST, PASTED, WHITE, NearestSeen
from vfusion3d.evaluation.groups import SEEN, counted, group_of, in_order, read_unseen
from vfusion3d.evaluation.kept import claim, kept_or
from vfusion3d.evaluation.memory import memory_errors
from vfusion3d.evaluation.methods import (
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    files_by_stem,
    files_identity,
    find_by_stem,
    pictures_in,
    read_frames,
    read_pixels,
    weights_identity,
)
from vfusion3d.evaluation.protocol import hash_of, read_fields
from vfusion3d.evaluation.published import published_rows
from vfusion3d.evaluation.results import plain_interval, told_failures, told_interval
from vfusion3d.metrics.intervals import bootstrap_interval
from vfusion3d.outputs import make_folder, write_atomically

if TYPE_CHECKING:
    from vfusion3d.metrics.clip import ClipNetwork

TEXT, PICTURE = "clip_text", "clip_image"
FLOORS = (WHITE, PASTED, NEAREST)
UNPUBLISHED = (
    "The paper's pictures, cameras, frames, template and CLIP model are unpublished, and those here are ours: figures "
    "compare under one protocol hash, with the paper's only in kind."
)


@dataclass(frozen=True)
class ClipProtocol:
    """How turntables become CLIP scores: cosines (factor 1), averaged over a video's frames, then over objects."""

    name: str
    description: str
    views: int
    """Frames of each video, evenly spaced from the first; all of folders of pictures."""
    resolution: int
    """Side of the frames in pixels."""
    models: tuple[str, ...]
    """CLIP models of transformers, or ``name:pretrained`` of open_clip."""
    template: str = "{}"
    """Around a caption."""
    sources: tuple[str, ...] = ()
    """Where the numbers come from; not hashed."""

    def __post_init__(self) -> None:
        fits = isinstance(self.models, tuple) and self.template.replace("{}", "").count("{") == 0
        if not fits or self.views < 1 or self.resolution < 8 or not self.models or "{}" not in self.template:
            raise UsageError(
                "A CLIP protocol needs `views` >= 1, `resolution` >= 8, a list of at least one of `models` and a "
                "`template` with {} in it."
            )

    @property
    def hash(self) -> str:
        """What `hash_of` says of all fields."""
        return hash_of(dataclasses.asdict(self))

    @classmethod
    def load(cls, name: str) -> ClipProtocol:
        """One of the package's ``protocols/clip``, or of a YAML file.

        Raises:
            UsageError: if there is none, or it cannot be used.
        """
        path, fields = read_fields(name, "clip")
        try:
            return cls(**fields)
        except TypeError as error:
            raise UsageError(f"The CLIP protocol {path} cannot be used ({error}).") from error


def frames_of(path: Path, protocol: ClipProtocol) -> Tensor:
    """Frames of a video, or all pictures of a folder, on white: ``[V, 3, H, W]`` in [0, 1].

    Raises:
        InputImageError: if there are too few, or of another size than the protocol's.
    """
    if path.is_dir():
        frames = [pixels_over_white(read_pixels(file)) for file in pictures_in(path)]
        chosen = list(range(len(frames)))
    else:
        frames = read_frames(path)
        enough = len(frames) >= protocol.views
        chosen = [k * len(frames) // protocol.views for k in range(protocol.views)] if enough else []
    if not chosen:
        raise InputImageError(f"{path} has {len(frames)} frames, but the protocol needs {protocol.views}.")
    for frame in frames:
        if frame.shape[:2] != (protocol.resolution,) * 2:
            raise InputImageError(
                f"{path} has frames of {frame.shape[1]} x {frame.shape[0]} pixels, but the protocol's are "
                f"{protocol.resolution} x {protocol.resolution}; render them in that size."
            )
    stacked = np.stack([frames[k] for k in chosen])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 255


def read_captions_of(path: str | os.PathLike[str], names: Sequence[str]) -> dict[str, str]:
    """Captions by object: a table with the columns ``name`` and ``caption``, or a text file with a prompt per line, as
    which the videos are named.

    Raises:
        UsageError: if the file cannot be read, or an object has no caption.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The captions {file} cannot be read ({error}).") from error
    if file.suffix.lower() == ".csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        if rows and not {"name", "caption"} <= rows[0].keys():
            raise UsageError(f"The captions {file} need the columns name and caption, but have {', '.join(rows[0])}.")
        captions = {row["name"]: row["caption"] for row in rows if row["caption"]}
    else:
        captions = {line.strip(): line.strip() for line in text.splitlines() if line.strip()}
    missing = [name for name in names if name not in captions]
    if missing:
        raise UsageError(
            f"The captions {file} have none of object {missing[0]!r} ({len(missing)} are missing); add it."
        )
    return {name: captions[name] for name in names}


def score(
    videos: Mapping[str, Path],
    protocol: ClipProtocol,
    captions: Mapping[str, str] | None = None,
    inputs: Mapping[str, Path] | None = None,
    device: str = "cpu",
    output: Path | None = None,
    unseen: Collection[str] | None = None,
) -> dict[str, Any]:
    """Rows, means and floors of all models; a model that is not to be had, package or weights, has None for all.

    Args:
        videos: Videos or folders of pictures by object.
        protocol: The protocol.
        captions: By object; None leaves the text out.
        inputs: Input pictures by object; None leaves them out, and the floor of the pasted input with them.
        device: Where the models run.
        output: Folder in which each finished object is kept, so that a run that was cut off goes on; None: nowhere.
            What failed, was cut short, or is of other weights is scored anew.
        unseen: Names of objects that the method was not trained on, kept apart from the others; None: not known.

    Returns:
        What ``results.json`` holds: ``means`` by model and figure and ``floors`` by model, floor and figure, both of
        all objects; in ``groups`` the same of each group; ``missing_floors`` with the reasons; ``rows``.

    Raises:
        VFusion3DError: if a model, or an input, cannot be used, or ``output`` has objects of something else.
    """
    from vfusion3d.metrics.clip import ClipNetwork

    folder = None if output is None else make_folder(output / "objects")
    if output is not None:
        make_folder(output / "objects" / "nearest")
        frames = [file for path in videos.values() for file in (path.iterdir() if path.is_dir() else [path])]
        content = files_identity([*frames, *(inputs or {}).values()], repr(sorted((captions or {}).items())))
        claim(output, {"protocol": protocol.hash, "content": content})
    groups = {name: group_of(name, unseen, None) for name in videos}
    rows: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    weights: dict[str, str] = {}
    sources = None
    if inputs is not None:
        sources = {
            name: torch.from_numpy(pixels_over_white(read_pixels(inputs[name]))).permute(2, 0, 1)[None] / 255
            for name in videos
        }
    asked = {figure for figure, given in ((TEXT, captions), (PICTURE, inputs)) if given is not None}
    pictures = sources or {}
    nearest = NearestSeen([key for key in videos if groups[key] == SEEN], lambda key: pictures[key][0])
    missing_floors = _missing_floors(sources, nearest)
    for number, model in enumerate(protocol.models):
        name, _, pretrained = model.partition(":")
        try:
            network = ClipNetwork(name, pretrained or None)
        except (MissingExtraError, MissingWeightsError) as error:
            missing[model] = str(error)
            continue
        weights[model] = weights_identity(network.model)
        network.model.to(device)
        for key, path in tqdm(videos.items(), desc=model, unit="object", file=sys.stderr):
            kept = None if folder is None else folder / f"{number}-{key}.json"
            text = None if captions is None else protocol.template.format(captions[key])
            picture = None if sources is None else sources[key].to(device)
            make = partial(_scores, protocol=protocol, network=network, text=text, picture=picture)
            done = kept_or(kept, weights[model], (*asked, "floors"), partial(make, path))
            floors = dict(done["floors"])
            other = None if NEAREST in missing_floors else nearest.of(key)
            if other is not None:  # which objects were seen is no part of what is kept of an object
                beside = None if folder is None else folder / "nearest" / f"{number}-{key}.json"
                found = kept_or(beside, f"{weights[model]} {other}", asked, partial(make, videos[other]))
                if found["failed"] is None:  # a floor that fails would flatter the method
                    floors[NEAREST] = {figure: found[figure] for figure in asked}
            rows.append({"object": key, "group": groups[key], "model": model, **done, "floors": floors})
    there, sizes = in_order(groups.values()), Counter(groups.values())
    return {
        "protocol": dataclasses.asdict(protocol),
        "protocol_hash": protocol.hash,
        "unpublished": UNPUBLISHED,
        "objects": len(videos),
        **_means(rows, protocol.models),
        "groups": {
            group: {
                "objects": sizes[group],
                **_means([row for row in rows if row["group"] == group], protocol.models),
            }
            for group in there
        },
        "weights": weights,
        "missing_weights": missing,
        "missing_floors": missing_floors,
        "failures": {row["object"]: row["failed"] for row in rows if row["failed"]},
        "environment": environment(device, "transformers", "open_clip_torch"),
        "rows": rows,
    }


def _missing_floors(sources: Mapping[str, Tensor] | None, nearest: NearestSeen) -> dict[str, str]:
    """Why there are no floors, by their names; the nearest is the seen object's turntable whose input is nearest."""
    if sources is None:
        return dict.fromkeys((PASTED, NEAREST), "no input pictures were given")
    return nearest.missing


def _scores(
    path: Path, protocol: ClipProtocol, network: ClipNetwork, text: str | None, picture: Tensor | None
) -> dict[str, Any]:
    """Of every frame of an object, why it failed, and of a frame of each floor; a failure counts as 0 and is never
    dropped."""
    from vfusion3d.metrics.clip import clip_similarity

    device = next(network.model.parameters()).device
    references: dict[str, Any] = {TEXT: None if text is None else [text], PICTURE: picture}
    asked = {figure: reference for figure, reference in references.items() if reference is not None}

    def similar(frames: Tensor) -> dict[str, list[float]]:
        return {figure: clip_similarity(frames[None], wanted, network)[0].tolist() for figure, wanted in asked.items()}

    floors = {WHITE: similar(torch.ones(1, 3, protocol.resolution, protocol.resolution, device=device))}
    if picture is not None:
        floors[PASTED] = similar(picture)
    try:
        frames = frames_of(path, protocol).to(device)
    except VFusion3DError as error:
        return {"failed": str(error), **{figure: [0.0] for figure in asked}, "floors": floors}
    return {"failed": None, **similar(frames), "floors": floors}


def _means(rows: Sequence[Mapping[str, Any]], models: Sequence[str]) -> dict[str, Any]:
    """Means with intervals over objects of each model, and of the floors under it; None where there is no figure."""

    def of(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        values = {figure: [float(np.mean(p[figure])) for p in parts if figure in p] for figure in (TEXT, PICTURE)}
        return {figure: plain_interval(bootstrap_interval(v)) if v else None for figure, v in values.items()}

    own = {model: [row for row in rows if row["model"] == model] for model in models}
    return {
        "means": {model: of(own[model]) for model in models},
        "floors": {
            model: {floor: of([row["floors"].get(floor, {}) for row in own[model]]) for floor in FLOORS}
            for model in models
        },
    }


def main(program: str, description: str, published: str) -> int:
    """A script of CLIP scores; 0, or 2 if something cannot be used."""
    parser = argparse.ArgumentParser(
        prog=program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("videos", metavar="DIR", help="turntables: videos named as the objects, folders of `vfusion3d reconstruct`, or "
        "folders of pictures")  # fmt: skip
    add("--captions", metavar="FILE", help="CSV (name,caption), or a text file of prompts that name the videos")
    add("--inputs", metavar="DIR", help="input pictures named as the objects")
    add("--unseen", metavar="FILE", help="names of objects the method never saw, one per line; all others then count "
        "as seen, and the two are kept apart")  # fmt: skip
    add("--protocol", default="turntable", help="of protocols/clip, or a YAML file (turntable)")
    add("--models", nargs="+", metavar="CLIP", help="instead of the protocol's, which changes its hash: owner/name or "
        "a folder of transformers, or name:pretrained of open_clip")  # fmt: skip
    add("--device", default="auto", help="auto, cpu, cuda, ... (auto)")
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for results.json, with every frame's scores; a run that was cut off goes on there",
    )
    add("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    try:
        from vfusion3d.pipelines import choose_device

        protocol = ClipProtocol.load(arguments.protocol)
        if arguments.models:
            protocol = dataclasses.replace(protocol, models=tuple(arguments.models))
        if arguments.captions is None and arguments.inputs is None:
            raise UsageError("Give --captions, --inputs or both: there is nothing to compare the videos with.")
        videos = find_turntables(Path(arguments.videos))
        captions = None if arguments.captions is None else read_captions_of(arguments.captions, list(videos))
        inputs = None if arguments.inputs is None else _inputs_of(Path(arguments.inputs), list(videos))
        unseen = None if arguments.unseen is None else read_unseen(arguments.unseen, videos)
        device = str(choose_device(arguments.device))
        with memory_errors(device):
            document = score(videos, protocol, captions, inputs, device, arguments.output, unseen)
        if arguments.output is not None:
            text = json.dumps(document, indent=1, allow_nan=False)
            write_atomically(make_folder(arguments.output) / "results.json", text.encode())
    except VFusion3DError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps({key: value for key, value in document.items() if key != "rows"}))
        return 0
    print(table(document, published))
    return 0


def table(document: Mapping[str, Any], published: str) -> str:
    """Markdown of `score`'s document: a line for each model and its floors, groups apart, with the published rows."""
    lines = [f"CLIP protocol {document['protocol']['name']} {document['protocol_hash'][:12]}", ""]
    for group, part in document["groups"].items():
        lines.append(f"| {counted(part['objects'], group)} | text | picture |")
        lines.append("| --- | ---: | ---: |")
        for model, means in part["means"].items():
            floors = {f"floor: {floor}": figures for floor, figures in part["floors"][model].items()}
            for title, figures in {f"**{model}**": means, **floors}.items():
                cells = ["n/a" if mean is None else told_interval(mean, 3) for mean in figures.values()]
                lines.append(f"| {title} | {' | '.join(cells)} |")
        lines.append("")
    lines += told_failures(document["failures"], "scored as 0")
    lines += [f"{model}: n/a. {reason}" for model, reason in document["missing_weights"].items()]
    lines += [f"Floor {floor}: n/a, {reason}." for floor, reason in document["missing_floors"].items()]
    lines += ["", document["unpublished"], *(f"- {source}" for source in document["protocol"]["sources"])]
    return "\n".join([*lines, "", published_rows(published)])


def find_turntables(folder: Path) -> dict[str, Path]:
    """Videos by object, or folders of pictures.

    Raises:
        UsageError: if there are none, or two videos of one object.
    """
    found = find_by_stem(folder, VIDEO_SUFFIXES, "videos", "turntable")
    found = found or {path.name: path for path in sorted(folder.iterdir()) if pictures_in(path)}
    if not found:
        raise UsageError(
            f"The folder {folder} has neither videos ({', '.join(VIDEO_SUFFIXES)}) nor folders of pictures."
        )
    return found


def _inputs_of(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    files = files_by_stem(folder, PICTURE_SUFFIXES, "pictures", "input")
    missing = [name for name in names if name not in files]
    if missing:
        raise UsageError(f"The folder {folder} has no picture of object {missing[0]!r}; add it.")
    return {name: files[name] for name in names}
