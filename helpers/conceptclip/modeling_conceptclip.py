"""PyTorch ConceptCLIP: `SiglipVisionModel` and `BertModel`, composed; nothing of either is rewritten."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertModel, PreTrainedModel, SiglipVisionModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.generic import ModelOutput, can_return_tuple

from .. import losses
from . import released
from .configuration_conceptclip import ConceptCLIPConfig

SCALARS = ("logit_scale", "logit_bias", "concept_logit_scale", "concept_logit_bias")
# Where the parts of other implementations are here: asked for in code that was written for one of them.
MOVED = {
    "visual": "the image tower is .vision_model (SigLIP, without .trunk); .encode_image(pixels) gives what it returns",
    "text": "the text tower is .text_model (BERT, without .transformer), and its projection is .text_projection",
    "visual_projection": "nothing is projected after the image tower; .image_proj is for patch tokens",
}


@dataclass
class ConceptCLIPOutput(ModelOutput):
    """
    What `ConceptCLIPModel.forward` returns, by `["name"]` and by `.name`. The first eight keys are always there; the
    features of an input that was not given are `None`. The others are there when they were asked for. Beside the keys
    there are `logits_per_image`, `logits_per_text`, `image_embeds` and `text_embeds`, made of the eight when they are
    asked for, as transformers' CLIP family calls them.

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
        loss (`torch.FloatTensor` of shape `()`, *optional*): IT-Align, with `return_loss=True`; float32.
        vision_model_output, text_model_output (`BaseModelOutputWithPooling`, *optional*): what the towers returned,
            with `hidden_states` and `attentions`, when `output_hidden_states` or `output_attentions` asked for them.
    """

    image_features: torch.Tensor | None = None
    text_features: torch.Tensor | None = None
    logit_scale: torch.Tensor | None = None
    image_token_features: torch.Tensor | None = None
    text_token_features: torch.Tensor | None = None
    logit_bias: torch.Tensor | None = None
    concept_logit_scale: torch.Tensor | None = None
    concept_logit_bias: torch.Tensor | None = None
    loss: torch.Tensor | None = None
    vision_model_output: BaseModelOutputWithPooling | None = None
    text_model_output: BaseModelOutputWithPooling | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        # A ModelOutput leaves out what is None; the released model's dict keeps its eight keys.
        for name in KEYS:
            self[name] = getattr(self, name)
            self.move_to_end(name)
        for field in fields(self)[len(KEYS) :]:
            if field.name in self:
                self.move_to_end(field.name)
        # transformers' Trainer cannot collect a key that is None; it asks this list after each batch what to leave out.
        ConceptCLIPConfig.keys_to_ignore_at_inference[:] = [*SCALARS, *(name for name in KEYS if self[name] is None)]

    def __getitem__(self, key: str | int | slice) -> Any:
        return getattr(self, key) if isinstance(key, str) and key in DERIVED else super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        return getattr(self, key) if key in DERIVED else super().get(key, default)

    @property
    def logits_per_image(self) -> torch.Tensor | None:
        """Scale × cosine + bias of every image with every prompt: float32 `(B, N)`; `None` without both inputs."""
        features, scale, bias = (self.image_features, self.text_features), self.logit_scale, self.logit_bias
        if features[0] is None or features[1] is None or scale is None or bias is None:
            return None
        return losses.pair_logits(features[0], features[1], scale, bias)

    @property
    def logits_per_text(self) -> torch.Tensor | None:
        """`logits_per_image`, transposed: float32 `(N, B)`."""
        return None if self.logits_per_image is None else self.logits_per_image.T

    @property
    def image_embeds(self) -> torch.Tensor | None:
        """`image_features`, under the name that it has in transformers' CLIP family."""
        return self.image_features

    @property
    def text_embeds(self) -> torch.Tensor | None:
        """`text_features`, under the name that it has in transformers' CLIP family."""
        return self.text_features


KEYS = tuple(field.name for field in fields(ConceptCLIPOutput))[:8]
DERIVED = ("logits_per_image", "logits_per_text", "image_embeds", "text_embeds")


def _check_tensor(values: Any, name: str, *, floats: bool) -> None:
    """Refuses what is no tensor, and a tensor of a kind from which the towers would compute nonsense or nothing."""
    if not isinstance(values, torch.Tensor):
        raise TypeError(
            f"{name} is a {type(values).__name__}, not a tensor. The processor makes it, with return_tensors='pt'."
        )
    if values.is_floating_point() != floats or values.is_complex() or values.dtype == torch.bool:
        wanted = "floats, normalised by the processor" if floats else "whole numbers, made by the tokenizer"
        raise ValueError(f"{name} holds {str(values.dtype).removeprefix('torch.')}. Pass {wanted}.")


