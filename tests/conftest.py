"""What several test files share: a small random ConceptCLIP in a folder, and no way to the network."""

import os
import string
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from transformers import BertTokenizer

from helpers.conceptclip import ConceptCLIPConfig, ConceptCLIPImageProcessor, ConceptCLIPModel, ConceptCLIPProcessor

WORDS = (
    "a an and the of with in is no photo image cell cells sign blood smear nucleus round segmented band form reniform "
    "indented granules fine azurophilic eosinophilic basophilic cytoplasm cytoplasmic vacuoles red white platelets"
)


def make_tokenizer(extra_words: tuple[str, ...] = ()) -> BertTokenizer:
    """A WordPiece tokenizer of about 150 pieces: some words, and every letter and sign for the rest."""
    signs = string.ascii_lowercase + string.digits
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *WORDS.split(),
        *extra_words,
        *signs,
        *(f"##{sign}" for sign in signs),
    ]
    pieces += [sign for sign in string.punctuation if sign not in pieces]
    return BertTokenizer(vocab={piece: index for index, piece in enumerate(dict.fromkeys(pieces))})


def make_model(seed: int = 0, **changes) -> ConceptCLIPModel:
    """A random ConceptCLIP of 4 × 4 patches, joint width 64 and text width 48."""
    settings = {
        "vision_config": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 56,
        },
        "text_config": {
            "vocab_size": len(make_tokenizer()),
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 128,
        },
    }
    torch.manual_seed(seed)
    return ConceptCLIPModel(ConceptCLIPConfig(**settings | changes)).eval()


def make_processor(side: int = 56) -> ConceptCLIPProcessor:
    return ConceptCLIPProcessor(ConceptCLIPImageProcessor(size={"height": side, "width": side}), make_tokenizer())


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random ConceptCLIP, saved with its tokenizer and processor. Read it, never write to it."""
    folder = tmp_path_factory.mktemp("models") / "conceptclip-tiny"
    make_model().save_pretrained(folder)
    make_processor().save_pretrained(folder)
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every attempt to open a connection fails the test."""
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError(f"a connection was opened: {args[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
