"""Plugins that behave oddly in one way each, in every host: what becomes of each kind."""

import pickle

import numpy as np
import pytest
import torch

from blackbox_fx import BlackBox
from blackbox_fx.effects import Rack, installed, load, scan
from blackbox_fx.effects.hosts.vst3 import effect as vst3
from blackbox_fx.effects.hosts.vst3 import hosting
from blackbox_fx.effects.texts import python_names
from blackbox_fx.errors import DataError, EffectError
from blackbox_fx.estimators import MultiplexedSPSA
from blackbox_fx.space import Continuous
from tests.cases import RATE, music
from tests.odd_plugins import build, build_two, lv2_path


@pytest.mark.parametrize(
    ("labels", "units", "last", "names"),
    [
        (["Gain", "Gain", "gain "], ["dB", "dB", ""], (), ["gain_db", "gain_db_2", "gain"]),
        (["Gain", "Mix", "Gain"], ["", "", ""], (0,), ["gain_2", "mix", "gain"]),  # excluded ones are named last
        (["", "--", "\ufffd"], ["dB", "", ":x"], (), ["parameter_0_db", "parameter_1", "parameter_2"]),
        (["音量", "\uff2dix", "Fréquence"], ["dB", "", "Hz"], (), ["音量_db", "mix", "fréquence_hz"]),
        (["Громкость", "हिन्दी", "Attack"], ["", "", "\u00b5s"], (), ["громкость", "हिन्दी", "attack_μs"]),
        (["Low", "Low", "Low 2"], ["", "", ""], (), ["low", "low_2", "low_2_2"]),
        (["20801Hz", "Rms_/_Peak"], ["", "%"], (), ["20801hz", "rms_peak"]),
        ([], [], (), []),
    ],
)
def test_parameters_get_names_that_differ_and_keep_their_letters(labels, units, last, names):
    assert python_names(labels, units, last) == names


# what a plugin calls its parameters, where the format lets it
@pytest.mark.parametrize(
    ("kind", "host", "names"),
    [
        ("same-names", "vst3", ["gain_db", "gain_db_2"]),
        ("same-names", "ladspa", ["gain", "gain_2"]),
        ("foreign-names", "vst3", ["parameter_1_db", "parameter_2"]),  # DPF writes ASCII only into a VST3
        ("foreign-names", "ladspa", ["音量", "混響"]),
    ],
)
def test_no_parameter_of_an_odd_plugin_is_lost(kind, host, names):
    assert list(load(build(kind, host)).space.parameters) == names


LEVEL = 0.125


def flat(channels=2, length=2048):
    return np.full((channels, length), LEVEL, np.float32)


def gain(wet):
    """In dB, of the last sample."""
    return float(20 * np.log10(np.abs(wet[0, -1]) / LEVEL))


@pytest.mark.parametrize("host", ["vst3", "ladspa"])
def test_an_odd_plugin_that_is_ready_late_is_waited_for(host):
    effect = load(build("warm-up", host))
    (name,) = effect.space.parameters
    assert effect.settle > 0.3 and not effect.excluded.keys() - {"latency_frames"}
    for used in (effect, pickle.loads(pickle.dumps(effect))):  # as in a worker
        for decibels in (0, 6, 0):
            assert gain(used.render(flat(), {name: decibels})) == pytest.approx(decibels - 12.04, abs=0.01)
    assert effect.settle == load(build("warm-up", host)).settle  # from the cache
    assert load(build("plain", host)).settle == 0


@pytest.mark.parametrize("host", ["vst3", "ladspa"])
def test_an_odd_plugin_that_takes_settings_over_by_the_clock_is_waited_for(host):
    effect = load(build("slow-settings", host))
    (name,) = effect.space.parameters
    assert effect.settle and not effect.excluded.keys() - {"latency_frames"}
    for decibels in (0, 6, -6):
        assert gain(effect.render(flat(), {name: decibels})) == pytest.approx(decibels, abs=0.01)


@pytest.mark.parametrize("host", ["vst3", "ladspa"])
def test_an_option_of_an_odd_plugin_that_takes_time_is_waited_for(host):
    effect = load(build("model", host))
    decibels, model = effect.space.parameters
    assert effect.settle >= 0.1
    for g, m in ((6, 12), (0, 12), (0, 0), (0, 12), (-6, 2), (6, 12)):
        wet = effect.render(flat(), {decibels: g, model: m})
        assert gain(wet) == pytest.approx(g - 20 * np.log10(1 + m), abs=0.01)


