"""A chain of stages whose outcomes are kept: what is done is not done again, and what it depends on decides that."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vfusion3d.errors import OutputError
from vfusion3d.outputs import make_folder, write_atomically

OUTCOME = "outcome.json"

Progress = Callable[[float], None]
"""Told the share of a stage that is done, in [0, 1]."""


@dataclass
class Outcome:
    """What a stage has to show; plain data."""

    figures: dict[str, Any] = field(default_factory=dict)
    """What was measured, by name; names say units."""
    tables: list[dict[str, Any]] = field(default_factory=list)
    """``title``, ``header`` and ``rows`` of each."""
    pictures: list[list[str]] = field(default_factory=list)
    """File in the stage's folder, and caption, of each."""
    seconds: float = 0.0
    """How long it took; of a stage that was interrupted, the last time."""


@dataclass(frozen=True)
class Link:
    """A stage of the chain.

    Args:
        name: Names its folder and its settings.
        title: Its heading on the page.
        says: What it does, one or two sentences for the page.
        minutes: About how long it takes, for the time left.
        reads: Stages whose outcome it uses.
        make: Does it, in its folder; what an interrupted run left there is there.
        version: Raised when the code gives another outcome for the same settings.
    """

    name: str
    title: str
    says: str
    minutes: float
    reads: Sequence[str]
    make: Callable[[Chain, Path, Mapping[str, Any], Progress], Outcome]
    version: int = 1


class Chain:
    """Stages in a folder, one ``NAME-FINGERPRINT`` each.

    Args:
        output: The folder; created if it is not there.
        links: In order.
        settings: Of each stage: all that decides its outcome, as plain data.
    """

    def __init__(self, output: Path, links: Sequence[Link], settings: Mapping[str, Mapping[str, Any]]) -> None:
        self.output, self.links, self.settings = make_folder(output), list(links), settings
        self.places: dict[str, str] = {}
        """Where given things are; what they are is in the settings."""
        self.fingerprints: dict[str, str] = {}
        for link in self.links:
            document = {
                **{"name": link.name, "version": link.version, "settings": settings[link.name]},
                "reads": {name: self.fingerprints[name] for name in link.reads},
            }
            text = json.dumps(document, sort_keys=True)
            self.fingerprints[link.name] = hashlib.sha256(text.encode()).hexdigest()[:10]

    def folder(self, name: str) -> Path:
        """Where a stage's files are."""
        return self.output / f"{name}-{self.fingerprints[name]}"

    def outcome(self, name: str) -> Outcome | None:
        """What a stage that is done has to show; None if it is not.

        Raises:
            OutputError: if it cannot be read.
        """
        path = self.folder(name) / OUTCOME
        if not path.exists():
            return None
        try:
            return Outcome(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise OutputError(f"The file {path} of an earlier run cannot be read ({error}); remove it.") from error

    def run(self, quiet: bool = False) -> None:
        """Do what is not done yet, with one bar for all of it on standard error.

        Raises:
            VFusion3DError: as the stages.
        """
        todo = [link for link in self.links if self.outcome(link.name) is None]
        with tqdm(
            total=sum(link.minutes for link in todo),
            bar_format="{desc}{percentage:3.0f}%|{bar}| {elapsed} elapsed, {remaining} left",
            smoothing=0.0,  # the time left goes by all that was done, not by the last second
            file=sys.stderr,
            disable=quiet or not todo,
        ) as bar:
            for link in todo:
                started, before = time.monotonic(), bar.n
                bar.set_description(f"{self.links.index(link) + 1}/{len(self.links)} {link.title}")

                def progress(share: float, before: float = before, minutes: float = link.minutes) -> None:
                    bar.update(max(0.0, before + minutes * min(share, 1.0) - bar.n))

                folder = make_folder(self.folder(link.name))
                outcome = link.make(self, folder, self.settings[link.name], progress)
                outcome.seconds = round(time.monotonic() - started, 1)
                write_atomically(folder / OUTCOME, (json.dumps(asdict(outcome), indent=2) + "\n").encode())
                progress(1.0)
                if not quiet:
                    bar.write(f"{link.title}: {outcome.seconds:.0f} s{_told(outcome.figures)}", file=sys.stderr)


def _told(figures: Mapping[str, Any]) -> str:
    shown = (
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    )
    return "".join(f"; {text}" for text in shown)
