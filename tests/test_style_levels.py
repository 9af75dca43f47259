"""The level of a transfer: the one parameter that only scales is found and set, and nothing else moves."""

import numpy as np
import pytest

import blackbox_fx as bfx
from blackbox_fx.lab.case import music
from blackbox_fx.tasks.style.levels import level, match_level

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
    found, renders = match_level(chain, point, AUDIO, before + by, RATE)
    assert renders <= 1 + chain.space.width + 12
    assert [chain.space.columns[k] for k in np.flatnonzero(found != point)] == columns
    after = level(chain.render(AUDIO, chain.space.decode(found), RATE))
    assert after == pytest.approx(before + by if columns else before, abs=0.1)


@pytest.mark.parametrize("by", [-40.0, -25.0, -10.0, 10.0])
@pytest.mark.parametrize("value", [0.1, 0.6, 1.0])
def test_a_factor_that_reaches_silence_stops_before_it(value, by):
    chain = rack(bfx.function(lambda x, rate, factor: factor * x, bfx.Space({"factor": bfx.Continuous(0.0, 4.0, 1.0)})))
    wanted = level(4 * value * AUDIO) + by
    found, _ = match_level(chain, point_of(chain, value), AUDIO, wanted, RATE)
    reached = level(chain.render(AUDIO, chain.space.decode(found), RATE))
    assert reached == pytest.approx(min(wanted, level(4 * AUDIO)), abs=1.0)


def test_a_gain_before_a_compressor_at_rest_does_not_wake_it():
    chain = rack(
        bfx.load("pedalboard:Gain").within(gain_db=(-40, 24)),
        bfx.load("pedalboard:Compressor").fix(threshold_db=-20, ratio=20, attack_ms=1, release_ms=50),
    )
    quiet, point = 0.02 * AUDIO, point_of(chain, 0.4)
    found, _ = match_level(chain, point, quiet, level(quiet) + 30, RATE)
    before, after = (chain.render(quiet, chain.space.decode(each), RATE) for each in (point, found))
    assert found > point
    gain = np.vdot(before, after) / np.vdot(before, before)
    assert np.square(after - gain * before).sum() < 2e-6 * np.square(after).sum()


@pytest.mark.parametrize(("by", "end"), [(-100, 0.0), (100, 1.0)])
def test_a_level_out_of_reach_is_met_as_far_as_the_range_goes(by, end):
    chain = rack(bfx.load("pedalboard:Gain").within(gain_db=(-12, 12)))
    found, _ = match_level(chain, point_of(chain), AUDIO, level(AUDIO) + by, RATE)
    assert found.tolist() == [end]


def test_silence_moves_nothing():
    chain = rack(bfx.load("pedalboard:Gain"))
    point = point_of(chain)
    assert np.array_equal(match_level(chain, point, np.zeros_like(AUDIO), -20, RATE)[0], point)
    assert level(np.zeros_like(AUDIO)) == -120


def test_a_transfer_has_the_level_of_its_reference():
    styler = bfx.load_styler("zam-eq2-zam-comp-x2")
    for factor in (0.4, 1.0):
        reference = factor * music(seed=5, seconds=3.0, channels=2).numpy()
        wet = bfx.transfer(AUDIO, reference, styler, sample_rate=RATE).render(AUDIO)
        assert level(wet) == pytest.approx(level(reference), abs=0.3)
