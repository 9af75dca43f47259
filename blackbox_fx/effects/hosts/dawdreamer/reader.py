"""What a plugin in dawdreamer is, found by loading it: `isolation.call` runs this module in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

from blackbox_fx import isolation
from blackbox_fx.effects.hosts.dawdreamer.plugin import Plugin


@final
class _Examined(Plugin):
    """A plugin that is loaded in this process."""

    def __init__(self, report: Callable[[Any], None], flushed: bool, foreign: Sequence[str], **named: Any) -> None:
        self.report, self.flushed, self.foreign = report, flushed, tuple(foreign)
        super().__init__(**named)

    def say(self, what: str) -> None:
        self.report(what)

    def _learn(self, choose: bool) -> None:
        self.learn_here(choose)
        self.found = self.reported()


def _reply(question: dict[str, Any], report: Callable[[Any], None]) -> dict[str, Any]:
    named = {key: question[key] for key in ("name", "target", "reset", "tempo", "bundle", "flushed", "foreign")}
    return _Examined(report, **named, sample_rate=question["rate"]).found


if __name__ == "__main__":
    isolation.answer(_reply)
