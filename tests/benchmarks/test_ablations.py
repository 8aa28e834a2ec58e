"""The script at toy length: which runs it does, what it writes, that it continues; its figures mean nothing there."""

from __future__ import annotations

import json
import math
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vfusion3d import TriplaneReconstructor
from vfusion3d.alpha import over_white
from vfusion3d.metrics import psnr, ssim

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ablations.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def call(script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*options: str) -> int:
        toy = ["--output", str(tmp_path), "--architecture", "tiny", "--steps", "2", "--objects", "2", "--seeds", "1"]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *toy, *options])
        status: int = script["main"]()
        return status

    return run


def test_stand_ins_are_inconsistent_but_for_their_first_view(script: dict[str, Any]) -> None:
    plain = script["ProceduralDataModule"](2, 2, views=3, resolution=32, seed=4)
    generated = script["GeneratedStandIns"](2, 2, views=3, resolution=32, seed=4)
    made = [
        data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0) for data in (plain, generated, generated)
    ]
    for key in ("poses", "intrinsics"):
        torch.testing.assert_close(made[1][key], made[0][key])  # the labels are nominal
    torch.testing.assert_close(made[1]["images"], made[2]["images"])  # a function of seed, sample and epoch
    changed = (made[1]["images"] - made[0]["images"]).abs().mean((-3, -2, -1))
    assert (changed > 0.003).all()  # where the cameras are is not where they claim to be
    colour, alpha = made[1]["images"][:, :, :3], made[1]["images"][:, :, 3:]
    assert float(colour.min()) >= 0 and float((colour - alpha).max()) <= 1e-6 and float(alpha.max()) <= 1 + 1e-6

    images = made[0]["images"].flatten(0, 1)
    middle = torch.full((len(images), 2, 4, 4), 0.5), torch.full((len(images), 3), 0.5)
    torch.testing.assert_close(script["corrupt"](images, *middle), images, atol=1e-5, rtol=0)
    redder = script["corrupt"](images * 0.5, middle[0], torch.tensor([[1.0, 0.5, 0.0]]).expand(len(images), 3))
    gain = redder[:, :3].sum((0, 2, 3)) / (images * 0.5)[:, :3].sum((0, 2, 3))
    assert gain[0] > gain[1] > gain[2] and float(gain[1]) == pytest.approx(1, abs=1e-4)


def test_three_d_is_a_fixed_set(script: dict[str, Any]) -> None:
    row = script["BY_KEY"]["3d"]
    data = script["training_data"](row, seed=0, whole=15)  # 120 samples of four objects
    assert data.samples_per_epoch == 120 and data.objects == 4
    dataset = data.train_dataloader().dataset
    first, again, other = dataset[0, 1], dataset[0, 5], dataset[0, 2]
    assert all(torch.equal(a, b) for a, b in zip(first["objects"], again["objects"], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first["objects"], other["objects"], strict=True))
    assert not torch.equal(first["poses"], again["poses"])
    both = script["training_data"](script["BY_KEY"]["both"], seed=0, whole=15)
    assert both.samples_per_epoch == 40 and both.objects == 4  # a third of the steps on the same objects


def test_rows_differ_as_in_the_paper(script: dict[str, Any]) -> None:
    rows = [script["BY_KEY"][key] for key in script["TABLES"]["table4"]]
    switches = [(row.stages, not row.pixel_loss, row.opacity, row.noise) for row in rows]
    assert switches == [tuple(k < n for k in range(4)) for n in range(5)]  # one more each time
    resolution, rate, *rest = script["schedules"](rows[0], 0)
    assert resolution.uniform == (16, 48) and rate.cycles == [1] and not rest
    resolution, rate, noise = script["schedules"](rows[4], 0)
    assert resolution.resolutions == [16, 24, 32, 40, 48] and math.isclose(sum(resolution.epochs), 1)
    assert rate.cycles == pytest.approx([1 / 3, 2 / 3]) and noise.targets == "both"


