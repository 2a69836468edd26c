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
    right_area, wrong_area = (helpers.metrics.curve_area(c.fractions, c.deletion) for c in (curves, wrong))
    assert right_area == pytest.approx(1 / 32)
    assert wrong_area == pytest.approx(31 / 32)
    with pytest.raises(ValueError, match=r"\[1, 4, 4\]"):
        helpers.explanations.deletion_insertion(score, picture, maps[:, :2], GRID)


def test_agreement():
    a = np.arange(16.0).reshape(1, 4, 4)
    assert helpers.explanations.agreement(a, a**3) == pytest.approx([1])  # ranks, not values
    assert helpers.explanations.agreement(a, -a) == pytest.approx([-1])
    assert np.isnan(helpers.explanations.agreement(a, a * 0)).all()
    with pytest.raises(ValueError, match="alike"):
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


def test_random_weights_are_other_ones_and_repeatable():
    model, processor = small_model()
    state = torch.get_rng_state()
    first, second = helpers.explanations.random_weights(model), helpers.explanations.random_weights(model)
    assert torch.equal(torch.get_rng_state(), state)
    a, b, c = (helpers.encode_images(m, processor, [data.chelsea()]).features for m in (model, first, second))
    assert torch.equal(b, c)
    assert not torch.allclose(a, b, atol=1e-2)
    assert not first.training
