"""Audio files: what is written comes back, and nothing but an AudioError comes of a damaged file."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blackbox_fx import audio
from blackbox_fx.audio import complete
from blackbox_fx.errors import AudioError

ENDINGS = ("wav", "flac", "ogg", "mp3")
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def noise(channels=2, length=3000, seed=0):
    return (np.random.default_rng(seed).standard_normal((channels, length)) * 0.1).astype(np.float32)


def tone(rate, seconds=0.5, hz=440.0):
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate))[None].astype(np.float32)


@pytest.mark.parametrize(("ending", "error"), [("wav", 0.0), ("flac", 2.0**-23), ("ogg", 0.1), ("mp3", 0.2)])
def test_what_is_written_comes_back(tmp_path, ending, error):
    x = tone(44100)
    audio.write(tmp_path / f"a.{ending}", np.concatenate([x, -x]), 44100)
    y, rate = audio.read(tmp_path / f"a.{ending}")
    assert rate == 44100 and y.dtype == np.float32 and y.shape == (2, x.shape[1])
    assert np.abs(y - np.concatenate([x, -x])).max() <= error
    assert audio.info(tmp_path / f"a.{ending}") == (x.shape[1], 2, 44100)
    assert [p.name for p in tmp_path.iterdir()] == [f"a.{ending}"]


def test_wav_holds_more_than_full_scale(tmp_path):
    audio.write(tmp_path / "a.wav", tone(44100) * 8, 44100)
    assert np.abs(audio.read(tmp_path / "a.wav")[0]).max() == pytest.approx(4, rel=1e-3)


@pytest.mark.parametrize(("start", "frames", "kept"), [(0, 10, 10), (100, 50, 50), (2990, 50, 10), (2999, None, 1)])
@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_a_part_of_a_file_equals_the_part_of_the_whole(tmp_path, ending, start, frames, kept):
    soundfile.write(tmp_path / f"a.{ending}", noise().T, 44100)
    whole, _ = audio.read(tmp_path / f"a.{ending}")
    part, _ = audio.read(tmp_path / f"a.{ending}", None, start, frames)
    assert np.array_equal(part, whole[:, start : start + kept]) and part.shape == (2, kept)


def test_start_beyond_the_end_is_refused(tmp_path):
    audio.write(tmp_path / "a.wav", noise(), 44100)
    for start in (3000, -1):
        with pytest.raises(AudioError, match=r"allowed is \[0, 2999\]"):
            audio.read(tmp_path / "a.wav", None, start)


@pytest.mark.parametrize(("from_rate", "to_rate"), [(44100, 48000), (96000, 44100), (8000, 44100), (44100, 22050.5)])
def test_resampling_keeps_pitch_level_and_length(from_rate, to_rate):
    y = audio.resample(tone(from_rate), from_rate, to_rate)
    x = tone(to_rate)
    assert y.dtype == np.float32 and abs(y.shape[1] - x.shape[1]) <= 2
    inner = slice(int(0.1 * to_rate), int(0.4 * to_rate))
    assert np.abs(y[:, inner] - x[:, inner]).max() < 1e-3


def test_resampling_to_the_same_rate_is_the_same_array():
    x = noise()
    assert audio.resample(x, 44100, 44100.0) is x


def test_reading_resamples(tmp_path):
    audio.write(tmp_path / "a.wav", tone(48000), 48000)
    y, rate = audio.read(tmp_path / "a.wav", 44100)
    assert rate == 44100 and y.shape[1] == 22050


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros(4, np.float32),
        np.zeros((0, 4), np.float32),
        np.zeros((1, 0), np.float32),
        np.zeros((1, 4), np.int16),
        np.zeros((1, 4), complex),
        np.zeros((100, 2), np.float32),
        np.full((1, 4), np.nan),
        np.full((1, 4), np.inf),
        np.full((1, 4), 1e300),
        [[1.0, 2.0], [3.0]],
        "audio",
        None,
    ],
    ids=str,
)
def test_what_is_not_audio_is_refused(bad):
    with pytest.raises(AudioError):
        audio.check_audio(bad)


def test_a_loud_float32_is_finite_though_its_sum_overflows():
    assert audio.is_finite(np.full((1, 1000), 3e38, np.float32))
    for bad in ([np.inf, -np.inf, 0.0], [0.0, np.nan, 1.0], [0.0, np.inf, -np.inf]):
        assert not audio.is_finite(np.array([bad]))


@pytest.mark.parametrize("rate", [0, -1, 999, 768_001, float("nan"), "44100", True, None])
def test_a_bad_sample_rate_is_refused(rate):
    with pytest.raises(AudioError):
        audio.check_sample_rate(rate)


def test_files_that_cannot_be_read_are_named(tmp_path):
    def made(name, write):
        write(tmp_path / name)
        return tmp_path / name

    files = [
        tmp_path / "missing.wav",
        tmp_path,
        made("zero.wav", lambda p: p.write_bytes(b"")),
        made("text.wav", lambda p: p.write_text("not audio" * 99)),
        made("endless.raw", lambda p: p.write_bytes(b"0" * 99)),
        made("none.wav", lambda p: soundfile.write(p, np.zeros((0, 2)), 44100)),
        made("nan.wav", lambda p: soundfile.write(p, np.array([0.1, np.nan]), 44100, subtype="FLOAT")),
        made("double.wav", lambda p: soundfile.write(p, np.full(99, 1e300), 44100, subtype="DOUBLE")),
        made("slow.wav", lambda p: soundfile.write(p, np.zeros(99), 1)),
        made("cut.flac", lambda p: soundfile.write(p, noise(length=50_000).T, 44100)),
    ]
    files[-1].write_bytes(files[-1].read_bytes()[:50_000])
    for file in files:
        with pytest.raises(AudioError, match=file.name):
            audio.read(file)


def test_a_header_without_samples_or_with_a_strange_rate_is_refused(tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 2)), 44100)
    soundfile.write(tmp_path / "slow.wav", np.zeros(99), 1)
    for name, why in (("none.wav", "holds no samples"), ("slow.wav", "sample rate of 1 Hz")):
        with pytest.raises(AudioError, match=f"{name} .*{why}"):
            audio.info(tmp_path / name)


def test_a_rate_that_leaves_no_sample_or_overflows_is_refused(tmp_path):
    soundfile.write(tmp_path / "short.wav", np.full(2, 0.5), 768_000, subtype="FLOAT")
    soundfile.write(tmp_path / "loud.wav", np.tile([3.4e38, -3.4e38, 3.4e38], 999), 44100, subtype="FLOAT")
    for name in ("short.wav", "loud.wav"):
        with pytest.raises(AudioError, match=name):
            audio.read(tmp_path / name, 1000 if name == "short.wav" else 48000)


@pytest.mark.parametrize("name", ["a.raw", "a.sd2", "a", "a.txt", "missing/a.wav"])
def test_what_cannot_be_written_leaves_nothing_behind(tmp_path, name):
    with pytest.raises(AudioError, match="Cannot write"):
        audio.write(tmp_path / name, noise(), 44100)
    assert not list(tmp_path.iterdir())


def test_a_rate_the_format_does_not_have_leaves_nothing_behind(tmp_path):
    with pytest.raises(AudioError, match="Cannot write"):
        audio.write(tmp_path / "a.mp3", noise(), 96000)
    assert not list(tmp_path.iterdir())


def finite_or_audio_error(path):
    for rate in (None, 16000):
        try:
            y, _ = audio.read(path, rate)
        except AudioError:
            continue
        assert y.ndim == 2 and y.size and y.dtype == np.float32 and np.isfinite(y).all()


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    found = {}
    for ending in ENDINGS:
        audio.write(folder / f"a.{ending}", noise(length=6000), 44100)
        found[ending] = (folder / f"a.{ending}").read_bytes()
    return found


@FUZZ
@given(ending=st.sampled_from(ENDINGS), data=st.binary(max_size=300))
def test_garbage_is_an_audio_error_or_finite(tmp_path, ending, data):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(data)
    finite_or_audio_error(path)


@FUZZ
@given(ending=st.sampled_from(ENDINGS), kept=st.floats(0, 1))
def test_a_truncated_file_is_an_audio_error_or_finite(tmp_path, originals, ending, kept):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(originals[ending][: int(kept * len(originals[ending]))])
    finite_or_audio_error(path)


@FUZZ
@given(
    ending=st.sampled_from(ENDINGS),
    changes=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_damaged_header_is_an_audio_error_or_finite(tmp_path, originals, ending, changes):
    data = bytearray(originals[ending])
    for at, value in changes:
        data[at] = value
    path = tmp_path / f"a.{ending}"
    path.write_bytes(data)
    finite_or_audio_error(path)


HEADS = ("RIFF", "RF64", "FORM", "riff", "caff", "OggS", "ID3", ".snd")
CUT = (
    ("a.wav", "WAV", "PCM_16"),
    ("a.wav", "WAV", "FLOAT"),
    ("a.wav", "WAV", "GSM610"),
    ("a.wav", "WAVEX", "PCM_24"),
    ("a.wav", "RF64", "PCM_16"),
    ("a.w64", "W64", "PCM_16"),
    ("a.aiff", "AIFF", "PCM_16"),
    ("a.svx", "SVX", "PCM_16"),
    ("a.au", "AU", "PCM_16"),
    ("a.caf", "CAF", "PCM_16"),
    ("a.ogg", "OGG", "VORBIS"),
    ("a.opus", "OGG", "OPUS"),
    ("a.flac", "FLAC", "PCM_16"),
    ("a.mp3", "MP3", "MPEG_LAYER_III"),
)


@pytest.mark.parametrize(("name", "kind", "subtype"), CUT)
def test_a_file_that_is_cut_off_is_named(tmp_path, name, kind, subtype):
    path, rate = tmp_path / name, 48000 if subtype == "OPUS" else 44100
    soundfile.write(path, noise(1, 44100).T, rate, format=kind, subtype=subtype)
    whole = path.read_bytes()
    assert audio.read(path)[0].shape[1] == pytest.approx(44100, abs=200)
    path.write_bytes(whole[: len(whole) // 2])
    for read in (audio.read, audio.info) if kind not in ("FLAC",) else (audio.read,):
        with pytest.raises(AudioError, match=f"{name}.*(cut off|lost sync)"):
            read(path)


def test_a_short_mp3_that_is_cut_off_is_named(tmp_path):
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(1, 20_000).T, 44100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with pytest.raises(AudioError, match="cut off"):
        audio.read(path)


def test_pages_of_ogg_that_would_be_left_out_are_named(tmp_path):
    path = tmp_path / "a.ogg"
    soundfile.write(path, noise(1, 20_000).T, 44100)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(64) + whole[len(whole) // 2 + 64 :])
    with pytest.raises(AudioError, match=r"damaged: .* of its 20000 samples"):
        audio.read(path)
    path.write_bytes(whole + whole)
    with pytest.raises(AudioError, match="2 streams"):
        audio.info(path)


# of programs that write into a pipe, such as sox and ffmpeg
@pytest.mark.parametrize("length", [0, 0x7FFFF000, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF])
def test_a_header_that_was_written_before_the_end_was_known_is_no_cut(tmp_path, length):
    audio.write(tmp_path / "a.wav", noise(), 44100)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = length.to_bytes(4, "little")
    assert complete.missing(io.BytesIO(bytes(content))) == 0


@FUZZ
@given(st.binary(max_size=200), st.sampled_from(HEADS))
def test_no_header_is_too_odd_to_be_judged(tail, head):
    assert complete.missing(io.BytesIO(head.encode() + tail)) >= 0


@pytest.mark.parametrize("ending", ENDINGS)
def test_names_that_are_not_utf8_are_written_and_read(tmp_path, ending):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + f"/caf\xe9.{ending}".encode("latin1")))
    audio.write(path, tone(44100), 44100)
    assert audio.read(path)[0].shape == (1, 22050) and audio.info(path).frames == 22050


def test_long_names_are_written(tmp_path):
    path = tmp_path / f"{'a' * 246}.wav"
    audio.write(path, tone(44100), 44100)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_format_that_cannot_seek_is_read_from_anywhere(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1, 44100).T, 44100, subtype="GSM610")
    whole, _ = audio.read(tmp_path / "a.wav")
    part, _ = audio.read(tmp_path / "a.wav", None, 1000, 500)
    assert np.array_equal(part, whole[:, 1000:1500])


def test_a_stem_far_beyond_full_scale_is_blamed_itself(tmp_path):
    soundfile.write(tmp_path / "loud.wav", noise().T * 1e30, 44100, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"loud.wav .*far beyond full scale \(its peak is"):
        audio.read(tmp_path / "loud.wav")
