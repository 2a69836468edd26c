"""Explanations of scores whose explanation is known by hand; then the same functions on a model."""

import numpy as np
import pytest
import torch
from skimage import data
from small_model import small_model

import helpers
from helpers.explanations import without
from helpers.tokens import PatchGrid

GRID = PatchGrid(4, 4, 14, 60)  # with a strip of 4 pixels that no patch sees


@pytest.fixture(scope="module")
def x():
    return torch.rand(2, 3, 60, 60, generator=torch.Generator().manual_seed(0)) * 2 - 1


def weights() -> torch.Tensor:
    """A linear score that looks at patches 5 (for) and 10 (against), and nowhere else."""
    w = torch.zeros(3, 60, 60)
    w[0, 14:28, 14:28] = 1
    w[1, 28:42, 28:42] = -1
    return w


def linear(x: torch.Tensor) -> torch.Tensor:
    return (x * weights()).sum((1, 2, 3))


def test_patches_are_taken_away_and_the_rest_stays(x):
    keep = torch.ones(2, 4, 4, dtype=torch.bool)
    keep[0, 1, 1] = False
    gone = without(x, keep, GRID, "mean")
    assert torch.equal(gone[1], x[1])
    torch.testing.assert_close(gone[0, :, 14:28, 14:28], x[0].mean((1, 2))[:, None, None].expand(3, 14, 14))
    gone[0, :, 14:28, 14:28] = x[0, :, 14:28, 14:28]
    assert torch.equal(gone[0], x[0])
    empty = without(x, torch.zeros_like(keep), GRID, "blur")
    assert empty.std() < x.std() / 2
    assert torch.equal(empty[..., 56:], x[..., 56:])  # no patch sees it, so it is not touched
    with pytest.raises(ValueError, match="blur"):
        without(x, keep, GRID, "black")


def test_occlusion_of_a_linear_score(x):
    maps = helpers.explanations.occlusion_maps(linear, x, GRID, window=1, stride=1, fill="mean")
    assert maps.shape == (2, 4, 4)
    for b in range(2):
        centred = (x[b] - x[b].mean((1, 2), keepdim=True)) * weights()
        expected = centred.sum(0)[:56, :56].reshape(4, 14, 4, 14).sum((1, 3))
        torch.testing.assert_close(maps[b], expected, atol=1e-3, rtol=1e-4)
        assert maps[b].flatten().abs().topk(2).indices.sort().values.tolist() == [5, 10]


def test_windows_cover_every_patch_and_batches_do_not_matter(x):
    for window, stride in ((3, 2), (2, 2), (4, 1), (3, 3)):
        a = helpers.explanations.occlusion_maps(linear, x, GRID, window=window, stride=stride, batch_size=3)
        b = helpers.explanations.occlusion_maps(linear, x, GRID, window=window, stride=stride)
        assert a.isfinite().all()
        torch.testing.assert_close(a, b)
    with pytest.raises(ValueError, match="stride"):
        helpers.explanations.occlusion_maps(linear, x, GRID, window=2, stride=3)


def test_gradient_times_input_of_a_linear_score_is_complete(x):
    maps = helpers.explanations.gradient_maps(linear, x, GRID)
    mean = x.mean((2, 3), keepdim=True).expand_as(x)
    torch.testing.assert_close(maps.sum((1, 2)), linear(x) - linear(mean), atol=1e-3, rtol=1e-4)
    exact = helpers.explanations.occlusion_maps(linear, x, GRID, window=1, stride=1, fill="mean")
    torch.testing.assert_close(maps, exact, atol=1e-3, rtol=1e-4)  # the two agree where the score is linear
    assert not x.requires_grad


