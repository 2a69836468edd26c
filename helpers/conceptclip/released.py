"""The released checkpoint's tensor names (open_clip's and timm's) and how its tensors become ours, one at a time."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from tqdm.auto import tqdm
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file

Shape = tuple[int, ...]


class Source(NamedTuple):
    """Where the values of one of our tensors are: part `part` of `parts` equal blocks of rows of a released tensor."""

    name: str
    part: int = 0
    parts: int = 1


HUB_ARGUMENTS = ("cache_dir", "force_download", "proxies", "local_files_only", "token", "revision", "subfolder")

# Our name → released name. Three kinds of tensor are stored otherwise and come below: q, k and v of the blocks
# (stacked), q, k and v of the pooling head (q apart), and the position table (one axis more).
RENAMES = (
    (r"vision_model\.embeddings\.patch_embedding\.", "visual.trunk.patch_embed.proj."),
    (r"vision_model\.encoder\.layers\.(\d+)\.layer_norm([12])\.", r"visual.trunk.blocks.\1.norm\2."),
    (r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"visual.trunk.blocks.\1.attn.proj."),
    (r"vision_model\.encoder\.layers\.(\d+)\.mlp\.", r"visual.trunk.blocks.\1.mlp."),
    (r"vision_model\.post_layernorm\.", "visual.trunk.norm."),
    (r"vision_model\.head\.probe", "visual.trunk.attn_pool.latent"),
    (r"vision_model\.head\.attention\.out_proj\.", "visual.trunk.attn_pool.proj."),
    (r"vision_model\.head\.layernorm\.", "visual.trunk.attn_pool.norm."),
    (r"vision_model\.head\.mlp\.", "visual.trunk.attn_pool.mlp."),
    (r"text_model\.", "text.transformer."),
    (r"text_projection\.", "text.proj."),
)
BLOCK_QKV = re.compile(r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)")
POOL_QKV = re.compile(r"vision_model\.head\.attention\.in_proj_(weight|bias)")
POSITIONS = "vision_model.embeddings.position_embedding.weight"

LANDMARK = "visual.trunk.patch_embed.proj.weight"
# Not weights: positions 0, 1, 2, … that earlier versions of transformers stored with BERT.
IGNORED = frozenset({"text.transformer.embeddings.position_ids"})


def prefix_of(names: Iterable[str]) -> str | None:
    """What stands before every name of a checkpoint in released form, often ""; `None` if it is in another form."""
    return next((name.removesuffix(LANDMARK) for name in names if name.endswith(LANDMARK)), None)


def _without(prefix: str, name: str) -> str:
    return name.removeprefix(prefix) if name.startswith(prefix) else f"{name} (without {prefix!r} before it)"


def sources_of(name: str) -> tuple[Source, ...]:
    """The released tensors that the tensor `name` of ours is made of, in the order of its rows."""
    if match := BLOCK_QKV.fullmatch(name):
        layer, which, kind = match.groups()
        return (Source(f"visual.trunk.blocks.{layer}.attn.qkv.{kind}", "qkv".index(which), 3),)
    if match := POOL_QKV.fullmatch(name):
        return tuple(Source(f"visual.trunk.attn_pool.{which}.{match[1]}") for which in ("q", "kv"))
    if name == POSITIONS:
        return (Source("visual.trunk.pos_embed"),)
    for pattern, replacement in RENAMES:
        if match := re.match(pattern, name):
            return (Source(match.expand(replacement) + name[match.end() :]),)
    return (Source(name),)  # image_proj, text_proj and the four scalars


def released_shapes(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Released names and shapes for a model whose own are `shapes`."""
    released = {}
    for name, shape in shapes.items():
        for source in sources_of(name):
            if POOL_QKV.fullmatch(name):
                rows = shape[0] // 3 * (2 if ".kv." in source.name else 1)
                released[source.name] = (rows, *shape[1:])
            elif name == POSITIONS:
                released[source.name] = (1, *shape)
            else:
                released[source.name] = (shape[0] * source.parts, *shape[1:]) if shape else ()
    return released


def check(found: Mapping[str, Shape], expected: Mapping[str, Shape], where: str) -> None:
    """Raise a `ValueError` that lists every missing, unexpected and misshapen tensor."""
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "not expected": sorted(found.keys() - expected.keys()),
        "of another shape": [
            f"{name}: {found[name]}, expected {expected[name]}"
            for name in sorted(found.keys() & expected.keys())
            if found[name] != expected[name]
        ],
    }
    if any(problems.values()):
        lists = [f"{len(names)} {kind}:\n  " + "\n  ".join(names) for kind, names in problems.items() if names]
        raise ValueError(
            f"The weights in {where} do not fit the ConceptCLIP that its config.json describes.\n"
            + "\n".join(lists)
            + "\n"
            "Is the download complete, and is it a ConceptCLIP? If only sizes differ, config.json is another model's."
        )


