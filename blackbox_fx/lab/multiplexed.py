"""Multiplexed SPSA against SPSA at two renders: how much nearer the truth, on which clips and losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.effects import Effect, load
from blackbox_fx.effects.hosts.pedalboard import BUILTINS
from blackbox_fx.effects.hosts.vst3.effect import installed
from blackbox_fx.lab.case import make_case
from blackbox_fx.lab.chain import channel_strip
from blackbox_fx.lab.gradients import Study
from blackbox_fx.lab.methods import methods
from blackbox_fx.lab.sample import RESAMPLES, Interval, Method, Sample, geometric, interval
from blackbox_fx.space import Continuous

WINDOWS = {2048: (512, 1024, 2048), 8192: (512, 2048, 8192)}


SUBJECTS = ("channel strip", "ZamCompX2", "ZaMultiCompX2")


def subject(name: str) -> tuple[Effect, int]:
    """One of the effects compared, and its channels: a chain of built-ins, a compressor, or one of three bands.

    The bands of the last are switched on; they are off by default, which leaves only the gradient of one trim. All
    switches, and parameters that only display the gain reduction, are fixed.
    """
    if name == "channel strip":
        return channel_strip(), 1
    plugin = load(f"vst3:{name}")
    bands = {f"zamcomp_{k}_on": True for k in (1, 2, 3)} if name == "ZaMultiCompX2" else {}
    return _numbers(plugin.fix(bands)), 2


def every_subject() -> dict[str, tuple[Effect, int]]:
    """All effects of pedalboard and all installed zam plugins with two or more numbers to set, with their channels."""
    found: dict[str, tuple[Effect, int]] = {}
    plugins = [f"vst3:{path.stem}" for path in installed() if path.stem.startswith("Za")]
    for address in [*(f"pedalboard:{name}" for name in BUILTINS if name != "Convolution"), *plugins]:
        effect = _numbers(load(address))
        if effect.space.width > 1:
            found[address] = effect, getattr(effect, "channels", 1)
    return found


def _numbers(effect: Effect) -> Effect:
    space = effect.space
    free = [n for n in space.free if isinstance(space.parameters[n], Continuous) and "gain_reduction" not in n]
    return effect.only(*free)


@final
@dataclasses.dataclass(frozen=True)
class Ratio:
    """Squared error of multiplexed SPSA over that of SPSA, in one situation.

    Args:
        effect: name of the effect.
        width: its number of columns.
        seconds: length of a clip.
        window: the loss's longest, in samples.
        cases: number of conclusive cases, see `Truth.proves`.
        tried: number of all cases.
        plain: relative squared error of SPSA, geometric mean.
        multiplexed: relative squared error of multiplexed SPSA, geometric mean.
        ratio: geometric mean over cases, with a bootstrap interval over cases.
    """

    effect: str
    width: int
    seconds: float
    window: int
    cases: int
    tried: int
    plain: float
    multiplexed: float
    ratio: Interval

    def row(self) -> dict[str, Any]:
        """A row of a CSV file."""
        own = dataclasses.asdict(self) | dataclasses.asdict(self.ratio)
        return {name: value for name, value in own.items() if name != "ratio"}


@final
class Multiplexing:
    """Compares both in all situations; completed ratios survive an interruption.

    Args:
        effects: with their channels, by name; all `SUBJECTS` if not given.
        lengths: of clips, in seconds.
        windows: longest windows of the loss, keys of `WINDOWS`.
        cases: settings and songs for each situation.
        draws: of each estimator at each case.
        seed: of everything.

    Attributes:
        ratios: filled by `run`.
    """

    def __init__(
        self,
        effects: Mapping[str, tuple[Effect, int]] | None = None,
        lengths: Sequence[float] = (3.0, 10.0),
        windows: Sequence[int] = (2048, 8192),
        cases: int = 10,
        draws: int = 8,
        seed: int = 0,
    ) -> None:
        self.effects = dict(effects) if effects else {name: subject(name) for name in SUBJECTS}
        self.lengths, self.windows = tuple(lengths), tuple(windows)
        self.cases, self.draws, self.seed = cases, draws, seed
        self.ratios: list[Ratio] = []

    def run(self, progress: Progress = quiet) -> None:
        """Measures every situation."""
        situations = [(n, s, w) for n in self.effects for s in self.lengths for w in self.windows]
        pair: list[Method] = methods(["SPSA", "MultiplexedSPSA"], most=2)
        for done, (name, seconds, window) in enumerate(situations):
            effect, channels = self.effects[name]
            study = Study(pair, self.draws, self.seed)
            for k in range(self.cases):
                progress(
                    done * self.cases + k, len(situations) * self.cases, f"{name}, {seconds:g} s, windows to {window}"
                )
                study.run([make_case(effect, self.seed * 1000 + k, seconds, channels, WINDOWS[window])])
            self.ratios += self._ratio(study.samples, name, effect.space.width, seconds, window)
            progress((done + 1) * self.cases, len(situations) * self.cases, name)

    def _ratio(self, samples: Sequence[Sample], name: str, width: int, seconds: float, window: int) -> list[Ratio]:
        proving = [s for s in samples if s.truth.proves]
        plain, multiplexed = (
            np.array([s.errors.mean() for s in proving if s.method.line == line])
            for line in ("SPSA", "MultiplexedSPSA")
        )
        if not len(plain):
            return []
        logs, rng = np.log(multiplexed / plain), np.random.default_rng(self.seed)
        again = [float(np.exp(rng.choice(logs, len(logs)).mean())) for _ in range(RESAMPLES)]
        ratio = interval(float(np.exp(logs.mean())), again)
        return [
            Ratio(name, width, seconds, window, len(plain), self.cases, geometric(plain), geometric(multiplexed), ratio)
        ]
