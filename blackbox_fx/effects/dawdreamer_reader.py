"""What a VST2 or LV2 plugin is, found by loading it: `aside.ask` runs this file in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from blackbox_fx import aside
from blackbox_fx.effects.dawdreamer import Plugin


@final
class _Examined(Plugin):
    """A plugin that is loaded in this process."""

    def _learn(self, choose: bool) -> None:
        self._learn_here(choose)
        self.found = self.told()


def _reply(question: dict[str, Any], tell: Callable[[Any], None]) -> dict[str, Any]:
    return _Examined(question["name"], question["target"], question["reset"], question["rate"]).found


if __name__ == "__main__":
    aside.answer(_reply)
