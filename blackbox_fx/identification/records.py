"""What identification finds."""

from __future__ import annotations

import dataclasses
from typing import Any, final

from blackbox_fx.proxy.nets.laws import Law


@final
@dataclasses.dataclass(frozen=True)
class Identified:
    """A net that was identified.

    Args:
        config: of the net, as `make_net` takes it.
        laws: of its numbers.
        residual: error-to-signal ratio at settings and for audio that are not only those it was found by.
    """

    config: dict[str, Any]
    laws: tuple[Law, ...]
    residual: float
