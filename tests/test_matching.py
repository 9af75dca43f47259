"""Matching: settings that were hidden in effects are found again, by every method, whatever the recordings are like."""

import contextlib
import csv
import json
import math
import os
import threading

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from typer.testing import CliRunner

import blackbox_fx as bfx
from blackbox_fx.audio import read, write
from blackbox_fx.cli.__main__ import app
from blackbox_fx.errors import AudioError, BlackBoxError, DataError, EffectError, ParameterError
from blackbox_fx.lab.case import load_effect, music
from blackbox_fx.lab.counting import CountingPool
from blackbox_fx.report import terminal
from blackbox_fx.space import Choice, Continuous, Integer, Space, Toggle
from blackbox_fx.tasks.matching import comparison, searches
from blackbox_fx.tasks.matching.matching import SEARCH_FILE, Match
from blackbox_fx.tasks.matching.prior import Prior
from blackbox_fx.tasks.matching.problem import Problem
from blackbox_fx.tasks.matching.settled import Determined, simplify
from blackbox_fx.tasks.matching.target import Aligned, Sound
from blackbox_fx.tasks.matching.writing import read_settings

RATE = 44100
DRY = music(5, 2.0, 2).numpy()[:, :33075]
EQ = ["pedalboard:LowShelfFilter", "pedalboard:PeakFilter"]
# chains, and settings that are hidden in them; what is left out stands at its default
HIDDEN = {
    "one": (["pedalboard:Compressor"], {"compressor": {"threshold_db": -35, "ratio": 6, "attack_ms": 4}}),
    "eq and dynamics": (
        [*EQ, "pedalboard:Compressor"],
        {
            "peak_filter": {"cutoff_frequency_hz": 1500, "gain_db": 9, "q": 2},
            "compressor": {"threshold_db": -30, "ratio": 3},
        },
    ),
    "vst3": (
        ["vst3:ZamCompX2"],
        {"zam_comp_x2": {"threshold_db": -40, "ratio": 3, "makeup_db": 12, "release_ms": 200}},
    ),
    "ladspa": (["ladspa:sc4"], {"sc4": {"threshold_level_db": -20, "ratio": 6, "makeup_gain_db": 6}}),
    "twin": (["twin:parametric_eq"], {"parametric_eq": {"peak_gain_db": 8, "low_shelf_gain_db": -6}}),
}


def chain_of(addresses):
    return [load_effect(address) for address in addresses]


def hide(effects, values, dry=DRY, rate=RATE):
    rack = bfx.Rack(effects)
    flat = {f"{label}.{name}": value for label, own in values.items() for name, value in own.items()}
    return rack.render(dry, {**rack.space.defaults, **flat}, rate)


def find(reference, effects, dry=DRY, **how):
    return bfx.match(dry, reference, effects, **{"pool": bfx.Inline(), "renders": 300, **how})


def loss_of(found, reference, dry=DRY):
    return float(Aligned(reference, found.sample_rate).loss(torch.from_numpy(found.render(dry))))


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_settings_are_found(name):
    addresses, values = HIDDEN[name]
    effects = chain_of(addresses)
    reference = hide(effects, values)
    searches_of = [find(reference, effects, seed=seed) for seed in range(1, 4)]  # some end in a valley of their own
    found = sorted(searches_of, key=lambda each: each.loss)[1]
    assert found.loss < 1e-3 * found.before, (found.loss, found.before)
    assert found.loss == pytest.approx(loss_of(found, reference), rel=1e-3, abs=1e-9)
    assert found.renders < 300 + 60  # the last job may go beyond
    losses = [p.loss for p in found.trace]
    assert losses == sorted(losses, reverse=True)
    assert [p.renders for p in found.trace] == sorted(p.renders for p in found.trace)


def test_what_was_not_touched_stays_at_its_default_and_what_was_is_named_with_its_range():
    addresses, values = HIDDEN["eq and dynamics"]
    found = find(hide(chain_of(addresses), values), chain_of(addresses), seed=1)
    assert found.settings["low_shelf_filter"]["gain_db"] == 0
    for label, own in values.items():
        for name, value in own.items():
            known = next(d for d in found.determined if d.name == f"{label}.{name}")
            assert known.is_heard
            assert known.low <= value <= known.high
    idle = next(d for d in found.determined if d.name == "low_shelf_filter.cutoff_frequency_hz")
    assert not idle.is_heard  # a shelf of 0 dB has no frequency


