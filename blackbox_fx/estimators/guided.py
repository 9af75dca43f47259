"""Guided evolution strategies."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.core import checks
from blackbox_fx.errors import ParameterError
from blackbox_fx.estimators.autodiff import check_surrogate, surrogate_vjp
from blackbox_fx.estimators.call import Call, Plan, Rows, carry_out
from blackbox_fx.estimators.moves import around, check_step, coarse_moves, most_moves, plan, reaches
from blackbox_fx.estimators.spsa import draw
from blackbox_fx.estimators.stochastic import Stochastic
from blackbox_fx.estimators.surrogates import Differentiable
from blackbox_fx.space import Space


@final
class GuidedES(Stochastic):
    """Gaussian probes, mostly within the subspace where the gradient is expected: recent estimates, or a surrogate's.

    Each pair of renders moves all n columns by +-step * e, where e has the covariance C = (1 - share) I / n + share U
    U^T / k, for an orthonormal basis U of the k directions, scaled so that its largest eigenvalue is 1. The estimate is
    the mean of e (<g, y+> - <g, y->) / (2 step), where g is the cotangent, and so it is biased: **its mean is C times
    the gradient**. The part of the gradient within the subspace is unchanged; the part outside shrinks by the factor (1
    - share) k / ((1 - share) k + share n), so the mean is still a descent direction. Its variance for column j is (C_jj
    g^T C g + (C g)_j^2) / pairs, which sums to near 3 |g|^2 for a gradient within one guide, instead of (n + 1) |g|^2.
    (Without the bias, by division, the variance would exceed that of isotropic probes.) With no guide yet, C is I:
    unbiased and isotropic.

    The directions are this layer's last `history` estimates, averaged over the batch, or the gradient of `guide` at
    each item. Near a bound both ends move inside together, so nothing is clipped. On/off parameters, choices and large
    steps move one at a time, as in `SPSA`, and without bias.

    Args:
        pairs: pairs of renders for each item of the batch.
        step: standard deviation of a column's move for an isotropic probe, on the [0, 1] axis.
        guide: a differentiable surrogate of the effect, `guide(audio, params, sample_rate)` as for `Autodiff`.
        history: number of estimates to remember if there is no guide.
        share: fraction of the probes' energy in the subspace, in [0, 1).
        generator: draws the probes, see `SPSA`; its state and the history are part of `state_dict`.

    Attributes:
        past: the estimates that are remembered, (width,) each, the oldest first.

    Raises:
        ParameterError: pairs or history below 1, a step outside (0, 0.5], a share outside [0, 1), a guide that cannot
            be called.

    References:
        "Guided evolutionary strategies: augmenting random search with surrogate gradients" (Maheswaranathan et al.,
        2019).
    """

    def __init__(
        self,
        pairs: int = 1,
        step: float = 0.02,
        guide: Differentiable | None = None,
        history: int = 8,
        share: float = 0.5,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(generator)
        self.pairs = checks.whole("pairs", pairs)
        self.step = check_step(step)
        self.history = checks.whole("history", history)
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
            raise ParameterError(f"share must lie in [0, 1), got {share!r}.")
        self.share = float(share)
        if guide is not None:
            check_surrogate("guide", guide)
        self.guide = guide
        self.past: list[NDArray[np.float64]] = []

    def plan(self, call: Call) -> Plan:
        """Pairs along random directions guided by the history, and the coarse moves that are drawn."""
        past = np.array([v for v in self.past if len(v) == call.effect.space.width])
        return self._plan(call, [past] * len(call.params))

    def ahead(self, call: Call) -> Plan | None:
        """None: the directions come from the cotangent, or the estimate is remembered for the next ones."""
        return None

    def vjp(self, call: Call, cotangent: Tensor) -> Tensor:
        """The gradient with respect to params, times the probes' covariance; see the class."""
        if self.guide is not None:
            toward = surrogate_vjp(self.guide, call, cotangent).numpy()
            return carry_out(self._plan(call, list(toward[:, None])), call, cotangent)
        grad = carry_out(self.plan(call), call, cotangent)
        mean = grad.mean(dim=0).numpy()
        if mean.any():
            self.past = [*(v for v in self.past if len(v) == len(mean)), mean][-self.history :]
        return grad

    def covariance(self, directions: Rows, reach: NDArray[np.float64]) -> NDArray[np.float64]:
        """C, (width, width), for directions (k, width); zero for columns whose reach is zero."""
        fine = reach > 0
        n = int(fine.sum())
        guides = directions.reshape(len(directions), len(reach)) * fine
        _, sizes, basis = np.linalg.svd(guides, full_matrices=False)
        basis = basis[sizes > 1e-9 * max(sizes.max(initial=0), 1e-300)].astype(np.float64)
        k = len(basis)
        if not n or not k or not self.share:
            return np.diag(fine.astype(np.float64))
        isotropic, guided = (1 - self.share) / n, self.share / k
        return (isotropic * np.diag(fine.astype(np.float64)) + guided * basis.T @ basis) / (isotropic + guided)

    def _plan(self, call: Call, directions: list[Rows]) -> Plan:
        space, points = call.effect.space, call.points
        batch, width = points.shape
        reach = reaches(space, self.step)
        pairs = self.pairs if reach.any() else 0
        generator = self.draws()
        probes = torch.randn(batch, pairs, width, generator=generator, dtype=torch.float64).numpy()
        for item, own in enumerate(directions):
            probes[item] = probes[item] @ _root(self.covariance(own, reach))
        start = np.repeat(points[:, None], pairs, axis=1)
        plus, minus = (
            np.where(reach > 0, end, start).reshape(batch * pairs, width) for end in around(start, probes * reach)
        )
        items = np.repeat(np.arange(batch), pairs)
        moves = [draw(coarse_moves(space, point, reach), self.pairs, generator) for point in points]

        def slopes(scores: NDArray[np.float64], here: NDArray[np.float64]) -> Rows:
            if not pairs:
                return np.zeros((batch, width))
            up, down = scores.reshape(2, batch, pairs)
            total = np.einsum("bp,bpw->bw", up - down, probes) / (2 * pairs)
            return np.divide(total, reach, out=np.zeros_like(total), where=reach > 0)

        return plan(np.concatenate([plus, minus]), np.tile(items, 2), moves, slopes)

    def cost(self, space: Space) -> int:
        """As `SPSA`: two for each pair, and up to one more for each where parameters are coarse."""
        reach = reaches(space, self.step)
        return 2 * self.pairs * bool(reach.any()) + min(self.pairs, most_moves(space, reach))

    def memory(self) -> NDArray[np.float64]:
        """The past estimates, and how many there are."""
        past = np.array(self.past)
        return np.array([len(past), *past.ravel()], np.float64)

    def recall(self, memory: NDArray[np.float64]) -> None:
        """Restores the past estimates."""
        count = int(memory[0])
        self.past = list(memory[1:].reshape(count, -1).copy()) if count else []

    def extra_repr(self) -> str:
        """Pairs, step, share and what guides."""
        by = "a surrogate" if self.guide is not None else f"history={self.history}"
        return f"pairs={self.pairs}, step={self.step:g}, share={self.share:g}, {by}"


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
