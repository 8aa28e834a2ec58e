"""Tiny models of transformers with real tokenizers and random weights, as `save_pretrained` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

TEXTS = [
    "Does the caption describe a single object? yes no",
    "Caption: a red chair. Single object: yes",
    "Caption: two dogs. Single object: no",
]
SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def tokenizer(kind: str = "bytes", texts: list[str] = TEXTS) -> Any:
    """A trained tokenizer: bytes (as GPT-2's and Llama 3's), pieces (as SentencePiece's), words or letters."""
    special = list(SPECIAL.values())
    if kind == "bytes":
        made = Tokenizer(models.BPE(unk_token="<unk>"))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: Any = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    elif kind == "pieces":
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        made.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="<unk>")
    elif kind == "words":
        made = Tokenizer(models.WordLevel(unk_token="<unk>"))
        made.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(special_tokens=special)
    else:
        made = Tokenizer(models.BPE(unk_token="<unk>"))
        made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        trainer = trainers.BpeTrainer(special_tokens=special)
    made.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **SPECIAL)


def stirred(model: Any) -> Any:
    """Weights so large that inputs make a difference."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def write_lm(folder: Path, kind: str = "llama", places: int = 512) -> Path:
    """A causal language model; llama or gpt2."""
    torch.manual_seed(0)
    words = tokenizer()
    if kind == "llama":
        model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=len(words), max_position_embeddings=places, **SIZES))
    else:
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(words), n_positions=places, n_embd=16, n_layer=1, n_head=2))
    stirred(model).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def write_blip2(folder: Path) -> Path:
    """A BLIP-2 of pictures of 16 pixels."""
    torch.manual_seed(0)
    words = tokenizer()
    processor = Blip2Processor(
        BlipImageProcessor(size={"height": 16, "width": 16}), words, num_query_tokens=4
    )  # adds <image> to the tokenizer
    text = {
        "model_type": "opt",
        "vocab_size": len(words),
        "hidden_size": 16,
        "ffn_dim": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "word_embed_proj_dim": 16,
        "max_position_embeddings": 64,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    config = Blip2Config(
        vision_config={**SIZES, "image_size": 16, "patch_size": 8},
        qformer_config={**SIZES, "vocab_size": 8, "encoder_hidden_size": 16},
        text_config=text,
        num_query_tokens=4,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    stirred(Blip2ForConditionalGeneration(config)).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_clip(folder: Path) -> Path:
    """A CLIP of pictures of 16 pixels."""
    torch.manual_seed(0)
    words = tokenizer()
    text = {
        **SIZES,
        "vocab_size": len(words),
        "max_position_embeddings": 64,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    config = CLIPConfig(text_config=text, vision_config={**SIZES, "image_size": 16, "patch_size": 8}, projection_dim=8)
    stirred(CLIPModel(config)).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    CLIPProcessor(images, words).save_pretrained(folder)
    return folder