def read(
    files: Iterable[str | Path],
    shapes: Mapping[str, Shape],
    *,
    dtype: torch.dtype | None = None,
    progress: bool = False,
) -> dict[str, torch.Tensor]:
    """
    Read a checkpoint in released form as a state dict under our names.

    The tensors are read from the file one at a time, without mapping it into memory, and converted as they come, so the
    peak is the state dict itself plus one tensor: at full size 1.02 × the file in float32 and 0.53 × in bfloat16.

    Args:
        files: the safetensors files of the checkpoint.
        shapes: names and shapes of our model's state dict.
        dtype: of the result; by default each tensor's own.
        progress: show a progress bar.

    Raises:
        ValueError: if a tensor is missing, unexpected or misshapen; all of them are listed.
    """
    paths = [Path(file) for file in files]
    with ExitStack() as stack:
        handles = [stack.enter_context(safe_open(file, framework="pt", backend="pread")) for file in paths]
        holder = {name: handle for handle in handles for name in handle.keys()}  # noqa: SIM118 (no iterator)
        prefix = prefix_of(holder) or ""
        found = {_without(prefix, name): tuple(handle.get_slice(name).get_shape()) for name, handle in holder.items()}
        weights = {name: shape for name, shape in found.items() if name not in IGNORED}
        check(weights, released_shapes(shapes), str(paths[0].parent))

        def rows(source: Source) -> torch.Tensor:
            name = prefix + source.name
            if source.parts == 1:
                return holder[name].get_tensor(name)
            block = found[source.name][0] // source.parts
            return holder[name].get_slice(name)[source.part * block : (source.part + 1) * block]

        return {
            name: _assemble(name, shape, rows, dtype)
            for name, shape in tqdm(shapes.items(), desc="Converting", unit="tensor", disable=not progress)
        }


def _assemble(
    name: str, shape: Shape, rows: Callable[[Source], torch.Tensor], dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Our tensor `name` from the released ones that it is made of."""
    pieces = [rows(source) for source in sources_of(name)]
    tensor = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
    # The four scalars stay as they are: rounded to bfloat16, a scale of 96.6 becomes 95.9.
    return tensor.reshape(shape).to(dtype if dtype and shape else tensor.dtype)


def prefixes_of(names: Iterable[str], known: Iterable[str]) -> dict[str, int]:
    """What stands before names that are `known` ("model.", "module.", ""), and how many names it stands before."""
    known, counts = set(known), Counter[str]()
    for name in names:
        parts = name.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in known:
                counts["".join(f"{part}." for part in parts[:cut])] += 1
    return dict(counts.most_common())


def translate(state: Mapping[str, torch.Tensor], shapes: Mapping[str, Shape]) -> dict[str, torch.Tensor]:
    """
    The tensors of a state dict under our names: those that it has under them, and those under released ones.

    Args:
        state: without a prefix. Tensors that belong to no ConceptCLIP are left out, and so are tensors of another shape
            whose blocks cannot be told apart.
        shapes: names and shapes of our model's state dict.
    """
    translated = {}
    expected = released_shapes(shapes)
    for name, shape in shapes.items():
        sources = sources_of(name)
        if name in state:
            translated[name] = state[name]
        elif all(
            source.name in state and tuple(state[source.name].shape) == expected[source.name] for source in sources
        ):
            translated[name] = _assemble(
                name, shape, lambda source: state[source.name].chunk(source.parts)[source.part]
            )
    return translated


def find(source: str | Path, hub: Mapping[str, Any], variant: str | None = None) -> list[Path] | None:
    """
    The safetensors files of a folder or a hub id; `None` if there are none, which transformers then explains.

    A `variant` "fp16" is stored as model.fp16.safetensors.
    """
    single, several = SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME
    if variant:
        single, several = (f"{stem}.{variant}.{end}" for stem, end in (n.rsplit(".", 1) for n in (single, several)))
    try:
        return [_file(source, single, hub)]
    except OSError:
        pass
    try:
        index = json.loads(_file(source, several, hub).read_text(encoding="utf-8"))
        return [_file(source, file, hub) for file in sorted(set(index["weight_map"].values()))]
    except OSError:
        return None


def _file(source: str | Path, name: str, hub: Mapping[str, Any]) -> Path:
    found = cached_file(source, name, **hub)
    if found is None:
        raise FileNotFoundError(f"{source} has no {name}.")
    return Path(found)


def header(files: Iterable[str | Path]) -> dict[str, Shape]:
    """Names and shapes of a checkpoint's tensors, without reading them."""
    shapes: dict[str, Shape] = {}
    for file in files:
        with safe_open(file, framework="pt") as handle:
            shapes |= {name: tuple(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118
    return shapes
