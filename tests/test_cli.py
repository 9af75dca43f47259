import csv
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from typer.testing import CliRunner

import blackbox_fx
from blackbox_fx import audio
from blackbox_fx.cli.__main__ import app, main
from blackbox_fx.dsp import TWINS
from blackbox_fx.effects import scanning
from blackbox_fx.errors import EffectError
from blackbox_fx.lab.mixdown import EQUALISER, measure
from tests.cases import RATE, music


@pytest.fixture
def wav(tmp_path):
    audio.write(tmp_path / "in.wav", music(0.3), RATE)
    return tmp_path / "in.wav"


def run(*arguments):
    """The real program, as a person starts it."""
    command = [sys.executable, "-m", "blackbox_fx.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def call(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def test_the_version_is_shown():
    assert call("--version").stdout == f"blackbox-fx {blackbox_fx.__version__}\n"


def test_help_names_every_command():
    shown = call("--help").stdout
    for command in ("demo", "effects", "inspect", "check", "render", "preset", "train", "bench"):
        assert command in shown


def test_help_tells_the_default_steps():
    from blackbox_fx.tasks.mixing.training import MixRecipe

    assert f"{MixRecipe().steps} unless a recipe" in " ".join(call("demo", "--help").stdout.replace("│", "").split())


def test_effects_lists_builtins():
    shown = call("effects").stdout
    assert "pedalboard:Compressor" in shown and "pedalboard:PitchShift" in shown


def test_inspect_shows_parameters():
    shown = call("inspect", "pedalboard:LadderFilter", "--quick").stdout
    assert "cutoff_hz" in shown and "[20, 20000] Hz" in shown and "9 columns" in shown


def test_inspect_says_what_a_further_input_hears():
    shown = " ".join(call("inspect", "ladspa:sc2").stdout.split())
    assert "Further inputs: sidechain; a render without them has silence there." in shown
    assert "note: measured with the audio itself as sidechain, and not with silence" in shown


def test_inspect_vst3():
    shown = call("inspect", "vst3:ZamCompX2", "--quick").stdout
    assert "threshold_db" in shown and "[-80, 0] dB" in shown


def test_render_writes_what_the_effect_gives(wav, tmp_path):
    out = tmp_path / "out.wav"
    shown = call("render", "pedalboard:Distortion", wav, out, "--set", "drive_db=30")
    assert "wrote" in shown.stdout
    from blackbox_fx import load

    wet, rate = audio.read(out)
    assert rate == RATE
    assert np.array_equal(wet, load("pedalboard:Distortion").render(music(0.3), {"drive_db": 30}, RATE))


@pytest.mark.parametrize("seconds", [0.2, 0.5])
def test_render_takes_further_inputs(wav, tmp_path, seconds):
    from blackbox_fx import load

    key, out, settings = tmp_path / "key.wav", tmp_path / "out.wav", {"threshold_level_db": -30}
    audio.write(key, music(seconds), 22050)
    shown = call("render", "ladspa:sc2", wav, out, "--set", "threshold_level_db=-30", "--input", f"sidechain={key}")
    assert shown.exit_code == 0, shown.output
    dry, heard = music(0.3), np.zeros((2, 10 * RATE), np.float32)
    resampled, _ = audio.read(key, RATE)
    heard[:, : resampled.shape[1]] = resampled
    expected = load("ladspa:sc2").render(dry, settings, RATE, sidechain=heard[:, : dry.shape[1]])
    assert np.array_equal(audio.read(out)[0], expected)
    assert not np.array_equal(load("ladspa:sc2").render(dry, settings, RATE), expected)


def test_render_takes_choices_toggles_and_impulses(wav, tmp_path):
    for arguments in (
        ("pedalboard:LadderFilter", "--set", "mode=HPF24", "--set", "cutoff_hz=500"),
        ("pedalboard:Reverb", "--set", "freeze_mode=on"),
        ("pedalboard:Convolution", "--impulse", wav),
    ):
        effect, *options = arguments
        assert call("render", effect, wav, tmp_path / "out.flac", *options).exit_code == 0


def test_bench_overhead_prints_a_table():
    shown = call("bench", "overhead", "--batch", 2, "--seconds", 0.2, "--rounds", 2).stdout
    for word in ("bare loop", "Inline", "Threads", "Processes", "0.25 s", "1 s", "4 s"):
        assert word in shown
    assert shown.count("yes") == 4 + 3
    assert "NO" not in shown


def test_bench_overhead_compares_a_worker_with_a_bare_process():
    command = ("bench", "overhead", "--effect", "vst3:ZamComp.vst3", "--effect", "pedalboard:Gain")
    shown = call(*command, "--batch", 2, "--seconds", 0.2, "--rounds", 2).stdout
    assert shown.count("bare") == 2 and "process" in shown and shown.count("yes") == 2 and "NO" not in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gradients", "twin:waveshaper", "--estimator", "SPSA", "--songs", 1, "--settings", 1), ("SPSA(1)", "cosine")),
        (("optimise", "pedalboard:Gain", "--estimator", "SPSA", "--starts", 1, "--renders", 10), ("CMA", "SPSA(1)")),
    ],
)
def test_bench_compares_gradients_and_writes_a_page(arguments, words, tmp_path):
    short = ("--draws", 2) if arguments[0] == "gradients" else ()
    shown = call("bench", *arguments, *short, "--seconds", 0.2, "--out", tmp_path / "new")
    assert shown.exit_code == 0
    for word in (*words, "index.html"):
        assert word in shown.stdout
    made = {path.name for path in (tmp_path / "new").iterdir()}
    assert "index.html" in made and len(made) == 3 and not any(name.startswith(".") for name in made)


