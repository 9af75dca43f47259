"""Audio rules against autograd on the twins, and against random directions through real effects."""

import dataclasses
import json
import logging

import numpy as np
import pytest
import torch

from blackbox_fx.core import cache
from blackbox_fx.dsp import TWINS
from blackbox_fx.effects import Rack, function, load
from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.estimators import (
    Call,
    Dynamics,
    Identity,
    LocalSpectrum,
    ModulatedDelay,
    MovingFilter,
    Pointwise,
    Surrogate,
    TimeReversal,
    TwoStage,
    Verified,
)
from blackbox_fx.estimators.audio_rules import certificate, choosing, ranking, trial
from blackbox_fx.estimators.audio_rules.ballistics import identify
from blackbox_fx.estimators.audio_rules.base import Modelled, Site, visit
from blackbox_fx.estimators.audio_rules.dynamics import _Level
from blackbox_fx.estimators.audio_rules.levels import LOUDEST, MEAN, Times
from blackbox_fx.estimators.audio_rules.modulated_delay import _DryWet, _Line
from blackbox_fx.estimators.audio_rules.moving_filter import _Moving
from blackbox_fx.estimators.audio_rules.operators import Filter, Gain, Series, Wire
from blackbox_fx.estimators.audio_rules.portfolio import portfolio
from blackbox_fx.estimators.audio_rules.ranking import cost
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.runtime import Inline
from blackbox_fx.space import Continuous, Space, Toggle
from blackbox_fx.testing import RecordingPool
from tests.cases import AUDIO_RULES, RATE, music


def site(effect, values=None, seconds=0.5, channels=1, batch=1, pool=None, seed=0):
    """One forward pass, and the cotangent of a spectral loss to other music."""
    row = effect.space.encode(values or {})
    audio = np.stack([music(seconds, channels, seed=seed + k) for k in range(batch)])
    wet = np.stack([effect.render(x, effect.space.decode(row), RATE) for x in audio])
    rows = torch.from_numpy(np.repeat(row[None], batch, axis=0)).float()
    call = Call(effect, pool or Inline(), RATE, torch.from_numpy(audio), rows, torch.from_numpy(wet))
    other = torch.from_numpy(np.stack([music(seconds, channels, seed=seed + 50 + k) for k in range(batch)]))
    output = call.output.clone().requires_grad_()
    MultiResolutionSTFT()(output, other).backward()
    return call, output.grad


def cosine(effect, rule, values=None, directions=40, size=2e-3, **options):
    """Of the rule's gradient to the true one, over random directions."""
    call, g = site(effect, values, **options)
    gradient = rule.vjp(call, g)[0].double().numpy()
    x, v = call.audio[0].double().numpy(), g[0].double().numpy()
    settings = effect.space.decode(call.points[0])
    rng = np.random.default_rng(9)
    step = size * np.sqrt(np.mean(np.square(x)))
    found, true = [], []
    for _ in range(directions):
        u = rng.standard_normal(x.shape)
        ends = [effect.render((x + s * step * u).astype(np.float32), settings, RATE) for s in (1, -1)]
        true.append(float((v * (ends[0].astype(np.float64) - ends[1])).sum()) / (2 * step))
        found.append(float((gradient * u).sum()))
    return float(np.dot(found, true) / np.linalg.norm(found) / np.linalg.norm(true))


def _level(rng, n, times):
    x, gain, slope = rng.standard_normal((3, 2, n))
    level = times.level(x, RATE)
    return _Level(x, gain, slope, level, times.follow(level, RATE)[1])


