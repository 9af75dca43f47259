"""Compares estimators with the true gradient: bias, variance, direction and error, per render and per second."""

from __future__ import annotations

import collections
import time
from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.errors import BlackBoxError
from blackbox_fx.lab.case import Case
from blackbox_fx.lab.counting import count
from blackbox_fx.lab.sample import Method, Sample, Summary, summarise
from blackbox_fx.lab.truth import KNOWN, Truth, true_gradient


@final
class Study:
    """Draws estimates from every method at every case; completed samples survive an interruption.

    Args:
        methods: that are compared.
        draws: estimates from each method at each case; deterministic methods make only two.
        seed: of everything random in the methods.

    Attributes:
        samples: filled by `run`.
        unsuited: the reason why a method does not suit a case, by its `line`.

    >>> from blackbox_fx.lab.case import load_effect, make_case
    >>> from blackbox_fx.lab.methods import methods
    >>> study = Study(methods(["FiniteDifference"]), draws=2)
    >>> study.run([make_case(load_effect("twin:gain_pan"), seconds=0.1, channels=2)])
    >>> study.summaries()[0].error.value < 1e-3
    True
    """

    def __init__(self, methods: Sequence[Method], draws: int = 16, seed: int = 0) -> None:
        self.methods = tuple(methods)
        self.draws, self.seed = draws, seed
        self.samples: list[Sample] = []
        self.unsuited: dict[str, str] = {}

    def run(self, cases: Sequence[Case], progress: Progress = quiet) -> None:
        """Measures all methods at all cases, in turn within every round of draws, so that seconds compare."""
        total = len(cases) * len(self.methods) * self.draws
        for k, case in enumerate(cases):
            progress(k * len(self.methods) * self.draws, total, f"truth at {case.name}")
            truth = true_gradient(case)
            running = [estimates for method in self.methods if (estimates := self._start(case, truth, method, k))]
            try:
                for draw in range(1, self.draws):  # the first one is drawn at the start
                    for m, estimates in enumerate(running):
                        estimates.draw()
                        done = (k * self.draws + draw) * len(self.methods) + m + 1
                        progress(done, total, f"{case.name}: {estimates.method.label}")
            finally:
                self.samples += [estimates.sample() for estimates in running if estimates.found]

    def _start(self, case: Case, truth: Truth, method: Method, k: int) -> _Estimates | None:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + k)
        try:
            return _Estimates(case, truth, method, generator)
        except BlackBoxError as error:
            self.unsuited[method.line] = str(error)
            return None

    def summaries(self) -> list[Summary]:
        """Every method over the cases that are conclusive (see `Truth.proves`), or over all if none is."""
        proving = [s for s in self.samples if s.truth.proves] or [s for s in self.samples if s.truth.norm > 0]
        by_label: dict[str, list[Sample]] = collections.defaultdict(list)
        for sample in proving:
            by_label[sample.method.label].append(sample)
        return [summarise(samples, self.seed) for samples in by_label.values()]

    def doubts(self) -> list[str]:
        """One sentence for every case that proves nothing, and for every method that was left out."""
        cases = {s.case.name: s.truth for s in self.samples if not s.truth.proves}
        found = []
        for name, truth in cases.items():
            column, share = truth.largest
            why = f"{column} holds {share:.1%} of the squared gradient"
            if truth.error >= KNOWN:
                why = f"its own truth is known to {truth.error:.0%} only"
            found.append(f"{name} proves nothing: {why if truth.norm else 'the gradient is zero'}.")
        return found + [f"{line} was left out: {reason}" for line, reason in self.unsuited.items()]


class _Estimates:
    """One method at one case, which gives estimates one by one."""

    def __init__(self, case: Case, truth: Truth, method: Method, generator: torch.Generator) -> None:
        self.case, self.truth, self.method = case, truth, method
        layer = method.make(case, generator)
        before = generator.get_state()
        self._tally = count(layer, case.audio.shape[-1])
        self._params = case.params[None].clone().requires_grad_()
        self._wet = layer(case.audio[None], self._params)
        self._seconds: list[float] = []
        self._renders: list[tuple[float, float]] = []
        self.found: list[NDArray[np.float64]] = []
        self.draw()
        self._certain = torch.equal(generator.get_state(), before)

    def draw(self) -> None:
        """One more estimate."""
        if len(self.found) > 1 and self._certain and np.array_equal(self.found[0], self.found[1]):
            return
        self._tally.renders.clear()
        began = time.perf_counter()
        (slope,) = torch.autograd.grad(self._wet, self._params, self.case.cotangent[None], retain_graph=True)
        self._seconds.append(time.perf_counter() - began)
        self._renders.append((self._tally.renders["params"], self._tally.renders["audio"]))
        self.found.append(slope[0].double().numpy())

    def sample(self) -> Sample:
        # a rule may examine an effect once, in the first backward pass; later gradients do not pay for that
        renders, audio_renders = np.mean(self._renders[1:] or self._renders, axis=0).tolist()
        once = max(0.0, sum(self._renders[0]) - renders - audio_renders)
        seconds = float(np.median(self._seconds))
        draws = np.stack(self.found)
        return Sample(self.case, self.truth, self.method, draws, renders, audio_renders, once, seconds)