def test_bench_chain_multiplexed_and_discrete():
    shown = call("bench", "chain", "--songs", 1, "--settings", 1, "--draws", 1, "--seconds", 0.5).stdout
    assert "Chain: SPSA(1)" in shown and "Rack: SPSA(1)" in shown
    tiny = ("--effect", "channel strip", "--seconds", 1, "--cases", 1, "--draws", 1, "--window", 8192)
    shown = call("bench", "multiplexed", *tiny).stdout
    assert "8192" in shown and "2048" not in shown and "15" in shown
    assert "of 1" in call("bench", "discrete", "--seeds", 1, "--steps", 1).stdout


def test_bench_twins_times_all_of_them():
    shown = call("bench", "twins", "--clips", 1, "--seconds", 0.02, "--rounds", 1).stdout
    assert all(name in shown for name in TWINS)


@pytest.mark.parametrize("equaliser", ["vst3:ZamEQ2", "pedalboard:PeakFilter"])
def test_bench_mixdown_mixes_a_song_and_leaves_nothing_but_its_table(equaliser, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    if equaliser != EQUALISER:
        monkeypatch.setattr(scanning, "installed", lambda names, match: dict.fromkeys(names, ()))
    short = ("--tracks", 4, "--minutes", 0.05, "--seed", 1)
    shown = call("bench", "mixdown", *short, "--out", tmp_path / "new").stdout
    assert "bare renders, s" in shown and "peak memory, MB" in shown
    assert ("is not installed; pedalboard:PeakFilter is in its place" in shown) == (equaliser != EQUALISER)
    with (tmp_path / "new/mixdown.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["equaliser"] == equaliser and (row["tracks"], row["minutes"]) == ("4", "0.05")
    mixdown, renders, ratio, peak = (float(row[name]) for name in ("mixdown", "renders", "ratio", "peak_mb"))
    assert mixdown > 0 and renders > 0 and ratio == pytest.approx(mixdown / renders) and 50 < peak < 1000
    assert not list(temporary.iterdir())


def test_a_song_that_cannot_be_mixed_is_one_sentence():
    with pytest.raises(EffectError, match=r"The song was not mixed \(tracks must be .*\); try fewer"):
        measure(0, 0.05, 0)


def test_bench_consoles_trains_through_twins_and_black_boxes():
    shown = call("bench", "consoles", "--steps", 1, "--excerpts", 4).stdout
    assert "twins, autodiff" in shown and "default layers" in shown and "SPSA(1)" in shown


def test_train_on_a_folder_of_stems(tmp_path):
    for k in range(3):
        (tmp_path / f"songs/song{k}").mkdir(parents=True)
        for t in range(2):
            audio.write(tmp_path / f"songs/song{k}/track{t}.flac", music(2.0, 1 + t, seed=5 * k + t), RATE)
    (tmp_path / "songs/song1/broken.wav").write_text("no audio")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("batch = 2\nseconds = 0.4\nexcerpts = 4\nunseen = 2\n")
    out = tmp_path / "run"
    shown = run("train", "mix", "--songs", tmp_path / "songs", "--out", out, "--recipe", recipe, "--steps", 2)
    assert shown.returncode == 0, shown.stderr
    assert "broken.wav" in shown.stderr and "trained network" in shown.stdout
    assert (out / "index.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("inspect", "pedalboard:Compresor"), "did you mean"),
        (("inspect", "compressor"), "did you mean pedalboard:Compressor"),
        (("inspect", "vst3:/no/such.vst3"), "No such VST3"),
        (("inspect", "pedalboard:Gain", "--html", "page.txt"), "--html takes"),
        (("inspect", "vst3:ZamCompX2", "--parameters", "none.toml"), "none.toml"),
        (("bench", "hosts", "--host", "vst4"), "'vst4'"),
        (("bench", "hosts", "--host", "vst3", "--match", "NoSuch"), "No such plugin"),
        (("render", "pedalboard:Gain", "missing.wav", "out.wav"), "No such audio file"),
        (("render", "pedalboard:Gain", "IN", "out.wav", "--set", "gain_db"), "name=value"),
        (("render", "pedalboard:Gain", "IN", "out.wav", "--set", "volume=3"), "'volume'"),
        (("render", "pedalboard:Gain", "IN", "out.wav", "--set", "gain_db=loud"), "[-60, 24] dB"),
        (("render", "pedalboard:Gain", "IN", "out.wav", "--input", "key=k.wav"), "no input 'key'; known are none"),
        (("render", "ladspa:sc2", "IN", "out.wav", "--input", "sidechain"), "NAME=FILE"),
        (("render", "ladspa:sc2", "IN", "out.wav", "--input", "sidechain=no.wav"), "No such audio file"),
        (
            ("render", "ladspa:sc2", "IN", "out.wav", "--input", "sidechain=a.wav", "--input", "sidechain=b.wav"),
            "twice",
        ),
        (("render", "pedalboard:Gain", "IN", "out.xyz"), "out.xyz"),
        (("render", "pedalboard:Gain", "IN", "IN"), "same file"),
        (("render", "ladspa:sc2", "IN", "IN", "--input", "sidechain=IN"), "same file"),
        (("train", "mix", "--songs", "EMPTY"), "EMPTY"),
        (("train", "mix", "--songs", "nowhere"), "nowhere"),
        (("demo", "--songs", "1"), "songs"),
        (("demo", "--out", "IN"), "Cannot write to the folder"),
        (("render", "pedalboard:Gain", "IN", "FOLDER"), "Cannot write"),
        (("bench", "gradients", "twin:reverb"), "Unknown twin"),
        (("bench", "gradients", "pedalboard:Gain", "--estimator", "Guess"), "known are FiniteDifference"),
        (("bench", "gradients", "pedalboard:Gain", "--only", "volume"), "'volume'"),
        (("bench", "gradients", "pedalboard:Gain", "--set", "gain_db"), "name=value"),
        (("bench", "gradients", "pedalboard:Gain", "--set", "gain_db=3"), "no free parameters"),
        (("bench", "optimise", "pedalboard:Gain", "--out", "IN"), "Cannot make the folder"),
        (("bench", "multiplexed", "--effect", "piano"), "known are channel strip"),
    ],
)
def test_mistakes_are_one_sentence_without_a_traceback(arguments, words, wav, tmp_path, monkeypatch, capfd):
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.wav").mkdir()
    names = {"IN": wav, "EMPTY": tmp_path / "empty", "FOLDER": tmp_path / "folder.wav"}
    before = sorted(tmp_path.rglob("*"))
    given = [names.get(a, tmp_path / a if a.startswith("out.") else a) for a in arguments]
    monkeypatch.setattr(sys, "argv", ["blackbox-fx", *map(str, given)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capfd.readouterr()
    assert ended.value.code == 2
    assert str(names.get(words, words)) in printed.err and "Traceback" not in printed.err + printed.out
    assert sorted(tmp_path.rglob("*")) == before


def test_the_real_program_says_it_too(wav):
    shown = run("render", "pedalboard:Gain", wav, wav)
    assert shown.returncode == 2 and "same file" in shown.stderr and "Traceback" not in shown.stderr
