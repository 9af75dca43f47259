"""How a style network learns by different gradients: same network, pairs, steps and seeds."""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import nn

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data import compose
from blackbox_fx.effects import Rack
from blackbox_fx.errors import ParameterError, did_you_mean
from blackbox_fx.estimators import (
    SPSA,
    ControlVariate,
    FiniteDifference,
    Identity,
    MultiplexedSPSA,
    ScoreFunction,
    Surrogate,
)
from blackbox_fx.lab.published import PublishedSPSA
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.layers.chain import Chain
from blackbox_fx.layers.hybrid import Hybrid
from blackbox_fx.learning.refresh import Refresh
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.report.learning import Curve
from blackbox_fx.runtime import Pool
from blackbox_fx.tasks.style.cases import CASES, RATE, Case
from blackbox_fx.tasks.style.imperfect import IMPERFECT
from blackbox_fx.tasks.style.network import StyleNet
from blackbox_fx.tasks.style.pairs import draw_pairs
from blackbox_fx.tasks.style.rules import by_nearest, by_rule
from blackbox_fx.tasks.style.training import WINDOWS, StyleRecipe, chosen_by, judge, mean_distance, train_step
from blackbox_fx.training import checkpoint

_SONGS, _UNSEEN, _ASIDE, _SONG_S = 60, 12, 6, 12.0
_TUNED_BY = 1000  # seed of the trainings that choose learning rates
_POINTS, _BETWEEN = 8, 1000  # of a curve at least, and steps between them at most


class How(NamedTuple):
    """What a method makes a layer of.

    Args:
        case: the chain.
        pool: where effects render.
        draw: of random estimators.
    """

    case: Case
    pool: Pool
    draw: torch.Generator

    def chain(self, *given: Any, **rules: Any) -> nn.Module:
        """Effect by effect."""
        return Chain(dict(self.case.effects), *given, pool=self.pool, sample_rate=RATE, **rules)

    def whole(self, estimator: Any) -> nn.Module:
        """All effects as one."""
        rack = Rack(self.case.effects)
        return BlackBox(rack, estimator, audio_rule=Identity(), pool=self.pool, sample_rate=RATE)

    def hybrid(self, mode: Any, *, refreshed: bool = False, made: str = "") -> nn.Module:
        """Each effect with its proxy, or with what is made of it."""
        members = {}
        for label, effect in self.case.effects.items():
            good = self._proxy(label)
            proxy = copy.deepcopy(IMPERFECT[made](effect, good) if made else good)
            refresh = Refresh(proxy) if refreshed else None
            members[label] = Hybrid(effect, proxy, mode, pool=self.pool, refresh=refresh)
        return Chain(members)

    def corrected(self) -> nn.Module:
        """Each effect with its proxy, whose gradients of settings are corrected by renders."""
        members = {}
        for label, effect in self.case.effects.items():
            proxy = self._proxy(label)
            estimator = ControlVariate(SPSA(generator=self.draw), proxy)
            members[label] = BlackBox(effect, estimator, audio_rule=Surrogate(proxy), pool=self.pool, sample_rate=RATE)
        return Chain(members)

    def twins(self) -> nn.Module:
        """The twins themselves."""
        if not self.case.twins:
            raise ParameterError("There are no twins of this chain; leave autodiff out.")
        return Chain(dict(self.case.twins), sample_rate=RATE)

    def _proxy(self, label: str) -> Proxy:
        if label not in self.case.proxies:
            raise ParameterError(f"There is no proxy of {label}; leave methods with proxies out.")
        return self.case.proxies[label]


AUTODIFF, DEFAULT, PUBLISHED = "autodiff", "default", "SPSA as published"
METHODS: dict[str, Callable[[How], nn.Module]] = {
    AUTODIFF: How.twins,
    DEFAULT: How.chain,
    PUBLISHED: lambda how: how.whole(PublishedSPSA(how.draw)),
    "SPSA, whole chain": lambda how: how.whole(SPSA(generator=how.draw)),
    "multiplexed SPSA, whole chain": lambda how: how.whole(MultiplexedSPSA(1, window=8192, generator=how.draw)),
    "score function, whole chain": lambda how: how.whole(ScoreFunction(4, generator=how.draw)),
    "SPSA": lambda how: how.chain(SPSA(generator=how.draw)),
    "one-sided differences": lambda how: how.chain(FiniteDifference(central=False)),
    "proxy alone": lambda how: how.hybrid("plain"),
    "half hybrid": lambda how: how.hybrid("half"),
    "full hybrid": lambda how: how.hybrid("full"),
    "refreshed hybrid": lambda how: how.hybrid("full", refreshed=True),
    "control variate": How.corrected,
}
for _made in IMPERFECT:
    METHODS |= {
        f"half hybrid, {_made}": functools.partial(How.hybrid, mode="half", made=_made),
        f"full hybrid, {_made}": functools.partial(How.hybrid, mode="full", made=_made),
        f"refreshed hybrid, {_made}": functools.partial(How.hybrid, mode="full", refreshed=True, made=_made),
    }
