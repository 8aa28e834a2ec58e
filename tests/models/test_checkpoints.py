from __future__ import annotations

import json

import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import load_file

from vfusion3d import ReconstructorConfig, TriplaneReconstructor, orbit
from vfusion3d.errors import CheckpointError, OutputError
from vfusion3d.models.checkpoints import _local_path, held_out_names


@pytest.fixture
def saved(tmp_path):
    model = TriplaneReconstructor("tiny")
    model.save_pretrained(tmp_path / "model")
    return model, tmp_path / "model"


@pytest.fixture(params=["vit", "dinov2_registers"])
def any_saved(request, tmp_path):
    dino = {"image_alpha": False, "pixel_aligned_channels": 0, "patch_size": 14, "image_size": 56}
    changes = {} if request.param == "vit" else {"encoder": request.param, **dino}
    model = TriplaneReconstructor(ReconstructorConfig.preset("tiny", **changes))
    model.save_pretrained(tmp_path / "model")
    return model, tmp_path / "model"


def test_round_trip(saved):
    model, folder = saved
    loaded = TriplaneReconstructor.from_pretrained(folder)
    assert loaded.config == model.config and not loaded.training
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert len({p.stat().st_mode for p in folder.iterdir()}) == 1  # whoever may read one may read the other
    for key, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key])


def test_half_precision_file(saved, tmp_path):
    model, folder = saved
    model.save_pretrained(tmp_path / "half", dtype=torch.float16)
    assert (tmp_path / "half" / "model.safetensors").stat().st_size < 0.6 * (
        folder / "model.safetensors"
    ).stat().st_size
    loaded = TriplaneReconstructor.from_pretrained(tmp_path / "half")
    assert loaded.decoder.positions.dtype == torch.float32
    torch.testing.assert_close(loaded.decoder.positions, model.decoder.positions, atol=1e-3, rtol=1e-3)


def test_weights_are_never_drawn_twice(any_saved):
    """What the file replaces is not initialised first (slow at 452M weights), and no buffer lacks memory."""
    state = torch.get_rng_state()
    loaded = TriplaneReconstructor.from_pretrained(any_saved[1])
    assert torch.equal(state, torch.get_rng_state())
    assert not any(t.is_meta for t in (*loaded.parameters(), *loaded.buffers()))
    for (name, ours), (_, theirs) in zip(any_saved[0].named_buffers(), loaded.named_buffers(), strict=True):
        assert torch.equal(ours, theirs), name
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in any_saved[0].parameters()]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision_in_memory(any_saved, tmp_path, dtype):
    model = any_saved[0].eval()
    model.save_pretrained(tmp_path / "half", dtype=dtype)
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    half = TriplaneReconstructor.from_pretrained(tmp_path / "half", dtype="auto")
    assert {p.dtype for p in half.parameters()} == {dtype}
    size = model.config.image_size
    picture, cameras = torch.rand(1, 4 if model.config.image_alpha else 3, size, size), orbit(1)
    renders = [m(picture, cameras).render(orbit(2).unsqueeze(0), 8, 8) for m in (model, half)]
    assert renders[1].rgb.dtype == torch.float32
    torch.testing.assert_close(renders[1].rgb, renders[0].rgb, atol=0.05, rtol=0)


def test_push_to_hub(saved, monkeypatch):
    uploaded = {}

    class Api:
        def __init__(self, token=None):
            uploaded["token"] = token

        def create_repo(self, repo_id, private, exist_ok):
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id, folder_path, commit_message):
            uploaded["model"] = TriplaneReconstructor.from_pretrained(folder_path)
            return f"https://hub/{repo_id}/commit/1"

    monkeypatch.setattr("vfusion3d.models.checkpoints.HfApi", Api)
    assert saved[0].push_to_hub("me/mine", token="t") == "https://hub/me/mine/commit/1"
    assert uploaded["token"] == "t"
    assert torch.equal(uploaded["model"].decoder.positions, saved[0].decoder.positions)


def test_loading_prints_nothing(saved, capsys):
    TriplaneReconstructor.from_pretrained(saved[1])
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == ""


def check(path, sentence):
    with pytest.raises(CheckpointError, match=sentence) as caught:
        TriplaneReconstructor.from_pretrained(path)
    assert "\n" not in str(caught.value)


def test_truncated_weights(saved):
    path = saved[1] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    check(saved[1], "not a complete safetensors file")


