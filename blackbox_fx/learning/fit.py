"""Fits a net to an effect, which renders the next clips while the net learns."""

from __future__ import annotations

import _thread
import contextlib
import copy
import csv
import dataclasses
import io
import signal
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import nn

from blackbox_fx.core import files, system
from blackbox_fx.core.progress import Progress
from blackbox_fx.errors import BlackBoxError, DataError
from blackbox_fx.learning.loss import STFT
from blackbox_fx.learning.objectives import Feed, Objective
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.losses.error import esr
from blackbox_fx.proxy.clips import Batch
from blackbox_fx.proxy.nets import ProxyNet
from blackbox_fx.proxy.recipe import ProxyRecipe
from blackbox_fx.training import checkpoint
from blackbox_fx.training.schedule import learning_rate

BUDGET = "minutes", "steps"  # fields of a recipe that may be raised when a training goes on
_EVALUATIONS = 20  # over the whole training, at most
_EVALUATING = 0.1  # largest part of its time that evaluations take
_PATIENCE = 14  # evaluations without improvement after which training ends
_PERFECT = 2e-3  # error-to-signal ratio and weighted spectral distance with which nothing is left to learn
_WARM_UP = 20  # steps
_SAVE_S = 30.0
STALLED_S = 300.0  # that one step may take
_CLIP = 1.0  # largest norm of the gradient
_UNITS = 1000  # of progress
_ALARM: int | None = getattr(signal, "SIGALRM", None)  # Windows has none


@final
@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores of a net on held-out renders during its training.

    Args:
        step: of the training.
        seconds: of the training.
        esr: error-to-signal ratio, mean over items.
        stft: `MultiResolutionSTFT`, mean over items.
    """

    step: int
    seconds: float
    esr: float
    stft: float


@final
@dataclasses.dataclass(frozen=True)
class TrainingLog:
    """The course of a training in numbers.

    Args:
        steps: that were made.
        seconds: that they took.
        waited: part of the seconds that was spent waiting for renders.
        evaluations: on held-out renders.
        skipped: number of failed renders.
        unstable: number of steps that were skipped because their gradient was infinite.
        repeated: number of steps on renders that had been used before.
    """

    steps: int
    seconds: float
    waited: float
    evaluations: tuple[Evaluation, ...]
    skipped: int
    unstable: int
    repeated: int


@contextlib.contextmanager
def flushed() -> Iterator[None]:
    """Treats subnormal numbers as zero within the context: in fading tails, they slow a step down tenfold."""
    was = float(torch.tensor(1e-40) * 1) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was)


def _interrupt_main() -> None:
    """Raises KeyboardInterrupt in the main thread."""
    if _ALARM is None:
        _thread.interrupt_main()
    else:
        system.signals.pthread_kill(threading.main_thread().ident, _ALARM)


@final
class _Watch:
    """Interrupts the main thread if no step ends for too long; by an alarm, since background jobs ignore SIGINT.

    It does so again after as long, for an interrupt that falls into a finalizer is lost.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.rang = seconds, False
        self._last = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._handler: Any = None

    def __enter__(self) -> _Watch:
        if threading.current_thread() is threading.main_thread():
            if _ALARM is not None:
                self._handler = signal.signal(_ALARM, signal.default_int_handler)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.end()
        if _ALARM is not None and self._handler is not None:
            signal.signal(_ALARM, self._handler)

    def step(self) -> None:
        """A step has ended."""
        self._last, self.rang = time.monotonic(), False

    def end(self) -> None:
        """Interrupts no more."""
        self._done.set()

    def _run(self) -> None:
        while not self._done.wait(min(1.0, self.seconds / 4)):
            if time.monotonic() - self._last > self.seconds:
                self._last, self.rang = time.monotonic(), True
                _interrupt_main()


def fit(
    net: ProxyNet,
    objective: Objective[Any],
    held_out: Batch,
    recipe: ProxyRecipe,
    folder: Path,
    progress: Progress | None = None,
    stalled: float = STALLED_S,
) -> TrainingLog:
    """Trains a net until the recipe's time or steps are used up, or it no longer improves; leaves it at its best.

    An interrupted training resumes from the folder's checkpoint, which is written twice a minute.

    Args:
        net: at first with random weights.
        objective: batches with their loss.
        held_out: renders that decide which weights are best.
        recipe: settings.
        folder: for checkpoints and losses.csv.
        progress: called with parts of the budget used, all parts, and a few words.
        stalled: seconds that a step may take.

    Raises:
        DataError: a checkpoint of another recipe, or a damaged one.
        EffectError, WorkerDied, RenderTimeout: the effect failed.
        BlackBoxError: a step took too long.
    """
    run = _Run(net, objective, held_out, recipe, folder)
    # where the recipe counts steps, the same training gives the same weights
    feed = Feed(objective, run.step, repeats=objective.fresh and not recipe.steps)
    with flushed(), _Watch(stalled) as watch, feed:
        try:
            if not run.evaluations:
                run.evaluate()
            while run.used < 1 and not run.settled:
                run.learn(feed.get())
                watch.step()
                if progress:
                    progress(round(_UNITS * min(run.used, 1)), _UNITS, f"step {run.step}, loss {run.recent:.3f}")
        except KeyboardInterrupt:
            watch.end()
            run.save()
            if watch.rang:
                raise BlackBoxError(
                    f"A step of training took more than {stalled:g} s; run it again to go on from step {run.step}, on "
                    "a machine with less to do."
                ) from None
            raise
        run.waited += feed.waited
        run.repeated += feed.repeated
    run.evaluate()
    run.save()
    net.load_state_dict(run.best.state_dict())
    counts = objective.stream.skipped, run.unstable, run.repeated
    return TrainingLog(run.step, run.seconds, run.waited, tuple(run.evaluations), *counts)


