"""What a net is taught, batch after batch, and how far it is from it."""

from __future__ import annotations

import abc
import queue
import threading
import time
from typing import Generic, NamedTuple, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.errors import EffectError
from blackbox_fx.proxy.nets import ProxyNet, Structured
from blackbox_fx.proxy.nets.stages import RESPONSE
from blackbox_fx.proxy.training.clips import Batch, ClipStream
from blackbox_fx.proxy.training.loss import Loss

_DEADLINE_S = 300.0  # for a batch
_PER_CLIP = 4  # responses are learnt in a step for each clip that would be
_SEEN = 8  # times, about, until there are _KEPT
_KEPT = 32768
_REFILLED = 64  # rounds of responses that are rendered first where a training goes on
_BINS = 400
_FROM_HZ, _TO = 20.0, 0.45  # of the spectrum that counts; of the sample rate
_SILENCE = 1e-4  # of magnitudes
_LEVEL = 0.5  # weight of the error-to-signal ratio beside that of the logarithm

_B = TypeVar("_B")


class Objective(abc.ABC, Generic[_B]):
    """Endless batches, each fixed by its number and those before, with a loss.

    Args:
        material: of the effect.
    """

    def __init__(self, material: ClipStream) -> None:
        self.material = material

    @abc.abstractmethod
    def batch(self, number: int) -> _B:
        """The batch of a number, 0 or more.

        Raises:
            EffectError, WorkerDied, RenderTimeout: the effect failed.
        """

    @abc.abstractmethod
    def loss(self, net: ProxyNet, batch: _B, draw: np.random.Generator) -> Tensor:
        """A scalar."""


@final
class ClipObjective(Objective[Batch]):
    """Clips of audio, and what the effect makes of them.

    Args:
        material: of the effect.
        slopes: see `Loss`.
    """

    def __init__(self, material: ClipStream, slopes: float = 0.0) -> None:
        super().__init__(material)
        self._loss = Loss(slopes)

    def batch(self, number: int) -> Batch:
        """Clips of the material."""
        return self.material.batch(number)

    def loss(self, net: ProxyNet, batch: Batch, draw: np.random.Generator) -> Tensor:
        """That of `Loss`."""
        return self._loss(net(batch.audio, batch.params, self.material.clips.sample_rate), batch, draw)


class Spectra(NamedTuple):
    """Frequency responses of an effect.

    Args:
        params: (batch, width) in [0, 1].
        response: (batch, bins), complex.
    """

    params: Tensor
    response: Tensor


@final
class ResponseObjective(Objective[Spectra]):
    """Impulse responses of a linear effect, which say all there is to know of it, for a net that is a filter.

    A step on many of them takes a fraction of one on few clips, so that each is seen several times: batches are drawn
    from all responses so far, to which new ones are added now and then. Every octave counts the same. A training that
    is taken up renders the last of them again, and goes on from there.

    Args:
        material: of the effect, whose settings are taken.
    """

    def __init__(self, material: ClipStream) -> None:
        super().__init__(material)
        rate = material.clips.sample_rate
        places = np.geomspace(_FROM_HZ / rate, _TO, _BINS) * RESPONSE
        self.bins = torch.from_numpy(np.unique(np.round(places).clip(1).astype(np.int64)))
        self._weight = 1 / self.bins
        self._size = _PER_CLIP * material.size
        self._rounds, self.count = -1, 0  # none rendered; responses kept
        most = _KEPT // self._size * self._size
        width = material.effect.space.width
        self._kept = Spectra(torch.empty(most, width), torch.empty(most, len(self.bins), dtype=torch.complex64))

    def batch(self, number: int) -> Spectra:
        """Some of the responses so far."""
        due = number // _SEEN + 1
        if self._rounds < 0:
            self._rounds = max(0, due - _REFILLED)
        while self._rounds < due and self.count + self._size <= len(self._kept.params):
            self._add(self.material.settings(self._size, np.random.default_rng([self.material.seed, self._rounds])))
            self._rounds += 1
        if not self.count:
            raise self.material.refusal(self._size)
        chosen = np.random.default_rng([self.material.seed, number, 1]).integers(self.count, size=self._size)
        return Spectra(*(part[chosen] for part in self._kept))

    def _add(self, rows: NDArray[np.float64]) -> None:
        response, sound = self.material.respond(rows, RESPONSE)
        if not sound.any():
            return
        new = slice(self.count, self.count + int(sound.sum()))
        self._kept.params[new] = torch.from_numpy(rows[sound]).float()
        self._kept.response[new] = torch.fft.rfft(torch.from_numpy(response[sound]))[:, self.bins]
        self.count = new.stop

    def loss(self, net: ProxyNet, batch: Spectra, draw: np.random.Generator) -> Tensor:
        """How far the logarithms of magnitudes are apart, and the error-to-signal ratio of pink noise."""
        assert isinstance(net, Structured)
        found, true = net.spectrum(batch.params, self.bins), batch.response
        apart = (torch.log(found.abs() + _SILENCE) - torch.log(true.abs() + _SILENCE)).abs().mean()
        error, power = (x.abs().square() @ self._weight for x in (found - true, true))
        return apart + _LEVEL * (error / power.clamp_min(1e-9)).mean()


@final
class Feed(Generic[_B]):
    """Batches of objective, rendered ahead in a thread of their own.

    Args:
        objective: what to render.
        first: number of the first batch.
        ahead: batches that wait, at most.

    Attributes:
        waited: seconds that were spent waiting for batches.
    """

    def __init__(self, objective: Objective[_B], first: int = 0, ahead: int = 3) -> None:
        self.waited = 0.0
        self._objective, self._next = objective, first
        self._queue: queue.Queue[_B | Exception] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Feed[_B]:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(_DEADLINE_S)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                item: _B | Exception = self._objective.batch(self._next)
            except Exception as error:  # handed to whoever waits for the batch
                item = error
            self._next += 1
            while not self._stop.is_set():
                try:
                    self._queue.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue

    def get(self) -> _B:
        """The next batch.

        Raises:
            EffectError, WorkerDied, RenderTimeout: it could not be rendered.
        """
        start = time.perf_counter()
        try:
            item = self._queue.get(timeout=_DEADLINE_S)
        except queue.Empty:
            raise EffectError(
                f"{self._objective.material.effect.name} rendered no batch of {self._objective.material.size} clips in "
                f"{_DEADLINE_S:g} s; use shorter clips, or smaller batches."
            ) from None
        finally:
            self.waited += time.perf_counter() - start
        if isinstance(item, Exception):
            raise item
        return item