def test_deletion_and_insertion_by_hand():
    """A score that counts bright patches: the right map deletes the one that matters first."""
    picture = torch.zeros(1, 3, 60, 60)
    picture[..., 14:28, 14:28] = 1
    maps = torch.zeros(1, 4, 4)
    maps[0, 1, 1] = 1

    def score(x):
        return (x[:, 0, 14:28, 14:28] == 1).float().mean((1, 2))

    curves = helpers.explanations.deletion_insertion(score, picture, maps, GRID, steps=16, fill="mean")
    assert curves.fractions.tolist() == (np.arange(17) / 16).tolist()
    assert curves.deletion[0].tolist() == [1] + [0] * 16
    assert curves.insertion[0].tolist() == [0] + [1] * 16
    wrong = helpers.explanations.deletion_insertion(score, picture, -maps, GRID, steps=16, fill="mean")
    assert wrong.deletion[0].tolist() == [1] * 16 + [0]
    right_area, wrong_area = (np.trapezoid(c.deletion[0], c.fractions) for c in (curves, wrong))
    assert right_area == pytest.approx(1 / 32)
    assert wrong_area == pytest.approx(31 / 32)
    early = helpers.explanations.deletion_insertion(score, picture, maps, GRID, steps=(0.125, 0.5), fill="mean")
    assert early.fractions.tolist() == [0.125, 0.5]
    assert early.deletion.tolist() == [[0, 0]]
    assert early.insertion.tolist() == [[1, 1]]
    with pytest.raises(ValueError, match=r"\[1, 4, 4\]"):
        helpers.explanations.deletion_insertion(score, picture, maps[:, :2], GRID)
    for steps in ((0.5, 2), ()):
        with pytest.raises(ValueError, match="between 0 and 1"):
            helpers.explanations.deletion_insertion(score, picture, maps, GRID, steps=steps)


def test_agreement():
    a = np.arange(16.0).reshape(1, 4, 4)
    assert helpers.explanations.agreement(a, a**3) == pytest.approx([1])  # ranks, not values
    assert helpers.explanations.agreement(a, -a) == pytest.approx([-1])
    assert np.isnan(helpers.explanations.agreement(a, a * 0)).all()
    with pytest.raises(ValueError, match=r"\(1, 4, 4\).*\(1, 2, 4\)"):
        helpers.explanations.agreement(a, a[:, :2])


def test_controls():
    prior = helpers.explanations.centre_prior(GRID, 2)
    assert prior.shape == (2, 4, 4)
    assert sorted(prior[0].ravel().argsort()[-4:]) == [5, 6, 9, 10]
    x = torch.ones(1, 3, 60, 60)
    x[:, 1, 28:42, 0:14] = -1  # a violet patch
    assert helpers.explanations.stain_maps(x, GRID).flatten().argmax() == 8


def test_on_a_model():
    model, processor = small_model()
    grid = helpers.patch_grid(model)
    x = helpers.explanations.pixels(processor, [data.retina(), data.chelsea()])
    text = helpers.encode_texts(model, processor, ["a cell photo"])
    score = helpers.explanations.global_score(model, text.features[0])
    images = helpers.encode_images(model, processor, [data.retina(), data.chelsea()])
    torch.testing.assert_close(score(x).detach(), images.features @ text.features[0], atol=1e-5, rtol=0)
    for maps in (
        helpers.explanations.occlusion_maps(score, x, grid),
        helpers.explanations.gradient_maps(score, x, grid),
    ):
        assert maps.shape == (2, 4, 4)
        assert maps.std() > 0
    curves = helpers.explanations.deletion_insertion(score, x, maps, grid)
    np.testing.assert_allclose(curves.deletion[:, 0], score(x).detach(), atol=1e-5)
    np.testing.assert_allclose(curves.deletion[:, 0], curves.insertion[:, -1], atol=1e-5)
    np.testing.assert_allclose(curves.deletion[:, -1], curves.insertion[:, 0], atol=1e-5)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_batch_of_several_pictures_gives_each_its_own(x):
    """Whatever the size of a batch, a picture is filled with its own colours and asked for its own column."""
    seen = []

    def counted(part: torch.Tensor) -> torch.Tensor:
        seen.append(len(part))
        assert not torch.is_grad_enabled()
        return several(part)

    maps = torch.rand(2, *GRID.shape, generator=torch.Generator().manual_seed(0))
    alone = [
        helpers.explanations.deletion_insertion(several, x[[b]], maps[[b]], GRID, target=[t], steps=(0.25, 0.5))
        for b, t in enumerate((0, 1))
    ]
    for batch_size, batches in ((64, [8]), (4, [4, 4]), (3, [3, 1, 3, 1])):
        seen.clear()
        together = helpers.explanations.deletion_insertion(
            counted, x, maps, GRID, target=[0, 1], steps=(0.25, 0.5), batch_size=batch_size
        )
        assert seen == batches
        np.testing.assert_allclose(together.deletion, np.concatenate([one.deletion for one in alone]), rtol=1e-5)
        np.testing.assert_allclose(together.insertion, np.concatenate([one.insertion for one in alone]), rtol=1e-5)


