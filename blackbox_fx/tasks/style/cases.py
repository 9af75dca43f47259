"""The chains that a style network learns through where gradients are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, final

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.dsp import TWINS
from blackbox_fx.effects import Effect, load
from blackbox_fx.learning.prepare import prepare
from blackbox_fx.proxy.find import find_proxies
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.proxy.store import load_proxy

RATE = 44100


@final
@dataclasses.dataclass(frozen=True)
class Case:
    """A chain that is learnt through.

    Args:
        effects: by label.
        proxies: of some of them, by label.
        twins: of all of them, by label, where gradients are to be exact.
    """

    effects: Mapping[str, Effect]
    proxies: Mapping[str, Proxy] = dataclasses.field(default_factory=dict)
    twins: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def prepared(self, progress: Progress = quiet) -> Case:
        """The same chain, with a proxy of each effect that can be learnt.

        An effect without one is prepared, see `prepare`: once, for about four minutes.
        """
        found = {
            label: _prepared(effect, progress) for label, effect in self.effects.items() if label not in self.proxies
        }
        return dataclasses.replace(self, proxies=dict(self.proxies) | {k: v for k, v in found.items() if v is not None})


def _prepared(effect: Effect, progress: Progress) -> Proxy | None:
    if not find_proxies(effect, RATE):
        prepare(effect, sample_rate=RATE, progress=progress)
    return next(
        (found.proxy for found in find_proxies(effect, RATE) if found.columns == found.proxy.space.columns), None
    )


def _of_twins() -> Case:
    twins = {"eq": TWINS["parametric_eq"], "comp": TWINS["compressor"]}
    return Case({name: twin.effect() for name, twin in twins.items()}, twins=twins)


def _of_proxies(**names: str) -> Case:
    proxies = {label: load_proxy(name) for label, name in names.items()}
    return Case({label: proxy.effect() for label, proxy in proxies.items()}, proxies)


def _with_choices() -> Case:
    comp = load_proxy("zam-comp-x2")
    ladder = load("pedalboard:LadderFilter").only("mode", "cutoff_hz", "drive")
    return Case({"ladder": ladder, "comp": comp.effect()})


CASES: dict[str, Callable[[], Case]] = {
    "twins": _of_twins,
    "EQ, ZamCompX2": lambda: _of_proxies(eq="pedalboard-eq", comp="zam-comp-x2"),
    "three plugins": lambda: _of_proxies(eq="zam-eq2", comp="zam-comp-x2", reverb="freeverb3"),
    "a choice": _with_choices,
}
