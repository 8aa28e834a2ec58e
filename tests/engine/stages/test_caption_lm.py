"""Margins against a plain computation, batches against single captions, tokenizers of four kinds, and decisions."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.engine.tiny_language import tokenizer, write_lm
from vfusion3d.data.query import parse_query
from vfusion3d.engine import LMCaptionFilter
from vfusion3d.engine.stages.caption_lm import TEMPLATE
from vfusion3d.errors import CheckpointError, UsageError

SHORT = "Caption: {caption}. Single object:"
CAPTIONS = ["a red chair", "two dogs, a cat and seven other animals on a very long bench", "x", "ein Stuhl \n aus Holz"]


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return write_lm(tmp_path_factory.mktemp("models") / "llama")


def table(captions):
    return pa.table({"id": [str(k) for k in range(len(captions))], "prompt": captions})


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_margins(kind, tmp_path):
    """Of the answers' logits after the question, alone and in a batch alike."""
    folder = write_lm(tmp_path / kind, kind)
    stage = LMCaptionFilter(str(folder), SHORT, device="cpu")
    together = stage(table(CAPTIONS))["caption_margin"].to_pylist()
    model, words = AutoModelForCausalLM.from_pretrained(folder).eval(), stage.tokenizer
    yes, no = (words(answer)["input_ids"][0] for answer in (" yes", " no"))
    assert yes != no
    for caption, margin in zip(CAPTIONS, together, strict=True):
        prompt = SHORT.replace("{caption}", " ".join(caption.split()))
        with torch.no_grad():
            logits = model(**words(prompt, return_tensors="pt", return_token_type_ids=False)).logits[0, -1]
        assert margin == pytest.approx(float(logits[yes] - logits[no]), abs=1e-4)
        assert stage(table([caption]))["caption_margin"][0].as_py() == pytest.approx(margin, abs=1e-4)
    assert len({round(margin, 3) for margin in together}) == len(CAPTIONS)  # the caption matters


@pytest.mark.parametrize("kind", ["bytes", "pieces", "words", "letters"])
def test_answers_of_any_tokenizer(kind, lm):
    stage = LMCaptionFilter(str(lm), SHORT)
    stage.tokenizer = words = tokenizer(kind)
    question, yes, no = stage.ask("a red chair")
    said = [words.decode([token]).strip() for token in (yes, no)]
    assert all(said) and "yes".startswith(said[0]) and "no".startswith(said[1])  # or how they begin
    prompt = words(SHORT.replace("{caption}", "a red chair"))["input_ids"]
    assert question[: len(prompt)] == prompt and len(question) - len(prompt) in (0, 1)  # the space by itself
    stage.tokenizer = tokenizer("words", ["Caption Single object"])
    with pytest.raises(CheckpointError, match="does not tell ' yes' from ' no'"):
        stage.ask("a red chair")


def test_decisions(lm):
    """A model that follows the template to the letter: yes to captions without the word two."""

    class Scripted:
        device, config = "cpu", SimpleNamespace()

        def forward(self, input_ids, use_cache):
            logits = torch.zeros(*input_ids.shape, len(words))
            for row, tokens in enumerate(input_ids):
                two = " two " in words.decode(tokens).split("Caption:")[-1]
                logits[row, :, yes], logits[row, :, no] = (1.0, 2.5) if two else (3.0, 1.0)
            return SimpleNamespace(logits=logits)

        __call__ = forward

    stage = LMCaptionFilter(str(lm))
    stage.model, stage.tokenizer, stage._loaded = Scripted(), tokenizer(), True
    words = stage.tokenizer
    _, yes, no = stage.ask("a chair")
    result = stage(table(["a red chair", "there are two dogs", "one bowl"]))
    assert result["caption_margin"].to_pylist() == [2.0, -1.5, 2.0]
    for query, kept in (("caption_margin > 0", ["0", "2"]), ("caption_margin > -2", ["0", "1", "2"])):
        chosen = result.filter(parse_query(query, result.column_names)[0])
        assert chosen["id"].to_pylist() == kept
    assert pc.all(pc.is_null(result["error"])).as_py()


def test_a_caption_that_is_too_long_fails_alone(tmp_path):
    stage = LMCaptionFilter(str(write_lm(tmp_path / "lm", "gpt2", places=40)), SHORT, device="cpu")
    result = stage(table(["a red chair", "chair " * 60])).to_pylist()
    assert result[0]["error"] is None and result[0]["caption_margin"] is not None
    assert "too long" in result[1]["error"] and result[1]["caption_margin"] is None


def test_settings(lm, tmp_path):
    """What decides margins is in the fingerprint; where the model is and works is not."""
    here = LMCaptionFilter(str(lm)).fingerprint({})
    moved = write_lm(tmp_path / "elsewhere")
    assert LMCaptionFilter(str(moved), device="cuda").fingerprint({}) == here
    others = [{"template": SHORT}, {"dtype": "bfloat16"}, {"yes": " Yes"}]
    assert len({LMCaptionFilter(str(lm), **other).fingerprint({}) for other in others} | {here}) == 4
    assert TEMPLATE.count("yes\n") == TEMPLATE.count("no\n") == 4  # the examples favour no answer


def test_what_cannot_be_used(lm, tmp_path):
    for arguments, sentence in (
        ({"template": "Caption:"}, "must have {caption} once, but has it 0 times"),
        ({"dtype": "int8"}, "must be one of float32, bfloat16, float16, but got 'int8'"),
    ):
        with pytest.raises(UsageError, match=sentence):
            LMCaptionFilter(str(lm), **arguments)
    with pytest.raises(CheckpointError, match=r"There is no folder '\./gone'"):
        LMCaptionFilter("./gone")
    with pytest.raises(CheckpointError, match="'owner/gone' is not on this machine"):
        LMCaptionFilter("owner/gone").load()
    bare = tmp_path / "bare"
    write_lm(bare)
    for file in bare.glob("*token*"):
        file.unlink()
    with pytest.raises(CheckpointError, match=r"bare has no tokenizer \(tokenizer.json, vocab.json, ...\)"):
        LMCaptionFilter(str(bare)).load()
    (lm_copy := tmp_path / "pickled").mkdir()
    for file in lm.iterdir():
        if file.suffix == ".json":
            (lm_copy / file.name).write_bytes(file.read_bytes())
    (lm_copy / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match="holds only pickled weights"):
        LMCaptionFilter(str(lm_copy)).load()