def test_random_weights_are_other_ones_and_repeatable():
    model, processor = small_model()
    state = torch.get_rng_state()
    first, second = helpers.explanations.random_weights(model), helpers.explanations.random_weights(model)
    assert torch.equal(torch.get_rng_state(), state)
    a, b, c = (helpers.encode_images(m, processor, [data.chelsea()]).features for m in (model, first, second))
    assert torch.equal(b, c)
    assert not torch.allclose(a, b, atol=1e-2)
    assert not first.training


# --- a score of several columns, as in captum -------------------------------------------------------------------------


def several(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([linear(x), -2 * linear(x), x.mean((1, 2, 3))], dim=1)


def test_a_target_picks_the_column_of_each_picture(x):
    one, two = (helpers.explanations.gradient_maps(linear, x[[b]], GRID) for b in (0, 1))
    for explain in (
        helpers.explanations.gradient_maps,
        lambda *a, **k: helpers.explanations.occlusion_maps(*a, window=1, stride=1, fill="mean", **k),
        lambda *a, **k: helpers.explanations.integrated_gradient_maps(*a, steps=2, **k),
    ):
        both = explain(several, x, GRID, target=[0, 1])
        torch.testing.assert_close(both[0], one[0], atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(both[1], -2 * two[0], atol=1e-3, rtol=1e-4)
    curves = helpers.explanations.deletion_insertion(several, x, both, GRID, target=torch.tensor([0, 1]))
    np.testing.assert_allclose(curves.deletion[:, 0], [linear(x)[0], -2 * linear(x)[1]], rtol=1e-5)
    with pytest.raises(ValueError, match=r"target="):
        helpers.explanations.gradient_maps(several, x, GRID)
    with pytest.raises(ValueError, match="target"):
        helpers.explanations.gradient_maps(linear, x, GRID, target=0)
    with pytest.raises(ValueError, match=r"target.*2"):
        helpers.explanations.gradient_maps(several, x, GRID, target=3)
    with pytest.raises(ValueError, match="2 pictures"):
        helpers.explanations.gradient_maps(several, x, GRID, target=[0, 1, 2])


def curved(x: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(linear(x) / 50) + x.pow(2).mean((1, 2, 3))


def test_integrated_gradients_add_up_where_gradients_do_not(x):
    mean = x.mean((2, 3), keepdim=True).expand_as(x)
    gained = curved(x) - curved(mean)
    strip = x.clone()  # of the strip that no patch sees, the gain is not in the map
    strip[..., :56, :56] = mean[..., :56, :56]
    seen = gained - (curved(strip) - curved(mean))
    added = helpers.explanations.integrated_gradient_maps(curved, x, GRID, steps=64).sum((1, 2))
    torch.testing.assert_close(added, seen, atol=1e-3, rtol=0)
    once = helpers.explanations.gradient_maps(curved, x, GRID).sum((1, 2))
    assert (once - seen).abs().min() > 0.02
    with pytest.raises(ValueError, match="steps"):
        helpers.explanations.integrated_gradient_maps(curved, x, GRID, steps=0)


# --- explanations that read the layers --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen():
    model, processor = small_model()
    x = helpers.explanations.pixels(processor, [data.retina(), data.chelsea()])
    text = helpers.encode_texts(model, processor, ["a cell photo", "round nucleus"]).features
    return model, x, text


def test_the_pooling_written_out_is_the_models(seen):
    model, x, _ = seen
    with torch.no_grad():
        pooled, attentions, _ = helpers.explanations._layers(model, x)
        expected, last = model.encode_image(x)
    torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=1e-4)
    assert len(attentions) == model.config.vision_config.num_hidden_layers + 1
    for attention in attentions:
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))
    weights = model.vision_model.head.attention(model.vision_model.head.probe.expand(2, -1, -1), last, last)[1]
    torch.testing.assert_close(attentions[-1].mean(1), weights, atol=1e-6, rtol=0)
    assert model.config.vision_config._attn_implementation != "eager"  # as it was before