def test_an_odd_plugin_is_waited_for_only_when_a_slow_option_has_moved(monkeypatch):
    effect = load(build("model", "vst3"))
    decibels, model = effect.space.parameters
    effect.render(flat())
    waits = []
    monkeypatch.setattr(hosting, "wait", waits.append)
    for settings, waited in (({model: 12}, 1), ({model: 12, decibels: 6}, 0), ({model: 2, decibels: 6}, 1)):
        waits.clear()
        effect.render(flat(), settings)
        assert waits == waited * [effect.settle]


@pytest.mark.parametrize("latency", [0, 100, 700])
@pytest.mark.parametrize("host", ["vst3", "ladspa", "vst2", "lv2"])
def test_a_latency_that_an_odd_plugin_reports_wrongly_is_replaced(host, latency, monkeypatch):
    monkeypatch.setenv("LV2_PATH", str(lv2_path()))
    effect = load(build("lies", host), latency_samples=latency)
    audio = music(0.1)
    delayed = np.pad(audio, ((0, 0), (100, 700)))  # by as much as the plugin has, whatever it reports
    expected = delayed[:, latency : latency + audio.shape[1]]
    assert effect.latency == latency
    assert np.abs(effect.render(audio) - expected).max() < 1e-6
    if effect.automatable:
        assert np.abs(effect.render(audio, [effect.defaults] * 9, RATE, 512) - expected).max() < 1e-6


FORGETFUL = {  # the second values, and what they add to the gain
    "forgets": lambda second: 0,
    "forgets-late": lambda second: 0,
    "forgets-one": lambda trim: trim,
    "forgets-mode": lambda style: 0,
    "forgets-option": lambda style: 20 * np.log10(1 + style),
    "forgets-value": lambda style: 20 * np.log10(1 + style),
}


HOSTS = [("vst3", {}), ("vst3", {"tempo": 100}), ("ladspa", {}), ("vst2", {}), ("lv2", {})]


# LV2 and LADSPA plugins made with DPF never learn of a setting that is the default they declare
@pytest.mark.parametrize(
    ("kind", "host", "options"),
    [
        (kind, *host)
        for kind in FORGETFUL
        for host in HOSTS
        if kind != "forgets-value" or host[0] not in ("lv2", "ladspa")
    ],
)
def test_an_odd_plugin_that_forgets_its_settings_is_set_again(kind, host, options, monkeypatch):
    monkeypatch.setenv("LV2_PATH", str(lv2_path()))
    effect = load(build(kind, host), **options)
    for decibels, second in ((6, 0), (0, 3), (-6, 3), (6, 3), (6, 2), (0, 0)):
        wet = effect.render(flat(), dict(zip(effect.space.parameters, (decibels, second), strict=False)))
        assert gain(wet[:, :1]) == pytest.approx(decibels + FORGETFUL[kind](second), abs=0.01)
        assert gain(wet) == pytest.approx(decibels + FORGETFUL[kind](second), abs=0.01)


@pytest.mark.parametrize("host", ["vst3", "ladspa"])
def test_an_option_of_an_odd_plugin_that_overwrites_others_is_set_first(host):
    effect = load(build("mode", host))
    decibels, style = effect.space.parameters
    first = {s: gain(effect.render(flat(), {decibels: 6, style: s})) for s in range(4)}
    for s, g in ((3, 6), (0, 6), (3, 6), (3, 0), (3, 6), (2, -3), (3, -12), (3, 6)):
        wet = effect.render(flat(), {decibels: g, style: s})
        assert gain(wet) == pytest.approx(g, abs=0.01)
        if g == 6:
            assert gain(wet) == first[s]


OVERWRITTEN = {  # values of the two parameters, and the gain that they stand for
    "bank": [((s, b), 20 * np.log10(1 + s + 10 * b)) for s, b in ((2, 0), (2, 1), (3, 2), (3, 0), (0, 2), (2, 1))],
    "macro": [((g, m), g) for g, m in ((6, 0), (6, 0.5), (6, 1), (-3, 0.2), (6, 0.5))],
}


# the values of one parameter, of which only the last overwrites the next
AT_ONE_PLACE = {"upper-end": (0.5, 0.2, 0.95), "lower-end": (0.5, 0.8, 0.05), "one-mode": (0, 3, 4)}


