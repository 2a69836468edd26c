"""IT-Align and RC-Align against sums written out pair by pair."""

import math

import pytest
import torch
import torch.nn.functional as F
from small_model import make_model, make_processor

from helpers import losses

generator = torch.Generator().manual_seed(0)


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator)


IMAGES, TEXTS = F.normalize(rand(3, 8), dim=-1), F.normalize(rand(4, 8), dim=-1)
SCALE, BIAS = torch.tensor(7.0), torch.tensor(-2.0)
LABELS = torch.tensor([[1, 0, 0, math.nan], [0, 1, 1, 0], [math.nan, 0, 0, 1.0]])


def by_hand(logits: torch.Tensor, labels: torch.Tensor) -> float:
    total = 0.0
    for b in range(logits.shape[0]):
        for n in range(logits.shape[1]):
            if not math.isnan(labels[b, n]):
                sign = 1 if labels[b, n] == 1 else -1
                total += math.log(1 + math.exp(-sign * logits[b, n]))
    return total / logits.shape[1]


def test_it_align():
    logits = SCALE * IMAGES @ TEXTS.T + BIAS
    got = losses.it_align(IMAGES, TEXTS, SCALE, BIAS, LABELS)
    assert got.item() == pytest.approx(by_hand(logits, LABELS), rel=1e-5)
    diagonal = losses.it_align(IMAGES, TEXTS[:3], SCALE, BIAS)
    assert diagonal.item() == pytest.approx(by_hand(logits[:, :3], torch.eye(3)), rel=1e-5)


def test_rc_align():
    tokens, words = rand(3, 5, 8), rand(2, 6, 8)
    captions, weights = torch.tensor([0, 1, 1, 0]), torch.zeros(4, 6)
    for s, (first, last) in enumerate([(1, 2), (2, 4), (1, 1), (3, 5)]):
        weights[s, first : last + 1] = 1
    concepts = losses.span_vectors(words, captions, weights)
    means = [words[0, 1:3], words[1, 2:5], words[1, 1:2], words[0, 3:6]]
    torch.testing.assert_close(concepts, torch.stack([F.normalize(m.mean(0), dim=0) for m in means]))
    regions = torch.rand(3, 5, generator=generator) > 0.3
    logits = torch.empty(3, 4)
    for b in range(3):
        for s in range(4):
            cosines = [F.cosine_similarity(tokens[b, p], concepts[s], dim=0) for p in range(5) if regions[b, p]]
            logits[b, s] = SCALE * max(cosines) + BIAS
    got = losses.rc_align(tokens, concepts, SCALE, BIAS, LABELS, regions)
    assert got.item() == pytest.approx(by_hand(logits, LABELS), rel=1e-5)
    everywhere = losses.rc_align(tokens, concepts, SCALE, BIAS, LABELS)
    whole = losses.rc_align(tokens, concepts, SCALE, BIAS, LABELS, torch.ones(3, 5))
    assert torch.equal(everywhere, whole)


def test_unknown_pairs_have_no_gradient():
    logits = rand(3, 4).requires_grad_()
    losses.sigmoid_loss(logits, LABELS).backward()
    assert torch.equal(logits.grad == 0, LABELS.isnan())
    extreme = torch.full((1, 1), -1e30, requires_grad=True)
    losses.sigmoid_loss(extreme, torch.tensor([[math.nan]])).backward()
    assert extreme.grad.item() == 0


@pytest.mark.parametrize(
    ("logits", "labels", "said"),
    [
        (rand(3, 4), None, r"3\b.*4\b"),
        (rand(3, 4), torch.zeros(4, 3), r"\[4, 3\]"),
        (rand(3, 4), torch.full((3, 4), -1.0), "labels"),
        (rand(3, 4), torch.full((3, 4), 0.5), "labels"),
        (rand(3), None, r"\[3\]"),
        (torch.empty(0, 0), None, r"\[0, 0\]"),
    ],
)
def test_what_is_refused(logits, labels, said):
    with pytest.raises(ValueError, match=said):
        losses.sigmoid_loss(logits, labels)


def test_in_half_precision_and_autocast():
    expected = losses.it_align(IMAGES, TEXTS, SCALE, BIAS, LABELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(losses.it_align(IMAGES, TEXTS, SCALE, BIAS, LABELS), expected)
    half = losses.it_align(IMAGES.bfloat16(), TEXTS.bfloat16(), SCALE, BIAS, LABELS)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, expected, atol=0, rtol=0.02)


def test_both_train_a_model():
    model = make_model().train()
    text = make_processor()(text=["a cell", "round nucleus"], return_tensors="pt", padding=True)
    out = model(pixel_values=rand(2, 3, 56, 56), input_ids=text["input_ids"], return_loss=True)
    weights = torch.zeros(1, text["input_ids"].shape[1])
    weights[0, 1:3] = 1
    concepts = losses.span_vectors(out.text_token_features, torch.tensor([1]), weights)
    scalars = out.concept_logit_scale, out.concept_logit_bias
    rc = losses.rc_align(out.image_token_features, concepts, *scalars, torch.tensor([[0.0], [1.0]]))
    (out.loss + losses.RC_WEIGHT * rc).backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is None} == set()