@pytest.mark.parametrize("method", ["hybrid", "adam", *searches.COMMON])
def test_every_method_keeps_the_best_it_rendered_within_its_budget(method):
    effects = [bfx.load("pedalboard:Compressor").only("threshold_db", "ratio")]
    reference = hide(effects, {"compressor": {"threshold_db": -30, "ratio": 5}})
    start = [{"compressor": {"threshold_db": -20, "ratio": 2}}]
    found = find(reference, effects, renders=60, method=method, starts=start)
    assert found.loss < 0.5 * found.before
    assert found.renders <= 60 + 16
    assert found.loss <= found.trace[-1].loss * 1.011 + 1e-6


def test_renders_are_counted_as_they_are_made_and_effects_before_a_change_are_not_rendered_again():
    effects = chain_of([*EQ, "pedalboard:Compressor"])
    rack, tally = bfx.Rack(effects), CountingPool(DRY.shape[1])
    problem = Problem(rack, DRY, Aligned(DRY, RATE), RATE, tally)
    points = np.repeat(rack.space.encode()[None], 3, 0)
    points[1:, -1] = 0.2, 0.7
    problem.evaluate(points)
    assert tally.total == 5  # two filters once, three compressors
    assert problem.renders == pytest.approx(5 / 3)
    points[:, 0] = 0.9
    assert np.array_equal(problem.wet(points[2]), rack.render(DRY, rack.space.decode(points[2]), RATE))


def test_a_chain_whose_columns_are_in_another_order_is_rendered_as_one():
    rack = bfx.Rack(chain_of(EQ)).only("peak_filter.gain_db", "low_shelf_filter.gain_db")
    problem = Problem(rack, DRY, Aligned(DRY, RATE), RATE, bfx.Inline())
    point = np.array([0.9, 0.3])
    assert np.array_equal(problem.wet(point), rack.render(DRY, rack.space.decode(point), RATE))


PLAIN = Space({"a": Continuous(0, 1, default=0), "b": Continuous(0, 1, default=0)})


def distort(audio, sample_rate, shape, drive_db, invert, bits):
    driven = audio * 10 ** (drive_db / 20)
    shapes = {"tanh": np.tanh, "clip": lambda x: np.clip(x, -1, 1), "fold": np.sin}
    wet = shapes[shape](driven)
    wet = np.round(wet * 2**bits) / 2**bits
    return (-wet if invert else wet).astype(np.float32)


shaper = bfx.function(
    distort,
    Space(
        {
            "shape": Choice(("tanh", "clip", "fold"), "tanh"),
            "drive_db": Continuous(0, 30, default=0),
            "invert": Toggle(),
            "bits": Integer(2, 8, default=8),
        }
    ),
    name="shaper",
)


def test_choices_that_are_heard_are_found():
    right = heard = 0
    for seed in range(10):
        point = shaper.space.sample(1, seed)[0]
        values = shaper.space.decode(point)
        found = find(shaper.render(DRY, values, RATE), shaper, renders=200, seed=seed).settings["shaper"]
        target = Aligned(shaper.render(DRY, values, RATE), RATE)
        for name, others in (("shape", ("tanh", "clip", "fold")), ("invert", (False, True)), ("bits", range(2, 9))):
            wrong = [shaper.render(DRY, {**values, name: v}, RATE) for v in others if v != values[name]]
            if min(float(target.loss(torch.from_numpy(w))) for w in wrong) > comparison.AUDIBLE:
                heard += 1
                right += found[name] == values[name]
    assert heard >= 20
    assert right >= 0.9 * heard, (right, heard)


def test_only_choices_are_tried_out_and_the_search_ends():
    effect = shaper.only("shape", "invert")
    found = find(
        effect.render(DRY, {**effect.space.defaults, "shape": "fold", "invert": True}, RATE), effect, renders=1e6
    )
    assert found.settings["shaper"] == {"shape": "fold", "invert": True}


def test_hybrid_gets_nearer_than_others_with_as_many_renders():
    effects, dry, ratios = chain_of([*EQ, "pedalboard:Compressor"]), DRY[:1, :15000], []
    rack = bfx.Rack(effects)
    for seed in range(2, 6):
        reference = rack.render(dry, rack.space.decode(rack.space.sample(1, seed + 5)[0]), RATE)
        losses = [
            find(reference, effects, dry, renders=600, method=method, seed=seed).trace[-1].loss
            for method in ("hybrid", "OnePlusOne", "CMA")
        ]
        mine, *others = np.maximum(losses, comparison.FLOOR)
        ratios.append(mine / min(others))
    assert np.exp(np.mean(np.log(ratios))) < 0.1, ratios