def test_verdicts(script: dict[str, Any]) -> None:
    verdict = script["verdict"]
    assert verdict([0.9, 0.01], [0.8, 0.01], 0.003, False) == "agrees"
    assert verdict([0.7, 0.01], [0.8, 0.01], 0.003, False) == "disagrees"
    assert verdict([0.81, 0.01], [0.8, 0.01], 0.003, False) == "within the spread"
    assert verdict([0.9, 0.01], [0.8, 0.01], 0.0, False).startswith("beyond the spread")
    assert verdict([0.9, None], [0.8, None], 0.003, False) == "one seed: no spread"
    assert verdict([0.9, 0.01], [0.8, 0.01], 0.003, True) == "no evidence: random trunk"
    figures = dict.fromkeys(("psnr", "foreground_psnr", "iou"), 1.0)
    runs = {
        key: [{"steps": 5, "figures": {**figures, "ssim": value}} for value in (0.5 + 0.1 * k, 0.5 + 0.1 * k)]
        for k, key in enumerate(script["TABLES"]["table4"])
    }
    lines = script["table_rows"]("table4", runs, True)
    assert [line.get("verdict", "-").split(":")[0] for line in lines][:3] == ["-", "agrees", "no evidence"]
    assert lines[1]["change"] == pytest.approx(0.1) and lines[4]["verdict"] == "disagrees"  # the paper falls by 0.001
    assert lines[3]["ssim"] == [pytest.approx(0.8), 0.0]


@pytest.mark.slow
def test_two_rows_with_curves_then_more(
    script: dict[str, Any], call: Callable[..., int], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"ROTATIONS": (0.0, 0.3), "FOV_ERRORS": (0.0, 10.0), "DRAWS": 1, "BATCH": 2, "COARSE": 4, "FINE": 4}
    for name, value in small.items():
        monkeypatch.setitem(script["main"].__globals__, name, value)
    assert call("--only", "noise", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((tmp_path / "report.json").read_text())
    assert {run["row"]: run["steps"] for run in document["runs"]} == {"opacity": 2, "camera-noise": 2}
    assert "random features of vgg, not LPIPS" in document["perceptual"] and "table4" not in document

    # A run's figures are those of its model, and the error changes them.
    exam = script["Exam"](2, 48)
    model = TriplaneReconstructor.from_pretrained(tmp_path / "opacity-seed0")
    rendered, target = exam.views(model), over_white(exam.truth)
    figures = document["runs"][0]["figures"]
    assert figures["psnr"] == pytest.approx(float(psnr(rendered.rgb.clamp(0, 1), target).mean()), abs=1e-3)
    assert figures["ssim"] == pytest.approx(float(ssim(rendered.rgb.clamp(0, 1), target).mean()), abs=1e-4)
    white = float(psnr(torch.ones_like(target), target).mean())
    assert document["floors"]["white"]["psnr"] == pytest.approx(white, abs=1e-3)
    [exact, turned] = document["noise"]["opacity"]["rotation"]
    assert (
        exact[0] == 0
        and exact[1]["psnr"] == [pytest.approx(figures["psnr"]), None]
        and turned[1]["psnr"] != exact[1]["psnr"]
    )
    assert Image.open(tmp_path / "opacity-seed0" / "views.png").size == (5 * 48, 2 * 4 * 48)
    assert Image.open(tmp_path / "noise.png").width > 100

    # Finished runs are taken as they are; what another table lacks is trained, from the weights of its own seed.
    before = (tmp_path / "camera-noise-seed0" / "model.safetensors").stat().st_mtime_ns
    assert call("--only", "table6", "noise") == 0
    text = capsys.readouterr().out
    assert (tmp_path / "camera-noise-seed0" / "model.safetensors").stat().st_mtime_ns == before
    assert "| 3D only | 2 |" in text and "| synthetic only | 2 |" in text and "| synthetic, then 3D | 3 |" in text
    assert text == (tmp_path / "report.md").read_text() and (tmp_path / "table6.png").is_file()
    assert call("--only", "noise", "--steps", "4") == 2
    assert "was made with other settings of steps; choose another --output" in capsys.readouterr().err
    (tmp_path / "3d-seed0" / "run.json").write_text("{")
    assert call("--only", "table6") == 2
    assert "is damaged; remove its folder, and the run is repeated" in capsys.readouterr().err
    assert call("--seeds", "0") == 2 and "--seeds must be at least 1, but got 0" in capsys.readouterr().err
