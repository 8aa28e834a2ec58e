from __future__ import annotations

import csv
import hashlib
from collections import Counter
from pathlib import Path

import pytest

from vfusion3d.data.held_out import names_hash, split_by_group

MANIFEST = Path(__file__).parents[3] / "shared" / "data" / "meshes" / "MANIFEST.csv"


def rows() -> list[dict[str, str]]:
    table = [("gso_mug", "mug"), ("ycb_mug", "mug"), ("gso_shoe", "gso_shoe")]
    table += [(f"thing_{k}", f"group_{k // 2}") for k in range(20)]
    return [{"name": name, "group": group} for name, group in table]


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_whole(seed: int) -> None:
    train, held_out = split_by_group(rows(), 0.25, seed)
    assert sorted(train + held_out) == sorted(row["name"] for row in rows())
    groups = {row["name"]: row["group"] for row in rows()}
    assert not {groups[name] for name in train} & {groups[name] for name in held_out}
    assert {"gso_mug", "ycb_mug", "gso_shoe"} <= set(held_out)
    assert len(held_out) == 3 + 4  # two whole pairs are a fifth, three would be more than a quarter
    assert (train, held_out) == split_by_group(rows()[::-1], 0.25, seed)


def test_seeds_hold_out_different_groups() -> None:
    assert len({tuple(split_by_group(rows(), 0.2, seed)[1]) for seed in range(8)}) > 4


def test_hash_is_of_the_sorted_list() -> None:
    assert names_hash(["b", "a"]) == hashlib.sha256(b"a\nb\n").hexdigest()
    assert names_hash(["a"]) != names_hash(["a", "b"])


@pytest.mark.parametrize("bad", [[{"name": "a"}], [{"name": "", "group": "g"}], [{"name": "a", "group": "g"}] * 2])
def test_bad_manifests_are_refused(bad: list[dict[str, str]]) -> None:
    with pytest.raises(ValueError, match="rgument `manifest`"):
        split_by_group(bad)


@pytest.mark.skipif(not MANIFEST.is_file(), reason="needs ../shared")
def test_the_real_manifest() -> None:
    with MANIFEST.open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    train, held_out = split_by_group(table)
    groups = {row["name"]: row["group"] for row in table}
    benchmark = {groups[name] for name in groups if name.startswith("gso_")}
    assert not any(groups[name] in benchmark for name in train)
    rest = Counter(groups[name] in benchmark for name in groups)[False]
    extra = sum(groups[name] not in benchmark for name in held_out)
    assert 0.15 * rest < extra <= 0.2 * rest
