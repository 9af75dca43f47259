"""Style transfer: pairs teach by themselves, training resumes, networks are files, and recordings may differ in all."""

import contextlib
import csv
import dataclasses
import json
import math
import types

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import blackbox_fx as bfx
from blackbox_fx.audio import read, write
from blackbox_fx.cli.__main__ import app
from blackbox_fx.data import compose, read_recordings
from blackbox_fx.errors import AudioError, DataError, EffectError, ParameterError
from blackbox_fx.layers.description import read_chain
from blackbox_fx.learning.start import start_proxy
from blackbox_fx.proxy.adapt import AdaptedProxy
from blackbox_fx.report.learning import Curve, read_curves, write_curves
from blackbox_fx.tasks.matching.commands import moved
from blackbox_fx.tasks.matching.writing import write_settings
from blackbox_fx.tasks.style import cases, evaluation, imperfect, learning, probing, treatments
from blackbox_fx.tasks.style.encoder import Encoder, load_encoder, train_encoder, write_encoder
from blackbox_fx.tasks.style.learning_page import learning_rows, write_learning_page
from blackbox_fx.tasks.style.network import StyleNet
from blackbox_fx.tasks.style.pairs import draw_pairs
from blackbox_fx.tasks.style.rules import by_rule, match_spectrum, nearest_settings
from blackbox_fx.tasks.style.study import TRAINED, StyleStudy
from blackbox_fx.tasks.style.styler import load_styler, read_effects
from blackbox_fx.tasks.style.training import StyleRecipe, chosen_by, judge, mean_distance
from blackbox_fx.tasks.style.transfer import transfer
from blackbox_fx.tasks.style.treatments import draw_treated, load_kinds
from blackbox_fx.training.run import Run

RATE = 44100
SAID = {
    "shelf": {
        "effect": "pedalboard:HighShelfFilter",
        "free": ["gain_db"],
        "fix": {"cutoff_frequency_hz": 2000},
    },
    "gain": {"effect": "pedalboard:Gain", "within": {"gain_db": [-18, 18]}},
}
RECIPE = StyleRecipe(steps=8, batch=2, seconds=0.3, pairs=12, aside=4, unseen=6, across=0.5, judge_every=4)


@pytest.fixture(scope="module")
def songs():
    return [compose(seed, seconds=2.0) for seed in range(6)]


@pytest.fixture(scope="module")
def run(songs, tmp_path_factory):
    """A network that was trained for long enough to know where the shelf and the gain stand."""
    folder = tmp_path_factory.mktemp("run")
    recipe = StyleRecipe(steps=200, batch=4, seconds=0.3, pairs=300, aside=8, unseen=24, judge_every=100)
    scores = train(songs, folder, recipe)
    return folder, scores


def train(songs, folder, recipe=RECIPE, progress=lambda *_: None):
    effects = read_chain(SAID)
    with Run(folder, dataclasses.asdict(recipe)) as opened:
        study = StyleStudy(effects, SAID, songs[:5], songs[5:], recipe, bfx.Inline())
        return study.run(opened, progress)


def rack():
    return bfx.Rack(read_chain(SAID))


def test_pairs_depend_on_the_seed_alone_and_targets_are_what_the_chain_gives(songs):
    chain = rack()
    first, again = (draw_pairs(songs, chain, 20, 0.3, 2, 5, bfx.Inline(), keep_references=True) for _ in range(2))
    assert torch.equal(first.target, again.target)
    assert len(first) == 20
    assert not torch.equal(first.dry, draw_pairs(songs, chain, 20, 0.3, 2, 6, bfx.Inline()).dry)
    for dry, target, params in zip(first.dry, first.target, first.params, strict=True):
        wet = chain.render(dry.numpy(), chain.space.decode(params.double().numpy()), RATE)
        assert np.allclose(wet, target.numpy(), atol=1e-6)
    assert (first.dry.abs().amax((1, 2)) >= 10 ** (-40 / 20)).all()
    assert first.reference.shape == first.dry.shape


