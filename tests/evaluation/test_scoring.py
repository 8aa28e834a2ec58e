"""Rows, floors and failures; and the pitfalls that belong to a protocol rather than to a metric."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import Tensor

from vfusion3d import TriplaneReconstructor
from vfusion3d.cameras import orbit
from vfusion3d.errors import UsageError
from vfusion3d.evaluation import ImageFolder, Protocol, Reconstructor, evaluate
from vfusion3d.evaluation.scoring import azimuths_from, magnified, score_views, scored_part, silhouettes, truth_of

from .conftest import SIZE, VIEWS, scene_of


class Given:
    """Predictions that are handed in."""

    description = identity = "given"

    def __init__(self, predictions: dict[str, Tensor]) -> None:
        self.predictions, self.asked = predictions, []

    def predict(self, item) -> Tensor:
        self.asked.append(item.name)
        return self.predictions[item.name]


def true(scenes, views=slice(1, None)) -> dict[str, Tensor]:
    return {name: truth_of(scene).rgb[views] for name, scene in scenes.items()}


def test_rows_have_every_scored_view_and_the_floors(scenes, protocol) -> None:
    results = evaluate(Given(true(scenes)), scenes, protocol, unseen={"cat"})
    rows = results.rows["method"]
    assert [(row["object"], row["view"]) for row in rows] == [(n, v) for n in scenes for v in (1, 2, 3)]
    assert {row["object"]: row["group"] for row in rows} == {"cat": "unseen", "dog": "seen", "jar": "seen"}
    assert [row["azimuth"] for row in rows[:3]] == [90, 180, 270]
    assert list(results.rows) == ["method", "all white", "input pasted", "nearest seen object"]
    assert results.groups == ["unseen", "seen"]
    cat = [row for row in results.rows["nearest seen object"] if row["object"] == "dog"]
    jar = truth_of(scenes["jar"]).rgb[1:]  # the only other seen object
    mine = score_views(jar, scored_part(truth_of(scenes["dog"]), protocol), protocol)
    assert [row["psnr"] for row in cat] == [row["psnr"] for row in mine]


def test_one_seen_object_is_a_floor_for_the_unseen(scenes, protocol) -> None:
    results = evaluate(Given(true(scenes)), scenes, protocol, unseen={"cat", "jar"})
    nearest = results.per_object("psnr", of="nearest seen object")
    assert nearest.keys() == {"cat", "jar"}  # the seen one has no other
    assert "| floor: nearest seen object | n/a | n/a | n/a | n/a | n/a |" in results.table()
    for changes, reason in (({}, "none of the objects is known"), ({"layout": "random"}, "without true meshes")):
        missing = evaluate(Given(true(scenes)), scenes, dataclasses.replace(protocol, **changes), unseen={*scenes})
        assert "nearest seen object" not in missing.rows
        assert reason in missing.missing["nearest seen object"] and reason in missing.table()


def test_the_input_counts_where_the_protocol_says_so(scenes, protocol) -> None:
    """Pitfall 1: with view 0 the pasted input is perfect in one view of four."""
    counted = dataclasses.replace(protocol, count_input=True)
    without = evaluate(Given(true(scenes)), scenes, protocol)
    with_it = evaluate(Given(true(scenes, slice(None))), scenes, counted)
    pasted = "input pasted"
    per_object = {name: (3 * value + 100) / 4 for name, value in without.per_object("psnr", of=pasted).items()}
    assert with_it.per_object("psnr", of=pasted) == pytest.approx(per_object)
    assert without.protocol.hash != with_it.protocol.hash


def test_means_are_of_objects_not_of_a_pool(scenes, protocol) -> None:
    """Pitfall 3: the mean of PSNRs is not the PSNR of the mean error, and objects count alike."""
    predictions = true(scenes)
    for k, name in enumerate(scenes):
        predictions[name] = predictions[name] + 0.2 * k
    results = evaluate(Given(predictions), scenes, protocol)
    per_view: dict[str, list[float]] = {}
    for row in results.rows["method"]:
        per_view.setdefault(row["object"], []).append(row["psnr"])
    means = [sum(values) / len(values) for values in per_view.values()]
    assert results.mean("psnr").value == pytest.approx(sum(means) / 3)
    truth = torch.cat([truth_of(scene).rgb[1:] for scene in scenes.values()])
    pooled = -10 * torch.cat([p.clamp(0, 1) for p in predictions.values()]).sub(truth).square().mean().log10()
    assert results.mean("psnr").value > float(pooled) + 5


def test_failures_are_scored_and_counted(scenes, protocol) -> None:
    """Pitfall 10: NaN or a wrong shape is an empty picture, not a missing row."""
    predictions = true(scenes)
    predictions["cat"] = predictions["cat"] * torch.nan
    predictions["dog"] = predictions["dog"][:2]
    results = evaluate(Given(predictions), scenes, protocol)
    assert results.failures == {
        "cat": "The prediction has NaN or infinite values.",
        "dog": f"The prediction has shape [2, 3, {SIZE}, {SIZE}], but the protocol's is [3, 3, {SIZE}, {SIZE}].",
    }
    white = results.per_object("psnr", of="all white")
    assert results.per_object("psnr") == pytest.approx({"cat": white["cat"], "dog": white["dog"], "jar": 100})
    assert results.mean("iou").value == pytest.approx(1 / 3)
    assert "2 objects failed, scored as empty pictures; the first, cat: The prediction has NaN" in results.table()


def test_scale_is_taken_out_only_where_the_protocol_says_so(scenes, protocol) -> None:
    """Pitfall 7: a prediction that is too small is another number than one of the right size."""
    truth = truth_of(scenes["jar"])
    theta = torch.tensor([[1.25, 0, 0], [0, 1.25, 0]]).expand(VIEWS, 2, 3)
    grid = torch.nn.functional.affine_grid(theta, [VIEWS, 1, SIZE, SIZE], align_corners=False)
    small = 1 - torch.nn.functional.grid_sample(1 - truth.rgb, grid, align_corners=False)
    aligned = dataclasses.replace(protocol, alignment="silhouette-scale")
    raw, after = (score_views(small, truth, p) for p in (protocol, aligned))
    assert min(b["psnr"] - a["psnr"] for a, b in zip(raw, after, strict=True)) > 2
    assert min(row["iou"] for row in after) > 0.88  # of 24 pixels a side, resampled twice
    assert min(b["iou"] - a["iou"] for a, b in zip(raw, after, strict=True)) > 0.2
    shapes = silhouettes(truth.rgb)
    torch.testing.assert_close(magnified(truth.rgb, shapes, shapes), truth.rgb)
    assert magnified(small, torch.zeros_like(shapes), shapes) is small


def test_turning_cameras_and_objects_together_changes_nothing(protocol, tmp_path) -> None:
    torch.manual_seed(0)
    TriplaneReconstructor("tiny").save_pretrained(tmp_path / "model")
    method, cameras = Reconstructor(tmp_path / "model"), orbit(VIEWS, 0.35)
    c, s = torch.tensor(1.1).cos(), torch.tensor(1.1).sin()
    turn = torch.tensor([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    plain = {"jar": scene_of(tmp_path / "a", 2, cameras)}
    turned = {"jar": scene_of(tmp_path / "b", 2, cameras.transform(turn), seen_from=cameras)}
    one, two = (evaluate(method, scenes, protocol) for scenes in (plain, turned))
    for a, b in zip(one.rows["method"], two.rows["method"], strict=True):
        assert a.keys() == b.keys() and a["azimuth"] == pytest.approx(b["azimuth"], abs=1e-2)
        for figure in ("psnr", "foreground_psnr", "ssim", "iou"):
            assert a[figure] == pytest.approx(b[figure], abs=2e-3)
    again = evaluate(method, plain, protocol)
    assert again.rows == one.rows  # to the last digit


def test_pictures_of_0_to_255_are_a_failure_and_not_white(scenes, protocol) -> None:
    predictions = {name: part * 255 for name, part in true(scenes).items()}
    failures = evaluate(Given(predictions), scenes, protocol).failures
    assert failures["cat"].endswith(" to 255; pictures must be in [0, 1].")
    failures = evaluate(Given({name: 2 * part - 1 for name, part in true(scenes).items()}), scenes, protocol).failures
    assert failures["cat"].startswith("The prediction has values from -")


def test_what_failed_is_tried_again(scenes, protocol, tmp_path) -> None:
    broken = true(scenes)
    broken["cat"] = broken["cat"] * torch.nan
    evaluate(Given(broken), scenes, protocol, tmp_path / "out")
    method = Given(true(scenes))
    assert not evaluate(method, scenes, protocol, tmp_path / "out").failures and method.asked == ["cat"]


def test_mirrored_predictions_are_not_perfect(scenes, protocol) -> None:
    predictions = {name: part.flip(-1) for name, part in true(scenes).items()}
    assert evaluate(Given(predictions), scenes, protocol).mean("psnr").value < 40


def test_a_run_that_was_cut_off_goes_on(scenes, protocol, tmp_path) -> None:
    half = dict(list(scenes.items())[:2])
    evaluate(Given(true(scenes)), half, protocol, tmp_path / "out")
    method = Given(true(scenes))
    results = evaluate(method, scenes, protocol, tmp_path / "out")
    assert method.asked == ["jar"]
    assert results.rows == evaluate(Given(true(scenes)), scenes, protocol).rows
    assert sorted(path.name for path in (tmp_path / "out" / "objects").glob("*.png")) == [
        "cat.png",
        "dog.png",
        "jar.png",
    ]
    other = dataclasses.replace(protocol, border=0.2)
    with pytest.raises(UsageError, match=r"has objects of another protocol \(.*choose another --output"):
        evaluate(method, scenes, other, tmp_path / "out")
    method.identity = "given anew"
    with pytest.raises(UsageError, match=r"has objects of another content \(given, not given anew"):
        evaluate(method, scenes, protocol, tmp_path / "out")


def test_what_is_scored_is_known_by_its_content(scenes, renders, tmp_path) -> None:
    torch.manual_seed(0)
    model = TriplaneReconstructor("tiny")
    model.save_pretrained(tmp_path / "model")
    before = Reconstructor(tmp_path / "model").identity
    assert Reconstructor(tmp_path / "model").identity == before
    with torch.no_grad():
        model.field.last.bias += 1
    model.save_pretrained(tmp_path / "other")
    assert Reconstructor(tmp_path / "other").identity != before
    folder = renders(scenes)
    pictures = ImageFolder(folder, VIEWS).identity
    (folder / "cat" / "0.png").write_bytes((folder / "cat" / "1.png").read_bytes())
    assert ImageFolder(folder, VIEWS).identity != pictures


def test_what_was_kept_is_gone_on_with_only_where_it_still_holds(scenes, protocol, tmp_path) -> None:
    method, out = Given(true(scenes)), tmp_path / "out"
    first = evaluate(method, scenes, protocol, out)
    (out / "objects" / "cat.json").write_text('{"truth": ')  # cut short
    other = {**scenes, "dog": scene_of(tmp_path / "other", 7, orbit(VIEWS, 0.35))}  # another mesh of that name
    method.asked.clear()
    again = evaluate(method, other, protocol, out, unseen={"cat"}, seen={"dog", "jar"})
    assert method.asked == ["cat", "dog"]
    assert again.truths["dog"] != first.truths["dog"] and again.truths["jar"] == first.truths["jar"]
    # Groups and the floor that needs them are of this call, whatever an earlier one kept.
    assert again.groups == ["unseen", "seen"] and len(again.rows["nearest seen object"]) == 9
    assert first.groups == ["all"] and "nearest seen object" not in first.rows
    unknown = evaluate(method, scenes, protocol, unseen={"cat"}, seen={"dog"})
    assert {row["object"]: row["group"] for row in unknown.rows["method"]}["jar"] == "unknown"
    (out / "run.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        evaluate(method, scenes, protocol, out)


def test_silhouettes_are_of_pictures_alike_for_all_methods(scenes, protocol) -> None:
    """What gives opacities and what gives pictures stand in one table: true views are perfect, each view by its own."""
    truth = scored_part(truth_of(scenes["jar"]), protocol)
    assert [row["iou"] for row in score_views(truth.rgb, truth, protocol)] == [1, 1, 1]
    shifted = truth.rgb.roll(3, -1)
    rows = score_views(shifted, truth, protocol)
    for view, row in enumerate(rows):
        one, two = (silhouettes(part[view : view + 1]) for part in (shifted, truth.rgb))
        assert row["iou"] == pytest.approx(float((one & two).sum() / (one | two).sum()))
        own = two | (truth.opacity[view : view + 1] > 0.5)
        error = ((shifted[view : view + 1] - truth.rgb[view : view + 1]).square() * (one | own)).sum() / own.sum() / 3
        assert row["foreground_psnr"] == pytest.approx(float(-10 * error.log10()), abs=1e-3)
    assert len({row["iou"] for row in rows}) > 1


@pytest.mark.parametrize("haze", [0.05, 0.2])
def test_a_haze_makes_nothing_better(scenes, protocol, haze) -> None:
    """It is seen or not by the silhouettes; in both cases it must not thin out the errors of the object."""
    truth = scored_part(truth_of(scenes["jar"]), protocol)
    wrong = truth.rgb.flip(1).roll(2, -1)
    clean = score_views(wrong, truth, protocol)
    hazy = score_views((wrong - haze * (truth.opacity < 0.5)).clamp(0, 1), truth, protocol)
    for one, two in zip(clean, hazy, strict=True):
        for figure in ("psnr", "foreground_psnr", "iou"):
            assert two[figure] <= one[figure] + 1e-6, figure


def test_white_parts_of_the_object_are_foreground(scenes, protocol) -> None:
    """Its mask counts where its colour does not tell it: there, too, something dark is an error."""
    truth = scored_part(truth_of(scenes["jar"]), protocol)
    white = dataclasses.replace(truth, rgb=torch.ones_like(truth.rgb))
    rows = score_views(white.rgb, white, protocol)
    assert [row["foreground_psnr"] for row in rows] == [100, 100, 100]
    assert [row["iou"] for row in rows] == [None] * 3  # or nothing would be a perfect prediction
    empty = dataclasses.replace(truth, rgb=torch.ones_like(truth.rgb), opacity=torch.zeros_like(truth.opacity))
    assert [row["foreground_psnr"] for row in score_views(truth.rgb, empty, protocol)] == [None] * 3  # seen edge on
    nothing = dataclasses.replace(white, opacity=torch.zeros_like(truth.opacity))
    assert [row["foreground_psnr"] for row in score_views(white.rgb, nothing, protocol)] == [None] * 3


def test_lpips_is_a_column_where_there_is_a_network(scenes, protocol) -> None:
    def distance(prediction, target):
        return (prediction - target).abs().mean((-3, -2, -1))

    results = evaluate(Given(true(scenes)), scenes, protocol, lpips=distance)
    assert results.mean("lpips").value == 0 and "LPIPS (vgg)" in results.table()
    assert "LPIPS: n/a" not in results.table()
    without = evaluate(Given(true(scenes)), scenes, protocol).table()
    assert "LPIPS: n/a" in without and "| n/a | 1.000 [1.000, 1.000] |" in without  # a column still


def test_azimuths_are_from_the_input() -> None:
    cameras = orbit(8, 0.3)
    assert azimuths_from(cameras[torch.tensor([3, 0, 3, 5])]) == [0, 225, 0, 90]


def test_pictures_of_a_folder_equal_what_was_rendered(scenes, protocol) -> None:
    """Pitfall 6: colours are put on white before anything else; half transparent pixels are not darkened twice."""
    folder = next(iter(scenes.values())).folder.parent
    [row, *_] = evaluate(ImageFolder(folder, VIEWS), scenes, protocol).rows["method"]
    assert row["psnr"] == 100


def test_results_are_plain(scenes, protocol: Protocol) -> None:
    rows = evaluate(Given(true(scenes)), scenes, protocol).rows
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
