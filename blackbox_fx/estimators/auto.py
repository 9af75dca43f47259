"""Which estimator, for a given number of renders."""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.core import checks
from blackbox_fx.core.tables import align
from blackbox_fx.errors import AudioError
from blackbox_fx.estimators import comparison
from blackbox_fx.estimators.autodiff import Autodiff
from blackbox_fx.estimators.base import Estimator, Probing
from blackbox_fx.estimators.call import Call, Plan, require_surrogates
from blackbox_fx.estimators.comparison import Comparison, compare
from blackbox_fx.estimators.control_variate import ControlVariate
from blackbox_fx.estimators.decision import Candidate, Decision, decide
from blackbox_fx.estimators.finite_difference import FiniteDifference
from blackbox_fx.estimators.moves import most_moves, reaches
from blackbox_fx.estimators.multiplexed import MultiplexedSPSA
from blackbox_fx.estimators.spsa import SPSA
from blackbox_fx.estimators.stochastic import make_generator
from blackbox_fx.estimators.surrogates import surrogate_name
from blackbox_fx.space import Space

_log = logging.getLogger("blackbox_fx")
_SHARE = 0.05  # of the renders of a run, for checks
_NEED_SURROGATES = ("surrogate", "control variate")  # choices


@final
class Auto(Estimator):
    """Chooses between renders, a proxy of the effect and both together, by squared error at equal time.

    By renders: central differences where they fit into the number of renders; else one-sided ones where those fit; else
    `MultiplexedSPSA` where the clip is long enough for its blocks; else SPSA; both with as many pairs as fit.

    Where the effect has proxies, see `BlackBox`, each is a candidate by itself (`Autodiff`) and as a `ControlVariate`
    of SPSA. They are compared with the effect on up to 8 items of the batch, column by column, or along 4 random
    directions where there are more than 8 columns: this gives the squared error of a gradient without the gradient
    itself. Differences are measured there, too: where they depend on their step, as at kinks, a proxy may be nearer.
    Chosen is what has the least squared error; what takes longer than the renders pays for it in proportion. The
    comparison is made at the first backward pass, and again whenever it makes up less than 5 % of the renders of the
    run; earlier ones count by half each time.

    One line on the logger "blackbox_fx" says so whenever the choice changes; `BlackBox.explain` has the table.

    Args:
        renders: the most renders for each item of the batch.
        generator: draws for whichever is chosen, see `SPSA`; its state, what checks found and what was chosen are part
            of `state_dict`.
        choice: "renders", "surrogate" or "control variate" fixes the choice; "error" goes by measured errors alone, so
            that it follows from the seed and the data, and a resumed run is the same run; None goes by error and time.

    Attributes:
        chosen: the estimator that the last call used; None before the first.
        reason: why.
        decision: what was measured and chosen; None before the first comparison, and for effects without proxies.

    Raises:
        ParameterError: renders below 3, with which a pair and one on/off parameter cannot be had; a fixed choice that
            needs a surrogate, for an effect without.
    """

    wants_surrogates = True

    def __init__(
        self,
        renders: int = 4,
        generator: torch.Generator | None = None,
        choice: Literal["renders", "surrogate", "control variate", "error"] | None = None,
    ) -> None:
        super().__init__()
        self.renders = checks.whole("renders", renders, 3)
        self.fixed = checks.one_of("choice", choice, (None, "renders", "surrogate", "control variate", "error"))
        self.generator = make_generator(generator)
        # kept here as a module, so that what it measures is part of the state; the others remember nothing
        self.multiplexed = MultiplexedSPSA(generator=self.generator)
        self._shown: list[Estimator] = []  # no submodule: the keys of a state may not depend on the effect
        self._corrected: dict[str, ControlVariate] = {}
        self._calls = 0
        self._measured: Comparison | None = None
        self.decision: Decision | None = None
        self._used = ""  # the name of what the last call used
        self.reason = "nothing was rendered yet"

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.multiplexed.generator = self.generator

    @property
    def chosen(self) -> Estimator | None:
        """The estimator that the last call used; None before the first."""
        return self._shown[0] if self._shown else None

    @property
    def pulls(self) -> bool:
        """Whether the last comparison has chosen a proxy, alone or as a control variate."""
        return self.decision is not None and self.decision.best.kind != "renders"

    @property
    def in_use(self) -> str:
        """The estimator or the proxy that the last call used."""
        if self.chosen is not None:
            return self._used
        return type(self).__name__ if self.decision is None else self.decision.best.name

    def explain(self) -> str:
        """The table of what was compared; see `Decision.rows`."""
        if self.decision is None:
            return "nothing was rendered yet" if self.chosen is None else f"{self.in_use}, since {self.reason}"
        best = self.decision.best
        here = best.kind == "renders" or self.in_use == best.name
        gone = "" if here else f", since {best.name} is not among the surrogates of this layer"
        return f"{self.in_use}{gone}, compared on {self.decision.items} items\n{align(self.decision.rows())}"

    def vjp(self, call: Call, cotangent: Tensor) -> Tensor:
        """The gradient with respect to params; see `Estimator.vjp`."""
        if self.fixed in _NEED_SURROGATES:
            require_surrogates(call, self.fixed)
        if self._is_due(call):
            self._compare(call, cotangent)
        self._calls += 1
        estimator, reason = self._choose(call)
        try:
            grad = estimator.vjp(call, cotangent)
        except AudioError as error:
            if isinstance(estimator, Probing) or self.fixed in _NEED_SURROGATES:
                raise
            _log.warning("%s: %s Renders alone are used for this call.", call.effect.name, error)
            estimator, reason = self._by_renders(call)
            grad = estimator.vjp(call, cotangent)
        self._show(call, estimator, reason)
        return grad

    def ahead(self, call: Call) -> Plan | None:
        """That of the estimator it chooses; None where a comparison is due."""
        if self._is_due(call):
            return None
        estimator, reason = self._choose(call)
        plan = estimator.ahead(call)
        if plan is not None:
            self._calls += 1
            self._show(call, estimator, reason)
        return plan

    def _show(self, call: Call, estimator: Estimator, reason: str) -> None:
        if reason != self.reason:
            _log.info("%s: %s, since %s", call.effect.name, _brief(estimator), reason)
        best = None if self.decision is None else self.decision.best
        by_proxy = best is not None and best.kind != "renders" and isinstance(estimator, (Autodiff, ControlVariate))
        self._used = best.name if best is not None and by_proxy else estimator.in_use
        self._shown, self.reason = [estimator], reason

    def _is_due(self, call: Call) -> bool:
        """Whether surrogates should be compared now: depends on the number of calls only, so that runs agree."""
        if not call.surrogates or self.fixed == "renders" or not call.params.shape[1]:
            return False
        every = max(1, round((comparison.cost(call.effect.space) + self.renders) / (_SHARE * self.renders)))
        return self._measured is None or self._is_lost(call) or self._calls % every == 0

    def _is_lost(self, call: Call) -> bool:
        """Whether the proxy that was chosen is not among those of the call, as where a run goes on elsewhere."""
        return self.pulls and not self._by_decision(call)

    def _compare(self, call: Call, cotangent: Tensor) -> None:
        base, _ = self._by_renders(call)
        measured = base if isinstance(base, FiniteDifference) else None
        found = compare(call, cotangent, call.surrogates, self.generator, measured)
        if found is None:
            return
        self._measured = found.blended(self._measured)
        candidates = self._candidates(call, self._measured)
        allowed = [one for one in candidates if self.fixed in (None, "error", one.kind)]
        budget = self.renders * self._measured.render
        self.decision = decide(allowed, budget, self._measured.items, timed=self.fixed != "error")

    def _candidates(self, call: Call, found: Comparison) -> list[Candidate]:
        space, power = call.effect.space, found.fine + found.coarse
        base, _ = self._by_renders(call)
        spsa = self._spsa(self._pairs(space))
        fine, coarse = _spsa_errors(spsa, space)
        spread = (fine * found.fine + coarse * found.coarse) / power
        error = found.base_off / power if isinstance(base, FiniteDifference) else spread
        if base is self.multiplexed and self.multiplexed.error is not None:
            error = min(error, self.multiplexed.error)
        cost = base.cost(space)
        listed = [_candidate(type(base).__name__, "renders", error, cost, cost * found.render)]
        for k, surrogate in enumerate(call.surrogates):
            name, seconds = surrogate_name(surrogate), float(found.seconds[k])
            off = float(found.fine_off[k] + found.coarse_off[k]) / power
            size = float(found.size[k])
            cosine = float(found.product[k]) / np.sqrt(power * size) if 0 < size < np.inf else 0.0
            doubt = float(found.doubt[k])
            listed.append(Candidate(name, "surrogate", off, doubt, cosine, 0, seconds))
            left = float(fine * found.fine_off[k] + coarse * found.coarse) / power
            cost = spsa.cost(space)
            time = cost * found.render + seconds * (1 + cost / 3)
            corrected = _candidate(f"ControlVariate(SPSA, {name})", "control variate", left, cost, time)
            listed.append(dataclasses.replace(corrected, doubt=doubt * fine))
        return listed

    def _choose(self, call: Call) -> tuple[Estimator, str]:
        found = self._by_decision(call)
        return found if found is not None else self._by_renders(call)

    def _by_decision(self, call: Call) -> tuple[Estimator, str] | None:
        """What the last comparison chose, where it is no estimate by renders alone."""
        if self.decision is None or self.decision.best.kind == "renders":
            return None
        best = self.decision.best
        for surrogate in call.surrogates:
            name = surrogate_name(surrogate)
            why = f"its squared error is {best.error:.2g} of the gradient's, measured on {self.decision.items} items"
            if best.kind == "surrogate" and best.name == name:
                return Autodiff(surrogate), why
            if best.kind == "control variate" and best.name == f"ControlVariate(SPSA, {name})":
                kept = self._corrected.get(name)
                if kept is None or kept.surrogate is not surrogate:
                    spsa = self._spsa(self._pairs(call.effect.space))
                    kept = self._corrected[name] = ControlVariate(spsa, surrogate)
                return kept, why
        return None

    def _by_renders(self, call: Call) -> tuple[Estimator, str]:
        space = call.effect.space
        central, one_sided = self._differences()
        for estimator, kind in ((central, "central"), (one_sided, "one-sided")):
            if estimator.cost(space) <= self.renders:
                return estimator, f"{kind} differences take {estimator.cost(space)} of {self.renders} renders"
        why = f"one-sided differences would take {one_sided.cost(space)} renders instead of {self.renders}"
        self.multiplexed.pairs = self._pairs(space)
        if self.multiplexed.fits(call):
            return self.multiplexed, f"{why} and the clip is long enough for blocks"
        return self._spsa(self._pairs(space)), f"{why} and the clip is too short for blocks"

    def _differences(self) -> tuple[FiniteDifference, FiniteDifference]:
        return FiniteDifference(), FiniteDifference(central=False)

    def _spsa(self, pairs: int) -> SPSA:
        return SPSA(pairs, generator=self.generator)

    def _pairs(self, space: Space) -> int:
        return max(n for n in range(1, self.renders // 2 + 1) if self._spsa(n).cost(space) <= self.renders)

    def cost(self, space: Space) -> int:
        """That of the estimator that fits into the number of renders."""
        fitting = [e.cost(space) for e in self._differences() if e.cost(space) <= self.renders]
        return fitting[0] if fitting else self._spsa(self._pairs(space)).cost(space)

    def get_extra_state(self) -> Tensor:
        """What was measured and chosen, as the bytes of a JSON text: part of `state_dict`."""
        plain = {
            "calls": self._calls,
            "decision": None if self.decision is None else self.decision.to_plain(),
            "measured": None if self._measured is None else self._measured.to_plain(),
        }
        return torch.frombuffer(bytearray(json.dumps(plain).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Restores what `get_extra_state` gave."""
        plain = json.loads(bytes(state.cpu().tolist()))
        self._calls = int(plain["calls"])
        self.decision = None if plain["decision"] is None else Decision.from_plain(plain["decision"])
        self._measured = None if plain["measured"] is None else Comparison.from_plain(plain["measured"])
        if self.decision is not None and self.fixed not in (None, "error", self.decision.best.kind):
            self.decision = self._measured = None  # the state of an `Auto` with another choice

    def extra_repr(self) -> str:
        """The number of renders, what was chosen last and why."""
        return f"renders={self.renders}, chosen={type(self.chosen).__name__ if self._shown else None} ({self.reason})"


def _brief(estimator: Estimator) -> str:
    return f"{type(estimator).__name__}({estimator.extra_repr()})"


def _candidate(
    name: str, kind: Literal["renders", "control variate"], error: float, cost: int, time: float
) -> Candidate:
    return Candidate(name, kind, error, cosine=1 / float(np.sqrt(1 + error)), renders=cost, seconds=time)


def _spsa_errors(spsa: SPSA, space: Space) -> tuple[float, float]:
    """Expected squared errors of SPSA over the squared gradient, of the columns that move together and the others."""
    reach = reaches(space, spsa.step)
    moves = most_moves(space, reach)
    return spsa.error(max(1, int(np.count_nonzero(reach)))), max(0.0, moves / spsa.pairs - 1)