def test_references_of_other_songs_have_the_same_settings(songs):
    chain = rack()
    own, other = (
        draw_pairs(songs, chain, 32, 0.3, 1, 0, bfx.Inline(), across=share, keep_references=True) for share in (0, 1)
    )
    kept = [k for k in range(16) if own.names[k] == other.names[k]]
    assert len(kept) > 8
    assert not any(torch.equal(own.reference[k], other.reference[k]) for k in kept)


def test_what_comes_out_far_softer_is_drawn_again(songs):
    quiet = bfx.load("pedalboard:Gain").within({"gain_db": (-60, 0)})
    pairs = draw_pairs(songs, quiet, 16, 0.3, 1, 0, bfx.Inline())
    assert pairs.left_out > 0
    assert (pairs.target.abs().amax((1, 2)) >= 0.1 * pairs.dry.abs().amax((1, 2))).all()
    with pytest.raises(DataError, match="narrow the ranges"):
        draw_pairs(songs, bfx.load("pedalboard:Gain").within({"gain_db": (-60, -50)}), 4, 0.3, 1, 0, bfx.Inline())


def test_it_learns_and_beats_what_it_is_told_nothing(run):
    folder, scores = run
    assert scores[TRAINED] < 0.85 * min(scores["untouched"], scores["random settings"])
    card = json.loads((folder / "style.json").read_text())["card"]
    assert card["distance on unseen songs"][TRAINED] == round(scores[TRAINED], 4)
    judged = (folder / "judged.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in judged[1:]] == ["100", "200"]


def test_an_interrupted_training_goes_on_to_the_same_network(songs, tmp_path):
    class Stop(Exception):
        pass

    def interrupt(done, total, words):
        if done == 6 and words.startswith("loss"):
            raise Stop

    whole = train(songs, tmp_path / "whole")
    with contextlib.suppress(Stop):
        train(songs, tmp_path / "parts", progress=interrupt)
    assert not (tmp_path / "parts" / "style.json").exists()
    assert train(songs, tmp_path / "parts") == whole
    files = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "parts")]
    assert files[0] == files[1]
    with pytest.raises(DataError, match="other settings"):
        train(songs, tmp_path / "parts", dataclasses.replace(RECIPE, batch=3))
    with pytest.raises(DataError, match="other songs"):
        train([compose(90 + k, seconds=2.0) for k in range(6)], tmp_path / "parts")


def test_the_network_that_was_best_aside_is_kept(songs, tmp_path, monkeypatch):
    losses = iter([1.0, 3.0])
    monkeypatch.setattr("blackbox_fx.tasks.style.training.judge", lambda *_: next(losses))
    monkeypatch.setattr("blackbox_fx.tasks.style.study.judge", lambda *_: 1.0)
    train(songs, tmp_path)
    card = json.loads((tmp_path / "style.json").read_text())["card"]
    assert card["best step"] == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "steps must be a positive whole number"),
        ({"seconds": -1.0}, "seconds must be a positive number"),
        ({"seconds": 0.02}, "seconds must be a number in"),
        ({"channels": 3}, "channels"),
        ({"across": 1.5}, "across"),
    ],
)
def test_bad_recipes_are_refused(changes, words):
    with pytest.raises(ParameterError, match=words):
        StyleRecipe(**changes)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_recordings_may_differ_in_all(run, songs, channels, rate):
    styler = load_styler(run[0])
    dry = songs[5].stack(2).sum(0)
    dry = 0.5 * dry / np.abs(dry).max()
    chain = rack()
    other = compose(7, 2.0, rate).stack(channels).sum(0)
    loud = chain.render(0.2 * other / np.abs(other).max(), {"gain.gain_db": 10.0, "shelf.gain_db": 15.0}, rate)
    soft = chain.render(0.2 * other / np.abs(other).max(), {"gain.gain_db": -12.0, "shelf.gain_db": -15.0}, rate)
    found = [transfer(dry, x, styler, sample_rate=RATE, reference_rate=rate) for x in (loud, soft)]
    assert found[0].settings["gain"]["gain_db"] > found[1].settings["gain"]["gain_db"] + 3
    assert found[0].render(dry).shape == dry.shape
    refined = transfer(dry, loud, styler, sample_rate=RATE, reference_rate=rate, refine=40)
    assert refined.loss <= found[0].loss * 1.1


