"""VST3 plugins that are told a tempo, hosted by dawdreamer; pedalboard tells them none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import final

from blackbox_fx import isolation
from blackbox_fx.core import cache, files
from blackbox_fx.effects.hosts.dawdreamer import examine
from blackbox_fx.effects.hosts.dawdreamer.plugin import Plugin
from blackbox_fx.effects.hosts.vst3.bench import HOST_PARAMETERS
from blackbox_fx.errors import EffectError
from blackbox_fx.space import Space

_RATE = 44_100
_FORMAT = 1
_DEADLINE = 30.0  # seconds that pedalboard may be silent
_LATENCIES = "blackbox_fx.effects.hosts.vst3.latencies"


@final
class TempoVST3(Plugin):
    """A VST3 plugin at a tempo, with ranges and channels as in `Plugin`. Side chains get silence.

    Settings reach the plugin only while it processes, so each render first lets silence through. It renders on the main
    thread only.

    Args:
        path: of its file or folder.
        parameters: a TOML file that says otherwise of parameters, see `load`.
        tempo: in beats per minute, see `load`.
        latency_samples: see `load`.

    Raises:
        ParameterError: a tempo that is not allowed.
        EffectError: not a plugin, one that crashes or hangs, no audio through it, a latency that its settings change
            without latency_samples, or a render in another thread.
        MissingHost: dawdreamer is not installed.
    """

    flushed = True
    anywhere = False  # its graph, made in another thread, waits for the main one
    foreign = HOST_PARAMETERS

    def __init__(
        self,
        path: Path,
        parameters: str | os.PathLike[str] | None,
        tempo: float,
        latency_samples: int | None = None,
    ) -> None:
        super().__init__(f"vst3:{path.name}", str(path), None, _RATE, parameters, tempo, latency_samples)

    def _learn(self, choose: bool) -> None:
        self.learn_isolated(choose)
        self.space = Space({name: self.ranges[name] for name in self.ranges if name not in self.excluded})
        if self.latency_samples is None and len(told := self._latencies()) > 1:
            raise EffectError(
                f"{self.name} changes its latency with its settings ({', '.join(map(str, told))} samples), which the "
                "host that tells a tempo does not follow; leave out tempo=, or give latency_samples= and hold what "
                "changes it."
            )

    def _latencies(self) -> list[int]:
        """All that were seen, in samples and in order, as pedalboard is told them; dawdreamer is not."""
        key = {"format": _FORMAT, "files": files.digest(Path(self.target)), "space": self.space.to_json()}
        known = cache.load("vst3-latencies", key)
        if known is None:
            rows = [self.raws(settings, _RATE) for settings in [self.space.defaults, *examine.delaying(self.space)]]
            question = {"path": self.target, "channels": self.channels, "rows": rows}
            try:
                known = isolation.call(_LATENCIES, question, _DEADLINE)
            except (isolation.Failed, isolation.Refused):  # then pedalboard does not take it, and nothing is known
                known = []
            cache.save("vst3-latencies", key, known)
        return known

    def version(self) -> bytes:
        """The plugin's own files and its host."""
        return super().version() + files.digest(Path(self.target)).encode()