def fragile():
    def abort_when_loud(audio, sample_rate, gain):  # in here, workers get it by value and need not import this module
        if gain > 0.8:
            os.abort()
        return audio * np.float32(gain)

    return bfx.function(abort_when_loud, Space({"gain": Continuous(0, 1, default=0.2)}), name="fragile")


def test_a_plugin_that_crashes_costs_one_render_each_time():
    with bfx.Processes(1, on_failure="skip") as pool:
        found = find(0.6 * DRY, fragile(), renders=25, pool=pool, starts=[{"fragile": {"gain": 0.9}}])
    assert found.settings["fragile"]["gain"] == pytest.approx(0.6, abs=1e-3)
    assert found.failures >= 1


def test_a_plugin_that_always_fails_is_one_sentence():
    with bfx.Processes(1, on_failure="skip") as pool, pytest.raises(BlackBoxError, match=r"failed|crashed|died"):
        find(DRY, fragile().within(gain=(0.9, 1)), renders=1, pool=pool)


@pytest.mark.parametrize("trouble", [math.nan, None])
def test_a_function_that_fails_at_some_settings_costs_one_render_each_time(trouble):
    def fails(audio, sample_rate, gain):
        return audio * (np.float32(gain) if gain < 0.8 else trouble)  # None is a TypeError

    effect = bfx.function(fails, Space({"gain": Continuous(0, 1, default=0.9)}), name="fails")
    found = find(0.6 * DRY, effect, renders=40, pool=None)
    assert found.settings["fails"]["gain"] == pytest.approx(0.6, abs=1e-3)
    assert found.failures >= 1
    with pytest.raises(EffectError, match="fails"):
        find(0.6 * DRY, effect.within(gain=(0.85, 1)), renders=5, pool=None)


def stopping(after):
    def progress(done, total, words):
        if done >= after:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("method", ["hybrid", "CMA"])
def test_an_interrupted_search_returns_the_best_and_goes_on_as_if_nothing_had_been(method, tmp_path):
    addresses, values = HIDDEN["eq and dynamics"]
    effects, reference = chain_of(addresses), hide(chain_of(addresses), values)
    whole = find(reference, effects, method=method, renders=120)
    how = {"method": method, "renders": 120, "folder": tmp_path}
    part = find(reference, effects, progress=stopping(50), **how)
    assert part.interrupted and part.renders < 120
    assert part.loss == part.trace[-1].loss
    again = find(reference, effects, **how)
    assert not again.interrupted
    assert again.params.equal(whole.params)
    assert [p.loss for p in again.trace] == [p.loss for p in whole.trace]


def test_a_kept_search_of_anything_else_and_a_damaged_one_are_refused(tmp_path):
    effect = bfx.load("pedalboard:Gain")
    find(2 * DRY, effect, renders=10, folder=tmp_path)
    with pytest.raises(DataError, match="another folder"):
        find(3 * DRY, effect, renders=10, folder=tmp_path)
    (tmp_path / SEARCH_FILE).write_bytes(b"\x08" * 100)
    with pytest.raises(DataError, match="remove it"):
        find(2 * DRY, effect, renders=10, folder=tmp_path)


@pytest.mark.parametrize("methods", [("hybrid", "CMA"), ("CMA", "hybrid")])
def test_a_search_by_another_method_is_refused_where_one_is_kept(methods, tmp_path):
    for method in methods[:1]:
        find(2 * DRY, bfx.load("pedalboard:Gain"), renders=10, folder=tmp_path, method=method)
    with pytest.raises(DataError, match="methods; name another folder"):
        find(2 * DRY, bfx.load("pedalboard:Gain"), renders=10, folder=tmp_path, method=methods[1])


@pytest.mark.parametrize("name", ["points", "parts", "residuals", "renders"])
def test_a_kept_search_with_a_number_changed_is_refused(name, tmp_path):
    find(2 * DRY, bfx.load("pedalboard:Gain"), renders=10, folder=tmp_path)
    with safe_open(tmp_path / SEARCH_FILE, "np") as file:
        about, arrays = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    arrays[name].flat[0] = -3
    save_file(arrays, tmp_path / SEARCH_FILE, about)
    with pytest.raises(DataError, match="damaged; remove it"):
        find(2 * DRY, bfx.load("pedalboard:Gain"), renders=10, folder=tmp_path)