def test_what_cannot_be_transferred_is_said(run):
    styler = load_styler(run[0])
    noise = np.full((1, 4000), 0.1, np.float32)
    with pytest.raises(AudioError, match="The reference is silent"):
        transfer(noise, np.zeros((1, 4000), np.float32), styler)
    with pytest.raises(AudioError, match="allowed are 1 and 2"):
        transfer(np.full((3, 4000), 0.1, np.float32), noise, styler)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("style.json", lambda text: "{", "it is no JSON"),
        ("style.json", lambda text: "[]", "something else"),
        ("style.json", lambda text: text.replace('"columns"', '"column"'), "'columns' is missing"),
        ("style.json", lambda text: text.replace('"version": 1', '"version": 9'), "another version"),
        ("style.json", lambda text: text.replace('"channels": 1', '"channels": 7'), "7 channels"),
        ("style.json", lambda text: text.replace("shelf.gain_db", "shelf.q"), "other parameters"),
        ("style.json", lambda text: text.replace("HighShelfFilter", "NoSuchFilter"), "NoSuchFilter"),
        ("weights.safetensors", lambda text: "nonsense", "Cannot read"),
    ],
)
def test_damaged_networks_are_refused(run, tmp_path, name, damage, words):
    for file in ("style.json", "weights.safetensors"):
        (tmp_path / file).write_bytes((run[0] / file).read_bytes())
    path = tmp_path / name
    path.write_text(damage(path.read_text() if name.endswith("json") else ""))
    with pytest.raises((DataError, EffectError), match=words):
        load_styler(tmp_path)
    with pytest.raises(DataError, match="no style network"):
        load_styler("nobody")


def test_the_rule_gives_spectrum_and_level_of_the_reference(songs):
    dry = songs[0].stack(1).sum(0)[:, :44100]
    dry = 0.5 * dry / np.abs(dry).max()
    wet = rack().render(dry, {"gain.gain_db": 6.0, "shelf.gain_db": -12.0}, RATE)
    found = match_spectrum(dry, wet, RATE)
    x, y, z = (torch.from_numpy(each)[None] for each in (dry, wet, found))
    assert mean_distance(z, y) < 0.2 * mean_distance(x, y)


def test_the_nearest_settings_of_known_pairs_are_their_own(songs):
    pairs = draw_pairs(songs, rack(), 16, 0.3, 1, 0, bfx.Inline(), keep_references=True)
    assert torch.equal(nearest_settings(pairs.heard, pairs.wanted, pairs), pairs.params)
    assert by_rule(pairs, RATE).shape == pairs.dry.shape
    truth = judge(lambda part: part.params, bfx.BlackBox(rack(), pool=bfx.Inline()), pairs)
    assert truth < 1e-3
    network = StyleNet({"shelf": 1, "gain": 1})
    assert judge(chosen_by(network), bfx.BlackBox(rack(), pool=bfx.Inline()), pairs) > 0.1


