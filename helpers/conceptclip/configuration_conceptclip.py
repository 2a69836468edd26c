"""Configuration of ConceptCLIP: a SigLIP image tower and a BERT text tower under one roof."""

import math
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import BertConfig, PreTrainedConfig, SiglipVisionConfig
from transformers.configuration_utils import SubConfigSpec

# SigLIP SO400M with patches of 14 × 14 pixels. The activation is the exact GELU; SigLIP's own default is the tanh
# approximation, which moves the patch tokens by 1.5e-3.
RELEASED_VISION: dict[str, Any] = {
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
RELEASED_TEXT: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
    "hidden_act": "gelu",
    "pad_token_id": 0,
}
OPEN_CLIP_POOLERS = {"mean_pooler": "mean", "cls_last_hidden_state_pooler": "cls"}


def from_open_clip(vision_cfg: dict[str, Any], text_cfg: dict[str, Any]) -> dict[str, Any]:
    """
    What open_clip's `vision_cfg` and `text_cfg` say, as arguments of `ConceptCLIPConfig`.

    They name their towers (`timm_model_name`, `hf_model_name`) instead of measuring them, so a name that is not
    ConceptCLIP's is an error; single measures in open_clip's own terms (`width`, `layers`, ...) are taken over.
    """
    tower = vision_cfg.get("timm_model_name") or "vit_so400m_patch14_siglip_384"
    if not ("so400m" in tower and "siglip" in tower):
        raise ValueError(f"vision_cfg names the image tower {tower!r}; ConceptCLIP's is SigLIP SO400M. Another model?")
    if vision_cfg.get("timm_pool", "map") != "map" or vision_cfg.get("timm_proj") not in (None, "", "none"):
        raise ValueError("vision_cfg asks for another pooling or projection than ConceptCLIP's (timm_pool, timm_proj).")
    pooler = text_cfg.get("hf_pooler_type", "mean_pooler")
    if pooler not in OPEN_CLIP_POOLERS:
        raise ValueError(f"text_cfg asks for {pooler!r}; known are {', '.join(OPEN_CLIP_POOLERS)}.")
    if text_cfg.get("hf_proj_type", "linear") != "linear":
        raise ValueError(f"text_cfg asks for a projection {text_cfg['hf_proj_type']!r}; ConceptCLIP's is 'linear'.")

    def measures(cfg: dict[str, Any], width: int) -> dict[str, Any]:
        width = cfg.get("width", width)
        found = {
            "hidden_size": width,
            "num_hidden_layers": cfg.get("layers"),
            "num_attention_heads": cfg.get("heads") or (width // cfg["head_width"] if "head_width" in cfg else None),
            "intermediate_size": int(width * cfg["mlp_ratio"]) if "mlp_ratio" in cfg else None,
        }
        return {key: value for key, value in found.items() if value is not None}

    vision = measures(vision_cfg, RELEASED_VISION["hidden_size"])
    vision |= {key: vision_cfg[key] for key in ("image_size", "patch_size") if key in vision_cfg}
    text = measures(text_cfg, RELEASED_TEXT["hidden_size"])
    text |= {key: text_cfg[key] for key in ("vocab_size",) if key in text_cfg}
    return {"vision_config": vision, "text_config": text, "text_pooling": OPEN_CLIP_POOLERS[pooler]}


@strict
class ConceptCLIPConfig(PreTrainedConfig):
    r"""
    Configuration of a [`ConceptCLIPModel`]. Without arguments it is the geometry of the released checkpoint. A
    `config.json` that describes the towers in open_clip's way (`vision_cfg`, `text_cfg`) is read, too.

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
    keys_to_ignore_at_inference: ClassVar[list[str]] = []  # filled by `ConceptCLIPOutput`, for transformers' Trainer
    sub_configs_defaults = {  # noqa: RUF012 (transformers' own shape)
        "vision_config": SubConfigSpec(SiglipVisionConfig, init_kwargs=RELEASED_VISION),
        "text_config": SubConfigSpec(BertConfig, init_kwargs=RELEASED_TEXT),
    }

    vision_config: Any = None  # what becomes a SiglipVisionConfig: a dict, one of them, or nothing
    text_config: Any = None  # and a BertConfig
    text_pooling: Literal["mean", "cls"] = "mean"
    logit_scale_init_value: float = math.log(10.0)
    logit_bias_init_value: float = -10.0
    concept_logit_scale_init_value: float = math.log(10.0)
    concept_logit_bias_init_value: float = -10.0

    def __post_init__(self, **kwargs: Any) -> None:
        vision_cfg, text_cfg = kwargs.pop("vision_cfg", None), kwargs.pop("text_cfg", None)
        if vision_cfg is not None or text_cfg is not None:
            kwargs.pop("embed_dim", None)
            for name, value in from_open_clip(vision_cfg or {}, text_cfg or {}).items():
                setattr(self, name, value)
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
