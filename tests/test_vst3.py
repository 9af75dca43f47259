"""VST3: which parameters are the plugin's own, what is left of earlier renders, latency, and a user's file."""

import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from blackbox_fx import isolation
from blackbox_fx.effects import RenderRequest, load
from blackbox_fx.effects.hosts.vst3 import effect as vst3
from blackbox_fx.effects.hosts.vst3 import measures
from blackbox_fx.effects.hosts.vst3 import reader as vst3_reader
from blackbox_fx.errors import EffectError
from blackbox_fx.space import Choice, Continuous, Integer, Toggle
from tests.cases import RATE, music
from tests.programs import write_module

LOUD = music(0.3)
# parameters that are used, parameters that there are, and those left out that are not the host's
TABLE = {
    "ZaMaximX2": (3, 9, "gain_reduction_db output_level_db"),
    "ZaMultiComp": (27, 37, "output_db output_low_db output_medium_db output_high_db *"),
    "ZaMultiCompX2": (28, 39, "output_left_db output_right_db output_low_db output_medium_db output_high_db *"),
    "ZamAutoSat": (0, 2, ""),
    "ZamComp": (8, 13, "gain_reduction_db output_level_db"),
    "ZamCompX2": (9, 14, "gain_reduction_db output_level_db"),
    "ZamDelay": (8, 12, "delaytime_ms"),
    "ZamDynamicEQ": (15, 19, "control_gain_db"),
    "ZamEQ2": (12, 15, ""),
    "ZamGEQ31": (30, 33, ""),
    "ZamGate": (7, 12, "output_level_db gain_reduction_db"),
    "ZamGateX2": (7, 12, "output_level_db gain_reduction_db"),
    "ZamGrains": (6, 12, "grain_position playback_position final_position"),
    "ZamHeadX2": (3, 6, ""),
    "ZamPhono": (2, 5, ""),
    "ZamTube": (7, 10, ""),
    "ZamVerb": (3, 6, ""),
}
HOST = {"buffer_size_frames", "sample_rate_frames", "latency_frames", "current_program"}


@pytest.mark.parametrize("name", TABLE)
def test_exactly_the_usable_parameters_and_both_layouts(name):
    effect = load(f"vst3:{name}")
    used, reported, others = TABLE[name]
    left_out = set(others.replace("*", " ".join(f"gain_reduction_{k}_db" for k in (1, 2, 3))).split())
    assert len(effect.space.parameters) == used and len(effect.excluded) == reported - used
    assert set(effect.excluded) - HOST == left_out
    assert effect.is_open is False  # nothing was loaded here
    for audio in (LOUD[:, :3000], LOUD[:1, :3000]):
        assert effect.render(audio).shape == audio.shape


def test_a_second_load_runs_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = load("vst3:ZamComp")
    monkeypatch.setattr(isolation, "call", None)
    assert load("vst3:ZamComp").fingerprint == first.fingerprint


@pytest.mark.parametrize("name", ["ZaMaximX2", "ZamHeadX2", "ZamDelay", "ZamGrains"])
def test_pure(name):
    effect = load(f"vst3:{name}")
    rows = [effect.space.decode(row) for row in effect.space.sample(3, 0)]
    fresh = [pickle.loads(pickle.dumps(effect)).render(LOUD, row) for row in rows]
    for k in (0, 2, 1, 0):
        assert np.array_equal(effect.render(LOUD, rows[k]), fresh[k])
    assert effect.reset == ("reload" if name == "ZamHeadX2" else "host")


@pytest.mark.parametrize("length", [1, 511, 512, 513, 13_230])
def test_latency_is_compensated(length):
    effect = load("vst3:ZaMaximX2")
    assert effect.latency == 480
    for rate in (RATE, 96_000):
        assert np.abs(effect.render(0.05 * LOUD[:, :length], {}, rate) - 0.05 * LOUD[:, :length]).max() < 1e-6


