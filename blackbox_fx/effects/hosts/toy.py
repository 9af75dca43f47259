"""A toy host: effects that multiply by a power of two."""

from __future__ import annotations

from typing import final

from blackbox_fx.audio import Audio
from blackbox_fx.effects.base import Effect
from blackbox_fx.effects.hosts.host import Entry, Host
from blackbox_fx.effects.request import RenderRequest
from blackbox_fx.space import Continuous, Space


@final
class Toy(Effect):
    """Multiplies by 2 to the power of `octaves`.

    Args:
        name: any.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"toy:{name}", Space({"octaves": Continuous(-2, 2, default=0)}))

    def process(self, request: RenderRequest) -> Audio:
        """Multiplies."""
        return request.audio * 2 ** float(request.settings["octaves"])


HOST = Host(name="toy", effect=Toy, example="toy:one", installed=lambda: [Entry("toy:one", parameters=1)])