@final
class _Run:
    """The state of a training."""

    def __init__(
        self, net: ProxyNet, objective: Objective[Any], held_out: Batch, recipe: ProxyRecipe, folder: Path
    ) -> None:
        self.net, self.best, self.objective = net, copy.deepcopy(net), objective
        self.recipe, self.folder, self.held_out = recipe, folder, held_out
        self.rate = recipe.sample_rate
        self.stft = MultiResolutionSTFT(overlap=2)
        self.optimizer = torch.optim.Adam(net.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.99))
        self.kept: dict[str, Any] = {"recipe": recipe.to_toml()}
        state = checkpoint.load(folder, self._module, self.optimizer) or {}
        if state and not _same(state["recipe"], recipe):
            raise DataError(f"{folder} holds a training by another recipe; train into another folder.")
        self.step: int = state.get("step", 0)
        self.losses: list[float] = state.get("losses", [])
        self.waited: float = state.get("waited", 0.0)
        self.unstable: int = state.get("unstable", 0)
        self.repeated: int = state.get("repeated", 0)
        self.evaluations = [Evaluation(**e) for e in state.get("evaluations", [])]
        self.evaluating: float = state.get("evaluating", 0.0)
        self.began = self.saved = time.monotonic()
        self.began -= state.get("seconds", 0.0)

    @property
    def _module(self) -> nn.Module:
        return nn.ModuleDict({"net": self.net, "best": self.best})

    @property
    def seconds(self) -> float:
        """Seconds since the training began, without interruptions."""
        return time.monotonic() - self.began

    @property
    def used(self) -> float:
        """The used fraction of the budget."""
        steps = self.step / self.recipe.steps if self.recipe.steps else 0.0
        return max(steps, self.seconds / (60 * self.recipe.minutes))

    @property
    def recent(self) -> float:
        """Mean loss of the last steps."""
        return float(np.mean(self.losses[-20:]))

    @property
    def settled(self) -> bool:
        """Whether nothing is left to learn, or the last evaluations have not improved on those before."""
        worth = [e.esr + STFT * e.stft for e in self.evaluations]
        if min(worth) < _PERFECT:
            return True
        return len(worth) > _PATIENCE and min(worth[-_PATIENCE:]) >= min(worth[:-_PATIENCE])

    def learn(self, batch: Any) -> None:
        """One step."""
        draw = np.random.default_rng([self.recipe.seed, self.step])
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe.learning_rate, self.step, self.used, _WARM_UP)
        loss = self.objective.loss(self.net, batch, draw)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), _CLIP)
        if torch.isfinite(norm):
            self.optimizer.step()
        else:
            self.unstable += 1
        self.losses.append(float(loss.detach()))
        self.step += 1
        if self._should_evaluate:
            self.evaluate()
        if time.monotonic() - self.saved > _SAVE_S:
            self.save()

    @property
    def _should_evaluate(self) -> bool:
        """Whether the next evaluation is due, and one more would take no more than its share of the time.

        Where the recipe counts steps, no time decides, so that the same training gives the same weights.
        """
        count = len(self.evaluations) - 1  # without that at the start
        if self.used * _EVALUATIONS < count + 1:
            return False
        each = self.evaluating / max(count, 1)
        return self.recipe.steps > 0 or self.evaluating + each <= _EVALUATING * self.seconds

    @torch.no_grad()
    def evaluate(self) -> None:
        """Scores the net on the held-out renders, and keeps its weights if they are the best so far."""
        began = time.monotonic()
        items = zip(self.held_out.audio.split(1), self.held_out.params.split(1), strict=True)
        wet = torch.cat([self.net(audio, params, self.rate) for audio, params in items])
        ratio = float(esr(wet, self.held_out.wet).mean())
        self.evaluations.append(Evaluation(self.step, self.seconds, ratio, float(self.stft(wet, self.held_out.wet))))
        worth = [e.esr + STFT * e.stft for e in self.evaluations]
        if worth[-1] <= min(worth):
            self.best.load_state_dict(self.net.state_dict())
        self.evaluating += time.monotonic() - began

    def save(self) -> None:
        """Writes a checkpoint."""
        done = {"step": self.step, "losses": self.losses, "seconds": self.seconds, "waited": self.waited}
        done |= {"unstable": self.unstable, "repeated": self.repeated, "evaluating": self.evaluating}
        done["evaluations"] = [dataclasses.asdict(e) for e in self.evaluations]
        checkpoint.save(self.folder, self._module, self.optimizer, done | self.kept)
        table = io.StringIO()
        csv.writer(table).writerows([("step", "loss"), *enumerate(self.losses, 1)])
        files.write_text(self.folder / "losses.csv", table.getvalue())
        table = io.StringIO()
        csv.writer(table).writerows(
            [[f.name for f in dataclasses.fields(Evaluation)], *map(dataclasses.astuple, self.evaluations)]
        )
        files.write_text(self.folder / "evaluations.csv", table.getvalue())
        self.saved = time.monotonic()


def _same(text: str, recipe: ProxyRecipe) -> bool:
    """Whether a recipe is that of a text, apart from its budget."""
    then, now = tomllib.loads(text), tomllib.loads(recipe.to_toml())
    return {k: v for k, v in then.items() if k not in BUDGET} == {k: v for k, v in now.items() if k not in BUDGET}
