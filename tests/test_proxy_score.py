import dataclasses
import math

import numpy as np
import pytest
import torch

import blackbox_fx as bfx
from blackbox_fx import audio
from blackbox_fx.audio.loudness import loudness
from blackbox_fx.data import compose
from blackbox_fx.dsp import TWINS
from blackbox_fx.errors import AudioError
from blackbox_fx.learning.scoring import scores
from blackbox_fx.learning.scoring.held_out import best_gain, make_held_out
from blackbox_fx.learning.scoring.scores import HELD_OUT, baselines, measure, render_held_out, sound
from blackbox_fx.losses.error import esr
from blackbox_fx.proxy.clips import ClipStream
from blackbox_fx.runtime import Inline
from blackbox_fx.space import Continuous, Space
from tests.cases import RATE

TWIN = "compressor"
GAIN = Space({"gain_db": Continuous(-20, 10, 0, "dB")})


def amplify(audio, sample_rate, gain_db):
    return audio * 10 ** (gain_db / 20)


def imitation(audio, params, sample_rate):
    """What `amplify` does, for torch."""
    return audio * 10 ** ((params * 30 - 20) / 20)[:, :, None]


@pytest.fixture(scope="module")
def held_out():
    return render_held_out(bfx.function(amplify, GAIN), Inline(), RATE, 0.5, 6)


@pytest.fixture(scope="module")
def twin_exam():
    return render_held_out(TWINS[TWIN].effect(), Inline(), RATE, 0.5, 5)


