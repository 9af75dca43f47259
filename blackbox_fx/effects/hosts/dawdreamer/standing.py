"""What the ports of an LV2 plugin stand at: `isolation.call` runs this module in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import numpy as np

from blackbox_fx import isolation
from blackbox_fx.effects.hosts.dawdreamer.bundles import saved_values
from blackbox_fx.effects.hosts.dawdreamer.engine import BLOCK
from blackbox_fx.effects.hosts.dawdreamer.plugin import Plugin


@final
class _Set(Plugin):
    """A plugin that is only set, and need not be known."""

    def _learn(self, choose: bool) -> None:
        pass


def _reply(question: dict[str, Any], report: Callable[[Any], None]) -> dict[str, float]:
    named = {key: question[key] for key in ("name", "target", "bundle")}
    plugin = _Set(**named, reset=None, sample_rate=question["rate"])
    loaded = plugin.load_one(plugin.sample_rate, BLOCK)
    report("loaded")
    plugin.set_raws(loaded, dict(question["raws"]))
    loaded.run(np.zeros((loaded.processor.get_num_input_channels(), BLOCK), np.float32))  # the ports follow only then
    with tempfile.TemporaryDirectory(prefix="blackbox_fx-") as folder:
        path = Path(folder) / "state"
        loaded.processor.save_state(str(path))
        return saved_values(path.read_text(errors="replace"))


if __name__ == "__main__":
    isolation.answer(_reply)
