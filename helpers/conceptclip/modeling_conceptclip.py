"""PyTorch ConceptCLIP: `SiglipVisionModel` and `BertModel`, composed; nothing of either is rewritten."""

import copy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertModel, PreTrainedModel, SiglipVisionModel
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from . import released
from .configuration_conceptclip import ConceptCLIPConfig


@dataclass
class ConceptCLIPOutput(ModelOutput):
    """
    What `ConceptCLIPModel.forward` returns, by `["name"]` and by `.name`. All eight keys are always there; the
    features of an input that was not given are `None`.

    Args:
        image_features (`torch.FloatTensor` of shape `(B, D)`, *optional*): one vector per image, unit length.
        text_features (`torch.FloatTensor` of shape `(N, D)`, *optional*): one vector per prompt, unit length.
        logit_scale (`torch.FloatTensor` of shape `()`): factor of the image-text logits; the parameter's exponential.
        image_token_features (`torch.FloatTensor` of shape `(B, P, D)`, *optional*): one vector per patch, row by row,
            after `image_proj`; **not** unit length.
        text_token_features (`torch.FloatTensor` of shape `(N, T, D)`, *optional*): one vector per token position, after
            `text_proj`; **not** unit length. [CLS], [SEP] and padding are among the positions.
        logit_bias (`torch.FloatTensor` of shape `()`): summand of the image-text logits.
        concept_logit_scale (`torch.FloatTensor` of shape `()`): factor of the patch-concept logits, exponentiated.
        concept_logit_bias (`torch.FloatTensor` of shape `()`): summand of the patch-concept logits.
    """

    image_features: torch.FloatTensor | None = None
    text_features: torch.FloatTensor | None = None
    logit_scale: torch.FloatTensor | None = None
    image_token_features: torch.FloatTensor | None = None
    text_token_features: torch.FloatTensor | None = None
    logit_bias: torch.FloatTensor | None = None
    concept_logit_scale: torch.FloatTensor | None = None
    concept_logit_bias: torch.FloatTensor | None = None

    def __post_init__(self):
        super().__post_init__()
        # A ModelOutput leaves out what is None; the released model's dict keeps the key.
        for field in fields(self):
            self[field.name] = getattr(self, field.name)
            self.move_to_end(field.name)


def _projection(width_in: int, width_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width_in, width_out, bias=False), nn.GELU(), nn.Linear(width_out, width_out, bias=False)
    )