def _contiguous(module: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
    return output.contiguous()


class ConceptCLIPPreTrainedModel(PreTrainedModel):
    config: ConceptCLIPConfig
    base_model_prefix = "conceptclip"
    main_input_name = "pixel_values"
    input_modalities = ["image", "text"]  # noqa: RUF012 (transformers' own shape)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # exp(4.57) is 96.6 in float32 and 95.9 after rounding to bfloat16: four numbers are not worth that.
    _keep_in_fp32_modules_strict = {"logit_scale", "logit_bias"}  # noqa: RUF012
    # The loss is a mean over the batch's prompts; Trainer's count of items would scale it a second time.
    accepts_loss_kwargs = False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise what the two towers do not initialise themselves."""
        if isinstance(module, ConceptCLIPModel):
            for name in SCALARS:
                init.constant_(getattr(module, name), getattr(self.config, f"{name}_init_value"))
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=module.in_features**-0.5)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Self:
        """
        Load weights, as in any transformers model, with two differences.

        - A checkpoint in **released form** (open_clip's and timm's tensor names) is converted while it is read, one
          tensor at a time and straight into the wanted dtype; with `progress=True` a bar shows it.
        - It is **strict**: a missing, unexpected or misshapen tensor is a `ValueError` that lists all of them (only
          `ignore_mismatched_sizes=True` brings transformers' leniency back, for a checkpoint in our form). That holds
          for `state_dict=`, too, whose names are ours: [`helpers.loading.load_checkpoint`] reads what has others. Only
          safetensors are read.
        """
        kwargs["use_safetensors"] = True
        progress, given = kwargs.pop("progress", False), kwargs.get("state_dict")
        hub = {key: kwargs[key] for key in released.HUB_ARGUMENTS if kwargs.get(key) is not None}
        files = None
        if given is None and not kwargs.get("gguf_file") and pretrained_model_name_or_path:
            files = released.find(pretrained_model_name_or_path, hub, kwargs.get("variant"))
        if given is None and files is None:
            return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)

        config = kwargs.pop("config", None)
        if not isinstance(config, ConceptCLIPConfig):
            overrides = {
                field.name: kwargs.pop(field.name) for field in fields(ConceptCLIPConfig) if field.name in kwargs
            }
            dtype = overrides.pop("dtype", None)
            config = ConceptCLIPConfig.from_pretrained(config or pretrained_model_name_or_path, **hub, **overrides)
            kwargs |= {} if dtype is None else {"dtype": dtype}
        with torch.device("meta"):
            shapes = {name: tuple(tensor.shape) for name, tensor in cls(copy.deepcopy(config)).state_dict().items()}
        found = {n: tuple(t.shape) for n, t in (given or {}).items()} if files is None else released.header(files)
        if files is None or released.prefix_of(found) is None:
            if not kwargs.get("ignore_mismatched_sizes"):
                where = "state_dict" if given is not None else str(pretrained_model_name_or_path)
                released.check(found, shapes, where)
            return super().from_pretrained(pretrained_model_name_or_path, *model_args, config=config, **kwargs)

        dtype = kwargs.pop("torch_dtype", None) or kwargs.get("dtype") or "auto"
        dtype = config.dtype if dtype == "auto" else dtype
        dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        assert files is not None  # a state_dict has returned above
        state_dict = released.read(files, shapes, dtype=dtype, progress=progress)
        kwargs["dtype"] = dtype or state_dict["image_proj.0.weight"].dtype
        kwargs.pop("variant", None)
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
        for name in SCALARS:
            self.register_parameter(name, nn.Parameter(torch.empty((), dtype=torch.float32)))
        # SigLIP's embeddings end in a transpose, through which every later layer would read. Bit-identical, and faster.
        self.vision_model.embeddings.register_forward_hook(_contiguous)
        self.post_init()

    @property
    def dtype(self) -> torch.dtype:
        """The dtype the towers compute in (the four scalars stay in float32 when half precision is loaded)."""
        return self.text_projection.weight.dtype

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            if name not in MOVED:
                raise
            raise AttributeError(f"A {type(self).__name__} has no .{name}: {MOVED[name]}.") from error

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """What `.half()`, `.bfloat16()`, `.to(...)` and Trainer's full_eval end in: the four scalars keep float32."""
        if recurse:
            for module in self.children():
                module._apply(fn)

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            result = fn(tensor)
            rounded = result.is_floating_point() and result.dtype.itemsize < 4
            return tensor.to(result.device, torch.float32) if rounded else result

        return super()._apply(moved, recurse=False)

    def get_input_embeddings(self) -> nn.Module:
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_model.set_input_embeddings(value)

    def _see(self, pixel_values: torch.Tensor, **options: Any) -> Any:
        """The image tower, after a look at the pixels' shape: SigLIP counts patches and does not see how they lie."""
        _check_tensor(pixel_values, "pixel_values", floats=True)
        vision, shape = self.config.vision_config, tuple(pixel_values.shape)
        if len(shape) != 4 or shape[1] != vision.num_channels or 0 in shape or min(shape[2:]) < vision.patch_size:
            raise ValueError(
                f"pixel_values are {shape}, not (images, {vision.num_channels}, height, width) of at least one patch. "
                "The processor makes them."
            )
        if not options.get("interpolate_pos_encoding"):
            # Usually all of the grid's positions; a training recipe may set fewer, for smaller square views.
            positions, side = self.vision_model.embeddings.position_ids.shape[-1], vision.image_size
            whole = positions == math.prod(self.config.grid)
            fits = shape[2:] == (side, side) if whole else shape[2] == shape[3]
            if not fits or (shape[2] // vision.patch_size) * (shape[3] // vision.patch_size) != positions:
                raise ValueError(
                    f"pixel_values are {shape[2]} × {shape[3]} pixels, and this model's positions are those of "
                    f"{side} × {side}. Let the processor resize the images, or pass interpolate_pos_encoding=True."
                )
        return self.vision_model(pixel_values=pixel_values, **options)

    def _read(self, input_ids: torch.Tensor, **options: Any) -> Any:
        """The text tower; `pooler_output` is the pooled and projected prompt, which BERT itself does not make."""
        _check_tensor(input_ids, "input_ids", floats=False)
        longest = self.config.text_config.max_position_embeddings
        if input_ids.ndim != 2 or 0 in input_ids.shape:
            raise ValueError(
                f"input_ids are {tuple(input_ids.shape)}, not (prompts, tokens), as a tokenizer makes them."
            )
        if input_ids.shape[1] > longest:
            raise ValueError(
                f"A prompt has {input_ids.shape[1]} tokens, and the text tower has positions for {longest}. Pass "
                "truncation=True to the processor or the tokenizer, which then cut at 77."
            )
        mask = (input_ids != self.config.text_config.pad_token_id).long()
        # BERT looks into its mask for padding, and on the meta device there are no values to look at.
        try:
            outputs = self.text_model(input_ids=input_ids, attention_mask=None if mask.is_meta else mask, **options)
        except IndexError as error:
            raise ValueError(
                f"input_ids hold {int(input_ids.min())} to {int(input_ids.max())}, and this model's vocabulary has "
                f"{self.config.text_config.vocab_size} pieces. Make them with the tokenizer that belongs to it."
            ) from error
        tokens = outputs.last_hidden_state
        if self.config.text_pooling == "cls":
            pooled = tokens[:, 0]
        else:
            weights = mask.unsqueeze(-1).to(tokens.dtype)
            pooled = (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        return BaseModelOutputWithPooling(
            last_hidden_state=tokens,
            pooler_output=self.text_projection(pooled),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _asked(
        self, hidden_states: bool | None, attentions: bool | None, unknown: dict[str, Any], towers: str
    ) -> dict[str, Any]:
        """What these towers are to record, as their keyword arguments. An unknown keyword with a value is an error."""
        strange = sorted(name for name, value in unknown.items() if value is not None)
        if strange:
            raise TypeError(
                f"ConceptCLIPModel takes no argument {', '.join(strange)}. It takes pixel_values, input_ids, "
                "return_loss, interpolate_pos_encoding, output_hidden_states, output_attentions and return_dict; "
                "attention_mask and token_type_ids are accepted and ignored."
            )
        hidden_states = self.config.output_hidden_states if hidden_states is None else hidden_states
        attentions = self.config.output_attentions if attentions is None else attentions
        configs = {"image": self.config.vision_config, "text": self.config.text_config}
        kinds = {name: config._attn_implementation for name, config in configs.items() if name in towers}
        fused = [name for name, kind in kinds.items() if kind != "eager"]
        if attentions and fused:
            raise ValueError(
                f"output_attentions=True needs plain attention, and the {fused[0]} tower runs "
                f"{kinds[fused[0]]!r}, which keeps no weights. Call "
                'model.set_attn_implementation("eager") first.'
            )
        return {"output_hidden_states": bool(hidden_states), "output_attentions": bool(attentions)}

    @can_return_tuple  # type: ignore[untyped-decorator]
    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        interpolate_pos_encoding: bool = False,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **unknown: Any,
    ) -> BaseModelOutputWithPooling:
        """
        The image tower's output, as transformers' CLIP returns it.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(B, 3, H, W)`): what the processor returns.
            interpolate_pos_encoding, output_hidden_states, output_attentions: as in `forward`.

        Returns:
            `pooler_output` `(B, D)`, the vectors in the joint space, **not** unit length; `last_hidden_state`
            `(B, P, D)`, the patch tokens, not projected; `hidden_states` and `attentions`, if asked for.
        """
        asked = self._asked(output_hidden_states, output_attentions, unknown, "image")
        return self._see(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding, **asked)

    @can_return_tuple  # type: ignore[untyped-decorator]
    def get_text_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **unknown: Any,
    ) -> BaseModelOutputWithPooling:
        """
        The text tower's output, as transformers' CLIP returns it.

        Args:
            input_ids (`torch.LongTensor` of shape `(N, T)`): what the tokenizer returns.
            attention_mask, token_type_ids: accepted and ignored, as in `encode_text`.
            output_hidden_states, output_attentions: as in `forward`.

        Returns:
            `pooler_output` `(N, D)`, the prompts in the joint space, **not** unit length; `last_hidden_state`
            `(N, T, W)`, the token states, not projected; `hidden_states` and `attentions`, if asked for.
        """
        return self._read(input_ids, **self._asked(output_hidden_states, output_attentions, unknown, "text"))

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
        outputs = self._see(pixel_values)
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
        outputs = self._read(input_ids)
        pooled = outputs.pooler_output
        return (F.normalize(pooled, dim=-1) if normalize else pooled), outputs.last_hidden_state

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        return_loss: bool | None = None,
        interpolate_pos_encoding: bool = False,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **unknown: Any,
    ) -> ConceptCLIPOutput:
        """
        Encode images, prompts, or both.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(B, 3, H, W)`, *optional*)
            input_ids (`torch.LongTensor` of shape `(N, T)`, *optional*)
            attention_mask, token_type_ids: accepted and ignored, as in `encode_text`.
            return_loss (`bool`, *optional*): `loss` is IT-Align over the matrix of pairs, image i belonging to prompt i
                alone, as transformers' CLIP does it. With other labels, and for RC-Align, see [`helpers.losses`]. For
                transformers' Trainer let the collator say it, once a batch: `lambda items:
                default_data_collator(items) | {"return_loss": True}`. A `return_loss` in every item becomes a tensor
                of several, which this model takes and `Trainer.evaluate` does not.
            interpolate_pos_encoding (`bool`, defaults to `False`): stretch the position table to images of another size
                than the model's.
            output_hidden_states, output_attentions (`bool`, *optional*): record what each layer of the towers gives,
                in `vision_model_output` and `text_model_output`. Attentions need `set_attn_implementation("eager")`.
            unknown: any other keyword must be `None`.

        Raises:
            TypeError: an unknown keyword with a value.
            ValueError: no input; images of another size; prompts that are too long; `return_loss` without as many
                images as prompts; `output_attentions` without plain attention.

        Example:

        ```python
        >>> out = model(**processor(images=images, text=prompts, return_tensors="pt", padding=True, truncation=True))
        >>> logits = out.logit_scale * out.image_features @ out.text_features.T + out.logit_bias  # (B, N)
        >>> probabilities = logits.sigmoid()  # one per pair, independent of the other prompts
        ```
        """
        towers = " and ".join(["image"] * (pixel_values is not None) + ["text"] * (input_ids is not None))
        asked = self._asked(output_hidden_states, output_attentions, unknown, towers)
        if pixel_values is None and input_ids is None:
            raise ValueError("There is no input: pass pixel_values (images), input_ids (prompts), or both.")
        output: dict[str, Any] = {name: getattr(self, name) for name in SCALARS}
        output |= {name: output[name].exp() for name in ("logit_scale", "concept_logit_scale")}
        if pixel_values is not None:
            seen = self._see(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding, **asked)
            output["image_features"] = F.normalize(seen.pooler_output, dim=-1)
            output["image_token_features"] = self.image_proj(seen.last_hidden_state)
            output["vision_model_output"] = seen if any(asked.values()) else None
        if input_ids is not None:
            read = self._read(input_ids, **asked)
            output["text_features"] = F.normalize(read.pooler_output, dim=-1)
            output["text_token_features"] = self.text_proj(read.last_hidden_state)
            output["text_model_output"] = read if any(asked.values()) else None
        # A collator makes a tensor of a True with every item.
        if return_loss is not None and bool(torch.as_tensor(return_loss).all()):
            if pixel_values is None or input_ids is None:
                raise ValueError("return_loss=True compares images with prompts: pass pixel_values and input_ids.")
            output["loss"] = losses.it_align(
                output["image_features"], output["text_features"], output["logit_scale"], output["logit_bias"]
            )
        return ConceptCLIPOutput(**output)
