"""The recursions that effects share, by torchlpc and torchcomp.

numba compiles them, which takes seconds in the first process; later ones find them in its cache. It ends the process if
two threads enter at once where it finds neither OpenMP nor TBB. The lock covers forward passes, so twins may render in
any pool; backward passes through twins in several threads at once are not covered.

Kernels use as many threads as torch does: those of numba go on spinning for a while, and where there are more of both
than cores, everything else takes ten times as long.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from types import ModuleType
from typing import cast

import torch
from torch import Tensor

_one_at_a_time = threading.Lock()


def follow(x: Tensor, start: Tensor, fall: Tensor, rise: Tensor) -> Tensor:
    """One-pole filters over x (items, time) from start (items,), with coefficients (items,) for falling and rising."""
    with _one_at_a_time:
        _like_torch()
        # torchcomp follows a gain, whose attack is its fall
        return _compiled()[1].compressor_core(x, start, fall, rise)


def recurse(x: Tensor, a: Tensor) -> Tensor:
    """All-pole filters over x (items, time) from silence, with coefficients (items, time, order)."""
    with _one_at_a_time:
        _like_torch()
        return cast(Tensor, _compiled()[0].sample_wise_lpc(x, a))


def _like_torch() -> None:
    import numba

    numba.set_num_threads(min(torch.get_num_threads(), numba.get_num_threads()))


@functools.cache
def _compiled() -> tuple[ModuleType, ModuleType]:
    """Torchlpc's and torchcomp's kernels; they import numba, a third of a second that is paid on first use."""
    import torchcomp.core
    import torchlpc.core

    for kernel in (torchlpc.core.lpc_np, torchcomp.core.compressor_kernel):
        with contextlib.suppress(RuntimeError):  # no folder that a cache could be written to
            kernel.enable_caching()
    return torchlpc, torchcomp.core
