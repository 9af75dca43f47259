"""STEM files of MUSDB18: each stream is what was written, at its place, and what is odd is named."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from blackbox_fx import data
from blackbox_fx.core import paths
from blackbox_fx.errors import DataError

RATE = 44100
LENGTH = 2 * RATE // 5
STREAMS = ("mixture", "drums", "bass", "other", "vocals")


def signals(lengths=(LENGTH,) * 5):
    """Bursts of noise at the same place in each stream, each over a sine of its own, (2, time)."""
    for k, length in enumerate(lengths):
        draw = np.random.default_rng(k)
        x = 0.1 * np.sin(2 * np.pi * 220 * (k + 1) * np.arange(length) / RATE)
        x = np.stack([x, 0.5 * x])
        x[:, length // 2 : length // 2 + 2000] += draw.uniform(-0.4, 0.4, 2000)
        yield x.astype(np.float32)


def encode(path, tracks, codec="aac", layout="stereo", rates=(RATE,) * 5, **options):
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4", options=options) as container:
        streams = [
            container.add_stream(codec, rate=rate, layout=layout) for _, rate in zip(tracks, rates, strict=False)
        ]
        for stream, x in zip(streams, tracks, strict=True):
            stream.bit_rate = 320_000
            x = np.ascontiguousarray(x[: stream.channels])
            frame = av.AudioFrame.from_ndarray(x, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = stream.rate, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("made") / "A - One.stem.mp4", list(signals()), movflags="faststart")


@pytest.fixture
def root(made, tmp_path):
    for split, name in (("train", "A - One"), ("train", "B - Two"), ("test", "C - Three")):
        (tmp_path / "songs" / split).mkdir(parents=True, exist_ok=True)
        shutil.copy(made, tmp_path / "songs" / split / f"{name}.stem.mp4")
    return tmp_path / "songs"


def lag(x, y):
    """By how many samples x is later than y."""
    size = 2 * max(len(x), len(y))
    found = np.fft.irfft(np.fft.rfft(x, size) * np.conj(np.fft.rfft(y, size)))
    return (int(np.argmax(found)) + size // 2) % size - size // 2


def test_streams_are_tracks_at_their_places(root):
    found = data.read_songs(root, RATE)
    assert "MUSDB18: 3 songs, 3 of them with a mix, 12 tracks, 0 skipped" in repr(found)
    song = found.songs[0].load()
    assert found.songs[0].name == "A - One" and "A - One" in repr(found.songs[0])
    assert song.track_names == song.roles == STREAMS[1:] and song.length == found.songs[0].length == LENGTH
    assert found.songs[0].channels == song.tracks[0].shape[0] == 2
    for x, expected in zip((song.mix, *song.tracks), signals(), strict=True):
        assert x.shape == expected.shape and lag(x[0], expected[0]) == 0
        assert np.sqrt(np.mean((x - expected) ** 2)) < 0.03
    train, unseen = found.split()
    assert [song.name for song in unseen] == ["C - Three"] and len(train) == 2


@pytest.mark.parametrize("rate", [RATE, 32000, 48000])
def test_an_excerpt_is_the_same_part_of_the_song(root, rate):
    found = data.read_songs(root, rate).songs[0]
    whole = found.load()
    for start, length in ((0, 10), (5001, 3000), (whole.length - 10, 50), (whole.length + 10, 5)):
        cut = found.excerpt(start, length)
        for x, y in zip((*cut.tracks, cut.mix), (*whole.tracks, whole.mix), strict=True):
            expected = y[:, start : start + length]
            assert x.shape == (2, length)
            np.testing.assert_allclose(x[:, : expected.shape[1]], expected, atol=1e-6 if rate == RATE else 0.02)
    clip = data.Clips([found], 0.2, channels=2).clip(0)
    assert clip.roles == STREAMS[1:] and clip.mix.shape[0] == 2


def test_priming_without_an_edit_list_is_the_same_in_all_streams(tmp_path):
    path = encode(tmp_path / "x.stem.mp4", list(signals()), use_editlist="0")
    song = data.read_songs(path.parent, RATE).songs[0].load()
    assert {lag(x[0], y[0]) for x, y in zip((song.mix, *song.tracks), signals(), strict=True)} == {1024}


ODD = {
    "four": (dict(tracks=list(signals())[:4]), "holds 4 audio streams instead of 5"),
    "six": (dict(tracks=[*signals(), *signals()][:6], rates=(RATE,) * 6), "holds 6 audio streams instead of 5"),
    "lengths": (dict(tracks=list(signals((LENGTH,) * 4 + (LENGTH - 3000,)))), "how they belong together is not known"),
    "mono": (dict(tracks=list(signals()), layout="mono"), "aac with 1 channels instead of stereo AAC"),
    "codec": (dict(tracks=list(signals()), codec="alac"), "alac with 2 channels instead of stereo AAC"),
    "rates": (dict(tracks=list(signals()), rates=(RATE,) * 4 + (48000,)), "sample rates"),
    "short": (dict(tracks=[x[:, :100] for x in signals()]), "0.01 to 3600 seconds are allowed"),
}


@pytest.mark.parametrize("odd", ODD)
def test_other_streams_are_named(odd, root):
    how, reason = ODD[odd]
    encode(root / "odd.stem.mp4", **how)
    found = data.read_songs(root, RATE)
    assert len(found.songs) == 3
    ((path, said),) = found.skipped
    assert path.name == "odd.stem.mp4" and said.startswith("Cannot use") and reason in said


def box(name, content):
    return (8 + len(content)).to_bytes(4, "big") + name + content


def test_names_in_the_file_that_say_something_else_are_believed(root, tmp_path):
    plain = encode(tmp_path / "plain.mp4", list(signals())).read_bytes()
    at = plain.index(b"moov") - 4
    size = int.from_bytes(plain[at : at + 4], "big")
    assert at + size == len(plain)  # so that what is added moves nothing
    inside = plain[at + 8 :].replace(b"udta", b"free")
    for names, kept in ((("Drums", "Bass", "Synths", "Vox"), 4), (("Vox", "Bass", "Other", "Drums"), 3)):
        text = json.dumps({"stems": [{"name": name} for name in names]}).encode()
        content = plain[:at] + box(b"moov", inside + box(b"udta", box(b"stem", text)))
        (root / "named.stem.mp4").write_bytes(content)
        found = data.read_songs(root, RATE)
        assert len(found.songs) == kept
    assert "calls 'Vox' what is drums in MUSDB18" in found.skipped[0][1]


@settings(max_examples=3)
@given(st.integers(0, 2**32 - 1))
def test_damaged_files_are_songs_or_named(made, tmp_path_factory, seed):
    draw, root = np.random.default_rng(seed), tmp_path_factory.mktemp("damaged")
    shutil.copy(made, root / "whole.stem.mp4")
    for k in range(16):
        content = np.frombuffer(made.read_bytes(), np.uint8).copy()
        if k % 2:
            content = content[: draw.integers(len(content))]
        else:
            reach = len(content) if k % 4 else 6000
            content[draw.integers(reach, size=30)] = draw.integers(256, size=30)
        (root / f"{k}.stem.mp4").write_bytes(content.tobytes())
    found = data.read_songs(root, RATE)
    assert len(found.songs) + len(found.skipped) == 17 and len(found.songs) >= 1
    assert all(reason.startswith("Cannot use") and reason.endswith(".") for _, reason in found.skipped)
    assert {f"{k}.stem.mp4" for k in range(1, 16, 2)} <= {path.name for path, _ in found.skipped}
    for song in found.songs[:3]:
        try:
            assert np.isfinite(song.load().mix).all()
        except DataError as error:
            assert str(song.path) in str(error)
    shutil.rmtree(root)


@pytest.mark.parametrize("damage", ["all", "one", "cut"])
def test_what_is_kept_may_be_deleted_at_any_time(root, damage):
    found = data.read_songs(root, RATE).songs[0]
    before, folder = found.load(), paths.cache() / "stems" / found.key
    if damage == "all":
        shutil.rmtree(folder)
    elif damage == "one":
        (folder / "0003.wav").unlink()
    else:
        (folder / "0003.wav").write_bytes((folder / "0003.wav").read_bytes()[:-1000])
    after = found.load()
    assert all(np.array_equal(x, y) for x, y in zip(before.tracks, after.tracks, strict=True))


def test_a_file_is_decoded_once_and_not_when_it_has_changed(root, monkeypatch):
    found = data.read_songs(root, RATE).songs[0]
    found.load()
    monkeypatch.setattr("blackbox_fx.isolation.call", None)
    assert data.read_songs(root, RATE).songs[0].load().length == LENGTH
    found.path.write_bytes(found.path.read_bytes() + b"\0" * 8)
    shutil.rmtree(paths.cache() / "stems" / found.key)
    with pytest.raises(DataError, match="has changed since it was read"):
        found.load()


def test_without_pyav_files_are_named_with_what_to_install(root, monkeypatch):
    (root / "song").mkdir()
    soundfile.write(root / "song/x.wav", np.full((RATE, 1), 0.1), RATE)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = data.read_songs(root, RATE)
    assert [song.name for song in found.songs] == ["song"] and len(found.skipped) == 3
    assert all(reason.endswith("pip install 'blackbox_fx[musdb]'.") for _, reason in found.skipped)
