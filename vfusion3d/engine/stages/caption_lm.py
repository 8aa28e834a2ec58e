"""Which captions describe a single object (paper, section 3.3), by asking a language model."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from typing import Any, ClassVar

import pyarrow as pa
import torch
from torch import Tensor

from vfusion3d.engine.stage import ItemError, Row, Stage
from vfusion3d.engine.stages.pretrained import check_dtype, identify, load_model, load_processor
from vfusion3d.engine.stages.weights import choose_device
from vfusion3d.errors import CheckpointError, UsageError

PLACE = "{caption}"
TEMPLATE = """\
Does the caption describe a single object? A single object is one thing, animal or person that could be cut out of \
its picture, with what it wears, holds or sits on. Several things, groups, rooms, landscapes, events, texts, logos and \
flat pictures are none.

Caption: a wooden rocking chair with a green cushion
Single object: yes

Caption: two cyclists racing each other through a village
Single object: no

Caption: Vintage Brass Desk Lamp, Adjustable, 40 cm
Single object: yes

Caption: kitchen with white cabinets and a large window
Single object: no

Caption: an otter in a raincoat riding a tricycle
Single object: yes

Caption: 10 Reasons to Visit Portugal in Spring | Travel Blog
Single object: no

Caption: a bowl of ramen with a boiled egg
Single object: yes

Caption: a candle standing beside an old book
Single object: no

Caption: {caption}
Single object:"""
"""A few-shot prompt; its examples are none of the labelled captions."""


class LMCaptionFilter(Stage):
    """How much rather a causal language model answers yes than no when asked whether a caption describes one object.

    One forward pass for each batch; nothing is generated. The column ``caption_margin`` is the logit of "yes" minus the
    logit of "no" as the next token. What to keep is a condition on it, not a setting (``caption_margin > 0``), so that
    another threshold needs no model.

    The paper's model is Llama2-13B and its template is not published; this works with any causal language model of
    transformers. Models that were tuned to chat are asked in the same words, without their chat template.

    Args:
        model: ``owner/name`` on the Hugging Face hub, or a folder that ``save_pretrained`` wrote, with its tokenizer.
        template: The prompt; has ``{caption}`` once, and ends where the answer begins.
        yes: The one answer, with the space before it.
        no: The other.
        dtype: Of the weights: float32, bfloat16 or float16. With float32 a caption's margin is the same alone and in a
            batch to 1e-4; with the others rounding shows.
        device: Where the model works; ``auto`` is a GPU if there is one.

    Raises:
        CheckpointError: if the model is not to be had, or its tokenizer does not tell the answers apart.
        UsageError: if the template or the type cannot be used.
    """

    name = "caption_lm"
    reads = ("prompt",)
    writes: ClassVar[dict[str, pa.DataType]] = {"caption_margin": pa.float32()}

    def __init__(
        self,
        model: str,
        template: str = TEMPLATE,
        yes: str = " yes",
        no: str = " no",
        dtype: str = "float32",
        device: str = "auto",
    ) -> None:
        if template.count(PLACE) != 1:
            raise UsageError(f"Argument `template` must have {PLACE} once, but has it {template.count(PLACE)} times.")
        super().__init__(
            model=identify(model),
            template=hashlib.sha256(template.encode()).hexdigest()[:16],
            answers=[yes, no],
            dtype=check_dtype(dtype),
        )
        self.source, self.template, self.answers, self.dtype, self.device = model, template, (yes, no), dtype, device
        self.model: Any = None
        self.tokenizer: Any = None

    def load(self) -> None:
        """Load the model and its tokenizer.

        Raises:
            CheckpointError: if that fails, or the tokenizer does not tell the answers apart.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = load_processor(self.source, AutoTokenizer)
        self.ask("a chair")
        model = load_model(self.source, AutoModelForCausalLM, self.dtype)
        self.model = model.to(choose_device(self.device))

    def ask(self, caption: str) -> tuple[list[int], int, int]:
        """The tokens of the question, and those of the two answers.

        The question is what both answers' tokens begin with, so that it does not matter to which side a tokenizer puts
        the space between, nor what it adds at the ends.

        Raises:
            CheckpointError: if the answers' tokens are the same.
        """
        prompt = self.template.replace(PLACE, " ".join(caption.split()))
        yes, no = (self.tokenizer(prompt + answer)["input_ids"] for answer in self.answers)
        common = next((k for k, pair in enumerate(zip(yes, no, strict=False)) if pair[0] != pair[1]), None)
        if not common:
            raise CheckpointError(
                f"The tokenizer of {self.source} does not tell {self.answers[0]!r} from {self.answers[1]!r}; give "
                "other answers or another model."
            )
        return yes[:common], yes[common], no[common]

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Each caption's margin, or that it is too long for the model."""
        longest = getattr(self.model.config, "max_position_embeddings", None)
        asked = [self.ask(row["prompt"]) for row in rows]
        fits = [place for place, (tokens, *_) in enumerate(asked) if longest is None or len(tokens) <= longest]
        results: list[Row | ItemError] = [
            ItemError(f"The caption is too long: with the template it has {len(tokens)} tokens of {longest}.")
            for tokens, *_ in asked
        ]
        for place, margin in zip(fits, self._margins([asked[place] for place in fits]), strict=True):
            results[place] = {"caption_margin": margin}
        return results

    @torch.inference_mode()
    def _margins(self, asked: Sequence[tuple[list[int], int, int]]) -> list[float]:
        if not asked:
            return []
        lengths = [len(tokens) for tokens, *_ in asked]
        # Padded on the right: a causal model's answers do not see what comes after, and every token has its own place
        # without masks or positions that some architectures do not take.
        padded = [tokens + [tokens[-1]] * (max(lengths) - len(tokens)) for tokens, *_ in asked]
        kept = max(lengths) - min(lengths) + 1
        few = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        ids = torch.tensor(padded, device=self.model.device)
        logits: Tensor = self.model(input_ids=ids, use_cache=False, **({"logits_to_keep": kept} if few else {})).logits
        first = max(lengths) - logits.shape[1]  # place of the first that was kept
        return [
            float(
                logits[row, lengths[row] - 1 - first, yes].float() - logits[row, lengths[row] - 1 - first, no].float()
            )
            for row, (_, yes, no) in enumerate(asked)
        ]
