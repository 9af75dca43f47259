"""Compares ways to train with a proxy and without, at the same number of renders; the real effect gives the loss."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.effects import Effect
from blackbox_fx.estimators import SPSA, Call, ControlVariate, FiniteDifference, Identity
from blackbox_fx.estimators.autodiff import surrogate_vjp
from blackbox_fx.lab.case import RATE, draw_settings
from blackbox_fx.lab.counting import count, effects_in
from blackbox_fx.lab.sample import Interval, geometric, interval
from blackbox_fx.lab.tasks import Examples, Task
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.layers.hybrid import Hybrid
from blackbox_fx.learning.refresh import Refresh
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.losses.error import esr
from blackbox_fx.proxy.model import Proxy

Make = Callable[[Effect, Proxy, torch.Generator], nn.Module]

_EVALUATIONS = 8
_RESAMPLES = 1000


def _refreshed(effect: Effect, proxy: Proxy, draw: torch.Generator) -> nn.Module:
    own = copy.deepcopy(proxy)
    return Hybrid(effect, own, refresh=Refresh(own, batch=4))


def _estimated(make: Callable[[Proxy, torch.Generator], SPSA | ControlVariate]) -> Make:
    return lambda effect, proxy, draw: BlackBox(
        effect, make(proxy, draw), audio_rule=Identity(), sample_rate=proxy.sample_rate
    )


WAYS: dict[str, Make] = {
    "plain proxy": lambda effect, proxy, draw: Hybrid(effect, proxy, "plain"),
    "half": lambda effect, proxy, draw: Hybrid(effect, proxy, "half"),
    "full": lambda effect, proxy, draw: Hybrid(effect, proxy, "full"),
    "full, refreshed": _refreshed,
    "control variate": _estimated(lambda proxy, draw: ControlVariate(SPSA(generator=draw), proxy)),
    "SPSA": _estimated(lambda proxy, draw: SPSA(generator=draw)),
}


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Attempt:
    """One way at one task.

    Args:
        way: see `WAYS`.
        task: that was attempted.
        steps: of the optimiser.
        renders: made for training, forward and backward.
        seconds: spent on training, without evaluations.
        places: renders made before each evaluation, (evaluations,). For ways that make none, those that "full" makes.
        losses: of the real effect at the settings found by then, over that at the start, (evaluations,).
        delivered: the last of the losses; for "plain proxy", the loss of the proxy's own output.
        visited: error-to-signal ratio and gradient cosine of the proxy where the learner ended, on unseen clips, before
            and after this training; see `Proxies.visit`. Empty unless the proxy was refreshed.
    """

    way: str
    task: Task
    steps: int
    renders: float
    seconds: float
    places: NDArray[np.float64]
    losses: NDArray[np.float64]
    delivered: float
    visited: tuple[float, ...] = ()


@final
class Proxies:
    """Runs every way on every task, with the same number of renders; completed attempts survive an interruption.

    The loss is `MultiResolutionSTFT` to the output at the hidden settings. In training, each step takes one random
    resolution.

    Plain and half train alike, through the proxy alone, and make no renders; they get as many steps as full. They
    therefore find the same settings, and differ only in what they deliver: the proxy's output, or the effect's.

    Args:
        proxy: of the effect.
        renders: for each training, including the backward pass. Renders for evaluations are not counted.
        seed: of all draws.

    Attributes:
        attempts: filled by `run`.
    """

    def __init__(self, proxy: Proxy, renders: int = 90, seed: int = 0) -> None:
        self.proxy, self.renders, self.seed = proxy, renders, seed
        self.attempts: list[Attempt] = []
        self._distance = MultiResolutionSTFT()

    def run(self, tasks: Sequence[Task], progress: Progress = quiet) -> None:
        """Runs all ways on all tasks."""
        for k, task in enumerate(tasks):
            for j, way in enumerate(WAYS):
                progress(k * len(WAYS) + j, len(tasks) * len(WAYS), f"{task.name}: {way}")
                if way == "half":  # trains as the one before
                    last = self.attempts[-1]
                    self.attempts.append(dataclasses.replace(last, way=way, delivered=float(last.losses[-1])))
                else:
                    self.attempts.append(self.attempt(way, task, self.seed * 1000 + k))

    def loss(self, wet: Tensor, target: Tensor, scale: int | None = None) -> Tensor:
        """The distance of an output to its target."""
        pairs = zip(wet.split(1), target.split(1), strict=True)
        return torch.stack([self._distance(w, t, scale) for w, t in pairs]).mean()

    @torch.no_grad()
    def judge(self, layer: nn.Module, learner: nn.Module, by: Examples) -> float:
        """The loss of the real effect at what a learner chooses, on clips that it did not see."""
        return float(self.loss(layer(by.audio, learner(by.features)), by.target))

    def attempt(self, way: str, task: Task, seed: int) -> Attempt:
        """One way at one task."""
        layer = WAYS[way](task.effect, self.proxy, torch.Generator().manual_seed(seed))
        real = BlackBox(task.effect, sample_rate=RATE)
        tally, learner = count(layer, task.train.audio.shape[-1]), task.learner(seed)
        optimizer = torch.optim.Adam(learner.parameters(), task.learning_rate)
        rng, began, judging = np.random.default_rng(seed), time.perf_counter(), 0.0
        used, step, dearest = 0.0, 0, 0.0
        points = [(0.0, self.judge(real, learner, task.unseen))]
        while used + dearest <= self.renders:
            pick = rng.choice(len(task.train.audio), task.batch, replace=False)
            wet = layer(task.train.audio[pick], learner(task.train.features[pick]))
            loss = self.loss(wet, task.train.target[pick], int(rng.integers(len(self._distance.windows))))
            optimizer.zero_grad()
            loss.backward()
            optimizer.param_groups[0]["lr"] = task.learning_rate * 0.5 * (1 + math.cos(math.pi * used / self.renders))
            optimizer.step()
            if isinstance(layer, Hybrid) and layer.refresh is not None:
                layer.refresh.step()
            step += 1
            now = tally.total or step * task.batch * effects_in(task.effect)
            used, dearest = now, max(dearest, now - used)
            if used >= len(points) * self.renders / _EVALUATIONS or used + dearest > self.renders:
                paused = time.perf_counter()
                points.append((used, self.judge(real, learner, task.unseen)))
                judging += time.perf_counter() - paused
        seconds = time.perf_counter() - began - judging
        places, losses = np.array(points).T
        own = self.judge(layer, learner, task.unseen) if way == "plain proxy" else points[-1][1]
        made = tally.total
        visited = ()
        if isinstance(layer, Hybrid) and layer.refresh is not None:
            visited = self.visit(task, learner, (self.proxy, layer.proxy), seed)
        return Attempt(way, task, step, made, seconds, places, losses / losses[0], own / float(losses[0]), visited)

    def visit(self, task: Task, learner: nn.Module, proxies: Sequence[Proxy], seed: int) -> tuple[float, ...]:
        """How good proxies are on unseen clips at the settings that a learner chooses.

        Returns:
            the median error-to-signal ratio of each, then the mean cosine of the parameter gradient of each to central
            differences of the effect, for the loss to other settings.
        """
        audio, effect, real = task.unseen.audio, task.effect, BlackBox(task.effect, sample_rate=RATE)
        with torch.no_grad():
            params = learner(task.unseen.features)
            others = torch.from_numpy(draw_settings(effect, len(audio), seed + 1)).float()
            wet, target = real(audio, params), real(audio, others)
            ratios = [float(esr(proxy(audio, params, RATE), wet).median()) for proxy in proxies]
        at = wet.clone().requires_grad_()
        (g,) = torch.autograd.grad(len(at) * self.loss(at, target), at)
        call = Call(effect, real.pool, RATE, audio, params, wet)
        true = FiniteDifference(0.02).vjp(call, g)
        found = [cosine_similarity(surrogate_vjp(proxy, call, g), true.double()) for proxy in proxies]
        return (*ratios, *(float(cosines.mean()) for cosines in found))

    def of(self, way: str) -> list[Attempt]:
        """The attempts of a way, by task."""
        return [a for a in self.attempts if a.way == way]

    def ends(self, way: str) -> NDArray[np.float64]:
        """Loss of the real effect at the end over that at the start, (tasks,)."""
        return np.array([a.losses[-1] for a in self.of(way)])

    def against(self, way: str, other: str) -> Interval:
        """Geometric mean of the loss of a way over that of another at the same tasks; bootstrap over tasks."""
        pairs = list(zip(self.ends(way), self.ends(other), strict=False))
        ratios = np.array([a / max(b, 1e-12) for a, b in pairs])
        rng = np.random.default_rng(self.seed)
        again = [geometric(rng.choice(ratios, len(ratios))) for _ in range(_RESAMPLES)]
        return interval(geometric(ratios), again)
