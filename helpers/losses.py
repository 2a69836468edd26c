"""The paper's two losses, written once: IT-Align (pictures and captions) and RC-Align (patches and concepts).

Pure functions on what `model(...)` returns, all in float32, also within autocast. A label may be NaN: nobody knows
whether this pair is true, and it is left out. (arXiv 2501.15579; Zhai et al. 2023 for the sigmoid loss.)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .settings import without_autocast

RC_WEIGHT = 0.5
"""What the paper weighs RC-Align with: loss = IT-Align + 0.5 RC-Align."""


def sigmoid_loss(logits: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
    """The sigmoid loss of SigLIP over all pairs whose truth is known.

    Args:
        logits: float [B, N], pictures × texts.
        labels: [B, N], 1 for a true pair, 0 for a false one, NaN for one to leave out. Without them B = N is needed and
            picture i belongs to text i and to no other.

    Returns:
        float32 [], −log sigmoid(±logit), summed over the pairs and divided by N.

    Raises:
        ValueError: the shapes do not fit, there is no pair, or a label is neither 0 nor 1 nor NaN.
    """
    if logits.ndim != 2 or 0 in logits.shape:
        raise ValueError(f"logits must be [pictures, texts] with at least one of each, not {list(logits.shape)}.")
    if labels is None:
        if logits.shape[0] != logits.shape[1]:
            raise ValueError(
                f"Without labels picture i belongs to text i, and here are {logits.shape[0]} pictures and "
                f"{logits.shape[1]} texts. Pass as many of each, or labels [B, N]."
            )
        labels = torch.eye(len(logits), device=logits.device)
    labels = torch.as_tensor(labels, device=logits.device).float()
    if labels.shape != logits.shape:
        raise ValueError(f"labels are {list(labels.shape)}, logits {list(logits.shape)}: one label a pair is needed.")
    known = ~labels.isnan()
    if not labels.is_meta and bool(((labels != 0) & (labels != 1) & known).any()):
        raise ValueError("labels must be 1 (true), 0 (false) or NaN (unknown), nothing else.")
    signs = torch.where(labels == 1, 1.0, -1.0)
    return -torch.where(known, F.logsigmoid(signs * logits.float()), 0.0).sum() / labels.shape[1]


@without_autocast
def pair_logits(
    image_features: torch.Tensor, text_features: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """`scale * image_features @ text_features.T + bias`: float32 [B, N], whatever dtype the features have."""
    return scale.float() * image_features.float() @ text_features.float().T + bias.float()


def it_align(
    image_features: torch.Tensor,
    text_features: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    labels: torch.Tensor | None = None,
) -> torch.Tensor:
    """IT-Align: every picture against every caption, by their global features.

    Args:
        image_features: float [B, D], unit length: `output.image_features`.
        text_features: float [N, D], unit length: `output.text_features`.
        scale, bias: `output.logit_scale` (exponentiated, as it is returned) and `output.logit_bias`.
        labels: as in `sigmoid_loss`; without them the pairs of the diagonal are the true ones.

    Returns:
        float32 [].
    """
    return sigmoid_loss(pair_logits(image_features, text_features, scale, bias), labels)


@without_autocast
def span_vectors(text_tokens: torch.Tensor, captions: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """One unit vector for each concept phrase: the mean of its token vectors.

    Args:
        text_tokens: float [N, T, D]: `output.text_token_features`.
        captions: int64 [S], in which of the N captions a phrase stands.
        weights: [S, T], 1 (or True) at the phrase's positions, 0 elsewhere.

    Returns:
        float32 [S, D], unit length.
    """
    tokens = text_tokens[captions].float()
    return F.normalize(torch.einsum("st,std->sd", weights.to(tokens), tokens), dim=-1)


@without_autocast
def best_patch_logits(
    image_tokens: torch.Tensor,
    concepts: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    regions: torch.Tensor | None = None,
) -> torch.Tensor:
    """The logit of each concept at the patch of each picture that fits it best.

    Args:
        image_tokens: float [B, P, D]: `output.image_token_features`.
        concepts: float [S, D], unit length: from `span_vectors`.
        scale, bias: `output.concept_logit_scale` (exponentiated) and `output.concept_logit_bias`.
        regions: bool [B, P], the patches to look at; without it, all.

    Returns:
        float32 [B, S].
    """
    cosines = torch.einsum("bpd,sd->bps", F.normalize(image_tokens.float(), dim=-1), concepts.float())
    if regions is not None:
        cosines = cosines.masked_fill(~regions.bool()[:, :, None], -torch.inf)
    return scale.float() * cosines.amax(1) + bias.float()


def rc_align(
    image_tokens: torch.Tensor,
    concepts: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    labels: torch.Tensor,
    regions: torch.Tensor | None = None,
) -> torch.Tensor:
    """RC-Align: each concept phrase against the best patch of every picture.

    Args:
        image_tokens, concepts, scale, bias, regions: as in `best_patch_logits`.
        labels: [B, S], 1 where the picture's caption holds the concept, 0 where not, NaN where nobody knows.

    Returns:
        float32 []: the sum over pictures and concepts, divided by the number of concepts.
    """
    return sigmoid_loss(best_patch_logits(image_tokens, concepts, scale, bias, regions), labels)