def test_an_exam_is_the_same_every_time_and_hears_other_songs_than_training(held_out):
    again = render_held_out(held_out.stream.effect, Inline(), RATE, 0.5, 6)
    assert torch.equal(again.batch.wet, held_out.batch.wet) and np.array_equal(again.gradients, held_out.gradients)
    assert all(int(song.name.split("-")[-1]) >= HELD_OUT for song in held_out.stream.clips.songs)
    assert held_out.batch.audio.shape == (6, 1, RATE // 2) and held_out.gradients.shape == (6, 1)


def test_the_true_gradients_are_those_of_autograd(twin_exam):
    twin = TWINS[TWIN]
    assert twin_exam.cosines(twin).min() > 0.99
    assert twin_exam.cosines(lambda a, p, r: twin(a, 1 - p, r)).mean() < 0.9


def test_gradients_may_be_those_of_another_loss():
    loud = render_held_out(TWINS[TWIN].effect(), Inline(), RATE, 0.5, 2, lambda wet, target: wet.sum())
    assert bool((loud.cotangents == 1).all()) and loud.cosines(TWINS[TWIN]).min() > 0.99


def test_the_effect_itself_scores_best(twin_exam):
    found = measure(TWINS[TWIN], twin_exam)
    assert found.sound.esr < 1e-6 and found.sound.stft < 1e-3 and found.sound.loudness_lu < 0.01
    assert found.parameters.mean > 0.99 and found.parameters.low > 0.99
    assert found.audio.mean > 0.99 and found.audio.truth > 0.99 and found.audio.error < 0.01
    assert found.audio.wire < found.audio.mean
    assert found.items == 5 and found.seconds == 0.5 and found.realtime > 0
    assert found.parameters.items == 5 and 0 < found.parameters.active <= 5


def test_errors_are_known_ones(held_out):
    wet = held_out.batch.wet
    louder = sound(wet * 10 ** (3 / 20), held_out)
    assert louder.esr == pytest.approx((10 ** (3 / 20) - 1) ** 2, rel=1e-4) and louder.esr_error < 1e-6
    assert louder.loudness_lu == pytest.approx(3, abs=0.02)
    assert sound(wet, held_out).loudness_lu == 0 and sound(torch.zeros_like(wet), held_out).esr == pytest.approx(1)
    half = wet.clone()
    half[:3] = 0
    found = sound(half, held_out)
    assert found.esr == pytest.approx(0.5) and found.esr_error == pytest.approx(math.sqrt(0.3 / 6), rel=1e-6)
    assert found.esr_median == pytest.approx(0.5)


def test_a_gain_is_learnt_by_its_best_gain_and_by_no_other_baseline(held_out):
    found = baselines(held_out)
    assert list(found) == ["dry", "dry at the best gain", "nearest of 100 stored settings"]
    assert found["dry at the best gain"].esr < 1e-10
    nearest = found["nearest of 100 stored settings"]
    assert found["dry at the best gain"].esr < nearest.esr < 0.2 * found["dry"].esr
    own = measure(imitation, held_out)
    assert own.sound.esr < nearest.esr and own.parameters.mean == pytest.approx(1) and own.audio.mean > 0.999


def test_the_table_is_looked_up_at_the_nearest_setting(held_out):
    table = held_out.stream.settings(100, np.random.default_rng([HELD_OUT, 2]))
    rows = held_out.batch.params.numpy()
    nearest = np.array([min(table, key=lambda t, row=row: abs(t[0] - row[0])) for row in rows])
    wet = imitation(held_out.batch.audio, torch.from_numpy(nearest).float(), RATE)
    assert baselines(held_out)["nearest of 100 stored settings"].esr == pytest.approx(
        sound(wet, held_out).esr, rel=1e-3
    )


def test_best_gain_is_the_best():
    torch.manual_seed(0)
    dry = torch.randn(3, 1, 500)
    target = 0.5 * dry + torch.randn(3, 1, 500)
    best = esr(best_gain(dry, target), target)
    for gain in (0.9, 1.1):
        assert (esr(gain * best_gain(dry, target), target) > best).all()


def test_loudness_is_that_of_the_standard():
    time = np.arange(2 * RATE) / RATE
    tone = np.sin(2 * np.pi * 997 * time)[None].astype(np.float32)
    assert loudness(tone, RATE) == pytest.approx(-3.01, abs=0.05)  # of BS.1770: 0 dBFS at 997 Hz
    assert loudness(0.1 * tone, RATE) == pytest.approx(-23.01, abs=0.05)
    assert loudness(np.zeros_like(tone), RATE) == -70 and loudness(1e-6 * tone, RATE) == -70
    assert -30 < loudness(tone[:, :500], RATE) < -3
    assert loudness(tone, 48_000.0) == pytest.approx(-3, abs=0.2)


def test_where_parameters_do_nothing_there_is_no_cosine():
    still = bfx.function(lambda audio, sample_rate, gain_db: audio, GAIN)
    songs = [compose(HELD_OUT, 2)]
    held_out = make_held_out(ClipStream(still, songs, Inline(), 0.5, 2, 0))
    found = measure(lambda a, p, r: a + 0 * p.sum(), held_out).parameters
    assert found == scores.ParameterGradient(None, None, None, None, 0, 2, 0)
    silent = dataclasses.replace(held_out, gradients=held_out.gradients * 0)
    assert measure(lambda a, p, r: a + 0 * p.sum(), silent).audio.mean == pytest.approx(1, abs=1e-3)


def test_where_the_effect_jumps_there_is_no_gradient_and_the_others_are_scored(held_out):
    jumps = np.array([True, False, True, False, False, False])
    at = [held_out.stream.effect.space.decode(row)["gain_db"] for row in held_out.batch.params[jumps].double().numpy()]

    def jump(audio, sample_rate, gain_db):
        return amplify(audio, sample_rate, gain_db) + 0.3 * audio * sum(gain_db > place for place in at)

    found = render_held_out(bfx.function(jump, GAIN), Inline(), RATE, 0.5, 6)
    assert np.array_equal(found.active, ~jumps) and found.unknown == 2
    assert len(found.cosines(imitation)) == 4 and held_out.unknown == 0 and held_out.active.all()


def test_a_proxy_that_gives_nan_is_an_error(held_out):
    with pytest.raises(AudioError, match="NaN"):
        measure(lambda a, p, r: a * torch.nan, held_out)


def test_the_number_of_threads_stays(held_out):
    threads = torch.get_num_threads()
    seen = []

    def spy(a, p, r):
        seen.append(torch.get_num_threads())
        return imitation(a, p, r)

    torch.set_num_threads(2)
    try:
        assert scores.realtime(spy, held_out) > 0
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_another_sample_rate(held_out):
    slow = render_held_out(held_out.stream.effect, Inline(), 22_050, 0.5, 2)
    assert slow.batch.audio.shape[-1] == 11_025
    assert measure(imitation, slow).sound.esr < 1e-9
    assert audio.check_sample_rate(slow.stream.clips.sample_rate) == 22_050
