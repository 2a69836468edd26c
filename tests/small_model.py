"""A small ConceptCLIP with random weights and a vocabulary that is known word by word, for tests of the helpers.

16 patches of 14 pixels in 60 x 60: like the released model (27 x 14 = 378 of 384) it never sees the last few pixels.
"""

from functools import cache

import torch
from transformers import BertTokenizerFast

from helpers.conceptclip import ConceptCLIPConfig, ConceptCLIPModel, ConceptCLIPProcessor
from helpers.conceptclip.image_processing_conceptclip import ConceptCLIPImageProcessor

SIZE, PATCH = 60, 14
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = [
    "a",
    "cell",
    "photo",
    "with",
    "sign",
    "of",
    "seg",
    "##mented",
    "nucleus",
    "band",
    "red",
    "cells",
    "round",
    *",.()/",
]
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *WORDS,
    *(x for x in LETTERS if x != "a"),
    *(f"##{x}" for x in LETTERS),
]


@cache
def small_model() -> tuple[ConceptCLIPModel, ConceptCLIPProcessor]:
    """(model, processor), made once."""
    tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(VOCABULARY)})
    image_processor = ConceptCLIPImageProcessor(size={"height": SIZE, "width": SIZE})
    config = ConceptCLIPConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": SIZE,
            "patch_size": PATCH,
        },
        text_config={
            "vocab_size": len(VOCABULARY),
            "hidden_size": 24,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 96,
        },
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ConceptCLIPModel(config).eval()
        for tower in (model.vision_model, model.text_model):  # larger than at birth, so that inputs make a difference
            for name, weight in tower.named_parameters():
                if weight.ndim > 1 and "embedding" not in name:
                    weight.data *= 4
    return model, ConceptCLIPProcessor(image_processor, tokenizer)
