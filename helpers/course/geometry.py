"""A ConceptCLIP of any size without its weights: shapes, parameters and bytes, computed on torch's meta device."""

import math
import weakref

import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedConfig

from helpers.conceptclip import ConceptCLIPConfig, ConceptCLIPModel

__all__ = ["PeakMemory", "parameter_table", "shape_table"]

# What the released parameters are grouped by, in the order in which an input meets them.
PARTS = {
    "image tower": ("vision_model",),
    "text tower": ("text_model",),
    "projections and scalars": (
        "text_projection",
        "image_proj",
        "text_proj",
        "logit_scale",
        "logit_bias",
        "concept_logit_scale",
        "concept_logit_bias",
    ),
}


def _meta_model(config: ConceptCLIPConfig | None, dtype: torch.dtype) -> ConceptCLIPModel:
    # A fresh copy, because building a model fills in settings of its configuration.
    config = ConceptCLIPConfig() if config is None else ConceptCLIPConfig.from_dict(config.to_dict())
    with torch.device("meta"):
        return ConceptCLIPModel(config).to(dtype).eval()


def shape_table(
    config: ConceptCLIPConfig | None = None,
    *,
    images: int = 64,
    prompts: int = 15,
    length: int = 15,
    dtype: torch.dtype = torch.float32,
) -> pd.DataFrame:
    """
    The shape of everything that goes into a ConceptCLIP and comes out of it.

    The model is built and run on the meta device: all operations, no numbers, next to no memory.

    Args:
        config: the geometry; by default the released one. `model.config` gives a loaded model's.
        images, prompts: batch sizes.
        length: token positions of the longest prompt, [CLS] and [SEP] included.
        dtype: of pixels and features.

    Returns:
        A table with one row per tensor, indexed by step ("processor", "encode_image", "encode_text", "forward") and
        name, with the columns shape, numbers (how many it holds) and bytes.
    """
    model = _meta_model(config, dtype)
    vision = model.config.vision_config
    assert isinstance(vision, PreTrainedConfig)  # a configuration makes one of a dictionary
    side = vision.image_size
    with torch.device("meta"):
        inputs = {name: torch.zeros(prompts, length, dtype=torch.long) for name in ("input_ids", "token_type_ids")}
        inputs |= {
            "attention_mask": torch.zeros(prompts, length, dtype=torch.long),
            "pixel_values": torch.zeros(images, 3, side, side, dtype=dtype),
        }
    with torch.inference_mode():
        steps = {
            "processor": inputs,
            "encode_image": dict(zip(("features", "tokens"), model.encode_image(inputs["pixel_values"]), strict=True)),
            "encode_text": dict(zip(("features", "tokens"), model.encode_text(inputs["input_ids"]), strict=True)),
            "forward": dict(model(**inputs)),
        }
    rows = {
        (step, name): (tuple(tensor.shape), tensor.numel(), tensor.numel() * tensor.element_size())
        for step, tensors in steps.items()
        for name, tensor in tensors.items()
    }
    index = pd.MultiIndex.from_tuples(rows, names=["step", "tensor"])
    return pd.DataFrame(list(rows.values()), index=index, columns=["shape", "numbers", "bytes"])


def parameter_table(config: ConceptCLIPConfig | None = None, *, dtype: torch.dtype = torch.float32) -> pd.DataFrame:
    """
    How many parameters a ConceptCLIP has, part by part, and how many bytes they take.

    Args:
        config: the geometry; by default the released one.
        dtype: of the weights.

    Returns:
        A table with the columns parameters and bytes; the last row, "total", is the sum.
    """
    model = _meta_model(config, dtype)
    counts = {
        part: sum(math.prod(tensor.shape) for name, tensor in model.named_parameters() if name.split(".")[0] in modules)
        for part, modules in PARTS.items()
    }
    table = pd.DataFrame({"parameters": counts})
    table.loc["total"] = table.sum()
    table["bytes"] = table["parameters"] * dtype.itemsize
    return table.rename_axis("part")


class PeakMemory(TorchDispatchMode):
    """
    Count the bytes of all tensors that operations make while it is active, and keep the maximum that was alive at once.

    It works on every device, the meta device included: what a released geometry would need is known without running it.
    Scratch space within an operation is not seen, and of fused attention only what comes out.

    Args:
        model: its weights are not counted.

    Attributes:
        now, peak: bytes.

    Example:

    ```python
    >>> with torch.no_grad(), PeakMemory(model) as memory:
    ...     model.encode_image(pixel_values)
    >>> memory.peak
    ```
    """

    def __init__(self, model: torch.nn.Module | None = None):
        super().__init__()
        self.now = self.peak = 0
        self._alive = {p.untyped_storage()._cdata for p in model.parameters()} if model is not None else set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()  # a view has its base's
                key, size = storage._cdata, storage.nbytes()
                if key not in self._alive:
                    self._alive.add(key)
                    self.now += size
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._forget, key, size)
        return result

    def _forget(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size
