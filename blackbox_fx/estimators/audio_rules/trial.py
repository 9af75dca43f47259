"""Makes the sites of a trial of audio rules: an effect at random settings, on stretches of the call's audio."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.audio import Audio
from blackbox_fx.errors import EffectError
from blackbox_fx.estimators.audio_rules.base import Signal
from blackbox_fx.estimators.call import Call
from blackbox_fx.estimators.tensors import to_numpy

# What changing each does was measured as in `choosing`.
_SETTINGS = 6  # random, in addition to up to two of the call; 3 lose 0.05 on racks, 12 double the time
_PEAK = 0.5  # of the clips; at 0.1 a limiter loses 0.01, at 1 it is the same
_LENGTH = 32768  # samples of these clips; 16384 and 44100 are the same, but slow oscillators need length


def make_trial(call: Call, cotangent: Tensor, random: bool) -> tuple[Call, list[Signal]]:
    """The effect at some settings on stretches of the call's own audio, with the cotangents there."""
    space, batch = call.effect.space, len(call.audio)
    rng = np.random.default_rng(0)
    points = call.points[: min(batch, 2)]
    if random:
        points = np.concatenate([space.snap(space.sample(_SETTINGS, rng)), points])
    length = min(_LENGTH, call.audio.shape[-1])
    audio, cotangents = to_numpy(call.audio), to_numpy(cotangent)
    inputs = {name: to_numpy(given) for name, given in call.inputs.items()}
    cuts, vs = list[dict[str, Audio]](), list[Signal]()
    for k in range(len(points)):
        item = k % batch
        power = np.cumsum(np.square(audio[item]).sum(axis=0))
        starts = rng.integers(0, audio.shape[-1] - length + 1, 8)
        start = max(starts, key=lambda s: power[s + length - 1] - power[s])  # somewhere loud
        here = slice(start, start + length)
        cut = {name: whole[item, :, here].astype(np.float64) for name, whole in {"": audio, **inputs}.items()}
        v = cotangents[item, :, here].astype(np.float64)
        if random:
            # the result must not depend on the level of the first batch, nor on its loss
            cut = {name: _loud(x, rng) for name, x in cut.items()}
            v = v if v.any() else rng.standard_normal(v.shape)
        cuts.append({name: x.astype(np.float32) for name, x in cut.items()})
        vs.append(v)
    stacked = {name: torch.from_numpy(np.stack([cut[name] for cut in cuts])) for name in cuts[0]}
    clips = stacked.pop("")
    params = torch.from_numpy(points).float()
    trial = Call(call.effect, call.pool, call.sample_rate, clips, params, clips, inputs=stacked)
    wet = torch.from_numpy(trial.respond(clips.numpy(), np.arange(len(points))))
    ok = ~trial.failed
    if not ok.any():
        raise EffectError(
            f"{call.effect.name} failed at all {len(points)} settings at which audio rules are tried; give the layer "
            "an audio_rule, such as Identity()."
        )
    return dataclasses.replace(trial, output=wet).part(np.flatnonzero(ok)), list(itertools.compress(vs, ok))


def _loud(x: Signal, rng: np.random.Generator) -> Signal:
    """A clip at the peak of a trial; bursts where it is silent."""
    return x * (_PEAK / np.abs(x).max()) if np.abs(x).max() > 1e-9 else _PEAK * _bursts(rng, x.shape)


def _bursts(rng: np.random.Generator, shape: tuple[int, ...]) -> Signal:
    """Noise that swells and fades, at most 1: the audio of a trial where the call has only silence."""
    noise = rng.uniform(-1, 1, shape)
    return noise * np.interp(
        np.arange(shape[1]) / 4410, np.arange(shape[1] // 4410 + 2), rng.uniform(0, 1, shape[1] // 4410 + 2)
    )
