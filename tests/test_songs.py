"""Data sets of multitracks: every layout is read as it is meant, and what is odd is named."""

import json

import numpy as np
import pytest
import soundfile
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from blackbox_fx import data
from blackbox_fx.data.layouts import find_songs
from blackbox_fx.errors import DataError

RATE = 8000


def audio(level, seconds=1.0, channels=2):
    draw = np.random.default_rng(round(1000 * level))
    return (level * draw.uniform(-1, 1, (round(seconds * RATE), channels))).astype(np.float32)


def put(root, path, level=0.1, seconds=1.0):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, audio(level, seconds), RATE)


def text(root, path, content):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(content if isinstance(content, str) else yaml.safe_dump(content))


MIX_LEVEL = 0.4


def musdb(root):
    for split, song in (("train", "A - One"), ("train", "B - Two"), ("test", "C - Three")):
        put(root, f"{split}/{song}/mixture.wav", MIX_LEVEL)
        for stem in ("vocals", "drums", "bass", "other"):
            put(root, f"{split}/{song}/{stem}.wav")


def dsd(root):
    for split, song in (("Dev", "051 - One"), ("Test", "001 - Two")):
        put(root, f"Mixtures/{split}/{song}/mixture.wav", MIX_LEVEL)
        for stem in ("vocals", "drums", "bass", "other"):
            put(root, f"Sources/{split}/{song}/{stem}.wav")


def medley(root):
    for song in ("Artist_Song", "Other_Tune"):
        put(root, f"{song}/{song}_MIX.wav", MIX_LEVEL)
        stems = {}
        for k, name in enumerate(("drum set", "electric bass", "male singer"), 1):
            put(root, f"{song}/{song}_STEMS/{song}_STEM_{k:02}.wav")
            put(root, f"{song}/{song}_RAW/{song}_RAW_{k:02}_01.wav", 0.2)
            raw = {"R01": {"filename": f"{song}_RAW_{k:02}_01.wav", "instrument": name}}
            stems[f"S{k:02}"] = {"filename": f"{song}_STEM_{k:02}.wav", "instrument": name, "raw": raw}
        text(root, f"{song}/{song}_METADATA.yaml", {"mix_filename": f"{song}_MIX.wav", "stems": stems})


def moises(root):
    for song in ("0a1b", "2c3d"):
        tracks = {"drums": ["Kick Drum", "Snare Drum"], "bass": ["Bass Guitar"], "vocals": ["lead male singer"]}
        stems = []
        for stem, kinds in tracks.items():
            for k, _ in enumerate(kinds):
                put(root, f"{song}/{stem}/{stem}-{k}.wav")
            own = [{"id": f"{stem}-{k}", "trackType": kind, "extension": "wav"} for k, kind in enumerate(kinds)]
            stems.append({"stemName": stem, "tracks": own})
        text(root, f"{song}/data.json", json.dumps({"artist": "Band", "song": song, "stems": stems}))


def slakh(root):
    for split, song in (("train", "Track00001"), ("test", "Track00002")):
        put(root, f"{split}/{song}/mix.flac", MIX_LEVEL)
        kinds = {"S00": "Drums", "S01": "Bass", "S02": "Piano"}
        for stem in kinds:
            put(root, f"{split}/{song}/stems/{stem}.flac")
        stems = {stem: {"inst_class": kind, "audio_rendered": True} for stem, kind in kinds.items()}
        text(root, f"{split}/{song}/metadata.yaml", {"stems": {**stems, "S03": {"inst_class": "Brass"}}})


def plain(root):
    for song in ("First Song", "second"):
        put(root, f"{song}/{song}_MIX.wav", MIX_LEVEL)
        for track in ("01_Kick", "02_Bass DI", "03 LeadVox", "04-Gtr L"):
            put(root, f"{song}/{track}.wav")


