"""Held-out clips and settings, on which the output and the gradients of proxies are scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.estimators import Call, FiniteDifference
from blackbox_fx.estimators.autodiff import surrogate_gradient
from blackbox_fx.estimators.surrogates import Differentiable
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.proxy.clips import Batch, ClipStream

_ACTIVE = 0.02  # of the median length of known gradients; below, the effect does nothing at that setting
_STEPS = (0.02, 0.005, 0.00125)  # of the central differences, on the [0, 1] axis
# least cosine and ratio of lengths of the gradients at neighbouring steps; at a kink the cosine is less, at a jump a
# quarter of the step gives four times the length, and in either case there is no single gradient
_KNOWN, _AS_LONG = 0.9, 0.5


def best_gain(audio: Tensor, target: Tensor) -> Tensor:
    """Audio with the gain for every item that brings it nearest to the target: an oracle."""
    product, power = ((a * audio).sum(dim=(1, 2), keepdim=True) for a in (target, audio))
    return audio * product / power.clamp_min(1e-9)


@final
@dataclasses.dataclass(frozen=True, eq=False)
class HeldOutSet:
    """Held-out renders, with the true gradients there.

    Args:
        stream: of the effect.
        batch: clips, settings and renders.
        cotangents: of the loss to the effect at another setting, at the real output, (batch, 1, time).
        gradients: of that loss with respect to params, by central differences of the effect, (batch, width).
        known: whether a larger and a smaller step give about the same gradient, (batch,); false at kinks and jumps.
    """

    stream: ClipStream
    batch: Batch
    cotangents: Tensor
    gradients: NDArray[np.float64]
    known: NDArray[np.bool_]

    @property
    def active(self) -> NDArray[np.bool_]:
        """Items at which the effect does something, and its gradient is known: (batch,)."""
        return self._moving & self.known

    @property
    def unknown(self) -> int:
        """Number of items where the effect does something, but its central differences depend on their step."""
        return int((self._moving & ~self.active).sum())

    @property
    def _moving(self) -> NDArray[np.bool_]:
        lengths = np.linalg.norm(self.gradients, axis=1)
        usual = np.median(lengths[self.known] if self.known.any() else lengths)  # jumps seem steep
        return lengths > _ACTIVE * max(float(usual), 1e-12)

    def call(self) -> Call:
        """The forward pass of all items."""
        stream = self.stream
        return Call(stream.effect, stream.pool, stream.clips.sample_rate, *self.batch)

    def proxy_gradients(self, proxy: Differentiable) -> NDArray[np.float64]:
        """The proxy's parameter gradients from the real output; (active items, width)."""
        call, found = self.call(), []
        for k in np.flatnonzero(self.active):
            item = Call(call.effect, call.pool, call.sample_rate, *(part[k : k + 1] for part in self.batch))
            found.append(surrogate_gradient(proxy, item, self.cotangents[k : k + 1])[0].double().numpy())
        return np.array(found).reshape(-1, self.gradients.shape[1])

    def cosines(self, proxy: Differentiable) -> NDArray[np.float64]:
        """Of the proxy's parameter gradient to the true one, at the real output; (active items,)."""
        found, true = self.proxy_gradients(proxy), self.gradients[self.active]
        return _cosines(found, true)

    @torch.no_grad()
    def output(self, proxy: Differentiable) -> Tensor:
        """The proxy's outputs."""
        rate = self.stream.clips.sample_rate
        parts = zip(self.batch.audio.split(1), self.batch.params.split(1), strict=True)
        return torch.cat([proxy(audio, params, rate) for audio, params in parts])


def make_held_out(stream: ClipStream, loss: Callable[[Tensor, Tensor], Tensor] | None = None) -> HeldOutSet:
    """Renders the first clips of a stream at two settings each, and computes the true gradients of their distance.

    Args:
        stream: of the effect.
        loss: of (1, 1, time) and a target, the output at the second setting; `MultiResolutionSTFT` if not given.
    """
    batch = stream.batch(0)
    rng = np.random.default_rng([stream.seed, 1])
    others = torch.from_numpy(stream.settings(len(batch.audio), rng)).float()
    call = Call(stream.effect, stream.pool, stream.clips.sample_rate, batch.audio, others, batch.audio)
    targets = torch.from_numpy(call.respond(batch.audio.numpy(), np.arange(len(others))))
    wet = batch.wet.clone().requires_grad_()
    loss = loss or MultiResolutionSTFT()
    torch.stack([loss(w[None], t[None]) for w, t in zip(wet, targets, strict=True)]).sum().backward()
    assert wet.grad is not None
    here = Call(stream.effect, stream.pool, stream.clips.sample_rate, *batch)
    coarse, gradients, fine = (FiniteDifference(step).vjp(here, wet.grad).double().numpy() for step in _STEPS)
    known = _agree(gradients, coarse) & _agree(gradients, fine)
    return HeldOutSet(stream, batch, wet.grad, gradients, known)


def _agree(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    shorter, longer = np.sort([np.linalg.norm(x, axis=1) for x in (a, b)], axis=0)
    return (_cosines(a, b) >= _KNOWN) & (shorter >= _AS_LONG * longer)


def _cosines(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return (a * b).sum(axis=1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-30)