def test_commands_train_and_transfer(songs, tmp_path):
    (tmp_path / "chain.toml").write_text('[chain.gain]\neffect = "pedalboard:Gain"\nwithin = {gain_db = [-18, 18]}\n')
    (tmp_path / "recipe.toml").write_text(
        "steps = 4\npairs = 8\naside = 2\nunseen = 2\nseconds = 0.3\njudge_every = 2\n"
    )
    voices = tmp_path / "voices"
    (voices / "more").mkdir(parents=True)
    for k, song in enumerate(songs[:4]):
        write(voices / ("more" if k else ".") / f"{k}.wav", song.stack(1).sum(0)[:, :40000] * 0.3, RATE)
    (voices / "bad.wav").write_bytes(b"RIFF")
    command = ["train", "style", "--chain", str(tmp_path / "chain.toml"), "--out", str(tmp_path / "run")]
    shown = CliRunner().invoke(
        app, [*command, "--recordings", str(voices), "--recipe", str(tmp_path / "recipe.toml")], catch_exceptions=False
    )
    assert shown.exit_code == 0, shown.output
    assert "bad.wav" in shown.output
    first, second = tmp_path / "first.wav", tmp_path / "second.flac"
    write(first, songs[0].stack(2).sum(0)[:, :50000] * 0.3, RATE)
    write(second, compose(9, 2.0, 48000).stack(1).sum(0) * 0.3, 48000)
    out = tmp_path / "out"
    shown = CliRunner().invoke(
        app, ["transfer", str(first), str(second), "--model", str(tmp_path / "run"), "--out", str(out)],
        catch_exceptions=False,
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    assert read(out / "matched.wav")[0].shape == read(first)[0].shape
    assert json.loads((out / "match.json").read_text())["settings"]["gain"].keys() == {"gain_db"}
    assert {"index.html", "matched.dawproject", "presets"} <= {path.name for path in out.iterdir()}
    assert "A transfer" in (out / "index.html").read_text()
    over = ["transfer", str(first), str(second), "--model", str(tmp_path / "run"), "--out", str(tmp_path / "run")]
    assert "folder of a trained network" in str(CliRunner().invoke(app, over).exception)


@pytest.mark.parametrize("recorded", [True, False])
def test_transfers_are_compared_on_composed_songs_and_on_recordings(run, songs, tmp_path, monkeypatch, recorded):
    monkeypatch.setattr(evaluation, "KNOWN", 8)
    monkeypatch.setattr(evaluation, "compose", lambda seed, *_: songs[seed % 6])
    voices = tmp_path / "voices"
    voices.mkdir()
    for k in range(2):
        write(voices / f"{k}.wav", np.tile(songs[k].stack(1).sum(0) * 0.3, 4), RATE)
    write(voices / "short.wav", songs[2].stack(1).sum(0) * 0.3, RATE)
    write(voices / "silent.wav", np.zeros((1, 9 * RATE), np.float32), RATE)
    command = ["bench", "transfer", "--out", str(tmp_path / "out"), "--model", str(run[0]), "--pairs", "2"]
    given = [*command, "--recordings", str(voices)] if recorded else command
    shown = CliRunner().invoke(app, given, catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    assert all((words in shown.output) == recorded for words in ("skipped short: it is shorter", "skipped silent"))
    with (tmp_path / "out/transfers.csv").open() as file:
        rows = list(csv.DictReader(file))
    ways = {"network", "untouched", "defaults", "rule: spectrum and level", "nearest of 1000 settings", "its own sound"}
    assert {(row["pair"], row["way"]) for row in rows} == {(pair, way) for pair in "01" for way in ways}
    assert all(float(row["stft"]) > 0 for row in rows)
    if recorded:
        (voices / "1.wav").unlink()
        assert "needs two" in str(CliRunner().invoke(app, given).exception)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--chain", "a.toml", "--chain", "pedalboard:Gain"], "no other --chain"),
        (["--chain", "pedalboard:Gain", "--songs", "x", "--recordings", "y"], "exclude each other"),
        (["--chain", "pedalboard:Gain", "--recordings", "nowhere"], "No such folder"),
    ],
)
def test_mistakes_in_train_style_are_one_sentence(arguments, words, tmp_path):
    shown = CliRunner().invoke(app, ["train", "style", "--out", str(tmp_path / "run"), *arguments])
    assert words in str(shown.exception)


def test_recordings_are_songs_of_one_track(tmp_path):
    with pytest.raises(DataError, match="holds no audio file"):
        read_recordings(tmp_path)
    write(tmp_path / "a voice.wav", np.full((1, 2000), 0.1, np.float32), RATE)
    folder = read_recordings(tmp_path, 22050)
    assert [(song.name, song.length, song.channels) for song in folder.songs] == [("a voice", 1000, 1)]


