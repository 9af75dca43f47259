"""Training objectives of proxies: endless batches from an effect, each with a loss."""

from __future__ import annotations

import abc
import collections
import queue
import threading
import time
from typing import Generic, NamedTuple, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.errors import EffectError
from blackbox_fx.learning.loss import Loss
from blackbox_fx.proxy.clips import Batch, ClipStream
from blackbox_fx.proxy.nets import ProxyNet, Structured
from blackbox_fx.proxy.nets.stages import RESPONSE

_DEADLINE_S = 300.0  # for a batch
_FEWEST, _REMEMBERED = 4, 64  # batches among which one is given again
_WAITING = 0.15  # of a step's time, for a new batch
_PER_CLIP = 4  # responses in a batch, for each clip of the stream's batches
_SEEN = 8  # steps for each round of new responses, until there are _KEPT
_KEPT = 32768
_REFILLED = 64  # rounds of responses that a resumed training renders first
_BINS = 400
_FROM_HZ, _TO = 20.0, 0.45  # of the spectrum that counts; of the sample rate
_SILENCE = 1e-4  # of magnitudes
_LEVEL = 0.5  # weight of the error-to-signal ratio beside that of the logarithm

_B = TypeVar("_B")


class Objective(abc.ABC, Generic[_B]):
    """Endless batches with a loss; each batch depends only on its number and on those before it.

    Args:
        stream: clips of the effect.

    Attributes:
        fresh: whether every batch is rendered anew.
    """

    fresh = True

    def __init__(self, stream: ClipStream) -> None:
        self.stream = stream

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
    """Clips of audio with the effect's output.

    Args:
        stream: clips of the effect.
        slopes: see `Loss`.
    """

    def __init__(self, stream: ClipStream, slopes: float = 0.0) -> None:
        super().__init__(stream)
        self._loss = Loss(slopes)

    def batch(self, number: int) -> Batch:
        """A batch of the stream."""
        return self.stream.batch(number)

    def loss(self, net: ProxyNet, batch: Batch, draw: np.random.Generator) -> Tensor:
        """The value of `Loss`."""
        return self._loss(net(batch.audio, batch.params, self.stream.clips.sample_rate), batch, draw)


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
    """Impulse responses of a linear effect, which describe it completely, for a net that is a filter.

    A step on many responses takes a fraction of the time of a step on few clips, so each response is used several
    times: batches are drawn from all responses so far, and new ones are added now and then. Every octave has the same
    weight. A resumed training first renders the last responses again.

    Args:
        stream: of the effect; gives the settings.
    """

    fresh = False

    def __init__(self, stream: ClipStream) -> None:
        super().__init__(stream)
        rate = stream.clips.sample_rate
        places = np.geomspace(_FROM_HZ / rate, _TO, _BINS) * RESPONSE
        self.bins = torch.from_numpy(np.unique(np.round(places).clip(1).astype(np.int64)))
        self._weight = 1 / self.bins
        self._size = _PER_CLIP * stream.size
        self._rounds, self.count = -1, 0  # none rendered; responses kept
        most = _KEPT // self._size * self._size
        width = stream.effect.space.width
        self._kept = Spectra(torch.empty(most, width), torch.empty(most, len(self.bins), dtype=torch.complex64))

    def batch(self, number: int) -> Spectra:
        """A random choice of the responses so far."""
        due = number // _SEEN + 1
        if self._rounds < 0:
            self._rounds = max(0, due - _REFILLED)
        while self._rounds < due and self.count + self._size <= len(self._kept.params):
            self._add(self.stream.settings(self._size, np.random.default_rng([self.stream.seed, self._rounds])))
            self._rounds += 1
        if not self.count:
            raise self.stream.refusal(self._size)
        chosen = np.random.default_rng([self.stream.seed, number, 1]).integers(self.count, size=self._size)
        return Spectra(*(part[chosen] for part in self._kept))

    def _add(self, points: NDArray[np.float64]) -> None:
        response, ok = self.stream.respond(points, RESPONSE)
        if not ok.any():
            return
        new = slice(self.count, self.count + int(ok.sum()))
        self._kept.params[new] = torch.from_numpy(points[ok]).float()
        self._kept.response[new] = torch.fft.rfft(torch.from_numpy(response[ok]))[:, self.bins]
        self.count = new.stop

    def loss(self, net: ProxyNet, batch: Spectra, draw: np.random.Generator) -> Tensor:
        """The mean distance of logarithmic magnitudes, and the error-to-signal ratio for pink noise."""
        assert isinstance(net, Structured)
        found, true = net.spectrum(batch.params, self.bins), batch.response
        distance = (torch.log(found.abs() + _SILENCE) - torch.log(true.abs() + _SILENCE)).abs().mean()
        error, power = (x.abs().square() @ self._weight for x in (found - true, true))
        return distance + _LEVEL * (error / power.clamp_min(1e-9)).mean()


@final
class Feed(Generic[_B]):
    """Batches of an objective, rendered ahead in a thread of their own.

    Args:
        objective: what to render.
        first: number of the first batch.
        ahead: most batches that are rendered ahead.
        repeats: whether an earlier batch is given again, rather than to wait long for an effect that renders slowly.

    Attributes:
        waited: seconds that were spent waiting for batches.
        repeated: batches that were given again.
    """

    def __init__(self, objective: Objective[_B], first: int = 0, ahead: int = 3, repeats: bool = False) -> None:
        self.waited, self.repeated = 0.0, 0
        self._objective, self._next, self._repeats = objective, first, repeats
        self._kept: collections.deque[_B] = collections.deque(maxlen=_REMEMBERED)
        self._given = time.perf_counter()
        self._draw = np.random.default_rng([objective.stream.seed, first, 4])
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
            except Exception as error:  # raised by `get`
                item = error
            self._next += 1
            while not self._stop.is_set():
                try:
                    self._queue.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue

    def get(self) -> _B:
        """The next batch, or an earlier one.

        Raises:
            EffectError, WorkerDied, RenderTimeout: it could not be rendered.
        """
        start = time.perf_counter()
        enough = len(self._kept) >= _FEWEST
        try:
            item = self._queue.get(timeout=_WAITING * (start - self._given) if enough else _DEADLINE_S)
        except queue.Empty:
            if enough:
                return self._again()
            raise EffectError(
                f"{self._objective.stream.effect.name} rendered no batch of {self._objective.stream.size} clips in "
                f"{_DEADLINE_S:g} s; use shorter clips, or smaller batches."
            ) from None
        finally:
            self._given = time.perf_counter()
            self.waited += self._given - start
        if isinstance(item, Exception):
            raise item
        if self._repeats:
            self._kept.append(item)
        return item

    def _again(self) -> _B:
        self.repeated += 1
        return self._kept[int(self._draw.integers(len(self._kept)))]
