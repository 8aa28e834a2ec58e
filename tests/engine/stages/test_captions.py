"""The rules' decisions and reasons, motion, and the stage; how often they agree with a person is a benchmark."""

from __future__ import annotations

import pyarrow as pa
import pytest

from vfusion3d.engine import RuleCaptionFilter
from vfusion3d.engine.stages.captions import REASONS, has_motion, why_not_single

SINGLE = [
    "a chair",
    "An antique wooden rocking horse",
    "a DSLR photo of a corgi riding a bike",
    "a zoomed out DSLR photo of a hippo made out of chocolate",
    "A pair of red boxing gloves hanging on a wall",
    "black and white cat sitting on top of a wooden bench",
    "a plate piled high with chocolate chip cookies",
    "a dress made of grass, on a mannequin. Studio lighting, high quality",
    "Viking axe, fantasy, weapon, blender, 8k, HD",
    "ACME Pascal Solid Wood Dining Chair Upholstery: White",
    "Ladies' Leather Knee Boots",
    "&quot;Knitted&quot; Baseball Hat",
    "giraffe standing in front of a tree",
]
NOT = {
    "empty": ["", "  ", "12345", "-- ? --"],
    "long": ["a cat " + "and another cat " * 12],
    "foreign": ["Das Haus und der Garten von Oma", "Телескоп Sky", "рыжий кот на стуле"],
    "web": ["How To Fold Paper Cranes", "see www.example.com", "Blue Hotel In Rome", "Great sale! 5$"],
    "flat": [
        "Fox Logo (Dark)",
        "an oil painting of a tree",
        "a map of South America",
        "Sea at Dawn Royalty Free Stock Photo",
    ],
    "scene": [
        "bathroom with a sink and a mirror",
        "an aerial view of a harbour",
        "living room with a lot of furniture",
    ],
    "several": [
        "two red balls",
        "group of people sitting on a bench in front of a park",
        "herd of zebra standing on a dirt road",
        "a margarita next to a napkin",
        "a tree and a building",
        "7 dogs at a table",
        "woods, horses",
        "a man reading a book and a woman eating a cake",
        "fire hydrant in front of a parking meter",
    ],
    "unnamed": ["Jason Isaacs", "Project Management", "happiness"],
}


@pytest.mark.parametrize("caption", SINGLE)
def test_single_objects(caption: str) -> None:
    assert why_not_single(caption) is None


@pytest.mark.parametrize(("reason", "caption"), [(reason, text) for reason in NOT for text in NOT[reason]])
def test_reasons(reason: str, caption: str) -> None:
    assert why_not_single(caption) == reason


def test_every_reason_is_explained_and_tested() -> None:
    assert set(NOT) == set(REASONS)


def test_motion() -> None:
    moving = ["a horse galloping", "a beagle swimming in a pond", "A boy flies a kite", "dogs running"]
    still = [
        "a pair of running shoes",
        "a rocking horse",
        "an oil painting",
        "a cat sitting on a bed",
        "a king",
        "skis",
    ]
    assert all(map(has_motion, moving)) and not any(map(has_motion, still))


def test_the_stage_and_its_setting() -> None:
    table = pa.table({"id": ["a", "b"], "prompt": ["a red fox jumping over a log", "a chair " + "very " * 40]})
    result = RuleCaptionFilter()(table)
    assert result["single_object"].to_pylist() == [True, False]
    assert result["caption_reason"].to_pylist() == [None, "long"]
    assert result["motion"].to_pylist() == [True, False]
    assert RuleCaptionFilter(50)(table)["caption_reason"].to_pylist() == [None, None]
    assert RuleCaptionFilter(50).fingerprint({}) != RuleCaptionFilter().fingerprint({})
