"""The scripts of novel views as a user runs them: rendered targets, a checkpoint, everyone's pictures."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.evaluation.conftest import surface
from tests.meshes.conftest import can_draw  # noqa: F401 - a fixture
from vfusion3d import ReconstructorConfig, TriplaneReconstructor
from vfusion3d.meshes import write_mesh

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PROTOCOL = "{name: small, description: small, layout: benchmark, views: 3, resolution: 24, elevation: 20}"


@pytest.fixture
def work(tmp_path: Path, can_draw: None) -> Path:  # noqa: F811
    """Two true meshes, a tiny random model that has not seen one of them, a protocol."""
    (tmp_path / "meshes").mkdir()
    for name, scale in (("large", 3.0), ("small", 0.4)):
        write_mesh(surface(scale), tmp_path / "meshes" / f"{name}.glb")
    torch.manual_seed(0)
    TriplaneReconstructor(ReconstructorConfig.preset("tiny", iso_threshold=0.5)).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "held_out.txt").write_text("small\n")
    (tmp_path / "small.yaml").write_text(PROTOCOL)
    return tmp_path


@pytest.fixture
def call(work: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(script: str, *options: str) -> int:
        monkeypatch.setattr(sys, "argv", [script, *options])
        names: dict[str, Any] = runpy.run_path(str(BENCHMARKS / script))
        own = ("translate.py", "scaling.py")
        return names["main"]() if script in own else names["main"](script, "", "gso-orbit")

    return run


def test_gso_twice_the_same_and_all_that_follows(work: Path, call: Callable[..., int], capsys: Any) -> None:
    usual = ["--meshes", str(work / "meshes"), "--cache", str(work / "cache"), "--workers", "1", "--device", "cpu"]
    protocol = ["--protocol", str(work / "small.yaml")]
    model = ["--model", str(work / "model")]
    runs = []
    for name in ("one", "two"):
        assert call("gso.py", *usual, *protocol, *model, "--output", str(work / name)) == 0
        runs.append((work / name / "results.json").read_text())
        shown = capsys.readouterr().out
    one, two = (json.loads(text) for text in runs)
    assert one["rows"] == two["rows"] and one["means"] == two["means"]  # to the last digit
    assert "| 1 unseen object |" in shown and "| 1 seen object |" in shown and "floor: all white" in shown
    assert "LPIPS: n/a" in shown and "gso-orbit" not in shown.splitlines()[0]

    true = ["--predicted-meshes", str(work / "meshes"), "--predicted-scale", "fit", "--predicted-lighting", "lambert"]
    assert call("novel_view.py", *usual, *protocol, *true, "--json", "--output", str(work / "true")) == 0
    means = json.loads(capsys.readouterr().out)["means"]["method"]["all"]
    assert (means["psnr"]["value"], means["iou"]["value"]) == (100, 1)
    assert call("gso.py", *usual, *protocol, *model, "--render", "mesh", "--output", str(work / "meshed")) == 0
    capsys.readouterr()

    assert call("translate.py", *usual, *model, "--protocols", str(work / "small.yaml"), "--json") == 0
    found = json.loads(capsys.readouterr().out)["protocols"][str(work / "small.yaml")]
    assert found["hash"] == one["protocol_hash"] and list(found["groups"]) == ["unseen", "seen"]
    means = found["groups"]["unseen"]
    assert means["method"]["psnr"] == one["means"]["method"]["unseen"]["psnr"]["value"] > means["method"]["pooled_psnr"]
    assert means["nearest seen object"]["psnr"] == 100 and means["all white"]["iou"] == 0  # one block, another size
    assert call("translate.py", *usual, *model, "--protocols", str(work / "small.yaml")) == 0
    shown = capsys.readouterr().out
    assert "| 1 unseen | floor: input pasted |" in shown and "Figures compare only under one protocol hash" in shown

    pytest.importorskip("matplotlib")
    folders = [str(work / name) for name in ("meshed", "one", "true")]
    assert (
        call(
            "scaling.py",
            *folders,
            "--x",
            "1",
            "10",
            "100",
            "--output",
            str(work / "scaling"),
            "--json",
            "--group",
            "all",
        )
        == 0
    )
    rows = json.loads(capsys.readouterr().out)["groups"]["all"]
    assert [row["run"] for row in rows[:4]] == ["meshed", "one", "true", "floor: all white"]
    assert rows[2]["changes"]["psnr"]["low"] > 0 and rows[3]["figures"]["iou"]["value"] == 0
    assert {path.name for path in (work / "scaling").iterdir()} == {"scaling.png", "scaling.md", "scaling.json"}
    for options, message in (
        ([*folders[1:2], *folders[1:2], "--group", "seen"], None),
        (folders, "No object is of one group in all of meshed (unseen and seen), one (unseen and seen), true (all)"),
        ([*folders, "--group", "unseen"], "choose another --group, or all of them pooled (--group all)"),
        (folders[:1], "Name at least two results"),
        ([*folders, "--x", "1"], "needs a positive number for each of 3"),
        ([folders[0], str(work)], "There are no results"),
    ):
        code = call("scaling.py", *options, "--output", str(work / "scaling"))
        assert code == (0 if message is None else 2) and (message or "") in capsys.readouterr().err
    assert call("translate.py", *usual, *model, "--output", str(work / "none")) == 2
    assert "neither --protocol nor --output" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--protocol", "mine"], "There is no protocol 'mine'"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--model", "nobody"], "Unknown model 'nobody'"),
        (["--predicted-images", "nowhere"], "The folder nowhere does not exist"),
        (["--entry", "nothing"], "must be module:function"),
        (["--unseen", "nowhere.txt"], "nowhere.txt"),
        (["--lpips-weights", "nowhere.pth"], "nowhere.pth"),
    ],
)
def test_bad_options(work: Path, call: Callable[..., int], capsys: Any, options: list[str], message: str) -> None:
    usual = ["--meshes", str(work / "meshes"), "--cache", str(work / "cache"), "--protocol", str(work / "small.yaml")]
    model = [] if options[0] in ("--model", "--predicted-images", "--entry") else ["--model", str(work / "model")]
    shutil.rmtree(work / "cache", ignore_errors=True)
    assert call("gso.py", *usual, *model, *options) == 2
    said = capsys.readouterr().err
    assert message in said.splitlines()[-1] and not (work / "cache").exists()  # before anything is rendered


def test_both_renders_of_a_checkpoint_are_compared(work: Path, call: Callable[..., int], capsys: Any) -> None:
    """Pitfall 8: the volume and the exported mesh of one reconstruction are different numbers, and never one run."""
    usual = ["--meshes", str(work / "meshes"), "--cache", str(work / "cache"), "--workers", "1", "--device", "cpu"]
    usual += ["--protocol", str(work / "small.yaml"), "--output", str(work / "out")]
    model = ["--model", str(work / "model")]
    assert call("gso.py", *usual, *model, "--render", "both") == 0
    shown = capsys.readouterr().out
    assert "volume renders**" in shown and "mesh renders**" in shown and "B is mesh" in shown
    assert call("gso.py", *usual, *model, "--render", "both", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    one, two = (document[kind]["means"]["method"]["unseen"]["psnr"]["value"] for kind in ("volume", "mesh"))
    assert one != two and document["comparison"]["names"] == ["volume", "mesh"]
    assert call("gso.py", *usual, *model, "--output", str(work / "out" / "volume"), "--render", "mesh") == 2
    assert "has objects of another method" in capsys.readouterr().err
    assert call("gso.py", *usual, "--predicted-meshes", str(work / "meshes"), "--render", "both") == 2
    assert "Option --render is of checkpoints" in capsys.readouterr().err


def test_a_folder_of_other_objects_is_no_table_of_failures(work: Path, call: Callable[..., int], capsys: Any) -> None:
    usual = ["--meshes", str(work / "meshes"), "--cache", str(work / "cache"), "--workers", "1"]
    usual += ["--protocol", str(work / "small.yaml")]
    for name in ("elsewhere", "there"):
        (work / "pictures" / name).mkdir(parents=True)
    assert call("gso.py", *usual, "--predicted-images", str(work / "pictures")) == 2
    assert "has none of the 2 objects, large for one, but elsewhere, there; name files" in capsys.readouterr().err
    (work / "pictures" / "large").mkdir()
    assert call("gso.py", *usual, "--predicted-images", str(work / "pictures")) == 0
    told = capsys.readouterr()
    assert "lacks 1 of the 2 objects, small for one" in told.err and "2 objects failed" in told.out


def test_too_little_memory_is_no_failure_of_the_method(work: Path, call: Callable[..., int], capsys: Any) -> None:
    raised = {
        "gpu": ("torch.OutOfMemoryError('of GiB')", "(of GiB)."),
        "torch_of_a_processor": ("RuntimeError('DefaultCPUAllocator: not enough memory')", "not enough memory)."),
        "numpy": ("MemoryError('of an array')", "(of an array)."),
    }
    code = "import torch\n" + "".join(f"def {name}(image):\n    raise {what}\n" for name, (what, _) in raised.items())
    (work / "hungry.py").write_text(code)
    usual = ["--meshes", str(work / "meshes"), "--cache", str(work / "cache"), "--workers", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(work))
        for name, (_, said) in raised.items():
            assert call("gso.py", *usual, "--protocol", str(work / "small.yaml"), "--entry", f"hungry:{name}") == 2
            told = capsys.readouterr().err.splitlines()[-1]
            assert told.startswith("gso.py: The memory of cpu is too small for this run (") and told.endswith(said)


def test_a_limit_of_named_objects_is_another_protocol(work: Path, call: Callable[..., int], capsys: Any) -> None:
    (work / "both.yaml").write_text(PROTOCOL.replace("}", ", objects: [small, large]}"))
    usual = ["--meshes", str(work / "meshes"), "--cache", str(work / "cache"), "--workers", "1", "--json"]
    usual += ["--protocol", str(work / "both.yaml"), "--predicted-meshes", str(work / "meshes")]
    found = []
    for options in ([], ["--limit", "1"], ["--limit", "2"]):
        assert call("gso.py", *usual, "--predicted-scale", "fit", *options) == 0
        found.append(json.loads(capsys.readouterr().out))
    every, one, two = found
    assert one["means"]["method"]["all"]["psnr"]["objects"] == 1 and one["protocol_hash"] != every["protocol_hash"]
    assert two["protocol_hash"] == every["protocol_hash"]


def test_pictures_are_of_one_protocols_cameras(work: Path, call: Callable[..., int], capsys: Any) -> None:
    (work / "higher.yaml").write_text(PROTOCOL.replace("elevation: 20", "elevation: 30").replace("small", "higher", 1))
    usual = ["--meshes", str(work / "meshes"), "--cache", str(work / "cache"), "--workers", "1"]
    protocols = ["--protocols", str(work / "small.yaml"), str(work / "higher.yaml")]
    (work / "pictures" / "large").mkdir(parents=True)
    assert call("translate.py", *usual, *protocols, "--predicted-images", str(work / "pictures")) == 2
    assert "The protocols small and higher have other cameras" in capsys.readouterr().err
    options = ["--protocols", str(work / "small.yaml"), "--predicted-images", str(work / "pictures")]
    assert call("translate.py", *usual, *options) == 0
    shown = capsys.readouterr().out
    assert f"{work / 'small.yaml'}: 2 objects failed, scored as empty pictures; the first, large: There are no" in shown