def test_other_architecture(saved):
    other = TriplaneReconstructor(ReconstructorConfig.preset("tiny", transformer_layers=1))
    other.save_pretrained(saved[1].parent / "other")
    (saved[1].parent / "other" / "config.json").write_bytes((saved[1] / "config.json").read_bytes())
    check(saved[1].parent / "other", "belongs to another architecture")


def test_other_shapes(saved):
    config = json.loads((saved[1] / "config.json").read_text())
    config["triplane_channels"] = 4
    (saved[1] / "config.json").write_text(json.dumps(config))
    check(saved[1], "differently shaped")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", "cannot be read as JSON"), ("[]", "not a JSON object"), ('{"colour": 1}', "Unknown key"),
     ('{"encoder": "clip"}', "not valid"), ('{"field_dim": "wide", "encoder_heads": 0}', "not valid")],
)  # fmt: skip
def test_bad_config(saved, text, sentence):
    (saved[1] / "config.json").write_text(text)
    check(saved[1], sentence)


def test_missing_files(saved, tmp_path):
    (tmp_path / "empty").mkdir()
    check(tmp_path / "empty", "holds no config.json")
    (saved[1] / "model.safetensors").unlink()
    check(saved[1], "holds no model.safetensors")


def test_unknown_name_and_file(saved):
    check("giant", "Unknown model 'giant'")
    check("./nowhere", "Unknown model")
    check(saved[1] / "config.json", "is no weight file")


def test_hub_name_while_offline(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be reached"):
        TriplaneReconstructor.from_pretrained("nobody/nothing", cache_dir=tmp_path, local_files_only=True)


def answer(monkeypatch, reply):
    """A hub that answers, and whose downloads are ``reply(file, local_files_only)``."""
    monkeypatch.setattr("vfusion3d.hub.get_hf_file_metadata", lambda *arguments, **options: None)
    monkeypatch.setattr(
        "vfusion3d.models.checkpoints.hf_hub_download",
        lambda name, file, *, local_files_only, **options: reply(file, local_files_only),
    )


def test_hub_model(saved, monkeypatch):
    answer(monkeypatch, lambda file, local_files_only: f"{saved[1]}/{file}")
    assert TriplaneReconstructor.from_pretrained("some/body").config == saved[0].config


def test_without_network_the_hub_is_asked_once(saved, monkeypatch):
    questions = []

    def silence(*arguments, **options):
        questions.append(options["timeout"])
        raise OSError("Name or service not known")

    def cached(file, local_files_only):
        assert local_files_only  # else it would ask again and again, and print that
        return f"{saved[1]}/{file}"

    answer(monkeypatch, cached)
    monkeypatch.setattr("vfusion3d.hub.get_hf_file_metadata", silence)
    assert TriplaneReconstructor.from_pretrained("some/body").config == saved[0].config
    assert len(questions) == 1 and questions[0] <= 10


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(RepositoryNotFoundError.__new__(RepositoryNotFoundError), "no model 'some/body' that you may read: check"),
     (EntryNotFoundError("404"), "'some/body' on the Hugging Face hub holds no config.json"),
     (OSError("line\nlost"), r"could not be downloaded from the Hugging Face hub \(line\): try again")],
)  # fmt: skip
def test_hub_refusals(monkeypatch, error, sentence):
    def refuse(file, local_files_only):
        raise error

    answer(monkeypatch, refuse)
    check("some/body", sentence)


def test_unwritable_folder(saved, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write the checkpoint"):
        saved[0].save_pretrained(tmp_path / "file")


def test_full_disk_keeps_the_old_checkpoint(saved, monkeypatch):
    model, folder = saved
    before = (folder / "model.safetensors").read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vfusion3d.models.checkpoints.save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        model.save_pretrained(folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_no_held_out_list(saved):
    with pytest.raises(CheckpointError, match=r"no held_out\.txt"):
        held_out_names(saved[1])


def test_shipped_checkpoint():
    model = TriplaneReconstructor.from_pretrained("nano")
    assert model.config.license == "Apache-2.0"
    assert len(held_out_names("nano")) > 50
    folder = _local_path("nano")
    assert folder is not None
    assert sum(p.stat().st_size for p in folder.iterdir()) < 15 * 2**20
    assert all(v.dtype == torch.float16 for v in load_file(folder / "model.safetensors").values())
