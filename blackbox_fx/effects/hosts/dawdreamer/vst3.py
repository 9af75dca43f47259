"""VST3 plugins that are told a tempo, hosted by dawdreamer; pedalboard tells them none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import final

from blackbox_fx.core import files
from blackbox_fx.effects.hosts.dawdreamer.plugin import Plugin
from blackbox_fx.effects.hosts.vst3.bench import HOST_PARAMETERS


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
        EffectError: not a plugin, one that crashes or hangs, no audio through it, or a render in another thread.
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
        super().__init__(f"vst3:{path.name}", str(path), None, 44_100, parameters, tempo, latency_samples)

    def _learn(self, choose: bool) -> None:
        self.learn_isolated(choose)

    def version(self) -> bytes:
        """The plugin's own files and its host."""
        return super().version() + files.digest(Path(self.target)).encode()
