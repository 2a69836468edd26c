"""The uncased WordPiece tokenizer of conceptclip-mini.

It is learned from every phrase and template that captions are made of and from ``vocabulary.txt``. Each word counts
about once, not as often as captions use it, so that common words stay whole and long technical words fall into pieces
("azurophilic" → az ##ur ##ophilic): that is what makes token-level inspection worth a look. Every printable character
of Latin text is in the alphabet, so that no English prompt meets [UNK].

The learner breaks ties at random, so its result is kept: ``pieces.txt``, one piece a line, in the order of their ids.

    python -m recipes.tokenizer     # learn the pieces anew; a model trained with the old ones is then of no use
"""

from __future__ import annotations

import string
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizer

from helpers.bloodcells import CONCEPTS, TEMPLATES

VOCABULARY = Path(__file__).with_name("vocabulary.txt")
PIECES = Path(__file__).with_name("pieces.txt")
VOCABULARY_SIZE = 560
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_LETTERS = string.ascii_lowercase + string.digits
_GREEK = "αβγδεζηθικλμνξοπρστυφχψω"
_SIGNS = string.punctuation + "–—‘’“”…×·±°µ≤≥≈→←½"


def corpus() -> list[str]:
    """The lines that the pieces are learned from, in a fixed order."""
    phrases = [phrase for concept in CONCEPTS.values() for phrase in concept.phrases]
    words = [line for line in VOCABULARY.read_text("utf-8").splitlines() if not line.startswith("#")]
    # A letter becomes a continuation piece (##q) only where it has been seen inside a word.
    alphabet = [f"{letter}{letter}" for letter in _LETTERS + _GREEK]
    return phrases + [template.replace("{}", "") for template in TEMPLATES] + words + alphabet


def learn_pieces() -> list[str]:
    """Learn the vocabulary from the corpus."""
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer = normalizers.BertNormalizer(lowercase=True)
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=list(_LETTERS + _GREEK + _SIGNS),
        show_progress=False,
    )
    learner.train_from_iterator(corpus(), trainer)
    return [piece for piece, _ in sorted(learner.get_vocab().items(), key=lambda item: item[1])]


def make_tokenizer() -> BertTokenizer:
    """Wrap the kept pieces in transformers' BERT tokenizer (uncased, no accents)."""
    pieces = PIECES.read_text("utf-8").splitlines()
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=True, model_max_length=77)


if __name__ == "__main__":
    PIECES.write_text("\n".join(learn_pieces()) + "\n", "utf-8")