def test_settings_stay_aligned_in_a_plugin_with_latency():
    effect = load("vst3:ZaMaximX2")
    quiet, hop = 0.05 * LOUD, 3000
    blocks = [{"output_ceiling_db": -20.0 * (k % 2)} for k in range(5)]
    whole = [effect.render(quiet, row) for row in blocks[:2]]
    wet = effect.render(quiet, [blocks[0], blocks[0], *blocks[1:4]], RATE, hop)
    assert np.array_equal(wet[:, : 2 * hop], whole[0][:, : 2 * hop])
    assert not np.array_equal(wet[:, 2 * hop : 2 * hop + 100], whole[0][:, 2 * hop : 2 * hop + 100])
    assert np.array_equal(effect.process(RenderRequest(LOUD, [effect.defaults] * 14, 1000, RATE)), effect.render(LOUD))


class Native(SimpleNamespace):
    label, num_steps = "", 2**31

    def get_text_for_raw_value(self, value):
        return str(value)


class Fake:
    """A gain, a pan that no host may automate, a meter that hosts may, a program, and what a test adds."""

    _reload_type = SimpleNamespace(name="ClearsAudioOnReset")
    reported_latency_samples = 0
    mark = 1.0  # outlives instances

    def __init__(self, leak=0.0, remembers=False):
        self.leak, self.remembers, self.state = leak, remembers, 0.0
        self._parameters = [
            Native(name="Latency", is_automatable=False, raw_value=0.0),
            Native(name="Gain", is_automatable=True, raw_value=0.5),
            Native(name="Pan", is_automatable=False, raw_value=0.5),
            Native(name="Gain Reduction", is_automatable=True, raw_value=0.0),
            Native(name="Preset", is_automatable=True, raw_value=0.0, seen=0.0),
        ]

    def reset(self):
        self.state *= self.leak > 0

    def process(self, audio, sample_rate, buffer_size, reset):
        if len(audio) == 1:
            raise ValueError("stereo only")
        _, gain, pan, _, preset = self._parameters
        if preset.raw_value != preset.seen:
            preset.seen, gain.raw_value = preset.raw_value, 0.1
        if self.remembers and gain.raw_value > 0.6:
            Fake.mark += 1
        self.state += self.leak * float(np.abs(audio).max())
        return (
            audio * gain.raw_value * np.array([[pan.raw_value], [1]])
            + self.state
            + (Fake.mark if self.remembers else 0)
        )


def examined(**options):
    answer = vst3_reader.examine(lambda: Fake(**options), lambda said: None)
    return answer, {p["name"]: p["why"] for p in answer["parameters"]}


def test_what_is_left_out_is_measured():
    answer, why = examined()
    assert why["Latency"] and why["Preset"] == "only moves others" and "changes nothing" in why["Gain Reduction"]
    assert not why["Gain"] and not why["Pan"]
    assert answer["channels"] == 2 and answer["reset"] == "host" and answer["automatable"]


@pytest.mark.parametrize(("leak", "reset"), [(0.0, "host"), (1e-3, "reload")])
def test_a_reset_that_leaves_something_is_not_believed(leak, reset):
    assert examined(leak=leak)[0]["reset"] == reset


