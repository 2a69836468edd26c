import numpy as np
from torch.nn.functional import normalize

import helpers

SCALE, BIAS = helpers.scoring.RELEASED_SCALES[:2]
LOGIT = np.log(9)


def unit(x):
    return normalize(x, dim=-1)


RIGHT = {
    "04-a": [(LOGIT - BIAS) / SCALE],
    "04-b": [(0.30, 0.44444)],
    "04-c": [
        lambda t, v, top: helpers.scoring.local_scores(t, v, recipe="zero_shot", top=top),
        lambda t, v, top: (unit(t) @ unit(v).T).sort(dim=1, descending=True).values[:, :top].mean(1),
    ],
}
WRONG = {
    "04-a": [
        (-BIAS / SCALE, "its logit is 0"),
        (LOGIT, "that is the logit"),
        ((LOGIT + BIAS) / SCALE, "mind the sign"),
        (0.5, "solve"),
    ],
    "04-b": [
        ((0.44, 0.44), "does a sigmoid look"),
        ((0.3, 0.4), "divided anew"),
        ((0.3, 0.8), "of the same total"),
        ((0.3, 0.9), "what is the total"),
        (0.3, "(2,)"),
    ],
    "04-c": [
        (lambda t, v, top: (unit(t) @ unit(v).T).topk(2, dim=2).values, "shape"),
        (lambda t, v, top: (t @ v.T).topk(top, dim=1).values.mean(1), "not cosines"),
        (lambda t, v, top: (unit(t) @ unit(v).T).mean(1), "`top` largest"),
        (lambda t, v, top: (unit(t) @ unit(v).T).amax(1), "over patches"),
    ],
}
