"""Results on the disk, and two of them side by side."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from vfusion3d.cli import main
from vfusion3d.errors import UsageError
from vfusion3d.evaluation import Protocol, Results, compare
from vfusion3d.evaluation.comparison import by_azimuth
from vfusion3d.metrics.intervals import bootstrap_interval


def results(protocol: Protocol, shift: float = 0.0, objects: int = 12, method: str = "method A") -> Results:
    """Objects of very different difficulty, all of them shifted alike but for a little noise."""
    rng = np.random.default_rng(0)
    levels, noise = rng.uniform(10, 30, objects), np.random.default_rng(1).normal(0, 0.1, (objects, protocol.views))
    rows = [
        {
            "object": f"object {k}",
            "group": "unseen" if k % 2 else "seen",
            "view": view,
            "azimuth": 90.0 * view,
            "failed": None,
            "psnr": float(levels[k] + shift * (1 + noise[k, view - 1])),
            "foreground_psnr": float(levels[k] - 3),
            "ssim": 0.8 + shift / 100,
            "iou": 0.5,
            "lpips": 0.3 - shift / 10,
        }
        for k in range(objects)
        for view in protocol.scored
    ]
    both = {"method": rows, "all white": [{**row, "psnr": 9.0} for row in rows]}
    return Results(protocol, method, both, {row["object"]: "truth" for row in rows})


def test_pairs_see_what_means_do_not(protocol) -> None:
    a, b = results(protocol), results(protocol, 0.5, method="method B")
    one, two = a.mean("psnr"), b.mean("psnr")
    assert two.low < one.value < two.high  # the intervals of the means overlap widely
    comparison = compare(a, b)
    [psnr] = [d for d in comparison.differences if (d.figure, d.group) == ("psnr", "unseen")]
    assert psnr.decided and psnr.interval.value == pytest.approx(0.5, abs=0.05) and psnr.better == psnr.objects == 6
    [lpips] = [d for d in comparison.differences if (d.figure, d.group) == ("lpips", "unseen")]
    assert lpips.interval.value < 0 and lpips.better == 6  # less is better
    [iou] = [d for d in comparison.differences if (d.figure, d.group) == ("iou", "seen")]
    assert not iou.decided and iou.better == 0
    assert "| 6 unseen | psnr |" in comparison.table() and "**+0.5" in comparison.table()
    one, two = a.per_object("psnr", "unseen"), b.per_object("psnr", "unseen")
    values = [two[name] - one[name] for name in sorted(one)]
    assert psnr.interval == bootstrap_interval(values)


def test_extremes_and_azimuths(protocol) -> None:
    a, b = results(protocol), results(protocol, 2.0)
    few = compare(results(protocol, objects=3), results(protocol, 2.0, objects=3)).extremes()
    assert [len(part) for part in few] == [2, 2]  # not all of them twice
    worst, best = compare(a, b).extremes()
    changes = {n: b.per_object("psnr")[n] - a.per_object("psnr")[n] for n in a.per_object("psnr")}
    assert worst == sorted(changes, key=changes.get)[:4] and best == sorted(changes, key=changes.get)[:-5:-1]
    assert [azimuth for azimuth, _ in by_azimuth(a)] == [90, 180, 270]
    assert by_azimuth(a)[0][1] == pytest.approx(a.mean("psnr").value)


def test_protocols_do_not_mix(protocol) -> None:
    other = dataclasses.replace(protocol, lpips="alex", resolution=32)
    with pytest.raises(
        UsageError, match=r"A and B were scored under different protocols \(resolution 24 and 32, lpips"
    ):
        compare(results(protocol), results(other))
    with pytest.raises(UsageError, match="A and B share no object"):
        empty = results(protocol)
        renamed = [{**row, "object": f"other {row['object']}"} for row in empty.rows["method"]]
        compare(results(protocol), dataclasses.replace(empty, rows={"method": renamed}))


def test_other_true_views_are_not_paired(protocol) -> None:
    a = results(protocol)
    with pytest.raises(UsageError, match=r"The true views of object 3 are not the same in A and B \(1 objects\)"):
        compare(a, dataclasses.replace(a, truths={**a.truths, "object 3": "turned"}))


def test_what_pairs_leave_out_is_said(protocol) -> None:
    less = results(protocol, objects=10)
    less.rows["method"][0]["failed"] = "no mesh"
    assert compare(results(protocol), less).left_out() == ["2 objects are in A alone.", "1 objects failed in B."]


def test_what_one_has_seen_and_the_other_has_not_is_apart(protocol) -> None:
    a, b = results(protocol), results(protocol, 0.5)
    for row in b.rows["method"]:
        row["group"] = "all"
    groups = {d.group: d.objects for d in compare(a, b, ("ours", "theirs")).differences}
    assert groups == {"unseen in ours, unknown in theirs": 6, "seen in ours, unknown in theirs": 6, "all": 12}
    for row in a.rows["method"]:
        row["group"] = "all"
    assert {d.group for d in compare(a, b).differences} == {"all"}


def test_floors_stand_beside_the_differences(protocol) -> None:
    a, b = results(protocol), results(protocol, 0.5)
    b.rows["all white"] = a.rows["all white"]
    for one, shift in ((a, 0.0), (b, 1.0)):
        one.rows["nearest seen object"] = [{**row, "psnr": 12.0 + shift} for row in one.rows["all white"]]
    comparison = compare(a, dataclasses.replace(b, missing={"input pasted": "for a test"}))
    floors = {(floor.group, floor.name): floor.means["psnr"] for floor in comparison.floors}
    assert floors[("unseen", "all white")] == 9 and floors[("unseen", "input pasted")] is None
    assert floors[("seen", "nearest seen object of A")] == 12 and floors[("all", "nearest seen object of B")] == 13
    assert "| unseen | all white | 9.00 |" in comparison.table()
    assert comparison.to_dict()["floors"][0]["name"] == "all white"


def test_other_lpips_weights_are_not_compared(protocol) -> None:
    a, b = results(protocol), dataclasses.replace(results(protocol, 0.5), lpips_weights="vgg, others")
    comparison = compare(a, b)
    assert "lpips" not in {d.figure for d in comparison.differences}
    assert "LPIPS is not compared" in comparison.table() and comparison.to_dict()["remarks"]
    assert "lpips" in {d.figure for d in compare(a, a).differences} and not compare(a, a).remarks
    unknown = dataclasses.replace(a, lpips_weights="unknown")
    assert compare(unknown, unknown).remarks


def test_one_object_has_no_interval(protocol) -> None:
    comparison = compare(results(protocol, objects=1), results(protocol, 1.0, objects=1))
    assert json.loads(json.dumps(comparison.to_dict(), allow_nan=False))["differences"][0]["interval"]["low"] is None
    assert "nan" not in comparison.table()


def test_the_command(protocol, tmp_path, capsys) -> None:
    for name, shift in (("one", 0.0), ("two", 1.0)):
        (tmp_path / name).mkdir()
        results(protocol, shift, method=name).save(tmp_path / name / "results.json")
    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "two" / "results.json")]) == 0
    told = capsys.readouterr().out
    assert "B is two (two), A is one (one)" in told and f"this is small {protocol.hash[:12]}" in told
    output = tmp_path / "comparison"
    arguments = ["compare", str(tmp_path / "one"), str(tmp_path / "two"), "--output", str(output), "--json"]
    pytest.importorskip("matplotlib")
    assert main(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["protocol_hash"] == protocol.hash and document["names"] == ["one", "two"]
    assert json.loads((output / "comparison.json").read_text()) == document
    assert {path.name for path in output.iterdir()} == {"comparison.json", "index.html", "scatter.png", "azimuth.png"}
    page = (output / "index.html").read_text()
    assert "B worst against A" in page and "<td><b>+1.0" in page and "| --- |" not in page


def changed(text: str, **fields) -> str:
    """A document with other fields."""
    return json.dumps({**json.loads(text), **fields})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "may be cut short"),
        (lambda text: "[]", "cannot be read"),
        (lambda text: text.replace('"format": 2', '"format": 1'), "are of another version (form 1, not 2)"),
        (lambda text: text.replace('"method":', '"methods":', 1), "cannot be used"),
        (lambda text: changed(text, truths=[]), "rows that are not whole"),
        (lambda text: text.replace('"azimuth": 90.0', '"azimuth": null'), "rows that are not whole"),
        (lambda text: text.replace('"group": "seen"', '"group": "elsewhere"'), "rows that are not whole"),
        (lambda text: text.replace('"iou": 0.5', f'"iou": {10**400}'), "cannot be used"),
        (lambda text: changed(text, missing=None), "rows that are not whole"),
        (lambda text: changed(text, protocol_hash=None), "one of them was changed"),
        (lambda text: changed(text, truths={"object 1": "truth"}), "rows that are not whole"),
        (lambda text: text.replace('"fov": null', '"fov": 30.0'), "one of them was changed"),
        (lambda text: text.replace('"view": 1', '"vie": 1'), "rows that are not whole"),
        (lambda text: text.replace('"view": 1', '"view": 2'), "rows that are not whole"),
        (lambda text: text.replace('"iou": 0.5', '"iou": NaN'), "rows that are not whole"),
    ],
    ids=[
        "cut",
        "another document",
        "an older form",
        "a key less",
        "no truths",
        "no azimuth",
        "another group",
        "too large",
        "nothing missing",
        "no hash",
        "an object less",
        "protocol changed",
        "row without view",
        "a view twice",
        "no number",
    ],
)
def test_damaged_results_are_refused(protocol, tmp_path, capsys, damage, message) -> None:
    path = tmp_path / "results.json"
    results(protocol).save(path)
    assert Results.load(path).rows == results(protocol).rows
    path.write_text(damage(path.read_text()))
    assert main(["compare", str(path), str(path)]) == 2
    assert message in capsys.readouterr().err


def test_no_results(tmp_path, capsys) -> None:
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 2
    assert "There are no results" in capsys.readouterr().err