def test_every_method_learns_in_every_case_that_allows_it():
    allowed = {name: learning.fitting(make()) for name, make in learning.CASES.items()}
    assert set().union(*allowed.values()) == set(learning.METHODS)
    assert all(learning.DEFAULT in names and learning.PUBLISHED in names for names in allowed.values())
    with pytest.raises(ParameterError, match="Unknown method 'spsa'"):
        learning.check_names([], ["spsa"])


@pytest.fixture(scope="module")
def few(songs):
    """A case with few pairs, whose songs are those of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "compose", lambda seed, *_: songs[seed % 6])
        recipe = StyleRecipe(steps=2, batch=2, seconds=0.5, pairs=8, unseen=2, aside=2)
        yield (
            recipe,
            {
                name: learning.Examples(name, learning.CASES[name](), recipe, bfx.Inline())
                for name in ("EQ, ZamCompX2", "twins")
            },
        )


def test_effects_without_a_proxy_are_prepared(monkeypatch):
    made = []

    def found(effect, rate):
        return [AdaptedProxy(start_proxy(effect), effect.space)] if effect.name in made else []

    monkeypatch.setattr(cases, "prepare", lambda effect, **_: made.append(effect.name))
    monkeypatch.setattr(cases, "find_proxies", found)
    case = learning.CASES["twins"]()
    prepared = case.prepared()
    assert made == [effect.name for effect in case.effects.values()]
    assert "full hybrid" not in learning.fitting(case)
    assert set(learning.fitting(prepared)) == set(learning.METHODS)
    prepared.prepared()
    assert len(made) == len(case.effects)


@pytest.mark.parametrize("method", [name for name in learning.METHODS if name != learning.AUTODIFF])
def test_a_method_changes_the_network(few, method, monkeypatch):
    recipe, examples = few
    monkeypatch.setattr(imperfect, "_ROUGH_S", 0.2)
    curve = examples["EQ, ZamCompX2"].learn(method, recipe)
    assert curve.steps == (0, 1, 2)
    assert len(curve.aside) == 3 and curve.aside != curve.losses
    assert curve.losses[0] != curve.losses[-1]
    assert all(map(np.isfinite, curve.losses))
    if method.startswith(("proxy alone", "half hybrid")):
        assert curve.renders == 0


# what the default layer chooses depends on times
@pytest.mark.parametrize(
    "method", [learning.PUBLISHED, "SPSA, whole chain", "score function, whole chain", "full hybrid", "control variate"]
)
def test_a_comparison_that_is_interrupted_goes_on(few, tmp_path, method):
    recipe, examples = few
    recipe, folder = dataclasses.replace(recipe, steps=4), tmp_path / "one"

    def stop(step, *_):
        if step == 3:
            raise KeyboardInterrupt

    whole = examples["EQ, ZamCompX2"].learn(method, recipe)
    with pytest.raises(KeyboardInterrupt):
        examples["EQ, ZamCompX2"].learn(method, recipe, stop, folder)
    assert list(folder.glob("checkpoint-3.safetensors"))
    seen = []
    taken_up = examples["EQ, ZamCompX2"].learn(method, recipe, lambda step, *_: seen.append(step), folder)
    assert seen == [4]
    assert taken_up.steps == whole.steps and taken_up.renders == whole.renders
    assert (taken_up.losses, taken_up.aside) == (whole.losses, whole.aside)


def test_imperfect_proxies_are_other_than_the_good_one(songs):
    good = bfx.load_proxy("zam-comp-x2")
    effect = good.effect()
    audio, params = torch.from_numpy(songs[0].stack(1).sum(0)[None, :, :8000]), torch.full((1, effect.space.width), 0.9)
    other = imperfect.other_version(effect, good)
    moved = 0.5 + 0.8 * (params - 0.5)
    assert torch.allclose(other(audio, params, 44100), good(audio, moved, 44100), atol=1e-6)
    assert not torch.allclose(other(audio, params, 44100), good(audio, params, 44100), atol=1e-3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imperfect, "_ROUGH_S", 0.2)
        assert imperfect.rough(effect, good) is imperfect.rough(effect, good)
    assert set(imperfect.IMPERFECT) == {
        name.split(", ")[1] for name in learning.METHODS if name.startswith("half hybrid,")
    }


def test_twins_learn_by_autodiff_and_references_are_worse_than_the_truth(few):
    recipe, examples = few
    curve = examples["twins"].learn(learning.AUTODIFF, recipe)
    assert curve.losses[0] != curve.losses[-1]
    names = {c.method: c.losses[0] for c in examples["twins"].references()}
    assert set(names) == {"untouched", "middle", "rule", "nearest of 1000 settings"}
    assert min(names.values()) > 0.1


def test_curves_are_kept_and_the_best_rate_of_each_method_is_reported(tmp_path):
    def curve(method, seed, rate, last):
        return Curve(method, seed, (0, 5), (0.0, 1.0), (2.0, last), "case", rate, 7)

    tuned = [curve(learning.DEFAULT, 1000, rate, last) for rate, last in ((1e-3, 1.0), (3e-3, 0.8))]
    made = [*tuned, *(curve(learning.DEFAULT, seed, 3e-3, 0.8 + seed / 10) for seed in range(2))]
    early = Curve(learning.PUBLISHED, 0, (0, 5, 9), (0.0, 1.0, 2.0), (2.0, 1.5, 1.6), "case", 1e-3, 7, (2.0, 1.4, 1.7))
    assert dataclasses.replace(early, aside=(2.0, math.nan, 1.7)).best == 2
    made.append(early)
    made.append(Curve("untouched", 0, (0,), (0.0,), (2.5,), "case"))
    write_curves(tmp_path / "curves.csv", made)
    assert read_curves(tmp_path / "curves.csv") == made
    assert len(learning.reported(made)) == 4
    rows = learning_rows(made)
    assert rows[1][:6] == ("case", "default", "0.003", "2", "0.850", "0.071")
    assert rows[1][8] == "0.53"
    assert [row[4:7] for row in rows[1:3]] == [("0.850", "0.071", ""), ("1.600", "", "1.500")]
    page = write_learning_page(tmp_path, made)
    assert "untouched" in page.read_text()
    (tmp_path / "curves.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no table of curves"):
        read_curves(tmp_path / "curves.csv")


KINDS = {
    "equaliser": ("pedalboard:HighShelfFilter", "pedalboard:LowShelfFilter"),
    "distortion": ("pedalboard:Distortion",),
}


@pytest.fixture(scope="module")
def treated(songs):
    return draw_treated(songs, load_kinds(KINDS), 40, 0.5, 0, keep_audio=True)


def test_treated_clips_come_in_groups(treated, songs):
    assert treated.spectrograms.shape[:4] == (40, 2, 2, 128)
    assert treated.audio.shape[:4] == (40, 2, 2, 2)
    assert (treated.songs[:, 0] != treated.songs[:, 1]).all()
    assert (treated.kinds[:, 0] != treated.kinds[:, 1]).all()
    again = draw_treated(songs, load_kinds(KINDS), 2, 0.5, 0)
    assert torch.equal(again.spectrograms, treated.spectrograms[:2])


def test_composed_songs_are_treated_part_by_part(songs, monkeypatch):
    asked, told = [], []
    monkeypatch.setattr(treatments, "compose", lambda seed, *_: asked.append(seed) or songs[seed % 6])
    found = treatments.compose_treated(load_kinds(KINDS), 101, 8, 0.5, 0, lambda *step: told.append(step[:2]))
    assert found.spectrograms.shape[0] == 8
    assert len(set(asked)) == len(asked) == 101
    assert sorted({step for step in told if step[0]}) == [(k + 1, 8) for k in range(8)]
    assert [int(pair.max()) // 34 for pair in found.songs] == [0, 0, 1, 1, 1, 2, 2, 2]
    assert len(treatments.compose_treated(load_kinds(KINDS), 101, 2, 0.5, 0).kinds) == 2
    with pytest.raises(ParameterError, match="two songs"):
        treatments.compose_treated(load_kinds(KINDS), 1, 2, 0.5, 0)


def test_an_encoder_learns_to_tell_treatments_apart_and_is_kept(treated, tmp_path):
    encoder = train_encoder(treated, RATE, 150)
    write_encoder(tmp_path, encoder, {})
    loaded = load_encoder(tmp_path)
    audio = treated.audio[0, 0]
    assert torch.allclose(loaded(audio), encoder(audio))
    assert torch.allclose(loaded(audio).norm(dim=1), torch.ones(2))
    assert loaded(audio[:, :1]).shape == (2, loaded.size)
    with pytest.raises(AudioError, match="audio must be"):
        loaded(audio[0])
    ways = probing.ways(encoder, RATE, {})
    examples = probing.Examples(treated, treated, treated, treated)
    found = {name: probing.probe(name, ways[name], examples) for name in ("trained encoder", "the same, untrained")}
    assert found["trained encoder"].kind.value > 0.9
    assert found["trained encoder"].treatment.value > found["the same, untrained"].treatment.value
    (tmp_path / "weights.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="Cannot read the encoder"):
        load_encoder(tmp_path)
    with pytest.raises(DataError, match="no encoder"):
        load_encoder("nobody")


def test_mono_is_heard_as_stereo_with_silent_sides():
    encoder = Encoder(RATE).eval()
    mono = torch.randn(1, 1, 8000)
    assert torch.allclose(encoder(mono), encoder(mono.expand(1, 2, -1)), atol=1e-6)


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"effect": "pedalboard:Gain", "free": []}, "nothing to set"),
        ({"effect": "pedalboard:Gain", "bypass": True}, "chain.one can be switched off"),
        ({"effect": "twin:compressor"}, "chain.one is a twin"),
    ],
)
def test_chains_that_a_network_cannot_set_are_refused(own, words):
    with pytest.raises(ParameterError, match=words):
        read_effects({"one": own})


def test_wrong_names_networks_and_rates_are_refused(run):
    for load in (load_styler, load_encoder):
        for name in (None, 3, "x" * 5000, "a\0b"):
            with pytest.raises(DataError, match=r"is needed|There is no"):
                load(name)
    noise = np.full((1, 4000), 0.1, np.float32)
    with pytest.raises(ParameterError, match=r"bfx\.load_styler"):
        transfer(noise, noise, "zam-eq2-zam-comp-x2")
    with pytest.raises(AudioError, match="sample_rate=0"):
        transfer(noise, noise, load_styler(run[0]), reference_rate=0)


def test_a_device_that_is_not_there_is_one_sentence(tmp_path):
    command = ["train", "style", "--chain", "pedalboard:Gain", "--out", str(tmp_path), "--device", "hello"]
    assert "no device 'hello'" in str(CliRunner().invoke(app, command).exception)


def test_songs_shorter_than_a_place_are_told(songs, caplog):
    recipe = dataclasses.replace(RECIPE, seconds=3.0)
    StyleStudy(read_chain(SAID), SAID, songs[:5], songs[5:], recipe, bfx.Inline())
    assert "6 of 6 songs" in caplog.text


@pytest.mark.parametrize(("before", "loss", "words"), [(2.0, 1.0, "fell from 2 to 1"), (1.0, 2.0, "rose from 1 to 2")])
def test_a_distance_that_rose_is_not_said_to_have_fallen(before, loss, words):
    assert words in moved(types.SimpleNamespace(before=before, loss=loss))


def test_a_setting_that_others_make_up_for_is_written_as_json(songs, tmp_path):
    dry = songs[0].stack(1).sum(0)[:, :20000] * 0.2
    found = bfx.match(dry, dry * 0.5, {"a": bfx.load("pedalboard:Gain"), "b": bfx.load("pedalboard:Gain")}, renders=60)
    assert any(each.is_made_up_for for each in found.determined)
    write_settings(found, tmp_path)
    assert json.loads((tmp_path / "match.json").read_text())["determined"]
