"""What prompts are about, by a few words: how many videos of a kind survive a filter.

Vehicles and writing are the classes on which the paper's chain fails (its section on limitations), so they have names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from vfusion3d.engine.stage import ItemError, Row, Stage
from vfusion3d.metrics.intervals import wilson_interval

OTHER = "other"
_WORDS = {
    "text": "text word words letter letters lettering sign signboard logo inscription typography slogan quote alphabet "
    "number numbers label poster banner book newspaper magazine billboard saying caption writing written font",
    "vehicle": "car cars truck trucks van bus buses train trains tram motorcycle motorbike bike bikes bicycle bicycles "
    "scooter airplane plane planes aircraft jet helicopter boat boats ship ships yacht submarine tank tractor "
    "vehicle vehicles automobile suv sedan jeep taxi ambulance locomotive lorry rocket spaceship spacecraft racecar "
    "bulldozer excavator forklift wagon carriage rover canoe kayak convertible pickup limousine drone hovercraft",
    "person": "man men woman women boy girl child person people baby knight soldier warrior wizard witch king queen "
    "princess astronaut robot monk pirate ninja samurai doctor player dancer figure figurine statue bust doll",
    "animal": "animal dog dogs puppy cat cats kitten horse cow pig sheep goat bird birds owl eagle parrot penguin duck "
    "chicken fish shark whale dolphin frog turtle snake lizard dinosaur dragon bear panda tiger lion elephant giraffe "
    "zebra monkey rabbit bunny squirrel mouse rat fox wolf deer corgi bee butterfly spider crab octopus unicorn",
    "furniture": "chair table desk sofa couch bed cabinet shelf bookcase stool bench lamp wardrobe dresser armchair",
    "food": "food cake pizza burger hamburger sandwich bread fruit apple banana orange strawberry pineapple cookie "
    "donut doughnut cupcake pie sushi cheese egg ice-cream icecream croissant pancakes salad soup chocolate tea coffee",
    "plant": "plant flower flowers tree rose cactus bouquet mushroom succulent orchid tulip leaf bonsai",
    "building": "house building castle tower church temple cottage hut barn lighthouse bridge windmill cathedral",
    "clothing": "shoe shoes boot boots sneaker sneakers dress shirt t-shirt tshirt jacket coat hat cap helmet bag "
    "handbag backpack sweater hoodie jeans sandals necklace ring earrings bracelet watch",
}
_PATTERNS = {name: re.compile(rf"\b(?:{'|'.join(words.split())})\b", re.I) for name, words in _WORDS.items()}
_WRITTEN = re.compile(r"[\"“”][^\"“”]+[\"“”]|\bthat (?:says|reads)\b|\bsaying\b", re.I)


def category(prompt: str | None) -> str:
    """One of ``text``, ``vehicle``, ``person``, ``animal``, ``furniture``, ``food``, ``plant``, ``building``,
    ``clothing`` and ``other``: whichever word comes first, except that quoted or announced writing is ``text``.

    A rule on English words: it knows no context (a "toy car" is a vehicle, a "crane" is nothing).

    Example:
        >>> category("a red sports car"), category('a mug that says "hello"'), category("a thing")
        ('vehicle', 'text', 'other')
    """
    if not prompt:
        return OTHER
    if _WRITTEN.search(prompt):
        return "text"
    found = {name: match.start() for name, pattern in _PATTERNS.items() if (match := pattern.search(prompt))}
    return min(found, key=lambda name: found[name]) if found else OTHER


class PromptCategory(Stage):
    """The `category` of a prompt, so that keep rates can be told apart."""

    name = "category"
    reads = ("prompt",)
    writes: ClassVar[dict[str, pa.DataType]] = {"category": pa.string()}

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Look for words."""
        return [{"category": category(row["prompt"])} for row in rows]


def keep_rates(categories: Sequence[str], kept: Sequence[bool] | np.ndarray) -> dict[str, dict[str, Any]]:
    """How many of each category are kept.

    Args:
        categories: Of each video.
        kept: Whether it is.

    Returns:
        By category, the most frequent first and ``all`` before: ``count``, ``kept``, ``keep_rate``, and ``low`` and
        ``high`` of its 95 % interval.
    """
    kept = np.asarray(kept, bool)
    names = np.asarray(list(categories), object)
    counts = {str(name): int((names == name).sum()) for name in set(names)}
    rows: dict[str, dict[str, Any]] = {}
    for name in ["all", *sorted(counts, key=lambda name: (-counts[name], name))]:
        part = kept if name == "all" else kept[names == name]
        rate, low, high = wilson_interval(int(part.sum()), len(part))
        rows[name] = {"count": len(part), "kept": int(part.sum()), "keep_rate": rate, "low": low, "high": high}
    return rows
