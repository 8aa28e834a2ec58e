"""How far people who labelled the same videos agree, and what they agree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from vfusion3d.engine.learning.labels.files import BAD, GOOD


@dataclass(frozen=True)
class Agreement:
    """Of two people.

    Args:
        people: Their names.
        videos: How many videos both called good or bad.
        agreed: How many of them they gave the same label.
        kappa: Cohen's (1960): 1 is full agreement, 0 what chance gives; None where chance gives full agreement, since
            each has used one label only.
    """

    people: tuple[str, str]
    videos: int
    agreed: int
    kappa: float | None

    def __str__(self) -> str:
        if not self.videos:
            return f"{self.people[0]} and {self.people[1]} have no labelled video in common."
        kappa = "undefined (one label only)" if self.kappa is None else f"{self.kappa:.2f}"
        return (
            f"{self.people[0]} and {self.people[1]} agree on {self.agreed} of {self.videos} videos "
            f"({self.agreed / self.videos:.1%}), Cohen's kappa {kappa}."
        )


def agreement(people: tuple[str, str], first: Mapping[str, str], second: Mapping[str, str]) -> Agreement:
    """Compare two people's labels; videos that one of them skipped do not count.

    Example:
        >>> str(agreement(("a", "b"), {"x": "good", "y": "bad"}, {"x": "good", "y": "bad", "z": "bad"}))
        "a and b agree on 2 of 2 videos (100.0%), Cohen's kappa 1.00."
    """
    pairs = [
        (label == GOOD, second[video] == GOOD)
        for video, label in first.items()
        if label in (GOOD, BAD) and second.get(video) in (GOOD, BAD)
    ]
    count, agreed = len(pairs), sum(a == b for a, b in pairs)
    if not count:
        return Agreement(people, 0, 0, None)
    yes = [sum(pair[k] for pair in pairs) / count for k in (0, 1)]
    chance = yes[0] * yes[1] + (1 - yes[0]) * (1 - yes[1])
    kappa = None if chance == 1 else (agreed / count - chance) / (1 - chance)
    return Agreement(people, count, agreed, kappa)


def agreements(people: Mapping[str, Mapping[str, str]]) -> list[Agreement]:
    """Of every two people."""
    return [agreement(pair, people[pair[0]], people[pair[1]]) for pair in combinations(people, 2)]


def merge_labels(people: Mapping[str, Mapping[str, str]]) -> tuple[dict[str, bool], list[str]]:
    """Whether each video is good, and the videos on which people disagree, which are left out."""
    said: dict[str, set[bool]] = {}
    for labels in people.values():
        for video, label in labels.items():
            if label in (GOOD, BAD):
                said.setdefault(video, set()).add(label == GOOD)
    agreed = {video: True in labels for video, labels in said.items() if len(labels) == 1}
    return agreed, [video for video in said if video not in agreed]