def test_rollout_by_hand(seen):
    model, x, _ = seen
    with torch.no_grad():
        _, attentions, _ = helpers.explanations._layers(model, x[:1])
    *layers, looks = (attention.mean(1)[0].numpy() for attention in attentions)
    rolled = np.eye(16)
    for layer in layers:
        rolled = (layer + np.eye(16)) / 2 @ rolled
    maps = helpers.explanations.rollout_maps(model, x, batch_size=1)
    np.testing.assert_allclose(maps[0].flatten(), (looks @ rolled)[0], atol=1e-6)
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(2))


def test_relevance_by_hand(seen):
    """The gradient of each attention by finite differences in double precision, then R + A R written out."""
    model, x, text = seen
    head, maps = model.vision_model.head, helpers.explanations.relevance_maps(model, text, x)
    assert maps.shape == (2, 4, 4)
    assert (maps >= 0).all()
    with torch.no_grad():
        pooled, attentions, _ = helpers.explanations._layers(model, x[1:])
    # Of the pooling alone: its attention moved by a little, the score followed.
    with torch.no_grad():
        final = model.vision_model(pixel_values=x[1:]).last_hidden_state
        value = (
            torch.nn.functional.linear(
                final, head.attention.in_proj_weight.chunk(3)[2], head.attention.in_proj_bias.chunk(3)[2]
            )
            .unflatten(-1, (head.attention.num_heads, -1))
            .transpose(1, 2)
        )

        def cosine(looks):
            hidden = head.attention.out_proj((looks @ value).transpose(1, 2).flatten(2))
            hidden = hidden + head.mlp(head.layernorm(hidden))
            return torch.nn.functional.cosine_similarity(hidden[:, 0], text[1:]).item()

        looks = attentions[-1]
        gradient = torch.zeros_like(looks)
        for place in np.ndindex(*looks.shape):
            step = torch.zeros_like(looks)
            step[place] = 1e-2
            gradient[place] = (cosine(looks + step) - cosine(looks - step)) / 2e-2
    kept = (looks * gradient).clamp(min=0).mean(1)[0]
    with torch.enable_grad():
        pooled, graph, _ = helpers.explanations._layers(model, x[1:])
        score = torch.nn.functional.cosine_similarity(pooled, text[1:]).sum()
        captured = torch.autograd.grad(score, graph)
    torch.testing.assert_close(gradient, captured[-1], atol=2e-3, rtol=2e-2)
    relevance = torch.eye(16)
    for attention, slope in zip(graph[:-1], captured[:-1], strict=True):
        layer = (attention.detach() * slope).clamp(min=0).mean(1)[0]
        relevance = relevance + layer @ relevance
    torch.testing.assert_close(maps[1].flatten(), (kept @ relevance)[0], atol=1e-4, rtol=5e-2)


