"""
ConceptCLIP once more, in plain torch and with the released tensor names: the yardstick for `helpers.conceptclip`.

Written from the architecture alone and sharing no code with `helpers` or transformers: every operation is spelled out
on a state dict, so that a mistake in the composition, in a name or in the order of q, k and v cannot hide in both.
"""

import math

import torch

GEOMETRY = {
    "width": 64,
    "layers": 2,
    "heads": 4,
    "mlp": 172,
    "image": 56,
    "patch": 14,
    "text_width": 48,
    "text_layers": 2,
    "text_heads": 4,
    "text_mlp": 96,
    "vocabulary": 150,
    "positions": 128,
}
RELEASED = {
    "width": 1152,
    "layers": 27,
    "heads": 16,
    "mlp": 4304,
    "image": 384,
    "patch": 14,
    "text_width": 768,
    "text_layers": 12,
    "text_heads": 12,
    "text_mlp": 3072,
    "vocabulary": 30522,
    "positions": 512,
}


def released_shapes(g: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Every tensor of a checkpoint in released form, written out by hand from the facts."""
    d, m, w, tm = g["width"], g["mlp"], g["text_width"], g["text_mlp"]
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, width_in: int, width_out: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (width_out, width_in)
        if bias:
            shapes[f"{name}.bias"] = (width_out,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    v = "visual.trunk"
    shapes[f"{v}.patch_embed.proj.weight"] = (d, 3, g["patch"], g["patch"])
    shapes[f"{v}.patch_embed.proj.bias"] = (d,)
    shapes[f"{v}.pos_embed"] = (1, (g["image"] // g["patch"]) ** 2, d)
    for i in range(g["layers"]):
        norm(f"{v}.blocks.{i}.norm1", d)
        linear(f"{v}.blocks.{i}.attn.qkv", d, 3 * d)
        linear(f"{v}.blocks.{i}.attn.proj", d, d)
        norm(f"{v}.blocks.{i}.norm2", d)
        linear(f"{v}.blocks.{i}.mlp.fc1", d, m)
        linear(f"{v}.blocks.{i}.mlp.fc2", m, d)
    norm(f"{v}.norm", d)
    shapes[f"{v}.attn_pool.latent"] = (1, 1, d)
    linear(f"{v}.attn_pool.q", d, d)
    linear(f"{v}.attn_pool.kv", d, 2 * d)
    linear(f"{v}.attn_pool.proj", d, d)
    norm(f"{v}.attn_pool.norm", d)
    linear(f"{v}.attn_pool.mlp.fc1", d, m)
    linear(f"{v}.attn_pool.mlp.fc2", m, d)

    t = "text.transformer"
    shapes[f"{t}.embeddings.word_embeddings.weight"] = (g["vocabulary"], w)
    shapes[f"{t}.embeddings.position_embeddings.weight"] = (g["positions"], w)
    shapes[f"{t}.embeddings.token_type_embeddings.weight"] = (2, w)
    norm(f"{t}.embeddings.LayerNorm", w)
    for i in range(g["text_layers"]):
        layer = f"{t}.encoder.layer.{i}"
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}", w, w)
        linear(f"{layer}.attention.output.dense", w, w)
        norm(f"{layer}.attention.output.LayerNorm", w)
        linear(f"{layer}.intermediate.dense", w, tm)
        linear(f"{layer}.output.dense", tm, w)
        norm(f"{layer}.output.LayerNorm", w)
    linear("text.proj", w, d, bias=False)
    linear("image_proj.0", d, d, bias=False)
    linear("image_proj.2", d, d, bias=False)
    linear("text_proj.0", w, d, bias=False)
    linear("text_proj.2", d, d, bias=False)
    for scalar in ("logit_scale", "logit_bias", "concept_logit_scale", "concept_logit_bias"):
        shapes[scalar] = ()
    return shapes


def random_weights(g: dict[str, int], seed: int = 0, prefix: str = "") -> dict[str, torch.Tensor]:
    """Random weights under released names, in an order of size that keeps every part of the model at work."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in released_shapes(g).items():
        values = torch.randn(shape, generator=generator)
        if name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "LayerNorm.weight")):
            values = 1 + 0.1 * values
        elif name.endswith(".bias"):
            values = 0.1 * values
        elif len(shape) >= 2 and ("patch_embed" in name or not ("embed" in name or "latent" in name)):
            values = values * math.prod(shape[1:]) ** -0.5
        weights[prefix + name] = values
    weights[f"{prefix}logit_scale"] = torch.tensor(4.570648)
    weights[f"{prefix}logit_bias"] = torch.tensor(-11.161472)
    weights[f"{prefix}concept_logit_scale"] = torch.tensor(4.511484)
    weights[f"{prefix}concept_logit_bias"] = torch.tensor(-11.034302)
    return weights


