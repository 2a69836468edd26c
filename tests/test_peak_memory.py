"""PeakMemory counts what is alive, each storage once, on the meta device as on the CPU."""

import itertools

import pytest
import torch

from helpers.conceptclip import ConceptCLIPConfig, ConceptCLIPModel
from helpers.course.geometry import PeakMemory


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_is_alive_at_once(device):
    with PeakMemory() as memory:
        a = torch.ones(100, device=device)
        b = a + 1
        c = b.view(10, 10).T
        assert memory.now == memory.peak == 800
        del a, b
        assert memory.now == 400  # c still needs b's numbers
        del c
        d = torch.ones(50, device=device)
        assert (memory.now, memory.peak) == (200, 800)
    assert d.numel() == 50


def test_weights_are_left_out_and_memory_grows_with_the_batch():
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = ConceptCLIPConfig(vision_config=size | {"image_size": 56}, text_config=size | {"vocab_size": 50})
    model = ConceptCLIPModel(config).eval()
    peaks = []
    for count in (1, 2, 3):
        with torch.no_grad(), PeakMemory(model) as memory:
            model.encode_image(torch.zeros(count, 3, 56, 56))
        peaks.append(memory.peak)
    steps = [b - a for a, b in itertools.pairwise(peaks)]
    patches, width, hidden = 16, 32, 64
    assert steps[0] == pytest.approx(steps[1], rel=0.2)
    assert min(steps) >= patches * (width + hidden) * 4  # at the least, the MLP's input and what it makes of it
    assert peaks[0] < sum(p.numel() for p in model.parameters()) * 4