def test_a_folder_that_cannot_be_written_to_is_said_before_the_search(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="may write to"):
        find(2 * DRY, bfx.load("pedalboard:Gain"), folder=tmp_path / "file", progress=pytest.fail)


def test_a_loss_that_cannot_be_pickled_needs_no_folder(tmp_path):
    lock = threading.Lock()

    def loss(wet, ref):
        with lock:
            return (wet - ref).square().mean()

    assert find(2 * DRY, bfx.load("pedalboard:Gain"), loss=loss, renders=10).loss < 0.1
    with pytest.raises(ParameterError, match="folder=None"):
        find(2 * DRY, bfx.load("pedalboard:Gain"), loss=loss, renders=10, folder=tmp_path)


def test_the_best_is_kept_where_renders_run_out_in_the_last_steps():
    effect = bfx.function(lambda audio, sample_rate, a, b: audio * np.float32(a), PLAIN, name="gain")
    problem = Problem(effect, DRY, Aligned(0.5 * DRY, RATE), RATE, bfx.Inline())
    problem.evaluate(np.array([[0.5, 0.8]]))
    problem.allowed = problem.renders + 1
    assert simplify(problem, np.array([0.7, 0.8])) == pytest.approx([0.5, 0])  # b is not heard


def test_progress_always_says_of_how_many_renders():
    totals = []
    find(2 * DRY, shaper, renders=40, progress=lambda done, total, words: totals.append((done, total)))
    assert all(0 < done <= total for done, total in totals)


def test_a_default_that_makes_it_better_is_the_new_measure_of_what_others_may_cost():
    def add(audio, sample_rate, a, b):
        return audio * np.float32(0.7 + a + b)

    problem = Problem(bfx.function(add, PLAIN, name="add"), DRY, Aligned(DRY, RATE), RATE, bfx.Inline())
    assert simplify(problem, np.array([0.6, 0.3])) == pytest.approx([0, 0.3])