_WITH_PROXIES = ("proxy alone", "control variate", *(name for name in METHODS if "hybrid" in name))


def fitting(case: Case) -> list[str]:
    """The methods that a case allows: autodiff needs twins, hybrids need proxies of all effects."""
    missing = set() if case.twins else {AUTODIFF}
    missing |= set() if case.proxies.keys() == case.effects.keys() else set(_WITH_PROXIES)
    return [name for name in METHODS if name not in missing]


def check_names(cases: Sequence[str], methods: Sequence[str]) -> None:
    """Raises ParameterError for an unknown case or method."""
    for names, known, what in ((cases, CASES, "case"), (methods, METHODS, "method")):
        for name in names:
            if name not in known:
                raise ParameterError(
                    f"Unknown {what} {name!r}{did_you_mean(name, known)}; known are {', '.join(known)}."
                )


@final
class Examples:
    """The pairs of a case, drawn once for all its trainings.

    Args:
        name: of the case.
        case: its chain.
        recipe: of the pairs.
        pool: where effects render.
        progress: called while songs are composed and pairs drawn.
    """

    def __init__(self, name: str, case: Case, recipe: StyleRecipe, pool: Pool, progress: Progress = quiet) -> None:
        self.name, self.pool, self.case = name, pool, case
        rack = Rack(case.effects)
        draw = functools.partial(
            draw_pairs, chain=rack, seconds=recipe.seconds, channels=recipe.channels, pool=pool, progress=progress
        )
        songs = _songs(progress)
        self.train = draw(songs[:_SONGS], count=recipe.pairs, seed=11)
        self.unseen = draw(songs[_SONGS : _SONGS + _UNSEEN], count=recipe.unseen, seed=7, keep_references=True)
        self.aside = draw(songs[_SONGS + _UNSEEN :], count=recipe.aside, seed=8)
        twins = case.twins  # which render many at a time
        self.layer = (
            Chain(twins, sample_rate=RATE) if twins else BlackBox(rack, pool=pool, sample_rate=RATE, surrogates=())
        )

    def references(self) -> list[Curve]:
        """The loss without learning: untouched, at the middle, by a rule, at the nearest settings of the training."""
        middle = torch.full((1, self.train.params.shape[1]), 0.5)
        unseen = self.unseen
        found = {
            "untouched": mean_distance(unseen.dry, unseen.target),
            "middle": judge(lambda pairs: middle.expand(len(pairs), -1), self.layer, unseen),
            "rule": mean_distance(by_rule(unseen, RATE), unseen.target),
            "nearest of 1000 settings": judge(by_nearest(self.train), self.layer, unseen),
        }
        return [Curve(name, 0, (0,), (0.0,), (loss,), case=self.name) for name, loss in found.items()]

    def learn(self, method: str, recipe: StyleRecipe, progress: Progress = quiet, folder: Path | None = None) -> Curve:
        """One training.

        Args:
            method: a name in `METHODS`.
            recipe: of the training.
            progress: called after each step.
            folder: where a checkpoint is kept at each point of the curve, and from which an interrupted training goes
                on; refreshed hybrids begin anew. None for no checkpoints.
        """
        draw = torch.Generator().manual_seed(recipe.seed)
        layer: Any = METHODS[method](How(self.case, self.pool, draw))
        torch.manual_seed(recipe.seed)
        network = StyleNet({label: effect.space.width for label, effect in self.case.effects.items()}, recipe.channels)
        optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
        distance = MultiResolutionSTFT(WINDOWS)
        refreshes = [m.refresh for m in layer.modules() if isinstance(m, Hybrid) and m.refresh is not None]
        model, folder = nn.ModuleDict({"network": network, "layer": layer}), None if refreshes else folder
        state = checkpoint.load(folder, model, optimizer) if folder else None
        if state is None:
            state = {"step": 0, "points": [(0, 0.0, *self._judge(network))], "seconds": 0.0, "renders": 0}
            state |= {"recipe": dataclasses.asdict(recipe), "losses": []}
        every = max(1, min(recipe.steps // _POINTS, _BETWEEN))
        for step in range(state["step"], recipe.steps):
            began, before = time.monotonic(), _renders(self.pool)
            train_step(network, layer, self.train, recipe, optimizer, distance, step)
            for refresh in refreshes:
                refresh.step()
            state["seconds"] += time.monotonic() - began
            state["renders"] += _renders(self.pool) - before
            if (step + 1) % every == 0 or step + 1 == recipe.steps:
                state["points"].append((step + 1, state["seconds"], *self._judge(network)))
                state["step"] = step + 1
                if folder:
                    checkpoint.save(folder, model, optimizer, state)
            last = state["points"][-1][2]
            progress(step + 1, recipe.steps, f"{self.name}: {method}, seed {recipe.seed}, unseen {last:.3f}")
        steps, seconds, losses, aside = map(tuple, zip(*state["points"], strict=True))
        rate, renders = recipe.learning_rate, state["renders"]
        return Curve(method, recipe.seed, steps, seconds, losses, self.name, rate, renders, aside)

    def _judge(self, network: StyleNet) -> tuple[float, float]:
        """The loss on unseen songs, and on those set aside."""
        choose = chosen_by(network)
        return judge(choose, self.layer, self.unseen), judge(choose, self.layer, self.aside)


def _renders(pool: Pool) -> int:
    return pool.counters.renders


@functools.cache
def _songs_of(count: int) -> list[Any]:
    return [compose(1000 + k, _SONG_S, RATE) for k in range(count)]


def _songs(progress: Progress) -> list[Any]:
    progress(0, 1, "composing songs")
    return _songs_of(_SONGS + _UNSEEN + _ASIDE)


def compare_learning(
    case: str,
    methods: Sequence[str],
    recipe: StyleRecipe,
    seeds: int,
    rates: Sequence[float],
    done: Sequence[Curve],
    pool: Pool,
    progress: Progress = quiet,
    folder: Path | None = None,
) -> Iterator[Curve]:
    """Trains by each method, and gives each new curve; effects without a proxy are prepared where that matters.

    Args:
        case: a name in `CASES`.
        methods: names in `METHODS`; those that the case does not allow are left out.
        recipe: of all trainings.
        seeds: trainings of each.
        rates: learning rates. Where there are several, each method is first trained at each, with a seed of its own,
            and goes on with the one that ended lowest.
        done: curves of earlier calls, which are not made again.
        pool: where effects render.
        progress: called after each step.
        folder: for checkpoints, so that an interrupted training goes on; None for none.
    """
    check_names([case], methods)
    known = [c for c in done if c.case == case and c.steps[-1] in (0, recipe.steps)]
    chain, new = CASES[case](), all(c.steps[-1] for c in known)
    left = [m for m in methods if _todo(known, m, seeds, rates)]
    if {DEFAULT, *_WITH_PROXIES} & {*left}:
        chain = chain.prepared(progress)
    wanted = [m for m in left if m in fitting(chain)]
    if not (new or wanted):
        return
    examples = Examples(case, chain, recipe, pool, progress)
    if new:
        yield from examples.references()
    for method in wanted:
        while todo := _todo(known, method, seeds, rates):
            one = dataclasses.replace(recipe, seed=todo[0], learning_rate=todo[1])
            own = folder and folder / _name(case, method, one)
            known.append(examples.learn(method, one, progress, own))
            yield known[-1]
            _forget(own)


def _forget(folder: Path | None) -> None:
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def _name(case: str, method: str, recipe: StyleRecipe) -> str:
    """The folder of one training, which no other has."""
    said = (case, method, *dataclasses.asdict(recipe).values())
    return re.sub(r"[^\w.]+", "-", " ".join(map(str, said)))


def _todo(known: Sequence[Curve], method: str, seeds: int, rates: Sequence[float]) -> tuple[int, float] | None:
    """The seed and the learning rate of the next training by a method; None where all were made."""
    have = {(c.seed, c.rate) for c in known if c.method == method}
    tuning = [(_TUNED_BY, rate) for rate in rates] if len(rates) > 1 else []
    if left := [each for each in tuning if each not in have]:
        return left[0]
    rate = (best_rate(known, method) if tuning else None) or rates[0]
    return next(((seed, rate) for seed in range(seeds) if (seed, rate) not in have), None)


def best_rate(curves: Sequence[Curve], method: str) -> float | None:
    """The learning rate at which a method ended lowest in the trainings that choose it; None without such."""
    tried = [c for c in curves if c.method == method and c.seed == _TUNED_BY]
    return min(tried, key=lambda c: c.losses[-1]).rate if tried else None


def reported(curves: Sequence[Curve]) -> list[Curve]:
    """The curves that are compared: not those that chose learning rates, nor those at rates that were not chosen."""

    def best(curve: Curve) -> float | None:
        return best_rate([c for c in curves if c.case == curve.case], curve.method)

    return [c for c in curves if c.seed != _TUNED_BY and best(c) in (None, c.rate)]
