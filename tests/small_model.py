"""The one factory of small ConceptCLIPs with random weights, for all tests.

`make_model`, `make_tokenizer` and `make_processor` make new ones of the sizes asked for. `small_model` is made once.
Its vocabulary is known word by word; like the released model (27 x 14 = 378 of 384) it never sees the last few pixels.
"""

import string
from functools import cache

import torch
from transformers import BertTokenizer

from helpers.conceptclip import ConceptCLIPConfig, ConceptCLIPImageProcessor, ConceptCLIPModel, ConceptCLIPProcessor

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = (
    "a an and the of with in is no photo image cell cells sign blood smear nucleus round segmented band form reniform "
    "indented granules fine azurophilic eosinophilic basophilic cytoplasm cytoplasmic vacuoles red white platelets"
)
SIZE, PATCH = 60, 14
LETTERS = string.ascii_lowercase
SMALL_WORDS = "a cell photo with sign of seg ##mented nucleus band red cells round"
VOCABULARY = [*SPECIAL, *SMALL_WORDS.split(), *",.()/", *LETTERS[1:], *(f"##{letter}" for letter in LETTERS)]


def make_tokenizer(extra_words: tuple[str, ...] = (), *, pieces: list[str] | None = None) -> BertTokenizer:
    """A WordPiece tokenizer of these pieces; by default about 150: some words, every letter and sign for the rest."""
    if pieces is None:
        signs = LETTERS + string.digits
        pieces = [*SPECIAL, *WORDS.split(), *extra_words, *signs, *(f"##{sign}" for sign in signs), *string.punctuation]
    return BertTokenizer(vocab={piece: index for index, piece in enumerate(dict.fromkeys(pieces))})


def make_model(
    seed: int = 0,
    *,
    side: int = 56,
    widths: tuple[int, int] = (64, 48),
    positions: int = 128,
    pieces: int | None = None,
    **changes,
) -> ConceptCLIPModel:
    """A random ConceptCLIP of 4 × 4 patches of 14 pixels.

    Args:
        seed: of the weights.
        side: of a picture, in pixels.
        widths: of the image tower, which is also the joint space's, and of the text tower.
        positions: the longest prompt.
        pieces: in the vocabulary; by default those of `make_tokenizer()`.
        **changes: other settings of `ConceptCLIPConfig`.
    """
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4}
    vision, text = ({"hidden_size": width, "intermediate_size": 2 * width} | shape for width in widths)
    vocabulary = len(make_tokenizer()) if pieces is None else pieces
    settings = {
        "vision_config": vision | {"image_size": side, "patch_size": PATCH},
        "text_config": text | {"vocab_size": vocabulary, "max_position_embeddings": positions},
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ConceptCLIPModel(ConceptCLIPConfig(**settings | changes)).eval()


def make_processor(side: int = 56, tokenizer: BertTokenizer | None = None) -> ConceptCLIPProcessor:
    """Pictures of this side; by default with `make_tokenizer()`."""
    pictures = ConceptCLIPImageProcessor(size={"height": side, "width": side})
    return ConceptCLIPProcessor(pictures, make_tokenizer() if tokenizer is None else tokenizer)


@cache
def small_model() -> tuple[ConceptCLIPModel, ConceptCLIPProcessor]:
    """(model, processor), made once."""
    model = make_model(side=SIZE, widths=(32, 24), positions=96, pieces=len(VOCABULARY))
    for tower in (model.vision_model, model.text_model):  # larger than at birth, so that inputs make a difference
        for name, weight in tower.named_parameters():
            if weight.ndim > 1 and "embedding" not in name:
                weight.data *= 4
    return model, make_processor(SIZE, make_tokenizer(pieces=VOCABULARY))