def test_a_parameter_that_is_remembered_is_left_out(monkeypatch):
    monkeypatch.setattr(Fake, "mark", 1.0)
    monkeypatch.setattr(measures, "moved", lambda row, k: [0.7 if j == k else v for j, v in enumerate(row)])
    _, why = examined(remembers=True)
    assert "remembered" in why["Gain"] and not why["Pan"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("os.kill(os.getpid(), 11)", "it crashes with SIGSEGV"),
        ("time.sleep(600)", "it does not answer within 1 seconds"),
        ("raise ValueError('bad magic')", "bad magic"),
    ],
)
def test_a_plugin_that_crashes_or_hangs_is_one_error(body, words, monkeypatch, tmp_path):
    (tmp_path / "Fake.vst3").write_text("x")
    monkeypatch.setattr(vst3_reader, "__name__", write_module(tmp_path, monkeypatch, body))
    monkeypatch.setattr(vst3, "_DEADLINE", 1.0)
    with pytest.raises(EffectError) as caught:
        load(f"vst3:{tmp_path}/Fake.vst3")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_users_file_overrides_what_the_plugin_tells(tmp_path):
    (tmp_path / "mine.toml").write_text(
        """
        [threshold_db]
        min = -40
        max = -6
        default = -20
        step = 2
        [ratio]
        kind = "choice"
        options = ["one", "some", "all"]
        default = "all"
        [knee_db]
        kind = "toggle"
        [makeup_db]
        exclude = true
        [gain_reduction_db]
        exclude = false
        [attack_ms]
        log = true
        [release_ms]
        kind = "integer"
        min = 1
        max = 501
        unit = "steps"
        """
    )
    plain, effect = load("vst3:ZamCompX2"), load("vst3:ZamCompX2", parameters=tmp_path / "mine.toml")
    space = effect.space.parameters
    assert space["threshold_db"] == Continuous(-40, -6, -20, "dB", step=2)
    assert space["ratio"] == Choice(("one", "some", "all"), "all") and space["knee_db"] == Toggle(False)
    assert space["attack_ms"] == Continuous(0.1, 100, 10, "ms", log=True)
    assert isinstance(space["release_ms"], Integer) and space["release_ms"].unit == "steps"
    assert "makeup_db" not in space and "gain_reduction_db" in space
    assert effect.excluded["makeup_db"] == "is excluded by the user" and "gain_reduction_db" not in effect.excluded
    same = {"threshold_db": -30, "attack_ms": 20}
    own = effect.render(LOUD, same | {"ratio": "all", "release_ms": 101, "knee_db": True})
    raw = {n: plain.space.parameters[n] for n in ("ratio", "release_ms", "knee_db")}
    theirs = {n: p.decode(np.array([u])) for (n, p), u in zip(raw.items(), (1, 0.2, 1), strict=True)}
    assert np.abs(own - plain.render(LOUD, same | theirs)).max() < 1e-5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[volume]\nmin = 1", "'volume', which is no parameter; known are attack_ms"),
        ("[ratio]\nlow = 1", "'low' of ratio; known are kind, min"),
        ("ratio = 3", "outside a table"),
        ("[ratio", "is no TOML"),
        ("[ratio]\nmin = 0.5", "min=0.5 is outside its range"),
        ("[ratio]\nmin = 9\nmax = 3", "low < high"),
        ("[ratio]\ndefault = 'x'", "must be a number"),
        ("[ratio]\nkind = 'knob'", "kind must be continuous"),
        ("[ratio]\nkind = 'choice'", "needs options"),
        ("[ratio]\nkind = 'choice'\noptions = ['a']", "two options or more"),
        ("[ratio]\nkind = 'choice'\noptions = 3", "ratio"),
        ("[ratio]\nkind = 'toggle'\nmin = 3", "a toggle has no min"),
        ("[ratio]\nexclude = 'yes'", "exclude must be true or false"),
        ("[ratio]\nkind = 'continuous'\nmin = -1\nmax = 1\nlog = true", "must start above 0"),
    ],
)
def test_a_bad_file_gets_one_clear_sentence(text, words, tmp_path):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(EffectError) as caught:
        load("vst3:ZamCompX2", parameters=tmp_path / "mine.toml")
    assert words in str(caught.value) and "mine.toml" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(EffectError, match="No such file"):
        load("vst3:ZamCompX2", parameters=tmp_path / "none.toml")


def test_plugins_with_one_binary_are_told_apart_and_a_changed_file_is_seen(misbehave, tmp_path):
    first, second = tmp_path / "one.vst3", tmp_path / "two.vst3"
    for path in (first, second):
        shutil.copytree(misbehave, path)
        (binary,) = path.rglob("*.so")
        binary.rename(binary.with_stem(path.stem))
        (path / "Contents/Resources").mkdir()
        (path / "Contents/Resources/which.txt").write_text(path.stem)
    one, two = load(f"vst3:{first}"), load(f"vst3:{second}")
    assert one.digest != two.digest and one.fingerprint != two.fingerprint
    assert load(f"vst3:{first}").fingerprint == one.fingerprint
    (first / "Contents/Resources/which.txt").write_text("another version")
    with pytest.raises(EffectError, match="changed on disk"):
        one.render(np.zeros((2, 100), np.float32), {}, 44100)
    load(f"vst3:{first}").render(np.zeros((2, 100), np.float32), {}, 44100)