@pytest.mark.parametrize("host", ["vst3", "vst2"])
def test_an_odd_plugin_that_forgets_at_another_rate_is_set_again(host):
    effect = load(build("forgets-rate", host))
    settings = dict(zip(effect.space.parameters, (6, 3), strict=True))
    for rate in (44_100, 48_000, 44_100, 44_100):
        assert gain(effect.render(flat(), settings, rate)) == pytest.approx(9, abs=0.01)


@pytest.mark.parametrize("host", ["vst3", "ladspa", "vst2", "lv2"])
def test_an_option_that_a_switch_mutes_overwrites_all_the_same_odd_plugin(host, monkeypatch):
    monkeypatch.setenv("LV2_PATH", str(lv2_path()))
    effect = load(build("muted", host))
    for mode, decibels in ((0, 6), (3, 6), (0, 6), (1, -3), (3, -3)):
        wet = effect.render(flat(), dict(zip(effect.space.parameters, (False, mode, decibels), strict=True)))
        assert gain(wet) == pytest.approx(decibels, abs=0.01)


@pytest.mark.parametrize("host", ["vst3", "ladspa", "vst2", "lv2"])
@pytest.mark.parametrize("kind", AT_ONE_PLACE)
def test_what_a_parameter_of_an_odd_plugin_overwrites_at_one_place_is_set_after_it(kind, host, monkeypatch):
    monkeypatch.setenv("LV2_PATH", str(lv2_path()))
    effect = load(build(kind, host))
    calm, other, acts = AT_ONE_PLACE[kind]
    for macro, decibels, trim in (
        (calm, 6, 1),
        (acts, 6, 1),
        (other, 6, 1),
        (acts, 6, -2),
        (calm, 6, -2),
        (acts, 6, 1),
    ):
        wet = effect.render(flat(), dict(zip(effect.space.parameters, (macro, decibels, trim), strict=True)))
        assert gain(wet) == pytest.approx(decibels + trim, abs=0.01)


@pytest.mark.parametrize("host", ["vst3", "ladspa"])
@pytest.mark.parametrize("kind", OVERWRITTEN)
def test_what_another_parameter_of_an_odd_plugin_overwrites_is_set_after_it(kind, host):
    effect = load(build(kind, host))
    for values, decibels in OVERWRITTEN[kind]:
        wet = effect.render(flat(), dict(zip(effect.space.parameters, values, strict=True)))
        assert gain(wet) == pytest.approx(decibels, abs=0.01)


@pytest.mark.parametrize("host", ["vst3", "ladspa"])
@pytest.mark.parametrize("kind", ["latency-by-setting", "late-latency"])
def test_latency_of_an_odd_plugin_is_that_of_its_settings(kind, host):
    effect = load(build(kind, host))
    decibels, lookahead = effect.space.parameters
    audio = music(0.2)
    for delay in (0, 5, 10, 3.3, 0):
        assert np.abs(effect.render(audio, {lookahead: delay}) - audio).max() < 1e-6
    moving = [{lookahead: float(k)} for k in range(5)]
    words = "latency of 0 samples in one block of the clip and of 44" if host == "vst3" else "cannot change settings"
    with pytest.raises(EffectError, match=words):
        effect.render(audio, moving, RATE, 2048)
    if host == "vst3":  # where it stays, settings change on their sample
        levels = [0.0, -6.0, 3.0, -6.0, 0.0]
        wet = effect.render(audio, [{lookahead: 5, decibels: level} for level in levels], RATE, 2048)
        assert np.abs(wet - audio * 10 ** (np.repeat(levels, 2048)[: audio.shape[1]] / 20)).max() < 1e-5


@pytest.mark.parametrize("host", ["ladspa"])
def test_two_inputs_and_one_output_of_an_odd_plugin_are_the_same_in_all_hosts(host):
    effect = load(build("channels", host, 2, 1))
    stereo = np.stack([flat()[0], 3 * flat()[0]])
    assert np.allclose(effect.render(stereo), 4 * LEVEL) and np.allclose(effect.render(stereo[:1]), 2 * LEVEL)


@pytest.mark.parametrize("host", ["ladspa"])
def test_one_input_and_two_outputs_of_an_odd_plugin_are_the_same_in_all_hosts(host):
    effect = load(build("channels", host, 1, 2))
    stereo = np.stack([flat()[0], 3 * flat()[0]])
    assert np.allclose(effect.render(stereo), np.array([[2 * LEVEL], [-LEVEL]]))
    assert np.allclose(effect.render(stereo[:1]), LEVEL)