def gelu(x: torch.Tensor, approximate: bool = False) -> torch.Tensor:
    if approximate:
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps) * weight + bias


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """q (B, Q, D), k and v (B, K, D); mask (B, K), true where a key counts."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], -math.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


class Reference:
    """`Reference(weights, geometry)`: the released state dict, and what the two encoders and `forward` make of it."""

    def __init__(self, weights: dict[str, torch.Tensor], geometry: dict[str, int], *, tanh: bool = False, order="qkv"):
        self.w, self.g, self.tanh, self.order = weights, geometry, tanh, order

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        y = x @ self.w[f"{name}.weight"].T
        return y + self.w[f"{name}.bias"] if f"{name}.bias" in self.w else y

    def norm(self, x: torch.Tensor, name: str, eps: float) -> torch.Tensor:
        return layer_norm(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"], eps)

    def mlp(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return self.linear(gelu(self.linear(x, f"{name}.fc1"), self.tanh), f"{name}.fc2")

    def encode_image(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        p, heads, v = self.g["patch"], self.g["heads"], "visual.trunk"
        # (B, 3, h·p, w·p) → (B, h·w, 3·p·p): a patch is a row of numbers, and the convolution a matrix.
        patches = pixels.unfold(2, p, p).unfold(3, p, p).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        x = patches @ self.w[f"{v}.patch_embed.proj.weight"].flatten(1).T + self.w[f"{v}.patch_embed.proj.bias"]
        x = x + self.w[f"{v}.pos_embed"]
        for i in range(self.g["layers"]):
            block = f"{v}.blocks.{i}"
            parts = self.linear(self.norm(x, f"{block}.norm1", 1e-6), f"{block}.attn.qkv").chunk(3, dim=-1)
            q, k, value = (parts[self.order.index(part)] for part in "qkv")
            x = x + self.linear(attend(q, k, value, heads), f"{block}.attn.proj")
            x = x + self.mlp(self.norm(x, f"{block}.norm2", 1e-6), f"{block}.mlp")
        tokens = self.norm(x, f"{v}.norm", 1e-6)
        q = self.linear(self.w[f"{v}.attn_pool.latent"].expand(len(x), -1, -1), f"{v}.attn_pool.q")
        k, value = self.linear(tokens, f"{v}.attn_pool.kv").chunk(2, dim=-1)
        pooled = self.linear(attend(q, k, value, heads), f"{v}.attn_pool.proj")
        pooled = pooled + self.mlp(self.norm(pooled, f"{v}.attn_pool.norm", 1e-6), f"{v}.attn_pool.mlp")
        return pooled[:, 0], tokens

    def encode_text(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        t, heads, mask = "text.transformer", self.g["text_heads"], ids != 0
        table = f"{t}.embeddings"
        x = self.w[f"{table}.word_embeddings.weight"][ids]
        x = x + self.w[f"{table}.position_embeddings.weight"][: ids.shape[1]]
        x = x + self.w[f"{table}.token_type_embeddings.weight"][0]
        x = self.norm(x, f"{table}.LayerNorm", 1e-12)
        for i in range(self.g["text_layers"]):
            layer = f"{t}.encoder.layer.{i}"
            q, k, v = (self.linear(x, f"{layer}.attention.self.{part}") for part in ("query", "key", "value"))
            y = self.linear(attend(q, k, v, heads, mask), f"{layer}.attention.output.dense")
            x = self.norm(x + y, f"{layer}.attention.output.LayerNorm", 1e-12)
            # BERT's GELU is the exact one, whatever the image tower's is.
            y = self.linear(gelu(self.linear(x, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
            x = self.norm(x + y, f"{layer}.output.LayerNorm", 1e-12)
        mean = (x * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        return self.linear(mean, "text.proj"), x

    def forward(self, pixels: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        image, image_tokens = self.encode_image(pixels)
        text, text_tokens = self.encode_text(ids)
        return {
            "image_features": image / image.norm(dim=-1, keepdim=True),
            "text_features": text / text.norm(dim=-1, keepdim=True),
            "logit_scale": self.w["logit_scale"].exp(),
            "image_token_features": self.linear(gelu(self.linear(image_tokens, "image_proj.0")), "image_proj.2"),
            "text_token_features": self.linear(gelu(self.linear(text_tokens, "text_proj.0")), "text_proj.2"),
            "logit_bias": self.w["logit_bias"],
            "concept_logit_scale": self.w["concept_logit_scale"].exp(),
            "concept_logit_bias": self.w["concept_logit_bias"],
        }


def config_json(g: dict[str, int]) -> dict:
    """`config.json` for a geometry, as `ConceptCLIPConfig` reads it."""
    return {
        "model_type": "conceptclip",
        "architectures": ["ConceptCLIP"],
        "vision_config": {
            "hidden_size": g["width"],
            "num_hidden_layers": g["layers"],
            "num_attention_heads": g["heads"],
            "intermediate_size": g["mlp"],
            "image_size": g["image"],
            "patch_size": g["patch"],
        },
        "text_config": {
            "hidden_size": g["text_width"],
            "num_hidden_layers": g["text_layers"],
            "num_attention_heads": g["text_heads"],
            "intermediate_size": g["text_mlp"],
            "vocab_size": g["vocabulary"],
            "max_position_embeddings": g["positions"],
        },
    }