FOUR = ("bass", "drums", "other", "vocals")
LAYOUTS = {
    "MUSDB18-HQ": (musdb, 3, 3, FOUR),
    "DSD100": (dsd, 2, 2, FOUR),
    "MedleyDB": (medley, 2, 2, ("drums", "bass", "vocals")),
    "MoisesDB": (moises, 2, 0, ("bass", "kick", "snare", "vocals")),
    "Slakh": (slakh, 2, 2, ("drums", "bass", "keys")),
    "plain": (plain, 2, 2, ("kick", "bass", "vocals", "guitar")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_with_its_mixes_and_roles(layout, tmp_path):
    make, songs, mixes, roles = LAYOUTS[layout]
    make(tmp_path)
    found = data.read_songs(tmp_path, RATE)
    assert not found.skipped
    assert f"{layout}: {songs} songs, {mixes} of them with a mix" in repr(found)
    for files in found.songs:
        assert files.layout == layout and files.roles == roles
        song = files.load()
        assert song.roles == roles and len(song.tracks) == len(roles)
        assert all(np.abs(track).max() < 0.15 for track in song.tracks)  # the mix, which is louder, is no track
        cut = files.excerpt(RATE // 2, 100)
        if mixes:
            assert np.abs(song.mix).max() == pytest.approx(MIX_LEVEL, abs=0.02)
            np.testing.assert_allclose(cut.mix, song.mix[:, RATE // 2 : RATE // 2 + 100], atol=1e-6)
        else:
            assert song.mix is None and cut.mix is None
    clip = data.Clips(found.songs, 0.5).clip(0)
    assert clip.roles == roles and (clip.mix.shape == (2, RATE // 2) if mixes else clip.mix is None)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_splits_keep_songs_apart(layout, tmp_path):
    LAYOUTS[layout][0](tmp_path)
    found = data.read_songs(tmp_path, RATE)
    train, unseen = found.split()
    assert train and unseen and {*train} | {*unseen} == {*found.songs}
    assert not {song.name for song in train} & {song.name for song in unseen}
    if layout in ("MUSDB18-HQ", "DSD100", "Slakh"):
        assert {song.split for song in unseen} == {"test"} and {song.split for song in train} == {"train"}


def test_names_decide_what_is_held_out_and_others_change_nothing(tmp_path):
    for k in range(20):
        put(tmp_path, f"song {k}/bass.wav")
    _, unseen = data.read_songs(tmp_path, RATE).split(0.25)
    assert len(unseen) == 5
    put(tmp_path, "song 77/bass.wav")
    _, later = data.read_songs(tmp_path, RATE).split(0.25)
    assert len({song.name for song in unseen} & {song.name for song in later}) >= 4
    for share in (0, 1, True, "half"):
        with pytest.raises(DataError, match="held_out"):
            data.read_songs(tmp_path, RATE).split(share)


def test_one_song_cannot_be_split(tmp_path):
    put(tmp_path, "song/bass.wav")
    with pytest.raises(DataError, match="1 readable song; two or more"):
        data.read_songs(tmp_path, RATE).split()


def test_medleydb_has_raw_tracks_too(tmp_path):
    medley(tmp_path)
    song = data.read_songs(tmp_path, RATE, raw=True).songs[0].load()
    assert song.track_names[0].endswith("_RAW_01_01") and song.roles == ("drums", "bass", "vocals")
    assert np.abs(song.tracks[0]).max() == pytest.approx(0.2, abs=0.02)


def reasons(root, **how):
    return {str(path.relative_to(root)): reason for path, reason in data.read_songs(root, RATE, **how).skipped}


def test_missing_mixes_are_named(tmp_path):
    for make in (musdb, dsd, medley, slakh):
        make(tmp_path / make.__name__)
    (tmp_path / "musdb/train/A - One/mixture.wav").unlink()
    assert data.read_songs(tmp_path / "musdb", RATE).songs[0].mix_file is None
    (tmp_path / "dsd/Mixtures/Dev/051 - One/mixture.wav").unlink()
    assert "so the song has none" in reasons(tmp_path / "dsd")["Mixtures/Dev/051 - One"]
    (tmp_path / "medley/Other_Tune/Other_Tune_MIX.wav").unlink()
    assert "the song has no mix" in reasons(tmp_path / "medley")["Other_Tune/Other_Tune_MIX.wav"]
    (tmp_path / "slakh/test/Track00002/mix.flac").unlink()
    assert "the song has no mix" in reasons(tmp_path / "slakh")["test/Track00002"]


def test_a_mix_of_another_length_is_no_mix(tmp_path):
    plain(tmp_path)
    put(tmp_path, "second/second_MIX.wav", seconds=9)
    found = data.read_songs(tmp_path, RATE)
    assert found.songs[1].mix_file is None and found.songs[0].mix_file is not None
    assert "is 9.0 s long and the tracks 1.0 s" in reasons(tmp_path)["second/second_MIX.wav"]


def test_two_mixes_or_two_songs_in_a_folder_are_not_guessed(tmp_path):
    plain(tmp_path)
    put(tmp_path, "second/mixdown.wav", 0.3)
    found = reasons(tmp_path)
    assert {"second/mixdown.wav", "second/second_MIX.wav"} == set(found)
    assert data.read_songs(tmp_path, RATE).songs[1].mix_file is None
    for song in ("Alpha", "Beta"):
        for track in ("Bass", "Drums", "Vocals"):
            put(tmp_path, f"both/{song} - {track}.wav")
    assert "several songs (Alpha, Beta)" in reasons(tmp_path)["both"]
    assert [song.name for song in data.read_songs(tmp_path, RATE).songs] == ["First Song", "second"]


def test_files_that_share_a_prefix_are_one_song(tmp_path):
    for track in ("Bass_DI", "Bass_Amp", "Drums_Kick", "Drums_Snare"):
        put(tmp_path, f"song/{track}.wav")
    assert len(data.read_songs(tmp_path, RATE).songs[0].files) == 4


def test_sums_of_other_tracks_are_no_tracks(tmp_path):
    for track in ("vocals", "drums", "bass", "accompaniment"):
        put(tmp_path, f"song/{track}.wav")
    for track in ("vocals", "instrumental"):
        put(tmp_path, f"duo/{track}.wav")
    assert "is a sum of other tracks" in reasons(tmp_path)["song/accompaniment.wav"]
    assert [len(song.files) for song in data.read_songs(tmp_path, RATE).songs] == [2, 3]


def test_a_folder_with_a_mix_alone_is_named(tmp_path):
    plain(tmp_path)
    put(tmp_path, "only/mix.wav")
    assert reasons(tmp_path)["only"] == "holds a mix and no tracks."


def test_empty_silent_and_damaged_stems(tmp_path):
    medley(tmp_path)
    stems = tmp_path / "Artist_Song/Artist_Song_STEMS"
    soundfile.write(stems / "Artist_Song_STEM_01.wav", np.zeros((0, 2)), RATE)
    soundfile.write(stems / "Artist_Song_STEM_02.wav", np.zeros((RATE, 2)), RATE)
    (stems / "Artist_Song_STEM_03.wav").write_bytes(b"RIFF")
    (tmp_path / "Other_Tune/Other_Tune_MIX.wav").write_bytes(b"")
    found = data.read_songs(tmp_path, RATE)
    assert found.songs[0].track_names == ("Artist_Song_STEM_02",) and found.songs[1].mix_file is None
    assert len(found.skipped) == 3


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1, 2",
        "stems: 3",
        "stems: {S01: 3}",
        "stems: {S01: {raw: 2, filename: 4}}",
        "\0",
        "a: !!python/object:os.x {}",
    ],
)
def test_damaged_metadata_leaves_roles_to_file_names(content, tmp_path):
    medley(tmp_path)
    moises(tmp_path)
    slakh(tmp_path)
    for path in [*tmp_path.rglob("*.yaml"), *tmp_path.rglob("data.json")]:
        path.write_text(content)
    found = data.read_songs(tmp_path, RATE)
    assert len(found.songs) == 6 and all(song.load().tracks for song in found.songs)


NAMES = st.sampled_from(["stems", "tracks", "id", "filename", "instrument", "raw", "inst_class", "stemName", "S00"])
SAID = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(SAID)
@settings(max_examples=60, deadline=None)
def test_metadata_of_any_kind_is_read_or_left(tmp_path_factory, said):
    root = tmp_path_factory.mktemp("songs")
    for name in ("a/data.json", "b/b_METADATA.yaml", "c/metadata.yaml"):
        text(root, name, json.dumps(said))
    for name in ("a/drums/1.wav", "b/b_STEMS/1.wav", "c/stems/S00.wav"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(b"")
    assert len(list(find_songs(root, False, []))) == 3


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("01_Kick", "kick"),
        ("KickIn", "kick"),
        ("Bass Drum", "kick"),
        ("SnareTop_SM57", "snare"),
        ("OH L", "cymbals"),
        ("HiHat", "cymbals"),
        ("FloorTom", "toms"),
        ("Room Mono", "drums"),
        ("drum set", "drums"),
        ("Tambourine", "percussion"),
        ("BassDI", "bass"),
        ("synth bass", "bass"),
        ("808", "bass"),
        ("double bass", "strings"),
        ("clean electric guitar", "guitar"),
        ("AcGtr_2", "guitar"),
        ("Rhodes", "keys"),
        ("violin section", "strings"),
        ("trumpet", "brass"),
        ("bass clarinet", "woodwinds"),
        ("tenor saxophone", "woodwinds"),
        ("Lead Synth", "synth"),
        ("LeadVoxDT", "vocals"),
        ("male rapper", "vocals"),
        ("Riser", "fx"),
        ("Audio 07", "other"),
        ("", "other"),
    ],
)
def test_roles_follow_from_names(name, role):
    assert data.role_of(name) == role and role in data.ROLES


def test_a_song_has_as_many_roles_as_tracks():
    with pytest.raises(DataError, match="give one role to each track"):
        data.Song("s", RATE, ("a",), (np.zeros((1, 9), np.float32),), roles=("x", "y"))
