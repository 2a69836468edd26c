"""What a chapter's prose says of the shipped model's numbers, checked where it can be true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from helpers.loading import is_shipped, unwrap

__all__ = ["holds", "tolerance"]


def holds(model: Any, claim: bool | np.ndarray | Callable[[], Any], what: str = "") -> None:
    """State something about the numbers of the model that ships with these notebooks.

    For its own weights in float32 this is an assertion. Another model, and another dtype, have other numbers: there one
    line says that the claim was not checked. What is true of every model is a plain `assert`.

    Args:
        model: the model whose numbers they are.
        claim: true or false; several at once, all of which must be true; or a function that tells, for a claim that
            another model might not even be able to compute.
        what: the claim in words.

    Raises:
        AssertionError: the shipped model in float32, and the claim is false.
    """
    model = unwrap(model)
    if not is_shipped(model):
        dtype = str(model.dtype).removeprefix("torch.")
        print(f"Not checked, for these are not the shipped weights in float32 ({dtype}){': ' + what if what else '.'}")
    elif not bool(np.all(np.asarray(claim() if callable(claim) else claim))):
        raise AssertionError(f"The shipped model's numbers have changed{': ' + what if what else '.'}")


def tolerance(model: Any, exact: float = 1e-5) -> float:
    """How far two ways to one number may lie apart: `exact` in float32, and more where the model rounds more.

    In half precision the same prompt gives slightly other numbers in another batch. Eight units of the last place, 0.06
    in bfloat16 and 0.008 in float16, leave room for that.
    """
    return max(exact, 8 * torch.finfo(unwrap(model).dtype).eps) if unwrap(model).dtype.itemsize < 4 else exact
