"""What every pool, estimator and audio rule promises, tried on one of them."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np

from blackbox_fx.effects.functions import function
from blackbox_fx.errors import EffectError
from blackbox_fx.runtime import Inline, Job, Pool
from blackbox_fx.space import Space
from blackbox_fx.testing.effects import Gain, Misbehaving
from blackbox_fx.testing.pools import RecordingPool

if TYPE_CHECKING:
    from blackbox_fx.effects import Effect
    from blackbox_fx.estimators import AudioRule, Call, Estimator

_RATE = 44100.0
_SAMPLES = 2048
_ROUNDING = 1e-4


def _require(kept: bool, sentence: str) -> None:
    if not kept:
        raise AssertionError(sentence)


def _audio(batch: int, channels: int = 2) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (0.3 * rng.standard_normal((batch, channels, _SAMPLES))).astype(np.float32)


def _product(audio: Any, sample_rate: float, key: Any) -> Any:
    return audio * key


def check_pool(pool: Pool, effect: Effect | None = None) -> None:
    """Whether a pool equals `Inline` bit for bit, raises what effects raise, counts, copies, pickles and reopens.

    Args:
        pool: any; it is closed at the end.
        effect: what it renders besides `Gain`; one that pickles.

    Raises:
        AssertionError: a promise that is not kept.
    """
    for each in (Gain(), *([] if effect is None else [effect])):
        audio = _audio(3)
        points = each.space.sample(7, 0)
        job = Job(each, audio, points, np.arange(7) % 3, _RATE)
        cotangent = _audio(3) ** 2
        _require(np.array_equal(pool.map(job), Inline().map(job)), f"map of {each.name} differs from Inline.")
        twice = all(np.array_equal(found, Inline().map(job)) for found in pool.map_all([job, job]))
        _require(twice, f"map_all of {each.name} differs from Inline.")
        for stretch in (None, 500):
            found, wanted = (p.project(job, cotangent, stretch) for p in (pool, Inline()))
            _require(np.array_equal(found, wanted), f"project of {each.name}, stretch={stretch}, differs from Inline.")
    keyed = function(_product, Space(), inputs=("key",))
    job = Job(keyed, _audio(3), np.zeros((3, 0)), np.arange(3), _RATE, inputs={"key": _audio(3, channels=1)})
    _require(np.array_equal(pool.map(job), Inline().map(job)), "map beside a further input differs from Inline.")
    _require(pool.counters.renders >= 35, f"It made 35 renders or more, and counted {pool.counters.renders}.")
    raising = Job(
        Misbehaving(), _audio(1), Misbehaving().space.encode({"mode": "raise"})[None], np.zeros(1, int), _RATE
    )
    try:
        pool.map(raising)
    except EffectError:
        pass
    else:
        raise AssertionError("An effect that raised was no EffectError.")
    _require(copy.deepcopy(pool) is pool, "A copy of a pool must be the same pool.")
    pickle.loads(pickle.dumps(pool)).close()
    pool.close()
    job = Job(Gain(), _audio(1), np.full((1, 1), 0.25), np.zeros(1, int), _RATE)
    _require(np.array_equal(pool.map(job)[0], _audio(1)[0] * np.float32(0.5)), "It does not open again after close.")
    pool.close()


def _call(batch: int, pool: Pool) -> tuple[Call, Any]:
    """A forward pass through `Gain`, and a cotangent."""
    import torch

    from blackbox_fx.estimators import Call

    audio = torch.from_numpy(_audio(batch))
    params = torch.linspace(0.2, 0.8, batch)[:, None]
    call = Call(Gain(), pool, _RATE, audio, params, audio * 2 * params[:, :, None])
    return call, torch.from_numpy(_audio(batch) ** 2 - 0.02)


def check_estimator(estimator: Estimator, rounds: int = 200) -> None:
    """Whether an estimator's mean is the gradient, and it keeps to its cost, copies, pickles and restores its state.

    Args:
        estimator: any.
        rounds: estimates for the mean; the mean must lie within four standard errors.

    Raises:
        AssertionError: a promise that is not kept.
    """
    import torch

    call, cotangent = _call(3, RecordingPool())
    pool: Any = call.pool
    truth = (2 * cotangent * call.audio).sum(dim=(1, 2)).double()
    first = estimator.vjp(call, cotangent)
    _require(tuple(first.shape) == (3, 1), f"vjp returned {tuple(first.shape)} for params of shape (3, 1).")
    most = 3 * estimator.cost(call.effect.space)
    _require(pool.renders <= most, f"vjp made {pool.renders} renders, and cost says at most {most}.")
    found = torch.stack([estimator.vjp(call, cotangent)[:, 0].double() for _ in range(rounds)])
    error = found.std(dim=0) / rounds**0.5 + _ROUNDING * truth.abs() + _ROUNDING
    off = ((found.mean(dim=0) - truth).abs() / error).max()
    _require(bool(off <= 4), f"The mean of {rounds} estimates is {float(off):.1f} standard errors off the gradient.")
    other = pickle.loads(pickle.dumps(estimator))
    other.load_state_dict(estimator.state_dict())
    same = torch.equal(other.vjp(call, cotangent), copy.deepcopy(estimator).vjp(call, cotangent))
    _require(same, "A copy with the same state_dict gives another estimate.")


def check_audio_rule(rule: AudioRule) -> None:
    """Whether an audio rule gives the gradient of `Gain`, keeps to its cost, copies and pickles.

    Args:
        rule: one that is right for an effect that multiplies by a number.

    Raises:
        AssertionError: a promise that is not kept.
    """
    import torch

    call, cotangent = _call(2, RecordingPool())
    pool: Any = call.pool
    found = rule.vjp(call, cotangent).double()
    truth = cotangent.double() * 2 * call.params[:, :, None]
    _require(found.shape == truth.shape, f"vjp returned {tuple(found.shape)} for audio of {tuple(truth.shape)}.")
    off = float((found - truth).norm() / truth.norm())
    _require(off < 100 * _ROUNDING, f"The gradient of audio is {off:.1e} off, relative.")
    _require(pool.renders <= 2 * rule.cost(2), f"vjp made {pool.renders} renders, and cost says {2 * rule.cost(2)}.")
    again = pickle.loads(pickle.dumps(copy.deepcopy(rule))).vjp(call, cotangent)
    _require(torch.allclose(again.double(), found), "A copy gives another gradient.")
