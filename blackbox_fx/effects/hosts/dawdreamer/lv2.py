"""LV2 plugins, hosted by dawdreamer."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import final

from blackbox_fx import isolation
from blackbox_fx.effects.hosts.dawdreamer.bundles import bundles
from blackbox_fx.effects.hosts.dawdreamer.plugin import Plugin, bare, folders
from blackbox_fx.effects.hosts.host import Entry, Host
from blackbox_fx.effects.request import Settings
from blackbox_fx.errors import EffectError, MissingHost, did_you_mean

_STANDING = "blackbox_fx.effects.hosts.dawdreamer.standing"
_DEADLINE = 60.0  # seconds that a plugin may be silent while it is asked for its settings


def search_path() -> list[Path]:
    """The folders where LV2 bundles are installed on this system, in order."""
    if sys.platform == "darwin":
        usual = ("~/Library/Audio/Plug-Ins/LV2", "/Library/Audio/Plug-Ins/LV2", "~/.lv2", "/usr/local/lib/lv2")
        return folders("LV2_PATH", *usual)
    return folders("LV2_PATH", "~/.lv2", "/usr/local/lib/lv2", "/usr/lib/lv2", "/usr/lib/x86_64-linux-gnu/lv2")


@final
class LV2(Plugin):
    """An LV2 plugin by its URI, with ranges and channels as in `Plugin`.

    Args:
        uri: such as "urn:dragonfly:plate"; `lv2ls` lists them.
        reset, sample_rate, parameters, tempo, latency_samples: as for `VST2`.

    Raises:
        EffectError: not a URI, no such plugin, one that crashes or hangs, or no audio through it.
        MissingHost: dawdreamer is not installed.
    """

    def __init__(
        self,
        uri: str,
        reset: str | None = None,
        sample_rate: float = 44100,
        parameters: str | os.PathLike[str] | None = None,
        tempo: float | None = None,
        latency_samples: int | None = None,
    ) -> None:
        if not re.match(r"[A-Za-z][\w+.-]*:\S+$", uri):
            raise EffectError(f"{uri!r} is no URI of an LV2 plugin; write one such as lv2:urn:dragonfly:plate.")
        bundle = str(bundles(search_path()).get(uri, ""))
        super().__init__(f"lv2:{uri}", uri, reset, sample_rate, parameters, tempo, latency_samples, bundle)

    def _learn(self, choose: bool) -> None:
        try:
            self.learn_isolated(choose)
        except MissingHost:
            raise
        except EffectError as error:
            if self.bundle:
                raise
            known = bundles(search_path())
            question, where = did_you_mean(self.target, known), ", ".join(map(str, search_path()))
            raise EffectError(
                f"No LV2 plugin {self.target}{question} is installed in {where}; `blackbox-fx effects` lists them."
            ) from error

    def port_values(self, settings: Settings, sample_rate: float) -> dict[str, float]:
        """What the control ports stand at, by symbol, for other hosts; found in a process of its own.

        Args:
            settings: of all parameters.
            sample_rate: in Hz.

        Raises:
            EffectError: the plugin crashes, hangs or tells nothing.
        """
        question = {"name": self.name, "target": self.target, "bundle": self.bundle, "rate": sample_rate}
        question["raws"] = list(self.raws(settings, sample_rate).items())
        try:
            return isolation.call(_STANDING, question, _DEADLINE)
        except (isolation.Failed, isolation.Refused) as error:
            raise EffectError(f"{self.name} does not tell its settings (it {error.args[-1]}); check it.") from error

    def version(self) -> bytes:
        """The manifest and the libraries of the bundle, and the host."""
        folder = Path(self.bundle)
        files = [folder / "manifest.ttl", *sorted(folder.glob("*.so"))] if self.bundle else []
        return super().version() + b"".join(path.read_bytes() for path in files)


def _entries() -> list[Entry]:
    found = sorted(bundles(search_path()).items())
    return [Entry(f"lv2:{uri}", (bundle / "manifest.ttl", *sorted(bundle.glob("*.so")))) for uri, bundle in found]


HOST = Host(
    name="lv2",
    effect=LV2,
    example="lv2:urn:dragonfly:plate",
    package="dawdreamer",
    extra="dawdreamer",
    debian=("dragonfly-reverb-lv2", "mda-lv2"),
    installed=_entries,
    bare=bare,
)
