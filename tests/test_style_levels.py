"""The level of a transfer: the one parameter that only scales is found and set, and nothing else moves."""

import numpy as np
import pytest

import blackbox_fx as bfx
from blackbox_fx.lab.case import music
from blackbox_fx.tasks.style.levels import level, match_level
from blackbox_fx.tasks.style.shipped import shipped
from blackbox_fx.tasks.style.styler import ABOUT

RATE = 44100
AUDIO = music(seed=3, seconds=2.0, channels=2).numpy()


def rack(*effects):
    return bfx.Rack(dict(zip("abc", effects, strict=False)))


def point_of(chain, value=0.6):
    return np.full(chain.space.width, value)


CHAINS = {
    "gain behind a compressor": (
        lambda: rack(bfx.load("pedalboard:Compressor"), bfx.load("pedalboard:Gain").within(gain_db=(-24, 24))),
        ["b.gain_db"],
    ),
    "the last of two gains": (
        lambda: rack(*(bfx.load("pedalboard:Gain").within(gain_db=(-24, 24)) for _ in range(2))),
        ["b.gain_db"],
    ),
    "a factor and no decibels": (
        lambda: rack(
            bfx.load("pedalboard:Distortion"),
            bfx.function(lambda x, rate, factor: factor * x, bfx.Space({"factor": bfx.Continuous(0.05, 4.0, 1.0)})),
        ),
        ["b.factor"],
    ),
    "a gain before a compressor": (
        lambda: rack(
            bfx.load("pedalboard:Gain").within(gain_db=(-24, 24)),
            bfx.load("pedalboard:Compressor").fix(threshold_db=-50, ratio=8).only("attack_ms", "release_ms"),
        ),
        [],
    ),
    "filters": (lambda: rack(bfx.load("pedalboard:HighShelfFilter")), []),
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("by", [-6.0, 4.0])
def test_only_what_scales_is_set_and_gives_the_level(name, by):
    make, columns = CHAINS[name]
    chain = make()
    point = point_of(chain)
    before = level(chain.render(AUDIO, chain.space.decode(point), RATE))
    effects, found, renders = match_level(chain.members, point, AUDIO, before + by, RATE)
    assert renders <= 1 + chain.space.width + 12
    own = found[: chain.space.width]
    assert [chain.space.columns[k] for k in np.flatnonzero(own != point)] == columns
    assert list(effects) == [*chain.members, *(() if columns else ("level",))]
    chain = bfx.Rack(effects)
    after = level(chain.render(AUDIO, chain.space.decode(found), RATE))
    assert after == pytest.approx(before + by, abs=0.1)


@pytest.mark.parametrize("by", [-40.0, -25.0, -10.0, 10.0])
@pytest.mark.parametrize("value", [0.1, 0.6, 1.0])
def test_a_factor_that_reaches_silence_or_its_end_gets_help(value, by):
    chain = rack(bfx.function(lambda x, rate, factor: factor * x, bfx.Space({"factor": bfx.Continuous(0.0, 4.0, 1.0)})))
    wanted = level(4 * value * AUDIO) + by
    effects, found, _ = match_level(chain.members, point_of(chain, value), AUDIO, wanted, RATE)
    if wanted > level(4 * AUDIO) + 0.05:
        assert "level" in effects
    chain = bfx.Rack(effects)
    assert level(chain.render(AUDIO, chain.space.decode(found), RATE)) == pytest.approx(wanted, abs=0.1)


def test_a_gain_before_a_compressor_at_rest_does_not_wake_it():
    chain = rack(
        bfx.load("pedalboard:Gain").within(gain_db=(-40, 24)),
        bfx.load("pedalboard:Compressor").fix(threshold_db=-30, ratio=20, attack_ms=1, release_ms=50),
    )
    quiet, point = 0.02 * AUDIO, point_of(chain, 0.6)
    effects, found, _ = match_level(chain.members, point, quiet, level(quiet) + 21, RATE)
    before = chain.render(quiet, chain.space.decode(point), RATE)
    after = bfx.Rack(effects).render(quiet, bfx.Rack(effects).space.decode(found), RATE)
    assert level(after) == pytest.approx(level(quiet) + 21, abs=0.1)
    gain = np.vdot(before, after) / np.vdot(before, before)
    assert np.square(after - gain * before).sum() < 2e-6 * np.square(after).sum()


@pytest.mark.parametrize(("by", "end"), [(-100, 0.0), (100, 1.0)])
def test_a_level_out_of_reach_is_met_as_far_as_the_gain_behind_goes(by, end):
    chain = rack(bfx.load("pedalboard:Gain").within(gain_db=(-12, 12)))
    _, found, _ = match_level(chain.members, point_of(chain), AUDIO, level(AUDIO) + by, RATE)
    assert found.tolist() == [end, end]


def test_two_gains_and_the_one_behind_get_there_together():
    chain = rack(*(bfx.load("pedalboard:Gain").within(gain_db=(-12, 12)) for _ in range(2)))
    effects, found, _ = match_level(chain.members, point_of(chain, 0.5), AUDIO, level(AUDIO) + 30, RATE)
    chain = bfx.Rack(effects)
    assert level(chain.render(AUDIO, chain.space.decode(found), RATE)) == pytest.approx(level(AUDIO) + 30, abs=0.1)


def test_silence_moves_nothing():
    chain = rack(bfx.load("pedalboard:Gain"))
    point = point_of(chain)
    effects, found, _ = match_level(chain.members, point, np.zeros_like(AUDIO), -20, RATE)
    assert effects == chain.members and np.array_equal(found, point)
    assert level(np.zeros_like(AUDIO)) == -120


def test_a_gain_behind_a_member_called_level_gets_another_name():
    chain = bfx.Rack({"level": bfx.load("pedalboard:HighShelfFilter")})
    effects, _, _ = match_level(chain.members, point_of(chain), AUDIO, -20, RATE)
    assert list(effects) == ["level", "level_2"]


@pytest.mark.parametrize("name", shipped(ABOUT))
def test_a_transfer_has_the_level_of_its_reference(name):
    styler = bfx.load_styler(name)
    for factor in (0.4, 1.0):
        reference = factor * music(seed=5, seconds=3.0, channels=2).numpy()
        found = bfx.transfer(AUDIO, reference, styler, sample_rate=RATE)
        assert level(found.render(AUDIO)) == pytest.approx(level(reference), abs=0.3)
        assert list(found.settings) == list(found.effects)