OPERATORS = {
    "wire": lambda rng, n: Wire(),
    "gain": lambda rng, n: Gain(rng.standard_normal((2, n))),
    "filter": lambda rng, n: Filter(rng.standard_normal((2, 2, n))),
    "filter apart": lambda rng, n: Filter(np.eye(2)[..., None] * rng.standard_normal((2, 2, n))),
    "series": lambda rng, n: Series([Gain(rng.standard_normal((2, n))), Filter(rng.standard_normal((2, 2, n)))]),
    "delay line": lambda rng, n: _Line(30 + 20 * np.sin(np.arange(n) / 50), 0.7),
    "level": lambda rng, n: _level(rng, n, Times(1.0, 20.0)),
    "linked level": lambda rng, n: _level(rng, n, Times(1.0, 20.0, LOUDEST)),
    "mean square": lambda rng, n: _level(rng, n, Times(1.0, 20.0, window=2.0)),
    "sliding mean square": lambda rng, n: _level(rng, n, Times(1.0, 20.0, window=2.3, sliding=True)),
    "mean level": lambda rng, n: _level(rng, n, Times(1.0, 20.0, MEAN)),
    "power": lambda rng, n: _level(rng, n, Times(1.0, 20.0, power=True)),
    "linked mean square": lambda rng, n: _level(rng, n, Times(1.0, 20.0, LOUDEST, window=2.0)),
    "moving filter": lambda rng, n: _Moving(rng.standard_normal((5, 2, 90)), rng.uniform(0, 1, (5, n))),
    "dry and wet": lambda rng, n: _DryWet(
        _Line(30 + 20 * np.sin(np.arange(n) / 50), 0.0), rng.standard_normal(33), rng.standard_normal(33)
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_pull_is_the_transpose_of_push(name):
    rng = np.random.default_rng(0)
    model = OPERATORS[name](rng, 700)
    u, v = rng.standard_normal((2, 2, 700))
    assert np.vdot(model.push(u), v) == pytest.approx(np.vdot(u, model.pull(v)), rel=1e-9)


def test_the_delay_line_is_what_its_formula_says():
    d, feedback, n = 40 + 15 * np.sin(np.arange(400) / 30), 0.6, 400
    u = np.random.default_rng(0).standard_normal(n)
    w, p = np.zeros(n), np.zeros(n)
    for t in range(n):
        p[t] = u[t] + (feedback * w[t - 1] if t else 0.0)
        at = t - d[t]
        k = int(np.floor(at))
        if k + 1 >= 0:
            w[t] = (k + 1 - at) * (p[k] if k >= 0 else 0.0) + (at - k) * p[k + 1]
    assert np.allclose(_Line(d, feedback).push(u[None])[0], w)


@pytest.mark.parametrize(
    "times",
    [
        Times(3.0, 40.0),
        Times(2.0, 10.0, LOUDEST),
        Times(4.0, 30.0, MEAN),
        Times(2.0, 25.0, window=6.0),
        Times(5.0, 60.0, power=True),
        Times(3.0, 20.0, MEAN, power=True),
    ],
)
@pytest.mark.parametrize(("low", "high"), [(0.0, -0.8), (12.0, 0.0)])
def test_a_threshold_and_a_ratio_are_found_in_clip_and_output(times, low, high):
    x = music(1.5, 2).astype(np.float64)
    envelope, _ = times.follow(times.level(x, RATE), RATE)
    over = np.log(np.broadcast_to(envelope, x.shape)) / (1 + times.power) - np.log(0.15)
    gain = np.exp(low * np.minimum(over, 0) + high * np.maximum(over, 0))
    found = identify(x, 0.7 * gain * x, RATE)
    assert found.residual < (1e-3 if times.window else 1e-5) * np.sqrt(np.mean(np.square(gain * x)))
    if not times.window:  # else a shorter window makes up for a longer release
        assert dataclasses.astuple(found.times) == pytest.approx(dataclasses.astuple(times), rel=0.02)
        gains, rises = found.curve(np.array([0.1, 0.3]) ** (1 + times.power))
        assert np.allclose(rises / gains * (1 + times.power), [low, high], atol=0.05)


@pytest.mark.parametrize("kind", [{}, {"window": 4.0}, {"power": True}, {"link": MEAN}])
def test_the_derivative_of_a_level_is_that_of_its_own_differences(kind):
    times, rng, step = Times(1.0, 15.0, **kind), np.random.default_rng(0), 1e-6
    x, u = rng.standard_normal((2, 2, 3000))

    def output(x):
        return x * times.follow(times.level(x, RATE), RATE)[0] ** -0.5

    level = times.level(x, RATE)
    envelope, keeps = times.follow(level, RATE)
    model = _Level(x, envelope**-0.5, -0.5 * x * envelope**-1.5, level, keeps)
    assert np.allclose(model.push(u), (output(x + step * u) - output(x - step * u)) / (2 * step), atol=1e-3)


@pytest.mark.parametrize(
    ("twin", "rule", "error"),
    [
        ("parametric_eq", TimeReversal(), 1e-3),
        ("gain_pan", TimeReversal(), 1e-3),
        ("waveshaper", Pointwise(), 1e-3),
        ("compressor", Dynamics(), 0.1),
    ],
)
def test_rules_agree_with_autograd(twin, rule, error):
    twin = TWINS[twin]
    values = twin.space.decode(0.2 + 0.6 * twin.space.sample(1, 1)[0])
    call, g = site(twin.effect(), values, channels=2)
    audio = call.audio.double().requires_grad_()
    (twin(audio, call.params.double(), RATE) * g).sum().backward()
    distance = torch.linalg.norm(rule.vjp(call, g) - audio.grad) / torch.linalg.norm(audio.grad)
    assert distance < error
    assert torch.linalg.norm(g - audio.grad) / torch.linalg.norm(audio.grad) > distance


CASES = [
    ("PeakFilter", {"gain_db": 12, "cutoff_frequency_hz": 900}, TimeReversal()),
    ("Delay", {"delay_seconds": 0.11, "feedback": 0.5}, TimeReversal()),
    ("Distortion", {"drive_db": 25}, Pointwise()),
    ("Clipping", {"threshold_db": -20}, Pointwise()),
    ("Limiter", {"threshold_db": -6, "release_ms": 10}, Pointwise()),
    ("Compressor", {"threshold_db": -30, "ratio": 5, "attack_ms": 5}, Pointwise(32)),
    ("Compressor", {"threshold_db": -40, "ratio": 10, "attack_ms": 30, "release_ms": 300}, Dynamics()),
    ("Phaser", {"rate_hz": 2.0, "feedback": 0.5}, LocalSpectrum(256)),
    ("Phaser", {"rate_hz": 3, "depth": 0.3, "feedback": 0.6}, MovingFilter()),
    ("Chorus", {}, ModulatedDelay()),
    ("Chorus", {"rate_hz": 8, "depth": 0.5, "feedback": -0.7, "mix": 0.8}, ModulatedDelay()),
]


@pytest.mark.parametrize(("name", "values", "rule"), CASES)
def test_the_fitting_rule_is_right_and_better_than_a_wire(name, values, rule):
    effect = load(f"pedalboard:{name}")
    seconds = 1.0 if isinstance(rule, MovingFilter) else 0.5
    found = cosine(effect, rule, values, seconds=seconds)
    assert found > 0.97
    assert found > cosine(effect, Identity(), values, seconds=seconds)


def test_a_steep_gate_is_known_by_what_it_did_and_not_by_its_answers():
    values = {"threshold_db": -16, "ratio": 20, "attack_ms": 12, "release_ms": 3}
    gate = load("pedalboard:NoiseGate")
    found = cosine(gate, Dynamics(), values, size=1e-5)
    assert found > 0.95
    assert found > cosine(gate, Pointwise(), values, size=1e-5) + 0.02


def test_a_chorus_behind_a_distortion():
    rack = Rack({"clip": load("pedalboard:Clipping").fix(threshold_db=-20), "chorus": load("pedalboard:Chorus")})
    values = {"chorus.rate_hz": 2, "chorus.feedback": 0.3}
    curved = cosine(rack, ModulatedDelay(curve=True), values, seconds=1.5)
    assert curved > 0.95
    assert curved > cosine(rack, ModulatedDelay(), values, seconds=1.5) + 0.1


def test_channels_that_cross_are_told_apart():
    reverb = load("pedalboard:Reverb")
    assert cosine(reverb, TimeReversal(), {"width": 0.3, "wet_level": 0.9, "dry_level": 0.1}, channels=2) > 0.999


def _late(audio, sample_rate, drive):
    return np.pad(np.tanh(drive * audio), ((0, 0), (100, 0)))[:, : audio.shape[1]]


def test_unreported_latency_is_accounted_for():
    late = function(_late, Space({"drive": Continuous(1, 20, 8)}))
    assert cosine(late, TwoStage("after", curve=True, smooth=0)) > 0.99
    assert abs(cosine(late, Pointwise())) < 0.5


@pytest.mark.parametrize(
    ("names", "rule"),
    [
        (("PeakFilter", "Distortion"), TwoStage("before", curve=True, smooth=0)),
        (("Distortion", "Reverb"), TwoStage("after", curve=True, smooth=0)),
        (("Compressor", "Gain"), Dynamics()),
    ],
)
def test_two_stages_in_one_opaque_effect(names, rule):
    values = {"Compressor": {"threshold_db": -30, "ratio": 6}, "PeakFilter": {"gain_db": -9}}
    rack = Rack({name: load(f"pedalboard:{name}").fix(values.get(name, {})) for name in names})
    assert cosine(rack, rule) > 0.97


@pytest.mark.parametrize("name", AUDIO_RULES)
@pytest.mark.parametrize("channels", [1, 2])
def test_cost_is_kept(name, channels):
    pool, rule = RecordingPool(), AUDIO_RULES[name]()
    call, g = site(load("pedalboard:Distortion"), channels=channels, batch=3, pool=pool, seconds=0.2)
    rule.vjp(call, g)  # what is tried once is not counted
    pool.jobs.clear()
    grad = rule.vjp(call, g)
    assert grad.shape == call.audio.shape and torch.isfinite(grad).all()
    assert sum(len(job) for job in pool.jobs) == 3 * rule.cost(channels)
    assert rule.cost(channels) <= 6


def test_rules_share_probes():
    rules = portfolio()
    probes = {probe for rule in rules for probe in rule.probes()}
    assert len(probes) < len(rules)
    pool = RecordingPool()
    call, _ = site(load("pedalboard:Gain"), pool=pool)
    found = visit(call, tuple(probes))[0]
    assert sum(len(job) for job in pool.jobs) == sum(probe.renders(1) for probe in probes)
    assert set(found.responses) == probes


def test_verified_finds_the_rule_that_fits():
    for name, kind in (("PeakFilter", TimeReversal), ("Distortion", Pointwise), ("Gain", TimeReversal)):
        rule = Verified()
        assert cosine(load(f"pedalboard:{name}"), rule) > 0.97
        assert rule.certificate is not None and rule.certificate.cosine > 0.97
        assert rule.certificate.rules[0].startswith(kind.__name__), rule
        assert rule.certificate.differentiable and kind.__name__ in repr(rule)


@pytest.mark.parametrize(("share", "names"), [(1.0, ["Solver"]), (0.3, ["Pointwise", "Solver"]), (0.0, ["Pointwise"])])
def test_equations_that_give_the_very_output_outrank_probes(share, names, monkeypatch):
    """Even where probes speak for another rule; if they do so at some settings only, each call looks."""

    class Solver(Modelled):
        identifies = True

        def probes(self):
            return ()

        def fit(self, site):
            wire = Wire()
            wire.exact = bool(np.random.default_rng(int(1e6 * abs(site.y).sum())).random() < share)
            return wire

    monkeypatch.setattr(choosing, "portfolio", lambda size: [Identity(), Solver(), Pointwise(1, size)])
    call, g = site(load("pedalboard:Distortion"))
    found, _ = choosing.choose(*trial.make_trial(call, g, random=True))
    assert [rule.split("(")[0] for rule in found.rules] == names


def test_where_no_model_predicts_anything_a_wire_is_the_answer():
    rng = np.random.default_rng(0)
    u, g, noise = rng.standard_normal((3, 1, 44100))
    probe, wire, lost, good = ranking.ranking_probe(1e-3), Wire(), Gain(0.02 * noise), Gain(np.full_like(u, 0.1))
    here = Site(u, u, 44100, {probe: (u, 0.1 * u)})  # a wire predicts it worse than nothing does, and points along it
    assert ranking.rank(wire, here, (probe,), g) < ranking.rank(lost, here, (probe,), g) < 0.55
    assert ranking.best([lost, wire], here, probe, g) is wire
    assert ranking.best([lost, wire, good], here, probe, g) is good
    lost.exact = True
    assert ranking.best([lost, wire], here, probe, g) is lost


def test_one_more_render_chooses_between_rules_that_share_theirs():
    rules = [Identity(), Pointwise(32), Pointwise(512), TwoStage()]
    assert cost(rules[:1], 1) == 0 and cost(rules[1:2], 1) == 2
    assert cost(rules[:3], 1) == 3 and cost(rules, 2) == 5


def test_a_certificate_is_kept_and_read(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    effect = load("pedalboard:Gain").within(gain_db=(-30, 12))
    counts = []
    for _ in range(2):
        pool = RecordingPool()
        call, g = site(effect, pool=pool)
        rule = Verified()
        rule.vjp(call, g)
        counts.append(sum(len(job) for job in pool.jobs))
    # the second time: the settings themselves, and the rule's own renders
    assert counts[1] <= 9 + rule.cost(1) < counts[0]
    (kept,) = tmp_path.rglob("*.json")
    assert json.loads(kept.read_text())["answer"]["rules"] == ["TimeReversal()"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{KEPT: {"format": 5}}', '{KEPT: {"format": 5, "rules": 3}}', "{KEPT: [2]}", "\x00"],
)
def test_a_damaged_certificate_is_measured_anew(text, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = cache.where("audio_rules", "key")
    path.parent.mkdir(parents=True)
    path.write_text(text.replace("KEPT", '"key": "key", "answer"'))
    with caplog.at_level(logging.WARNING, logger="blackbox_fx"):
        assert certificate.load("key") is None
    assert "measured again" in caplog.text


def _backwards(audio, sample_rate):
    return audio[:, ::-1]


def test_no_derivative_is_told_apart_from_no_rule():
    crush = Verified(threshold=0)
    crush.vjp(*site(load("pedalboard:Bitcrush").within(bit_depth=(3, 8)), seconds=0.1))
    assert not crush.certificate.differentiable and "no derivative" in repr(crush)
    backwards = Verified()
    call = site(function(_backwards, Space()), seconds=0.1)
    with pytest.warns(UserWarning, match="uncertain"):
        backwards.vjp(*call)
    backwards.vjp(*call)  # once
    assert backwards.certificate.differentiable and backwards.certificate.cosine < 0.5


def _either(audio, sample_rate, bend):
    return np.tanh(20 * audio) if bend else audio * 0.5


def test_a_rule_that_has_become_wrong_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    effect = function(_either, Space({"bend": Toggle(False)}))
    straight = effect.fix(bend=False)
    rule = Verified(recheck=1)
    call, g = site(straight)
    rule.vjp(call, g)
    assert rule.certificate.rules == ("TimeReversal()",), rule
    bent, g = site(effect.fix(bend=True))
    rule.vjp(bent, g)
    assert rule.certificate.rules[0].startswith("Pointwise")


def test_a_surrogate_gives_its_own_gradient():
    twin = TWINS["compressor"]
    call, g = site(twin.effect())
    audio = call.audio.clone().requires_grad_()
    (twin(audio, call.params, RATE) * g).sum().backward()
    assert torch.allclose(Surrogate(twin).vjp(call, g), audio.grad)
    with pytest.raises(ParameterError, match="undetached"):
        Surrogate(lambda audio, params, rate: audio.detach()).vjp(call, g)
    with pytest.raises(AudioError, match="gradient of the function is NaN"):
        Surrogate(lambda audio, params, rate: (0 * audio).square().sqrt()).vjp(call, g)


@pytest.mark.parametrize("length", [1, 7, 300, 1400, 2700])
def test_short_clips(length):
    for effect in (load("pedalboard:Distortion"), load("pedalboard:Reverb")):
        x = torch.from_numpy(music(0.1, 1)[None, :, :length].copy())
        wet = torch.from_numpy(effect.render(x[0].numpy(), {}, RATE))[None]
        call = Call(effect, Inline(), RATE, x, torch.from_numpy(effect.space.encode()[None]).float(), wet)
        for rule in (Verified(threshold=0), *portfolio()):
            assert rule.vjp(call, torch.ones_like(x)).shape == x.shape


def test_a_first_batch_of_silence_does_not_mislead(tmp_path, monkeypatch):
    """The trial is made at a level of its own, so quiet audio does not take a compressor for a wire."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    comp = load("pedalboard:Compressor").fix(threshold_db=-20, attack_ms=1, release_ms=50).within(ratio=(8, 20))
    for scale in (0.0, 1e-4):
        call, g = site(comp)
        rule = Verified()
        rule.vjp(Call(comp, call.pool, RATE, call.audio * scale, call.params, call.output * scale), g * (scale > 0))
        assert cosine(comp, rule, {"ratio": 12}) > 0.98, rule
        for path in tmp_path.rglob("*.json"):
            path.unlink()


def test_nothing_comes_back_through_an_effect_that_puts_nothing_out():
    mute = function(_mute, Space({"k": Continuous(0, 1, 0.5)}))
    rule = Verified(threshold=0)
    call, g = site(load("pedalboard:Gain"))
    muted = Call(mute, call.pool, RATE, call.audio, torch.full((1, 1), 0.5), call.output * 0)
    assert not rule.vjp(muted, g).any()


def _mute(audio, sample_rate, k):
    return audio * 0


def test_unknown_rules_in_a_certificate_are_tried_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    effect = load("pedalboard:Gain")
    call, g = site(effect)
    Verified().vjp(call, g)
    (path,) = tmp_path.rglob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rules": ["Nope()"]}))
    rule = Verified()
    rule.vjp(call, g)
    assert rule.certificate.rules == ("TimeReversal()",)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Verified(threshold=2),
        lambda: Verified(threshold="a"),
        lambda: Verified(recheck=-1),
        lambda: Verified(recheck="a"),
        lambda: Surrogate("proxy"),
    ],
)
def test_mistakes(make):
    with pytest.raises(ParameterError, match="got"):
        make()


def test_an_empty_batch_and_silence():
    effect = load("pedalboard:Reverb")
    call, g = site(effect)
    none = Call(effect, call.pool, RATE, call.audio[:0], call.params[:0], call.output[:0])
    assert Verified().vjp(none, g[:0]).shape == (0, *g.shape[1:])
    silent = Call(effect, call.pool, RATE, call.audio * 0, call.params, call.output * 0)
    for rule in portfolio():
        assert torch.isfinite(rule.vjp(silent, g)).all(), rule
    assert torch.isfinite(Verified(threshold=0).vjp(silent, g)).all()