@pytest.mark.parametrize(("inputs", "outputs"), [(2, 1), (1, 2)])
def test_an_odd_plugin_that_pedalboard_cannot_host_is_refused_with_a_way_out(inputs, outputs):
    with pytest.raises(EffectError, match=f"has inputs and outputs, {inputs} and {outputs}, .* vst2:, lv2: or ladspa:"):
        load(build("channels", "vst3", inputs, outputs))


def test_odd_plugins_that_share_a_file_are_named(tmp_path, monkeypatch):
    two = build_two()
    monkeypatch.setattr(vst3, "search_path", lambda: [tmp_path])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "Two.vst3").symlink_to(two)
    with pytest.raises(EffectError, match=r"holds the plugins Alpha, Beta; name one, as vst3:Two:Alpha\.$"):
        load("vst3:Two")
    assert installed(("vst3",), "two") == {"vst3": ["vst3:Two:Alpha", "vst3:Two:Beta"]}
    with pytest.raises(EffectError, match="has no plugin 'Gamma'; it has Alpha, Beta"):
        load(f"vst3:{two}:Gamma")
    alpha, beta, same = load("vst3:Two:Alpha"), load("vst3:Two:Beta"), load(f"vst3:{two}:Beta")
    assert len({alpha.fingerprint, beta.fingerprint, same.fingerprint}) == 3
    fresh = pickle.loads(pickle.dumps(beta))
    assert list(alpha.space.parameters) == ["gain_db"] and list(beta.space.parameters) == ["gain_db", "bypass"]
    assert gain(fresh.render(flat(), {"gain_db": -6})) == pytest.approx(-6, abs=0.01)
    beta.save_preset(tmp_path / "x.vstpreset", {"gain_db": -7})
    assert beta.load_preset(tmp_path / "x.vstpreset")["gain_db"] == pytest.approx(-7, abs=1e-4)
    with pytest.raises(DataError, match="of another plugin"):
        alpha.load_preset(tmp_path / "x.vstpreset")


def test_a_scan_lists_each_odd_plugin_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / ".vst3").mkdir()
    (tmp_path / ".vst3/Two.vst3").symlink_to(build_two())
    found = [(s.address, s.parameters, s.why) for s in scan(("vst3",), "two")]
    assert found == [("vst3:Two:Alpha", 1, ""), ("vst3:Two:Beta", 2, "")]


@pytest.mark.parametrize("address", ["vst3:ZamVerb", "vst3:ZamDelay", "ladspa:comb", "ladspa:delay_c"])
def test_changes_come_on_the_grid_of_a_plugin_that_has_one(address):
    effect = load(address)
    name = next(n for n, p in effect.space.parameters.items() if isinstance(p, Continuous))
    audio = music(0.1)
    low, high = (effect.space.parameters[name].decode(np.array([at])) for at in (0.4, 0.6))
    words = "changes settings at multiples of 512 samples only, got hop=441; take 512"
    with pytest.raises(EffectError, match=words):
        effect.render(audio, [{name: (low, high)[k % 2]} for k in range(10)], RATE, 441)
    blocks = [{name: low}] * 4 + [{name: high}]
    wet = effect.render(audio, blocks, RATE, 1024)
    assert np.abs(wet[:, :4096] - effect.render(audio, {name: low})[:, :4096]).max() < 1e-3
    assert Rack([effect, load("ladspa:amp")]).find_hop_multiple() == effect.find_hop_multiple() == 512


def test_blocks_of_an_estimate_are_what_the_effect_can_do():
    estimator, effect = MultiplexedSPSA(block=1000), load("ladspa:comb")
    layer = BlackBox(effect, estimator=estimator)
    params = torch.full((1, effect.space.width), 0.4, requires_grad=True)
    layer(torch.from_numpy(music(0.5))[None], params).square().mean().backward()
    assert params.grad is not None and params.grad.isfinite().all()
    assert "too small" not in estimator.reason  # blocks were measured, so they were rendered


@pytest.mark.parametrize(("host", "excluded"), [("vst3", {"latency_frames", "level_db"}), ("ladspa", set())])
def test_meters_and_buttons_of_an_odd_plugin(host, excluded):
    effect = load(build("meters", host))
    level, flash, mute = effect.space.parameters
    assert set(effect.excluded) == excluded
    for pressed in (False, True, False, True):
        wet = effect.render(flat(), {flash: pressed, level: 6})
        assert gain(wet) == pytest.approx(6, abs=0.01)
        assert (wet[0, 0] < 0) == (pressed and host == "ladspa")  # in a VST3, it is over when the render begins
    assert not effect.render(flat(), {mute: True}).any()
