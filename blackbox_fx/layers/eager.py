"""Keeps renders out of the graphs of `torch.compile`, and knows when `torch.func` is at work."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

_F = TypeVar("_F", bound=Callable[..., Any])


def eager(function: _F) -> _F:
    """A function that `torch.compile` leaves alone: `torch.compiler.disable`, which takes seconds to import, if needed.

    The compiler is loaded before it meets the function, so that it is enough to look for it at every call.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **named: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **named)
        return _disabled(function)(*args, **named)

    return cast(_F, wrapper)


@functools.cache
def _disabled(function: Callable[..., Any]) -> Callable[..., Any]:
    return cast("Callable[..., Any]", torch.compiler.disable(function))


def shows_values(*tensors: Tensor) -> bool:
    """Whether tensors have values that can be rendered; those inside of `torch.func` have none."""
    return not any(is_functorch_wrapped_tensor(x) for x in tensors)
