"""The latencies of a VST3 plugin at some settings: `isolation.call` runs this module in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from blackbox_fx import isolation
from blackbox_fx.effects.hosts.vst3 import hosting


def _reply(question: dict[str, Any], report: Callable[[Any], None]) -> list[int]:
    plugin, seen = hosting.load(question["path"]), set[int]()
    for row in question["rows"]:
        hosting.set_raws(plugin, {int(index): raw for index, raw in row.items()})
        hosting.flush(plugin, question["channels"], hosting.RATE)
        seen.add(plugin.reported_latency_samples)
        report("told")
    return sorted(seen)


if __name__ == "__main__":
    isolation.answer(_reply)
