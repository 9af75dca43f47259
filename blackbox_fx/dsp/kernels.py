"""The recursions that effects share, by torchlpc and torchcomp.

numba compiles them, which takes seconds in the first process; later ones find them in its cache. It ends the process if
two threads enter at once where it finds neither OpenMP nor TBB. The lock covers forward passes, so twins may render in
any pool; backward passes through twins in several threads at once are not covered.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from types import ModuleType
from typing import cast

from torch import Tensor

_one_at_a_time = threading.Lock()


def follow(x: Tensor, start: Tensor, fall: Tensor, rise: Tensor) -> Tensor:
    """One-pole filters over x (items, time) from start (items,), with coefficients (items,) for falling and rising."""
    with _one_at_a_time:
        # torchcomp follows a gain, whose attack is its fall
        return _compiled()[1].compressor_core(x, start, fall, rise)


def recurse(x: Tensor, a: Tensor) -> Tensor:
    """All-pole filters over x (items, time) from silence, with coefficients (items, time, order)."""
    with _one_at_a_time:
        return cast(Tensor, _compiled()[0].sample_wise_lpc(x, a))


@functools.cache
def _compiled() -> tuple[ModuleType, ModuleType]:
    """Torchlpc's and torchcomp's kernels; they import numba, a third of a second that is paid on first use."""
    import torchcomp.core
    import torchlpc.core

    for kernel in (torchlpc.core.lpc_np, torchcomp.core.compressor_kernel):
        with contextlib.suppress(RuntimeError):  # no folder that a cache could be written to
            kernel.enable_caching()
    return torchlpc, torchcomp.core