@pytest.mark.parametrize(
    ("dry", "reference", "error", "words"),
    [
        (0 * DRY, DRY, AudioError, "silent"),
        (DRY, 0 * DRY, AudioError, "silent"),
        (DRY, DRY[:, :-1], AudioError, "cut them alike"),
        (np.repeat(DRY, 2, 0), DRY, AudioError, "4 channels"),
        (DRY * np.nan, DRY, AudioError, "NaN"),
    ],
)
def test_recordings_that_cannot_be_matched_are_one_sentence(dry, reference, error, words):
    with pytest.raises(error, match=words) as caught:
        find(reference, bfx.load("pedalboard:Gain"), dry=dry)
    assert str(caught.value).count(". ") == 0


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"method": "gradient"}, "hybrid"),
        ({"loss": "waveform"}, "aligned"),
        ({"loss": 3}, "function"),
        ({"renders": 0}, "renders"),
        ({"renders": math.nan}, "renders"),
        ({"price": -1}, "price"),
        ({"starts": np.zeros((2, 3))}, "1 columns"),
        ({"starts": [{"gain": {"gain": 3}}]}, "gain_db"),
        ({"starts": [{"gain.gain_db": 3}]}, "by effect"),
        ({"starts": {"gain": {"gain_db": 3}}}, "list"),
        ({"starts": [[0.5]]}, "by effect"),
        ({"starts": np.array(0.5)}, "1 columns"),
        ({"renders": "many"}, "renders"),
        ({"seconds": None}, "seconds"),
        ({"seconds": 0}, "before the first render"),
        ({"price": math.inf}, "finite"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"prior": "likely"}, "Prior.of"),
        ({"prior": Prior([0.5, 0.5], np.eye(2))}, "2 columns and the chain 1"),
        ({"loss": lambda wet, ref: "loud"}, "one number"),
        ({"loss": lambda wet, ref: None}, "one number"),
        ({"loss": lambda wet, ref: 1j}, "one number"),
        ({"loss": lambda wet, ref: math.nan}, "NaN"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_bad_arguments_are_one_sentence(how, words):
    with pytest.raises(ParameterError, match=words) as caught:
        find(DRY, bfx.load("pedalboard:Gain"), **{"renders": 20, **how})
    assert str(caught.value).count(". ") == 0


def test_starts_may_have_a_gradient_and_an_excerpt_may_be_the_whole():
    rows = torch.tensor([[0.7]], requires_grad=True)
    found = find(2 * DRY, bfx.load("pedalboard:Gain"), starts=rows, excerpt=math.inf, renders=30)
    assert found.settings["gain"]["gain_db"] == pytest.approx(6.02, abs=0.01)


def test_nothing_to_find_is_one_sentence():
    with pytest.raises(ParameterError, match="no parameter is free"):
        find(DRY, bfx.load("pedalboard:Gain").fix(gain_db=3))
    with pytest.raises(EffectError):
        find(DRY, [])
    with pytest.raises(EffectError, match="further input"):
        find(DRY, bfx.load("ladspa:sc3"))


@pytest.mark.parametrize("rate", [8000, 48000, 96000])
@pytest.mark.parametrize(("channels", "wanted"), [(1, 1), (1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("seconds", [0.06, 0.5])
def test_any_rate_length_and_number_of_channels(rate, channels, wanted, seconds):
    effect = bfx.load("pedalboard:Gain")
    dry = DRY[:channels, : round(seconds * rate)]
    wet = 2 * (dry if wanted == channels else np.repeat(dry, 2, 0) if wanted == 2 else dry.mean(0, keepdims=True))
    found = find(wet, effect, dry=dry, sample_rate=rate, renders=40)
    assert found.settings["gain"]["gain_db"] == pytest.approx(6.02, abs=0.01)


def test_a_clipped_reference_is_compared_with_clipped_renders():
    effect = bfx.load("pedalboard:Gain")
    clipped = np.clip(DRY * 10, -1, 1)
    assert np.mean(np.abs(clipped) == 1) > 0.05
    assert find(clipped, effect, renders=60).settings["gain"]["gain_db"] == pytest.approx(20, abs=0.01)


def test_a_long_recording_is_heard_where_it_is_loudest_after_what_was_played_before():
    dry = np.concatenate([0.01 * DRY] * 4 + [DRY], 1)
    found = find(0.5 * dry, bfx.load("pedalboard:Gain"), dry=dry, excerpt=0.3, renders=20)
    assert found.start >= 4 * DRY.shape[1] - 2 * RATE > 0
    assert found.render(dry).shape == dry.shape
    echo = bfx.load("pedalboard:Delay").fix(delay_seconds=0.5).only("mix")
    found = find(echo.render(dry, {"mix": 0.4}, RATE), echo, dry=dry, excerpt=0.3, renders=30)
    assert found.settings["delay"]["mix"] == pytest.approx(0.4, abs=1e-3)
    assert found.loss < 1e-6


def test_the_sound_of_another_place_is_found_without_the_waveform():
    song = music(6, 8.0, 2).numpy()
    half = song.shape[1] // 2
    effects = [bfx.load("pedalboard:HighShelfFilter").fix(q=0.7).within(gain_db=(-20, 20)), bfx.load("pedalboard:Gain")]
    values = {"high_shelf_filter": {"gain_db": -12, "cutoff_frequency_hz": 2000}, "gain": {"gain_db": 6}}
    reference = hide(effects, values, song[:, half:])
    found = find(reference, effects, dry=song[:, :half], loss="sound", excerpt=4.0)
    assert found.loss < 0.1 * found.before
    assert found.settings["high_shelf_filter"]["gain_db"] == pytest.approx(-12, abs=4)


def test_features_of_a_sound_do_not_change_when_it_is_moved_and_do_when_it_is_treated():
    target = Sound(DRY, RATE)
    assert float(target.loss(torch.from_numpy(np.roll(DRY, 2048, 1)))) < 0.03
    comp = bfx.load("pedalboard:Compressor").render(DRY, {"threshold_db": -40, "ratio": 10}, RATE)
    wide = np.stack([DRY[0], -DRY[1]])
    verb = bfx.load("pedalboard:Reverb").render(DRY, {"wet_level": 1, "dry_level": 0}, RATE)
    for treated in (comp * (np.std(DRY) / np.std(comp)), wide, verb * (np.std(DRY) / np.std(verb)), DRY * 2):
        assert float(target.loss(torch.from_numpy(treated.astype(np.float32)))) > 0.05


@pytest.mark.parametrize(
    "loss",
    [bfx.MultiResolutionSTFT(), lambda wet, ref: float(np.abs(np.abs(wet.numpy()) - np.abs(ref.numpy())).max())],
    ids=["module", "numpy"],
)
def test_any_loss(loss):
    effects = [bfx.load("pedalboard:Compressor").only("threshold_db", "ratio"), bfx.load("pedalboard:Gain")]
    reference = hide(effects, {"compressor": {"threshold_db": -30, "ratio": 5}, "gain": {"gain_db": 6}})
    found = find(reference, effects, loss=loss)
    assert found.loss < 0.2 * found.before
    with pytest.raises(ParameterError, match="one number"):
        find(reference, effects, loss=lambda wet, ref: wet - ref)


def test_a_loss_may_write_into_what_it_gets():
    def loss(wet, ref):
        return ref.sub_(wet).abs().mean()

    found = find(2 * DRY, bfx.load("pedalboard:Gain"), loss=loss, renders=40)
    assert found.settings["gain"]["gain_db"] == pytest.approx(6.02, abs=0.5)


def test_a_loss_that_is_a_sum_of_squares_is_what_its_parts_say_and_folding_keeps_lengths():
    rng = np.random.default_rng(0)
    target = Aligned(DRY, RATE)
    ratios = []
    for _ in range(30):
        wet = (DRY + 0.05 * rng.standard_normal(DRY.shape)).astype(np.float32)
        parts, folded = target.hear(wet)
        assert parts.sum() == pytest.approx(float(target.loss(torch.from_numpy(wet))), rel=1e-4)
        ratios.append([np.square(x).sum() / p for x, p in zip(np.split(folded, 2), parts, strict=True)])
    mean, error = np.mean(ratios, 0), np.std(ratios, 0) / 30**0.5
    assert (np.abs(mean - 1) < np.maximum(4 * error, 0.06)).all()


def test_effects_that_are_not_needed_are_left_out_and_an_order_is_found():
    effects = {"eq": bfx.load("pedalboard:HighShelfFilter").only("gain_db"), "drive": bfx.load("pedalboard:Distortion")}
    turned = bfx.Rack({"drive": effects["drive"], "eq": effects["eq"]})
    reference = turned.render(DRY, {"drive.drive_db": 25, "eq.gain_db": 12}, RATE)
    found = find(reference, effects, search_order=True, renders=200)
    assert list(found.settings) == ["drive", "eq"]
    assert found.loss < 1e-3 * found.before
    only = bfx.load("pedalboard:Distortion").render(DRY, {"drive_db": 25}, RATE)
    found = find(only, effects, may_bypass=True, price=0.01, renders=200)
    assert list(found.settings) == ["drive"]
    assert found.settings["drive"]["drive_db"] == pytest.approx(25, abs=0.5)
    assert np.array_equal(found.render(DRY), effects["drive"].render(DRY, found.settings["drive"], RATE))
    with pytest.raises(ParameterError, match="at most 4"):
        find(only, [effects["drive"]] * 5, search_order=True)


def test_a_prior_decides_what_is_not_heard():
    effects = [bfx.load("pedalboard:Gain"), bfx.load("pedalboard:Gain")]
    reference = hide(effects, {"gain": {"gain_db": 12}})
    rng = np.random.default_rng(0)
    rows = np.stack([0.55 + 0.02 * rng.standard_normal(50), np.full(50, 0.5) + 0.02 * rng.standard_normal(50)], 1)
    found = find(reference, effects, prior=Prior.of(rows, weight=1e-4), renders=100)
    both = found.settings["gain"]["gain_db"] + found.settings["gain_2"]["gain_db"]
    assert both == pytest.approx(12, abs=1)
    assert found.params[0] - found.params[1] == pytest.approx(0.05, abs=0.02)
    with pytest.raises(ParameterError, match="two settings"):
        Prior.of(rows[:1])
    for covariance in ([[1, 2], [2, 1]], [[1, 0.9], [0, 1]], np.zeros((2, 2))):
        with pytest.raises(ParameterError, match="positive definite"):
            Prior([0.5, 0.5], covariance)
    for given in (([0.5, np.nan], np.eye(2)), ([0.5, 0.5], np.full((2, 2), np.inf)), ("x", np.eye(2))):
        with pytest.raises(ParameterError, match=r"finite|numbers"):
            Prior(*given)
    with pytest.raises(ParameterError, match="finite"):
        Prior.of(np.full((4, 2), np.nan))
    with pytest.raises(ParameterError, match="weight"):
        Prior([0.5, 0.5], np.eye(2), "much")


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False, env={"COLUMNS": "200"})


@pytest.fixture
def pair(tmp_path):
    wet = bfx.load("pedalboard:Compressor").render(DRY, {"threshold_db": -35, "ratio": 6}, RATE)
    write(tmp_path / "dry.wav", DRY, RATE)
    write(tmp_path / "wet.wav", wet, RATE)
    return tmp_path / "dry.wav", tmp_path / "wet.wav", tmp_path / "out"


def test_the_command_writes_all_that_an_engineer_goes_on_with(pair):
    dry, wet, out = pair
    asked = (
        "match",
        dry,
        wet,
        "--chain",
        "pedalboard:Compressor",
        "--chain",
        "pedalboard:Gain",
        "--out",
        out,
        "--renders",
        200,
    )
    result = run(*asked)
    assert result.exit_code == 0, result.output
    said = json.loads((out / "match.json").read_text())
    assert said["loss"] < 1e-3 * said["before"]
    rack = bfx.Rack(chain_of(["pedalboard:Compressor", "pedalboard:Gain"]))
    flat = {f"{label}.{name}": value for label, own in read_settings(out).items() for name, value in own.items()}
    assert np.array_equal(read(out / "matched.wav")[0], rack.render(read(dry)[0], flat, RATE))
    rows = list(csv.DictReader((out / "settings.csv").read_text().splitlines()))
    assert {row["effect"] for row in rows} == {"compressor", "gain"}
    gain = bfx.load("pedalboard:Gain")
    assert gain.load_preset(out / "presets" / "gain.json")["gain_db"] == said["settings"]["gain"]["gain_db"]
    assert bfx.read_session(out / "matched.dawproject").tracks[0].name == "matched"
    page = (out / "index.html").read_text()
    assert all(word in page for word in ("dry.flac", "matched.flac", "reference.flac", "search.svg", "threshold_db"))
    again = run(*asked, "--start", out)
    assert again.exit_code == 0


def test_held_settings_are_written_and_not_taken_for_defaults(pair):
    dry, wet, out = pair
    held = ("--set", "compressor.ratio=6", "--only", "compressor.threshold_db")
    result = run("match", dry, wet, "--chain", "pedalboard:Compressor", *held, "--out", out, "--renders", 20)
    assert result.exit_code == 0, result.output
    assert json.loads((out / "match.json").read_text())["held"]["compressor"]["ratio"] == 6
    rows = {row["setting"]: row for row in csv.DictReader((out / "settings.csv").read_text().splitlines())}
    assert (rows["ratio"]["value"], rows["ratio"]["could be"]) == ("6", "held")
    assert "where they were held" in result.output
    assert "where they were held" in (out / "index.html").read_text()


def test_an_interrupted_command_says_so_and_that_it_goes_on(pair, monkeypatch):
    dry, wet, out = pair
    monkeypatch.setattr(terminal, "bar", lambda title: contextlib.nullcontext(stopping(1)))
    result = run("match", dry, wet, "--chain", "pedalboard:Compressor", "--out", out, "--renders", 200)
    assert result.exit_code == 130
    assert "interrupted; the same command goes on" in result.output
    assert "The last column" not in (out / "index.html").read_text()


def test_mono_is_rendered_on_both_sides_for_a_stereo_reference(tmp_path):
    dry, reverb = DRY[:1], bfx.load("pedalboard:Reverb").only("room_size", "width")
    reference = reverb.render(np.repeat(dry, 2, 0), {"room_size": 0.7, "width": 1.0}, RATE)
    found = find(reference, reverb, dry=dry, renders=60)
    assert found.render(dry).shape == reference.shape
    assert found.loss == pytest.approx(loss_of(found, reference, dry), rel=1e-3, abs=1e-9)
    write(tmp_path / "dry.wav", dry, RATE)
    write(tmp_path / "wet.wav", reference, RATE)
    asked = ("--chain", "pedalboard:Reverb", "--only", "reverb.room_size", "--out", tmp_path / "out", "--renders", 10)
    assert "on both sides" in run("match", tmp_path / "dry.wav", tmp_path / "wet.wav", *asked).output
    assert len(read(tmp_path / "out" / "matched.wav")[0]) == 2
    assert bfx.read_session(tmp_path / "out" / "matched.dawproject").tracks[0].channels == 2


@pytest.mark.parametrize("name", ["index.html", "settings.csv", "reference.flac", "matched.wav"])
def test_files_of_others_in_the_folder_are_not_replaced(pair, name):
    dry, wet, out = pair
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(DataError, match=f"{name} that this command did not write; name another folder"):
        run("match", dry, wet, "--chain", "pedalboard:Gain", "--out", out)
    assert (out / name).read_text() == "mine"


def test_ten_samples_are_matched_without_a_warning(pair):
    dry, wet, out = pair
    write(dry, DRY[:, 5000:5010], RATE)
    write(wet, 2 * DRY[:, 5000:5010], RATE)
    result = run("match", dry, wet, "--chain", "pedalboard:Gain", "--out", out, "--renders", 20)
    assert result.exit_code == 0 and "Warning" not in result.output, result.output
    assert read_settings(out)["gain"]["gain_db"] == pytest.approx(6.02, abs=0.1)


def test_settings_are_kept_if_the_whole_cannot_be_rendered(pair, monkeypatch):
    def fail(found, dry):
        raise EffectError("It fails late.")

    dry, wet, out = pair
    monkeypatch.setattr(Match, "render", fail)
    with pytest.raises(EffectError, match="late"):
        run("match", dry, wet, "--chain", "pedalboard:Compressor", "--out", out, "--renders", 10)
    assert read_settings(out)["compressor"]


def test_a_reference_that_looks_like_another_kind_is_asked_about(pair):
    dry, wet, out = pair
    asked = ("--chain", "pedalboard:Gain", "--out", out, "--renders", 5, "--session", "none")
    write(wet, np.pad(2 * DRY, ((0, 0), (0, 9000))), RATE)  # with a tail
    assert "give --pair aligned" in run("match", dry, wet, *asked).output
    assert "give --pair" not in run("match", dry, wet, *asked[:3], out / "2", *asked[4:], "--pair", "sound").output
    write(wet, 0.1 * np.random.default_rng(0).standard_normal(DRY.shape).astype(np.float32), RATE)
    assert "give --pair sound" in run("match", dry, wet, *asked[:3], out / "3", *asked[4:]).output


def test_what_others_make_up_for_is_told_from_what_is_not_heard():
    effects = [
        bfx.load("pedalboard:Gain"),
        bfx.load("pedalboard:Gain"),
        bfx.load("pedalboard:PeakFilter").fix(gain_db=0),
    ]
    found = find(2 * DRY, effects, renders=60)
    words = {d.name: d.words() for d in found.determined}
    assert words["gain.gain_db"] == words["gain_2.gain_db"] == "any, if others follow"
    assert words["peak_filter.q"] == "not heard"
    assert not any(d.is_heard for d in found.determined)


def test_large_numbers_have_no_exponent():
    assert Determined("cutoff_hz", 5000.0, 20.0, 10061.3, 0.5).words() == "20 to 10061"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--chain", "pedalboard:Gain", "--set", "gain.gain=3"), "gain_db"),
        (("--chain", "pedalboard:Gain", "--set", "gain.gain_db=3"), "no parameter is free"),
        (("--chain", "pedalboard:Gain", "--only", "gain.nothing"), "gain_db"),
        (("--chain", "pedalboard:Nothing"), "pedalboard"),
        (("--chain", "pedalboard:Gain", "--method", "best"), "hybrid"),
        (("--chain", "pedalboard:Gain", "--start", "nowhere"), "earlier match"),
    ],
)
def test_mistakes_on_the_command_line_are_one_sentence(pair, options, words):
    dry, wet, out = pair
    with pytest.raises(BlackBoxError, match=words) as caught:
        run("match", dry, wet, "--out", out, *options)
    assert "\n" not in str(caught.value)


def test_the_comparison_is_a_command_that_goes_on(tmp_path):
    out = tmp_path / "new"
    asked = (
        "bench",
        "match",
        "--out",
        out,
        "--chain",
        "pedalboard:Gain",
        "--targets",
        2,
        "--renders",
        30,
        "--seconds",
        0.3,
    )
    assert run(*asked, "--unaligned").exit_code == 0
    trials = comparison.read_trials(out / "trials.csv")
    assert len(trials) == 2 * (len(comparison.METHODS) + 2)
    hybrid = [t for t in trials if t.method == "hybrid"]
    assert all(t.losses[0] < 1e-6 and t.error < 1e-3 for t in hybrid)
    before = (out / "trials.csv").read_bytes()
    assert run(*asked, "--unaligned").exit_code == 0
    assert (out / "trials.csv").read_bytes() == before
    assert "loss.svg" in (out / "index.html").read_text()
    (out / "trials.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="another folder"):
        comparison.read_trials(out / "trials.csv")