def _contiguous(module: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
    return output.contiguous()


class ConceptCLIPPreTrainedModel(PreTrainedModel):
    config: ConceptCLIPConfig
    base_model_prefix = "conceptclip"
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # exp(4.57) is 96.6 in float32 and 95.9 after rounding to bfloat16: four numbers are not worth that.
    _keep_in_fp32_modules_strict = ("logit_scale", "logit_bias")

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Initialise what the two towers do not initialise themselves."""
        if isinstance(module, ConceptCLIPModel):
            for name in ("logit_scale", "logit_bias", "concept_logit_scale", "concept_logit_bias"):
                init.constant_(getattr(module, name), getattr(self.config, f"{name}_init_value"))
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=module.in_features**-0.5)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path | None, *model_args: Any, **kwargs: Any) -> Self:
        """
        Load weights, as in any transformers model, with two differences.

        - A checkpoint in **released form** (open_clip's and timm's tensor names) is converted while it is read, one
          tensor at a time and straight into the wanted dtype; with `progress=True` a bar shows it.
        - It is **strict**: a missing, unexpected or misshapen tensor is a `ValueError` that lists all of them (only
          `ignore_mismatched_sizes=True` brings transformers' leniency back). Only safetensors are read.
        """
        kwargs["use_safetensors"] = True
        progress = kwargs.pop("progress", False)
        hub = {key: kwargs[key] for key in released.HUB_ARGUMENTS if kwargs.get(key) is not None}
        plain = not any(kwargs.get(key) for key in ("state_dict", "variant", "gguf_file"))
        files = released.find(pretrained_model_name_or_path, hub) if plain and pretrained_model_name_or_path else None
        if files is None:
            return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)

        config = kwargs.pop("config", None)
        if not isinstance(config, ConceptCLIPConfig):
            overrides = {
                field.name: kwargs.pop(field.name) for field in fields(cls.config_class) if field.name in kwargs
            }
            dtype = overrides.pop("dtype", None)
            config = cls.config_class.from_pretrained(config or pretrained_model_name_or_path, **hub, **overrides)
            kwargs |= {} if dtype is None else {"dtype": dtype}
        with torch.device("meta"):
            shapes = {name: tuple(tensor.shape) for name, tensor in cls(copy.deepcopy(config)).state_dict().items()}
        found = released.header(files)
        if released.prefix_of(found) is None:
            if not kwargs.get("ignore_mismatched_sizes"):
                released.check(found, shapes, str(pretrained_model_name_or_path))
            return super().from_pretrained(pretrained_model_name_or_path, *model_args, config=config, **kwargs)

        dtype = kwargs.pop("torch_dtype", None) or kwargs.get("dtype") or "auto"
        dtype = config.dtype if dtype == "auto" else dtype
        dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        state_dict = released.read(files, shapes, dtype=dtype, progress=progress)
        kwargs["dtype"] = dtype or state_dict["image_proj.0.weight"].dtype
        model = super().from_pretrained(None, *model_args, config=config, state_dict=state_dict, **kwargs)
        loaded = model[0] if isinstance(model, tuple) else model
        loaded.name_or_path = loaded.config.name_or_path = str(pretrained_model_name_or_path)
        return model


class ConceptCLIPModel(ConceptCLIPPreTrainedModel):
    """
    ConceptCLIP: images, prompts, patches and words in one space.

    Shapes: `B` images, `P` patches, `N` prompts, `T` token positions, `D` the joint width, `W` the text tower's width.
    The released geometry has P = 27 × 27 = 729, D = 1152, W = 768.

    Attributes:
        vision_model (`SiglipVisionModel`): pixels → patch tokens and, by attention pooling, one vector per image.
        text_model (`BertModel`): ids → token states, without BERT's pooler.
        text_projection (`nn.Linear`): a *pooled* prompt, W → D.
        image_proj, text_proj (`nn.Sequential`): patch tokens D → D, text tokens W → D, to compare patches with words.
    """

    def __init__(self, config: ConceptCLIPConfig):
        super().__init__(config)
        width, text_width = config.vision_config.hidden_size, config.text_config.hidden_size
        self.vision_model = SiglipVisionModel._from_config(config.vision_config)
        self.text_model = BertModel._from_config(config.text_config, add_pooling_layer=False)
        self.text_projection = nn.Linear(text_width, width, bias=False)
        self.image_proj = nn.Sequential(
            nn.Linear(width, width, bias=False), nn.GELU(), nn.Linear(width, width, bias=False)
        )
        self.text_proj = nn.Sequential(
            nn.Linear(text_width, width, bias=False), nn.GELU(), nn.Linear(width, width, bias=False)
        )
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.logit_bias = nn.Parameter(torch.empty(()))
        self.concept_logit_scale = nn.Parameter(torch.empty(()))
        self.concept_logit_bias = nn.Parameter(torch.empty(()))
        # SigLIP's embeddings end in a transpose, through which every later layer would read. Bit-identical, and faster.
        self.vision_model.embeddings.register_forward_hook(_contiguous)
        self.post_init()

    @property
    def dtype(self) -> torch.dtype:
        """The dtype the towers compute in (the four scalars stay in float32 when half precision is loaded)."""
        return self.image_proj[0].weight.dtype

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.text_model.set_input_embeddings(value)

    def encode_image(self, pixel_values: torch.Tensor, normalize: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Encode images.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(B, 3, H, W)`): what the processor returns.
            normalize (`bool`, defaults to `False`): make the pooled vectors unit length; the tokens stay as they are.

        Returns:
            pooled vectors `(B, D)` and patch tokens `(B, P, D)`: straight from the tower, **not** projected and not
            normalised. `model.image_proj(tokens)` gives `image_token_features` of `forward`.
        """
        outputs = self.vision_model(pixel_values=pixel_values)
        pooled = outputs.pooler_output
        return (F.normalize(pooled, dim=-1) if normalize else pooled), outputs.last_hidden_state

    def encode_text(
        self,
        input_ids: torch.Tensor,
        normalize: bool = False,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Encode prompts. The mask is made here, `input_ids != pad_token_id`, so a prompt's vector does not depend on how
        far its batch was padded; `attention_mask` and `token_type_ids` are accepted and ignored.

        Args:
            input_ids (`torch.LongTensor` of shape `(N, T)`): what the tokenizer returns.
            normalize (`bool`, defaults to `False`): make the pooled vectors unit length; the tokens stay as they are.

        Returns:
            pooled vectors `(N, D)` and token states `(N, T, W)`, the latter not projected and not normalised. [CLS],
            [SEP] and padding are among the T positions, and the states at padding mean nothing.
            `model.text_proj(tokens)` gives `text_token_features` of `forward`.
        """
        longest = self.config.text_config.max_position_embeddings
        if input_ids.shape[1] > longest:
            raise ValueError(
                f"A prompt has {input_ids.shape[1]} tokens, and the text tower has positions for {longest}. Pass "
                "truncation=True to the processor or the tokenizer, which then cut at 77."
            )
        mask = (input_ids != self.config.text_config.pad_token_id).long()
        tokens = self.text_model(input_ids=input_ids, attention_mask=mask).last_hidden_state
        if self.config.text_pooling == "cls":
            pooled = tokens[:, 0]
        else:
            weights = mask.unsqueeze(-1).to(tokens.dtype)
            pooled = (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        pooled = self.text_projection(pooled)
        return (F.normalize(pooled, dim=-1) if normalize else pooled), tokens

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        **ignored,
    ) -> ConceptCLIPOutput:
        """
        Encode images, prompts, or both.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(B, 3, H, W)`, *optional*)
            input_ids (`torch.LongTensor` of shape `(N, T)`, *optional*)
            ignored: what else a processor returns (`attention_mask`, `token_type_ids`).

        Example:

        ```python
        >>> out = model(**processor(images=images, text=prompts, return_tensors="pt", padding=True, truncation=True))
        >>> logits = out.logit_scale * out.image_features @ out.text_features.T + out.logit_bias  # (B, N)
        >>> probabilities = logits.sigmoid()  # one per pair, independent of the other prompts
        ```
        """
        image_features = image_tokens = text_features = text_tokens = None
        if pixel_values is not None:
            image_features, image_tokens = self.encode_image(pixel_values, normalize=True)
            image_tokens = self.image_proj(image_tokens)
        if input_ids is not None:
            text_features, text_tokens = self.encode_text(input_ids, normalize=True)
            text_tokens = self.text_proj(text_tokens)
        return ConceptCLIPOutput(
            image_features=image_features,
            text_features=text_features,
            logit_scale=self.logit_scale.exp(),
            image_token_features=image_tokens,
            text_token_features=text_tokens,
            logit_bias=self.logit_bias,
            concept_logit_scale=self.concept_logit_scale.exp(),
            concept_logit_bias=self.concept_logit_bias,
        )
