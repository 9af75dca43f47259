"""The net that suits an effect, by what the effect was measured to be."""

from __future__ import annotations

import math
from typing import Any

from blackbox_fx.profiling import Profile

_SO = 1e-3  # relative error below which an effect is linear, or memoryless
_SHORT_S = 0.09  # the impulse response of a filter
_LONGEST_S = 2.0


def choose_net(profile: Profile) -> dict[str, Any]:
    """Kind and arguments of a net, as `make_net` takes them.

    A linear effect gets a filter, with a reverberation if it rings on; a memoryless one a curve; others get a gain that
    follows the level between two filters, and a curve.
    """
    net: dict[str, Any] = {"kind": "structured"}
    if profile.memoryless < _SO:
        return net | {"filters": 0, "gain": False}
    if profile.tail_seconds > _SHORT_S and not math.isinf(profile.tail_seconds):
        net["tail_seconds"] = round(min(profile.tail_seconds, _LONGEST_S), 2)
    if profile.linear < _SO:
        return net | {"filters": 1, "gain": False, "curve": False}
    return net
