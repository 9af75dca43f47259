"""Switches and choices found by gradients: a stage that may be off, and one of four filters, from a wrong start.

Sampling works: `expected_loss` with `ScoreFunction`, and an entropy bonus that keeps every option possible while the
frequency that all filters share still changes. It was run on 20 seeds that were not used for tuning, for 300 steps.
With 16 renders, which hold every combination twice, it recovered 19; with 8 random ones, 18.

Other ways recovered fewer of 20 in 100 steps. Moves judged by their inner product with the loss's gradient recovered 8,
since a swap of filters is no small change. Moves judged by the loss itself, one at a time, recovered 9, and
`ScoreFunction(8)` without the bonus 8, since at a wrong frequency another filter is nearest. The bonus helps little
when moves are judged one at a time: 3 of 12.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.audio import Audio
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.effects import Rack, function
from blackbox_fx.estimators import FiniteDifference, ScoreFunction
from blackbox_fx.lab.case import RATE, music, render
from blackbox_fx.lab.counting import count
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.layers.expectation import expected_loss
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.space import Choice, Continuous, Space, Toggle

KINDS = ("low-pass", "high-pass", "low shelf", "high shelf")
WINDOWS = (1024,)  # one is enough here, and every render is judged by it
SURE = 2.0  # the logit that a wrong start has
LEARNING_RATE = 0.1

Step = Callable[[BlackBox, Tensor, Tensor, Callable[[Tensor], Tensor]], Tensor]


def _drive(audio: Audio, sample_rate: float, on: bool, drive_db: float) -> Audio:
    import pedalboard

    return pedalboard.Distortion(drive_db).process(audio, sample_rate) if on else audio


def _filter(audio: Audio, sample_rate: float, kind: str, frequency_hz: float) -> Audio:
    import pedalboard

    made = {
        "low-pass": lambda: pedalboard.LowpassFilter(frequency_hz),
        "high-pass": lambda: pedalboard.HighpassFilter(frequency_hz),
        "low shelf": lambda: pedalboard.LowShelfFilter(frequency_hz, -12),
        "high shelf": lambda: pedalboard.HighShelfFilter(frequency_hz, -12),
    }
    return made[kind]().process(audio, sample_rate)


def switched_strip() -> Rack:
    """A distortion that may be off, and a filter of four kinds: seven columns, five of them for switches."""
    return Rack(
        {
            "drive": function(
                _drive, Space({"on": Toggle(True), "drive_db": Continuous(5, 30, 15, unit="dB")}), "drive"
            ),
            "filter": function(
                _filter,
                Space(
                    {"kind": Choice(KINDS, KINDS[0]), "frequency_hz": Continuous(200, 4000, 900, unit="Hz", log=True)}
                ),
                "filter",
            ),
        },
        name="switched strip",
    )


def head(rack: Rack, logits: Tensor) -> Tensor:
    """Maps logits (width,) to params (1, width): softmax for a choice, sigmoid for everything else."""
    parts = []
    for name, columns in rack.space.slices.items():
        own = logits[columns]
        parts.append(own.softmax(0) if isinstance(rack.space.parameters[name], Choice) else own.sigmoid())
    return torch.cat(parts)[None]


def entropy(rack: Rack, params: Tensor) -> Tensor:
    """The sum of the entropies of switches and choices in params (1, width), in nats."""
    total = params.new_zeros(())
    for name, columns in rack.space.slices.items():
        own, kind = params[0, columns], rack.space.parameters[name]
        if isinstance(kind, Toggle):
            own = torch.cat([own, 1 - own])
        if isinstance(kind, (Toggle, Choice)):
            total = total - torch.xlogy(own, own.clamp_min(1e-12)).sum()
    return total


def _slopes(layer: BlackBox, audio: Tensor, params: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    return loss(layer(audio, params))


def _judged(estimator: Callable[[torch.Generator], FiniteDifference | ScoreFunction]) -> Callable[..., Step]:
    def make(draw: torch.Generator) -> Step:
        own = estimator(draw)

        @torch.no_grad()
        def number(wet: Audio, loss: Callable[[Tensor], Tensor]) -> float:
            return float(loss(torch.from_numpy(wet)[None]))

        def step(layer: BlackBox, audio: Tensor, params: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
            return expected_loss(layer, audio, params, lambda wet: number(wet, loss), own)

        return step

    return make


@final
@dataclasses.dataclass(frozen=True)
class Way:
    """The loss of one step, and the initial weight of its entropy bonus.

    Args:
        step: from a generator, the loss of a step.
        entropy: initial weight of a bonus for undecided switches and choices; it decreases to zero during training.
    """

    step: Callable[[torch.Generator], Step]
    entropy: float = 0.0


_SCORED = _judged(lambda draw: ScoreFunction(16, generator=draw))
WAYS = {
    "<g, move>": Way(lambda draw: _slopes),
    "expected_loss, FiniteDifference()": Way(_judged(lambda draw: FiniteDifference())),
    "expected_loss, ScoreFunction(16)": Way(_SCORED),
    "expected_loss, ScoreFunction(16), entropy": Way(_SCORED, 1.0),
}


@final
@dataclasses.dataclass(frozen=True)
class Attempt:
    """One training from a wrong start.

    Args:
        way: see `WAYS`.
        seed: of the task.
        found: whether every switch and choice is the target's.
        start: loss before training.
        end: loss after training.
        renders: total of effect renders.
    """

    way: str
    seed: int
    found: bool
    start: float
    end: float
    renders: float


def attempt(way: str, seed: int, steps: int = 300, seconds: float = 0.6) -> Attempt:
    """Trains the logits of a `switched_strip` with Adam towards a random target, all switches wrong at first.

    Args:
        way: of `WAYS`.
        seed: of song, target, start and draws.
        steps: of training.
        seconds: length of a mono clip.
    """
    rack, audio = switched_strip(), music(seed, seconds)
    rng = np.random.default_rng(seed)
    space = rack.space
    goal = space.sample(1, rng)[0]
    for name, columns in space.slices.items():
        if isinstance(space.parameters[name], Continuous):
            goal[columns] = 0.2 + 0.6 * goal[columns]
    target = render(rack, audio, goal)[None]
    logits = torch.from_numpy(_wrong(rack, goal, rng)).float().requires_grad_()
    layer = BlackBox(rack, FiniteDifference(), sample_rate=RATE)
    tally, measure = count(layer, audio.shape[-1]), MultiResolutionSTFT(WINDOWS)
    optimizer = torch.optim.Adam([logits], lr=LEARNING_RATE)
    step, losses = WAYS[way].step(torch.Generator().manual_seed(seed)), list[float]()
    for k in range(steps):
        optimizer.zero_grad()
        params = head(rack, logits)
        loss = step(layer, audio[None], params, lambda wet: measure(wet, target))
        (loss - WAYS[way].entropy * (1 - k / steps) * entropy(rack, params)).backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    wanted, got = (space.decode(point) for point in (goal, head(rack, logits.detach())[0].double().numpy()))
    found = all(wanted[n] == got[n] for n in space.free if isinstance(space.parameters[n], (Toggle, Choice)))
    return Attempt(way, seed, found, losses[0], losses[-1], tally.total)


def _wrong(rack: Rack, goal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Logits that favour other switches and choices than the goal's, and are zero for everything else."""
    logits = np.zeros_like(goal)
    for name, columns in rack.space.slices.items():
        kind = rack.space.parameters[name]
        if isinstance(kind, Toggle):
            logits[columns] = SURE * (1 - 2 * goal[columns])
        elif isinstance(kind, Choice):
            others = np.flatnonzero(goal[columns] == 0)
            logits[columns.start + rng.choice(others)] = SURE
    return logits


@final
class Recovery:
    """Every way from every seed; completed attempts survive an interruption.

    Args:
        ways: of `WAYS`.
        seeds: number of targets and starts.
        steps: of each training.
        seed: the first one.

    Attributes:
        attempts: filled by `run`.
    """

    def __init__(self, ways: Sequence[str] = tuple(WAYS), seeds: int = 20, steps: int = 300, seed: int = 0) -> None:
        self.ways, self.seeds, self.steps, self.seed = tuple(ways), seeds, steps, seed
        self.attempts: list[Attempt] = []

    def run(self, progress: Progress = quiet) -> None:
        """Trains from every seed in every way."""
        for k in range(self.seeds):
            for way in self.ways:
                self.attempts.append(attempt(way, self.seed * 1000 + k, self.steps))
                progress(len(self.attempts), self.seeds * len(self.ways), way)