def test_explanations_by_layers_know_the_question_or_do_not(seen):
    model, x, text = seen
    for explain in (helpers.explanations.relevance_maps, helpers.explanations.grad_cam_maps):
        one, other = explain(model, text[0], x), explain(model, text[1], x)
        assert one.shape == (2, 4, 4)
        assert not torch.allclose(one, other)
        torch.testing.assert_close(explain(model, text, x)[0], one[0], atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(explain(model, text[0], x, batch_size=1), one, atol=1e-6, rtol=1e-4)
        with pytest.raises(ValueError, match="2 pictures"):
            explain(model, text[[0, 0, 0]], x)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_against_captum(seen):
    attr = pytest.importorskip("captum.attr")
    model, x, text = seen
    grid, target = helpers.patch_grid(model), torch.tensor([1, 0])
    score = helpers.explanations.global_score(model, text)
    mean = x.mean((2, 3), keepdim=True).expand_as(x)

    def patches(pixels):
        return torch.nn.functional.avg_pool2d(pixels.sum(1, keepdim=True), grid.patch)[:, 0] * grid.patch**2

    ours = helpers.explanations.integrated_gradient_maps(score, x, grid, target=target, steps=8)
    theirs = attr.IntegratedGradients(score).attribute(x, mean, target=target, n_steps=8, method="riemann_middle")
    torch.testing.assert_close(ours, patches(theirs).float(), atol=1e-5, rtol=1e-3)

    ours = helpers.explanations.gradient_maps(score, x, grid, target=target)
    theirs = attr.Saliency(score).attribute(x, target=target, abs=False) * (x - mean)
    torch.testing.assert_close(ours, patches(theirs), atol=1e-5, rtol=1e-3)

    one, side = x[:1], grid.patch
    ours = helpers.explanations.occlusion_maps(score, one, grid, target=1, window=1, stride=1, fill="mean")
    theirs = attr.Occlusion(score).attribute(one, (3, side, side), (3, side, side), mean[:1], target=1)
    torch.testing.assert_close(ours, theirs[:, 0, ::side, ::side][:, : grid.h, : grid.w].float(), atol=1e-5, rtol=1e-3)

    class Spot(torch.nn.Module):
        """The score as a module, whose `spot` sees the last layer's tokens as captum wants them: [B, D, h, w]."""

        def __init__(self):
            super().__init__()
            self.tower, self.spot = model.vision_model, torch.nn.Identity()

        def forward(self, pixels):
            tokens = self.tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-1]
            tokens = self.spot(tokens.transpose(1, 2).unflatten(2, grid.shape)).flatten(2).transpose(1, 2)
            pooled = self.tower.head(self.tower.post_layernorm(tokens))
            return torch.nn.functional.normalize(pooled, dim=-1) @ text.T

    module = Spot()
    torch.testing.assert_close(module(x), score(x), atol=1e-5, rtol=0)
    ours = helpers.explanations.grad_cam_maps(model, text[target], x)
    theirs = attr.LayerGradCam(module, module.spot).attribute(x, target=target, relu_attributions=True)
    torch.testing.assert_close(ours, theirs[:, 0].detach(), atol=1e-6, rtol=1e-3)
    assert ours.max() > 0


# --- rivals -----------------------------------------------------------------------------------------------------------


def test_a_mask_as_a_map():
    mask = np.zeros((1, 60, 60), bool)
    mask[0, 14:42, 14:42] = True  # patches 5, 6, 9, 10
    map_ = helpers.explanations.mask_maps(mask, GRID)
    assert map_.shape == (1, 4, 4)
    assert sorted(map_.flatten().argsort()[-4:].tolist()) == [5, 6, 9, 10]
    assert map_[0, 0, 1] > map_[0, 0, 0]  # nearer to the outline
    assert (map_[0, 1:3, 1:3] > 0).all()
    assert (map_ > 0).sum() == 4
    for bad, word in ((np.zeros_like(mask), "empty"), (np.ones_like(mask), "full")):
        with pytest.raises(ValueError, match=rf"masks\[1\] is {word}"):
            helpers.explanations.mask_maps(np.concatenate([mask, bad]), GRID)


def test_the_strongest_rival():
    grades = {"own": [1, 1, 1], "weak": [0, 0, 1], "strong": [np.nan, 1, 0.8], "nothing": [np.nan] * 3}
    assert helpers.explanations.strongest(grades, leave_out="own") == "strong"
    assert helpers.explanations.strongest(grades) == "own"
    assert helpers.explanations.strongest(grades, leave_out=("own", "strong")) == "weak"
    with pytest.raises(ValueError, match="rival"):
        helpers.explanations.strongest({"own": [1.0]}, leave_out="own")
