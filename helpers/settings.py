"""One seed, one look: what the setup cell of every notebook calls.

Nothing here is imported at `import helpers`; plotting libraries are loaded when `setup` runs.
"""

from __future__ import annotations

import functools
import logging
import os
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

SEED = 0
"""The one seed of the project: `setup`, the bootstrap and every random draw in `helpers` start from it."""

PALETTE = "colorblind"
"""seaborn's name of the qualitative palette: Okabe-Ito-like, told apart with any colour vision."""


def setup(seed: int = SEED) -> None:
    """Make a notebook repeatable, quiet and legible. Call once, in the first code cell.

    Seeds `random`, `numpy` and `torch`; turns off the progress bars and chatter of transformers and
    huggingface_hub (their errors still show); sets seaborn's theme, the colour-blind safe palette and figure sizes.

    Args:
        seed: the seed, `helpers.SEED` unless another one is wanted.
    """
    import numpy as np
    import seaborn as sns
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (libraries draw from this one)
    torch.manual_seed(seed)  # seeds every device

    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # set: tokenizers else warns when a notebook forks
    quiet()

    sns.set_theme(
        context="notebook",
        style="white",
        palette=PALETTE,
        rc={
            "figure.figsize": (7.0, 4.0),
            "figure.dpi": 96,
            "savefig.dpi": 96,
            "image.cmap": "viridis",
            "axes.titlesize": 11,
            "axes.labelsize": 11,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "legend.fontsize": 10,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
        },
    )


def quiet() -> None:
    """Silence progress bars and informational logs of transformers and huggingface_hub; errors still show."""
    import transformers
    from huggingface_hub.utils.tqdm import disable_progress_bars

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    disable_progress_bars()
    for name in ("huggingface_hub", "httpx", "matplotlib", "PIL"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*IProgress not found.*")
    # peft asks every model for it; the name is on its way out of transformers.
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)


@contextmanager
def autocast_off() -> Iterator[None]:
    """`torch.autocast` switched off, wherever it is on.

    It turns matrix products into half precision, and a cosine rounded to bfloat16 is a logit that is wrong by a third.
    """
    import torch

    with ExitStack() as stack:
        for device in ("cpu", "cuda", "mps", "xpu"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def without_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function of tensors so that it answers within `torch.autocast` as it does outside."""

    @functools.wraps(function)
    def exact(*args: P.args, **kwargs: P.kwargs) -> R:
        with autocast_off():
            return function(*args, **kwargs)

    return exact
