"""CLIP scores of videos, with a tiny random model in the real one's place."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel

from tests.engine.tiny_language import write_clip
from vfusion3d.errors import UsageError
from vfusion3d.evaluation.clip_scores import ClipProtocol, find_turntables, frames_of, score, table
from vfusion3d.metrics.clip import ClipNetwork, clip_similarity

SIZE = 32
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def model(tmp_path: Path) -> str:
    write_clip(tmp_path / "clip")
    return str(tmp_path / "clip")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Two videos of one colour that grows darker, of 12 frames."""
    for name, colour in (("a red ball", (250, 20, 20)), ("a blue ball", (20, 20, 250))):
        (tmp_path / "videos" / name).mkdir(parents=True)
        frames = np.stack([np.full((SIZE, SIZE, 3), colour, np.uint8) // (k // 4 + 1) for k in range(12)])
        iio.imwrite(tmp_path / "videos" / f"{name}.gif", frames)
    return tmp_path / "videos"


def small(model: str, **changes) -> ClipProtocol:
    return ClipProtocol(
        **{"name": "small", "description": "", "views": 3, "resolution": SIZE, "models": (model,), **changes}
    )


def test_frames_are_evenly_spaced(videos, model) -> None:
    frames = frames_of(videos / "a red ball.gif", small(model))
    assert frames.shape == (3, 3, SIZE, SIZE)
    red = frames[:, 0].mean((-1, -2)).tolist()  # frames 0, 4 and 8
    assert red == pytest.approx([250 / 255, 125 / 255, 83 / 255], abs=0.03)


def test_frames_go_all_the_way_round(tmp_path, model) -> None:
    """Of 15 frames eight are 0, 1, 3, 5, 7, 9, 11 and 13, not the first half."""
    frames = np.stack([np.full((SIZE, SIZE, 3), 10 * k, np.uint8) for k in range(15)])
    iio.imwrite(tmp_path / "grey.gif", frames)
    found = frames_of(tmp_path / "grey.gif", small(model, views=8))[:, 0].mean((-1, -2)) * 25.5
    assert found.round().tolist() == [0, 1, 3, 5, 7, 9, 11, 13]


def test_one_object_has_no_interval(videos, model) -> None:
    found = dict(list(find_turntables(videos).items())[:1])
    document = score(found, small(model), {name: name for name in found})
    mean = json.loads(json.dumps(document, allow_nan=False))["means"][model]["clip_text"]
    assert mean["value"] is not None and mean["low"] is None and "nan" not in table(document, "clip-text")


def test_scores_are_cosines_averaged_over_frames(videos, model, tmp_path) -> None:
    found = find_turntables(videos)
    captions = {name: name for name in found}
    for name, colour in (("a red ball", "red"), ("a blue ball", "blue")):
        Image.new("RGB", (20, 20), colour).save(tmp_path / f"{name}.png")
    inputs = {name: tmp_path / f"{name}.png" for name in found}
    document = score(found, small(model), captions, inputs)
    assert len(document["rows"]) == 2 and all(len(row["clip_text"]) == 3 for row in document["rows"])
    means = [np.mean(row["clip_image"]) for row in document["rows"]]
    assert document["means"][model]["clip_image"]["value"] == pytest.approx(np.mean(means))
    assert all(-1 <= value <= 1 for row in document["rows"] for value in row["clip_text"] + row["clip_image"])
    again = score(found, small(model), captions, inputs)
    assert again["rows"] == document["rows"] and again["protocol_hash"] == document["protocol_hash"]
    # Another template, as every other setting, is another protocol.
    other = score(found, small(model, template="a picture of {}"), captions, inputs)
    assert other["protocol_hash"] != document["protocol_hash"] and other["rows"] != document["rows"]


def pictures_of(names, folder) -> dict[str, Path]:
    """Input pictures of noise, each another."""
    for k, name in enumerate(names):
        noise = np.random.default_rng(k).integers(0, 255, (20, 20, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in names}


def test_floors_are_a_white_video_and_the_input_as_every_frame(videos, model, tmp_path) -> None:
    found = find_turntables(videos)
    captions = {name: name for name in found}
    inputs = pictures_of(found, tmp_path)
    document = score(found, small(model, template="{}!"), captions, inputs)
    network = ClipNetwork(model)
    stacked = np.stack([np.asarray(Image.open(path)) for path in inputs.values()])
    pictures = torch.from_numpy(stacked).permute(0, 3, 1, 2) / 255
    texts, white = [f"{name}!" for name in found], torch.ones(len(found), 3, SIZE, SIZE)
    wanted = {
        ("all white", "clip_text"): clip_similarity(white, texts, network),
        ("all white", "clip_image"): clip_similarity(white, pictures, network),
        ("input pasted", "clip_text"): clip_similarity(pictures, texts, network),
        ("input pasted", "clip_image"): torch.ones(len(found)),
    }
    floors = document["floors"][model]
    for (floor, figure), values in wanted.items():
        per_object = [row["floors"][floor][figure] for row in document["rows"]]
        assert np.allclose(per_object, values[:, None], atol=1e-5), (floor, figure)
        assert floors[floor][figure]["value"] == pytest.approx(float(values.mean()), abs=1e-5)
    assert len({round(float(values[0]), 4) for values in wanted.values()}) == 4  # no two are one
    assert floors["nearest seen object"] == {"clip_text": None, "clip_image": None}
    shown = table(document, "clip-text")
    assert "| floor: input pasted | " in shown and "1.000 [1.000, 1.000] |" in shown
    assert "| floor: nearest seen object | n/a | n/a |" in shown
    assert "Floor nearest seen object: n/a, none of the objects is known to have been trained on." in shown
    # Without inputs there is none to paste, and that is said.
    document = score(found, small(model), captions)
    assert document["floors"][model]["input pasted"] == {"clip_text": None, "clip_image": None}
    assert document["floors"][model]["all white"]["clip_image"] is None
    assert "Floor input pasted: n/a, no input pictures were given." in table(document, "clip-text")


def test_the_nearest_floor_is_the_seen_turntable_whose_input_is_nearest(videos, model, tmp_path) -> None:
    found = find_turntables(videos)
    inputs, captions = pictures_of(found, tmp_path), {name: name for name in found}
    one, *others = found
    inputs[one] = inputs[others[-1]]  # its input is another's
    document = score(found, small(model), captions, inputs, unseen={one}, output=tmp_path / "out")
    [row] = [row for row in document["rows"] if row["object"] == one]
    network, theirs = ClipNetwork(model), frames_of(found[others[-1]], small(model))[None]
    assert row["floors"]["nearest seen object"]["clip_text"] == pytest.approx(
        clip_similarity(theirs, [one], network)[0].tolist(), abs=1e-5
    )
    unseen = document["groups"]["unseen"]["floors"][model]["nearest seen object"]
    assert unseen["clip_text"]["value"] == pytest.approx(np.mean(row["floors"]["nearest seen object"]["clip_text"]))
    again = score(found, small(model), captions, inputs, unseen={one}, output=tmp_path / "out")
    assert again["rows"] == document["rows"]


def test_other_weights_are_scored_anew(videos, model, tmp_path) -> None:
    found = find_turntables(videos)
    captions = {name: name for name in found}
    before = score(found, small(model), captions, output=tmp_path / "out")
    changed = CLIPModel.from_pretrained(model)
    torch.nn.init.normal_(changed.visual_projection.weight, generator=torch.Generator().manual_seed(1))
    changed.save_pretrained(model)
    after = score(found, small(model), captions, output=tmp_path / "out")
    assert after["weights"] != before["weights"] and after["means"] != before["means"]
    assert after["rows"] == score(found, small(model), captions)["rows"]


def test_two_videos_of_an_object_are_no_pictures(videos) -> None:
    name = next(iter(find_turntables(videos)))
    (videos / name).mkdir(exist_ok=True)
    (videos / name / "turntable.mp4").touch()
    (videos / f"{name}.mp4").touch()
    Image.new("RGB", (8, 8)).save(videos / name / "input.png")
    with pytest.raises(UsageError, match=f"are videos of object {name}; remove one"):
        find_turntables(videos)


def test_unseen_and_seen_objects_stand_apart(videos, model) -> None:
    found = find_turntables(videos)
    captions = {name: name for name in found}
    whole = score(found, small(model), captions)
    apart = score(found, small(model), captions, unseen={"a red ball", "another"})
    assert list(whole["groups"]) == ["all"] and list(apart["groups"]) == ["unseen", "seen"]
    assert whole["groups"]["all"]["means"] == whole["means"] == apart["means"]  # of all objects together, as it was
    rows = {row["object"]: row for row in apart["rows"]}
    for name, group in (("a red ball", "unseen"), ("a blue ball", "seen")):
        part = apart["groups"][group]
        assert rows[name]["group"] == group and part["objects"] == 1
        assert part["means"][model]["clip_text"]["value"] == pytest.approx(np.mean(rows[name]["clip_text"]))
        white = rows[name]["floors"]["all white"]["clip_text"]
        assert part["floors"][model]["all white"]["clip_text"]["value"] == pytest.approx(white[0])
    shown = table(apart, "clip-text")
    assert shown.index("| 1 unseen object | text |") < shown.index("| 1 seen object | text |")
    assert "| 2 objects | text |" in table(whole, "clip-text")


def test_what_is_unpublished_is_always_said(videos, model) -> None:
    found = find_turntables(videos)
    for sources in ((), ("Ours: everything.",)):
        document = score(found, small(model, sources=sources), {name: name for name in found})
        shown = table(document, "clip-text")
        assert "cameras, frames, template and CLIP model are unpublished" in document["unpublished"]
        assert document["unpublished"] in shown and all(line in shown for line in sources)
    assert document["protocol"]["sources"] == ("Ours: everything.",)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"failed": null, "clip_text": [0.5]}', b"\xff"])
def test_a_kept_object_that_was_cut_short_is_scored_anew(content, videos, model, tmp_path) -> None:
    found = find_turntables(videos)
    captions = {name: name for name in found}
    document = score(found, small(model), captions, output=tmp_path / "out")
    kept = tmp_path / "out" / "objects" / "0-a red ball.json"
    whole = kept.read_bytes()
    kept.write_bytes(content)
    assert score(found, small(model), captions, output=tmp_path / "out")["rows"] == document["rows"]
    assert kept.read_bytes() == whole


def test_what_failed_is_tried_again(videos, model, tmp_path, monkeypatch) -> None:
    found = find_turntables(videos)
    captions = {name: name for name in found}

    def fails(path, protocol):
        raise UsageError("No.")

    with monkeypatch.context() as patch:
        patch.setattr("vfusion3d.evaluation.clip_scores.frames_of", fails)
        failed = score(found, small(model), captions, output=tmp_path / "out")
    assert len(failed["failures"]) == 2 and failed["means"][model]["clip_text"]["value"] == 0
    again = score(found, small(model), captions, output=tmp_path / "out")
    assert not again["failures"] and again["rows"] == score(found, small(model), captions)["rows"]


def test_a_run_that_was_cut_off_goes_on(videos, model, tmp_path, monkeypatch) -> None:
    found = find_turntables(videos)
    captions = {name: name for name in found}
    some = dict(list(found.items())[:1])
    document = score(found, small(model), captions, output=tmp_path / "out")
    (tmp_path / "out" / "objects" / "0-a red ball.json").unlink()
    read = []
    monkeypatch.setattr(
        "vfusion3d.evaluation.clip_scores.frames_of",
        lambda path, protocol: read.append(path.stem) or frames_of(path, protocol),
    )
    assert score(found, small(model), captions, output=tmp_path / "out")["rows"] == document["rows"]
    assert read == ["a red ball"]
    with pytest.raises(UsageError, match="has objects of another content"):
        score(some, small(model), captions, output=tmp_path / "out")


def test_failed_videos_count_as_nothing(videos, model) -> None:
    iio.imwrite(
        videos / "a green ball.gif",
        np.zeros((2, SIZE, SIZE, 3), np.uint8) + np.arange(2, dtype=np.uint8)[:, None, None, None] * 90,
    )
    iio.imwrite(videos / "large.gif", np.random.default_rng(0).integers(0, 255, (4, 40, 40, 3), np.uint8))
    found = find_turntables(videos)
    document = score(found, small(model), {name: name for name in found})
    assert set(document["failures"]) == {"a green ball", "large"}
    assert "has 2 frames, but the protocol needs 3" in document["failures"]["a green ball"]
    assert "has frames of 40 x 40 pixels, but the protocol's are 32 x 32" in document["failures"]["large"]
    whole = [np.mean(row["clip_text"]) for row in document["rows"]]
    assert document["means"][model]["clip_text"]["value"] == pytest.approx(np.mean(whole)) and whole.count(0) == 2


@pytest.mark.parametrize("script", ["clip.py", "text_to_3d.py"])
def test_the_scripts(script, videos, model, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "prompts.txt").write_text("a red ball\na blue ball\nanother\n")
    (tmp_path / "small.yaml").write_text(
        f"{{name: small, description: d, views: 3, resolution: {SIZE}, models: [{model}]}}"
    )

    def call(*options: str) -> int:
        monkeypatch.setattr(sys, "argv", [script, *options])
        return runpy.run_path(str(BENCHMARKS / script))["main"](script, "", "clip-text")

    usual = [str(videos), "--captions", str(tmp_path / "prompts.txt"), "--protocol", str(tmp_path / "small.yaml")]
    assert call(*usual, "--output", str(tmp_path / "out"), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["objects"] == 2 and document["means"][model]["clip_image"] is None
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())["rows"]) == 2
    assert call(*usual, "--models", "nobody/clip") == 0  # not to be had: n/a, and said
    out = capsys.readouterr().out
    assert "| **nobody/clip** | n/a | n/a |\n| floor: all white | n/a | n/a |" in out and "ProlificDreamer" in out
    (tmp_path / "unseen.txt").write_text("a red ball\n")
    assert call(*usual, "--unseen", str(tmp_path / "unseen.txt")) == 0
    assert "| 1 unseen object |" in capsys.readouterr().out
    for options, message in (
        ([str(videos)], "Give --captions, --inputs or both"),
        ([str(videos), "--inputs", str(tmp_path / "none")], "does not exist; name a folder of pictures"),
        ([str(tmp_path / "none"), "--inputs", str(videos)], "does not exist; name a folder of videos"),
        ([*usual[:2], str(tmp_path / "small.yaml")], "have none of object 'a blue ball' (2 are missing)"),
        ([*usual[:3], "--protocol", "mine"], "There is no "),
        ([*usual, "--unseen", str(tmp_path / "none.txt")], "none.txt, cannot be read"),
    ):
        assert call(*options) == 2
        assert message in capsys.readouterr().err


def test_bad_protocols(model) -> None:
    for changes in ({"views": 0}, {"models": ()}, {"models": "one"}, {"template": "a picture"}, {"template": "{} {x}"}):
        with pytest.raises(UsageError, match="A CLIP protocol needs"):
            small(model, **changes)
