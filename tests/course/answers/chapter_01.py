import numpy as np
import torch

BYTES = 542_868_036 * 2

RIGHT = {
    "01-a": [np.exp(4.570648) / 4.570648, torch.tensor(21.14), 21],
    "01-b": [BYTES / 1e9, 1.09],
    "01-c": [1 - (378 / 384) ** 2, 0.031],
}
WRONG = {
    "01-a": [(96.6, "true scale"), (4.57, "logarithm"), (1 / 21, "logarithm")],
    "01-b": [
        (BYTES, "1e9"),
        (2.17, "float32"),
        (0.54, "takes a dtype"),
        (BYTES / 2**30, "bfloat16 model in GiB"),
        (1.01, "bfloat16 model in GiB"),
        (2 * BYTES / 2**30, "float32 model in GiB"),
    ],
    "01-c": [(6 / 384, "share of a side"), ((378 / 384) ** 2, "what is seen"), (0.1, "whole patches")],
}
