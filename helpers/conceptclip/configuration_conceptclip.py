"""Configuration of ConceptCLIP: a SigLIP image tower and a BERT text tower under one roof."""

import math
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import BertConfig, PreTrainedConfig, SiglipVisionConfig
from transformers.configuration_utils import SubConfigSpec

# SigLIP SO400M with patches of 14 × 14 pixels. The activation is the exact GELU; SigLIP's own default is the tanh
# approximation, which moves the patch tokens by 1.5e-3.
RELEASED_VISION = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
}
# PubMedBERT has the size of BERT-base, which is also what BertConfig() gives.
RELEASED_TEXT = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
    "hidden_act": "gelu",
    "pad_token_id": 0,
}


@strict
class ConceptCLIPConfig(PreTrainedConfig):
    r"""
    Configuration of a [`ConceptCLIPModel`]. Without arguments it is the geometry of the released checkpoint.

    The joint space is as wide as the image tower (`vision_config.hidden_size`), which has no projection after it.

    Args:
        vision_config (`dict` or `SiglipVisionConfig`, *optional*):
            The image tower. A dict overrides single values of the released geometry; a `SiglipVisionConfig` is taken
            as it is, its activation included (SigLIP's default is the tanh GELU, and ConceptCLIP's is not).
        text_config (`dict` or `BertConfig`, *optional*):
            The text tower, likewise.
        text_pooling (`"mean"` or `"cls"`, defaults to `"mean"`):
            How a prompt's vector is made of its tokens: the mean over all positions but padding, or the first one.
        logit_scale_init_value, logit_bias_init_value (`float`):
            Initial scale, **as a logarithm**, and bias of the image-text logits. A trained checkpoint brings its own.
        concept_logit_scale_init_value, concept_logit_bias_init_value (`float`):
            The same for the logits of patches against concepts.

    Example:

    ```python
    >>> from helpers.conceptclip import ConceptCLIPConfig, ConceptCLIPModel
    >>> small = ConceptCLIPConfig(
    ...     vision_config={"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
    ...     text_config={"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2},
    ... )
    >>> ConceptCLIPModel(small).num_parameters() < 3_000_000
    True
    ```
    """

    model_type = "conceptclip"
    sub_configs_defaults = {  # noqa: RUF012 (transformers' own shape)
        "vision_config": SubConfigSpec(SiglipVisionConfig, init_kwargs=RELEASED_VISION),
        "text_config": SubConfigSpec(BertConfig, init_kwargs=RELEASED_TEXT),
    }

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    text_pooling: Literal["mean", "cls"] = "mean"
    logit_scale_init_value: float = math.log(10.0)
    logit_bias_init_value: float = -10.0
    concept_logit_scale_init_value: float = math.log(10.0)
    concept_logit_bias_init_value: float = -10.0

    def __post_init__(self, **kwargs: Any):
        if isinstance(self.vision_config, dict):
            self.vision_config = RELEASED_VISION | self.vision_config
        if isinstance(self.text_config, dict):
            self.text_config = RELEASED_TEXT | self.text_config
        super().__post_init__(**kwargs)

    @property
    def projection_dim(self) -> int:
        """Width of the space in which images, prompts, patches and concepts meet."""
        return self.vision_config.hidden_size

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches in an image: (27, 27) for the released geometry."""
        side = self.vision_config.image_size // self.vision_config.patch_size
        return side, side
