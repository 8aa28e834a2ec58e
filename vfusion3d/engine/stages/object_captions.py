"""Captions of rendered objects: several views captioned, the best by CLIP, merged by a language model (Cap3D)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar

import pyarrow as pa
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vfusion3d.alpha import pixels_over_white
from vfusion3d.engine.stage import ItemError, Row, Stage
from vfusion3d.engine.stages.pictures import each_row, frame_pixels
from vfusion3d.engine.stages.pretrained import check_dtype, identify, load_model, load_processor
from vfusion3d.engine.stages.weights import choose_device
from vfusion3d.errors import UsageError

PLACE = "{captions}"
TEMPLATE = """\
Captions of views of one object are merged into one short caption of the object. What the views disagree on, the \
background and how the picture was made are left out.

Views: a red car with black wheels; the back of a toy car; a 3d model of a red sports car
Object: a red toy sports car with black wheels

Views: a wooden chair; a brown chair on a white background; a chair with four legs and a green cushion
Object: a brown wooden chair with a green cushion

Views: {captions}
Object:"""
"""The prompt of the language model that merges."""


class ObjectCaptioner(Stage):
    """A caption of an object from pictures of it, as Cap3D's (Luo et al. 2023; paper, section 3.3).

    Each view gets several captions by beam search; CLIP chooses each view's best; a language model merges these.
    Without the language model the caption is that of the views' best which CLIP finds most like all views; without CLIP
    a view's best is its most likely one, and with neither the caption is the first view's. Cap3D draws its captions at
    random; a beam search gives an item the same caption in every run.

    Columns: ``caption``; ``view_captions``, each view's best; ``caption_score``, the mean cosine between CLIP's
    embeddings of the caption and of the views, null without CLIP.

    Args:
        captioner: A BLIP-2 (``Salesforce/blip2-opt-2.7b``) or another model of transformers from pictures to text, such
            as BLIP or GIT: ``owner/name`` on the Hugging Face hub, or a folder that ``save_pretrained`` wrote, with its
            processor.
        clip: A CLIP model (``openai/clip-vit-large-patch14``), or none.
        merger: A causal language model, or none.
        candidates: Captions of each view among which CLIP chooses.
        views: At most so many of a row's views are captioned, evenly spread.
        question: What the captioner's captions begin with, for example ``a 3d model of``.
        template: The merger's prompt; has ``{captions}`` once.
        dtype: Of all weights: float32, bfloat16 or float16.
        device: Where the models work; ``auto`` is a GPU if there is one.

    Raises:
        CheckpointError: if a model is not to be had.
        UsageError: if an argument cannot be used.
    """

    name = "object_captions"
    reads = ("views",)
    writes: ClassVar[dict[str, pa.DataType]] = {
        "caption": pa.string(),
        "view_captions": pa.list_(pa.string()),
        "caption_score": pa.float32(),
    }

    def __init__(
        self,
        captioner: str = "Salesforce/blip2-opt-2.7b",
        clip: str | None = None,
        merger: str | None = None,
        candidates: int = 5,
        views: int = 8,
        question: str | None = None,
        template: str = TEMPLATE,
        dtype: str = "float32",
        device: str = "auto",
    ) -> None:
        for argument, number in (("candidates", candidates), ("views", views)):
            if number < 1:
                raise UsageError(f"Argument `{argument}` must be at least 1, but got {number}.")
        if template.count(PLACE) != 1:
            raise UsageError(f"Argument `template` must have {PLACE} once, but has it {template.count(PLACE)} times.")
        super().__init__(
            captioner=identify(captioner),
            clip=None if clip is None else identify(clip),
            merger=None if merger is None else identify(merger),
            template=None if merger is None else hashlib.sha256(template.encode()).hexdigest()[:16],
            candidates=candidates,
            views=views,
            question=question,
            dtype=check_dtype(dtype),
        )
        self.sources = (captioner, clip, merger)
        self.candidates, self.views, self.question, self.template = candidates, views, question, template
        self.dtype, self.device = dtype, device
        self.captioner: Any = None
        self.clip: Any = None
        self.merger: Any = None

    def load(self) -> None:
        """Load the models that there are, each with its processor.

        Raises:
            CheckpointError: if one cannot be loaded.
        """
        from transformers import (
            AutoModelForCausalLM,
            AutoModelForImageTextToText,
            AutoProcessor,
            AutoTokenizer,
            CLIPModel,
        )

        captioner, clip, merger = self.sources
        self.captioner = self._pair(captioner, AutoModelForImageTextToText, AutoProcessor)
        self.clip = None if clip is None else self._pair(clip, CLIPModel, AutoProcessor)
        self.merger = None if merger is None else self._pair(merger, AutoModelForCausalLM, AutoTokenizer)

    def _pair(self, source: str, kind: Any, processor: Any) -> tuple[Any, Any]:
        model = load_model(source, kind, self.dtype)
        return model.to(choose_device(self.device)), load_processor(source, processor)

    def process(self, rows: Sequence[Row]) -> Sequence[Row | ItemError]:
        """Each object's caption; objects go through the models one after another, their views together."""
        return each_row(rows, self._caption)

    @torch.inference_mode()
    def _caption(self, row: Row) -> Row:
        pictures = self._pictures(row["views"])
        choices = self._candidates(pictures)
        views = self._embed_pictures(pictures)
        scores = torch.zeros(len(choices), self.candidates)  # the first is the most likely one
        if views is not None:
            scores = (views[:, None] * self._embed_texts(choices)).sum(-1).cpu()
        nothing = torch.tensor([[not text for text in view] for view in choices])
        chosen = scores.masked_fill(nothing, -torch.inf).argmax(1)
        best = [view[int(place)] for view, place in zip(choices, chosen, strict=True)]
        said = [text for text in dict.fromkeys(best) if text]
        if not said:
            raise ItemError("The captioner said nothing of any view.")
        caption = said[0]
        if views is not None:
            caption = said[int((self._embed_texts([said])[0] @ views.T).mean(1).argmax())]
        if self.merger is not None:
            caption = self._merge(said) or caption
        score = None if views is None else float((self._embed_texts([[caption]])[0] @ views.T).mean())
        return {"caption": caption, "view_captions": best, "caption_score": score}

    def _pictures(self, files: Sequence[bytes]) -> list[Image.Image]:
        pixels = frame_pixels(files)
        count = min(self.views, len(pixels))
        return [Image.fromarray(pixels_over_white(pixels[k * len(pixels) // count])) for k in range(count)]

    def _candidates(self, pictures: Sequence[Image.Image]) -> list[list[str]]:
        """Each view's captions, the most likely first."""
        model, processor = self.captioner
        text = {} if self.question is None else {"text": [self.question] * len(pictures), "padding": True}
        inputs = processor(images=list(pictures), return_tensors="pt", **text).to(model.device, model.dtype)
        tokens = model.generate(
            **inputs,
            do_sample=False,
            num_beams=self.candidates,
            num_return_sequences=self.candidates,
            max_new_tokens=32,
        )
        texts = [_tidy(text) for text in processor.batch_decode(tokens, skip_special_tokens=True)]
        return [texts[k : k + self.candidates] for k in range(0, len(texts), self.candidates)]

    def _embed_pictures(self, pictures: Sequence[Image.Image]) -> Tensor | None:
        """Unit vectors ``[views, D]``; None without CLIP."""
        if self.clip is None:
            return None
        model, processor = self.clip
        pixels = processor(images=list(pictures), return_tensors="pt").pixel_values
        states = model.vision_model(pixels.to(model.device, model.dtype)).pooler_output
        return F.normalize(model.visual_projection(states).float(), dim=-1)

    def _embed_texts(self, texts: Sequence[Sequence[str]]) -> Tensor:
        """Unit vectors ``[views, candidates, D]``."""
        model, processor = self.clip
        flat = [text for view in texts for text in view]
        inputs = processor(text=flat, padding=True, truncation=True, return_tensors="pt").to(model.device)
        states = model.text_model(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).pooler_output
        return F.normalize(model.text_projection(states).float(), dim=-1).unflatten(0, (len(texts), -1))

    def _merge(self, captions: Sequence[str]) -> str:
        """What the language model makes of the views' captions: its first line."""
        model, tokenizer = self.merger
        prompt = self.template.replace(PLACE, "; ".join(captions))
        inputs = tokenizer(prompt, return_tensors="pt")
        ids = inputs.input_ids.to(model.device)
        tokens = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=48,
            pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        )
        said = tokenizer.decode(tokens[0, ids.shape[1] :], skip_special_tokens=True)
        return _tidy(said.strip().split("\n")[0])


def _tidy(text: str) -> str:
    return " ".join(text.split()).strip("\"' ")
