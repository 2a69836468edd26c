import numpy as np
import torch

GIGABYTES = 10_000 * 729 * 1152 * 2 / 1e9


def pack(lengths, size):
    order = np.argsort(lengths)
    return [order[start : start + size] for start in range(0, len(order), size)]


def to_int8(features, top=127):
    scales = features.abs().amax(1, keepdim=True) / top
    return (features / scales).round().to(torch.int8), scales


RIGHT = {
    "06-a": [pack, lambda lengths, size: [batch[::-1] for batch in pack([-n for n in lengths], size)]],
    "06-b": [to_int8],
    "06-c": [GIGABYTES],
}
WRONG = {
    "06-a": [
        (lambda lengths, size: pack(range(len(lengths)), size), "like length"),
        (lambda lengths, size: pack(lengths, size + 1), "more than size"),
        (lambda lengths, size: pack(lengths, size)[:-1], "each number once"),
        (lambda lengths, size: pack(lengths, 1), "as few batches"),
    ],
    "06-b": [
        (lambda x: to_int8(x, 128), "wrong sign"),
        (lambda x: to_int8(x, 60), "round to the nearest"),
        (lambda x: (x.to(torch.int8), torch.ones(6, 1)), "nearly all codes"),
        (lambda x: ((x * 127 / x.abs().amax()).round().to(torch.int8), torch.ones(6, 1)), "round to the nearest"),
        (lambda x: (x, torch.ones(6, 1)), "torch.int8"),
        (lambda x: (to_int8(x)[0], to_int8(x)[1][:, 0]), "as a column"),
        (lambda x: to_int8(x)[0], "two things"),
    ],
    "06-c": [
        (GIGABYTES * 1e9, "1e9"),
        (2 * GIGABYTES, "float32"),
        (GIGABYTES * 1e9 / 2**30, "GiB"),
        (GIGABYTES / 729, "pooled vectors"),
        (5.0, "pictures × patches"),
    ],
}
