import json
import shutil

import pytest
import torch
from typer.testing import CliRunner

import blackbox_fx as bfx
from blackbox_fx import audio
from blackbox_fx.cli import proxy as commands
from blackbox_fx.cli.__main__ import app
from blackbox_fx.core import paths
from blackbox_fx.data import compose
from blackbox_fx.errors import DataError, ParameterError
from blackbox_fx.learning import train
from blackbox_fx.proxy import store
from blackbox_fx.proxy.card import Training, make_card
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.proxy.nets import make_net
from blackbox_fx.proxy.recipe import ProxyRecipe
from blackbox_fx.proxy.store import CARD, RECIPE, read_card, save_proxy
from blackbox_fx.report import proxy as report
from tests.test_proxy_card import SCORES, SOUND

NET = {"kind": "structured", "filters": 1, "gain": False, "curve": False}
SECONDS = 0.25
calls = []


def call(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def stand_in(recipe, out, songs=None, progress=None):
    """Trains nothing, and writes what a training writes."""
    calls.append((recipe, songs))
    effect = recipe.load_effect()
    torch.manual_seed(0)
    net = NET
    proxy = Proxy(make_net(net, effect.space.width, recipe.sample_rate), effect.space, effect.name, effect.fingerprint)
    training = Training(1, 2, recipe.batch, 1, recipe.seed, 0)
    card = make_card(
        effect, proxy, net, training, SCORES, {"dry": SOUND, "dry at the best gain": SOUND}, {"nothing": 0.0}
    )
    progress(1, 1, "done")
    card = save_proxy(out, proxy, recipe, card)
    (out / "losses.csv").write_text("step,loss\n" + "".join(f"{k},{1 / k}\n" for k in range(1, 30)))
    (out / "evaluations.csv").write_text("step,seconds,esr,stft,cosine\n10,1,0.5,0.4,0.7\n20,2,0.4,0.3,0.8\n")
    return type("Trained", (), {"proxy": proxy, "card": card})


@pytest.fixture(scope="module", autouse=True)
def trainer():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "train_proxy", stand_in, raising=False)
        patch.setattr(commands, "_ITEMS", 2)
        patch.setattr(report, "_SHOWN_S", 0.5)
        patch.setenv("COLUMNS", "200")
        yield


@pytest.fixture
def no_page(monkeypatch):
    monkeypatch.setattr(report, "write_proxy_page", lambda folder, *_: (folder / "index.html").write_text("a page"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proxies")
    (folder / "short.toml").write_text(f"effect = 'pedalboard:Compressor'\nseconds = {SECONDS}\n")
    shown = call("proxy", "train", "--recipe", folder / "short.toml", "--out", folder / "comp", "--seed", 3)
    return folder / "comp", shown


def test_train_shows_scores_beside_baselines_and_writes_a_page(trained):
    folder, shown = trained
    assert shown.exit_code == bool(read_card(folder).failure)
    for words in ("proxy", "dry at the", "parameters", "times real time"):
        assert words in shown.stdout
    assert ProxyRecipe.read(folder / RECIPE).seed == 3
    page = (folder / "index.html").read_text()
    assert "pedalboard:Compressor" in page and "times as fast as real time" in page
    for name in ("gradients.svg", "behaviour.svg", "curve.svg", "dry-1.flac", "effect-3.flac", "proxy-2.flac"):
        assert name in page and (folder / name).stat().st_size > 500
    assert "threshold_db" in page and "dry at the best gain" in page and "nothing" in page


def test_train_takes_what_a_recipe_has(tmp_path, no_page):
    calls.clear()
    (tmp_path / "songs" / "one").mkdir(parents=True)
    audio.write(tmp_path / "songs" / "one" / "bass.wav", compose(5, 2).tracks[0], 44100)
    (tmp_path / "short.toml").write_text(f"effect = 'pedalboard:Gain'\nseconds = {SECONDS}\n[net]\nkind = 'tcn'\n")
    command = ["proxy", "train", "pedalboard:Compressor", "--recipe", tmp_path / "short.toml", "--out", tmp_path / "a"]
    options = ["--minutes", 2, "--steps", 7, "--net", "recurrent", "--songs", tmp_path / "songs"]
    free = ["--only", "ratio", "--set", "attack_ms=5", "--within", "ratio=1,4"]
    shown = call(*command, *options, *free)
    assert shown.exit_code == 1 and "failed: The p" in shown.stderr  # seven steps are too few
    (recipe, songs), *_ = calls
    assert recipe == ProxyRecipe(
        "pedalboard:Compressor",
        fix={"attack_ms": 5.0},
        only=("ratio",),
        within={"ratio": (1.0, 4.0)},
        net={"kind": "recurrent"},
        seconds=SECONDS,
        minutes=2,
        steps=7,
    )
    assert len(songs) == 1 and bfx.load_proxy(tmp_path / "a").columns == ("ratio",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "Name an effect"),
        (["pedalboard:Gain", "--within", "gain_db=1"], "--within takes name=low,high, got 'gain_db=1'"),
        (["pedalboard:Gain", "--set", "gian_db=1"], "did you mean gain_db"),
        (["pedalboard:Gain", "--only", "gian_db"], "did you mean gain_db"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(tmp_path, options, words):
    with pytest.raises(ParameterError, match=r"^[^\n]*\.$") as error:
        call("proxy", "train", *options, "--out", tmp_path / "out")
    assert words in str(error.value) and not (tmp_path / "out").exists()


def test_several_effects_are_one_in_series(tmp_path):
    recipe = commands._recipe(["pedalboard:HighpassFilter", "pedalboard:Gain"], None, [], [], [])
    assert recipe.effect == ("pedalboard:HighpassFilter", "pedalboard:Gain")


def test_score_shows_the_card_beside_new_numbers(trained, tmp_path, no_page):
    folder = shutil.copytree(trained[0], tmp_path / "comp")
    before = (folder / CARD).read_text()
    shown = call("proxy", "score", folder, "--items", 2)
    assert shown.exit_code == 0 and "on the card" in shown.stdout and "loudness error, LU" in shown.stdout
    assert (folder / CARD).read_text() == before
    shown = call("proxy", "score", folder, "--items", 2, "--write", "--page", tmp_path / "page").stdout
    again, old = read_card(folder), json.loads(before)
    assert again.scores != SCORES and f"{SCORES.sound.esr:.3g}" in shown and f"{again.scores.sound.esr:.3g}" in shown
    assert again.scores.items == 2 and "nearest of 100 stored settings" in again.baselines
    assert (tmp_path / "page" / "index.html").read_text() == "a page" and "Open" in shown
    assert again.sha256 == old["sha256"] and again.tricks == {"nothing": 0.0}


def test_the_card_of_another_effect_is_not_written(trained, tmp_path):
    folder = shutil.copytree(trained[0], tmp_path / "comp")
    card = json.loads((folder / CARD).read_text())
    card["original"]["fingerprint"] = "0" * 24
    (folder / CARD).write_text(json.dumps(card))
    with pytest.raises(DataError, match="not what the proxy was trained on"):
        call("proxy", "score", folder, "--items", 2, "--write")


def test_list_tells_what_loads_by_name(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "data", lambda: tmp_path)
    monkeypatch.setattr(store, "shipped_folder", lambda: tmp_path / "shipped")
    assert "no proxies yet" in call("proxy", "list").stdout
    shutil.copytree(trained[0], tmp_path / "proxies" / "my-comp")
    (tmp_path / "shipped" / "broken").mkdir(parents=True)
    (tmp_path / "shipped" / "broken" / CARD).write_text("{}")
    shown = call("proxy", "list").stdout
    assert "my-comp" in shown and "Yours" in shown and "broken" in shown and "Shipped" in shown and "damaged" in shown


def test_a_page_needs_no_curve(trained, tmp_path):
    folder = shutil.copytree(trained[0], tmp_path / "comp")
    (folder / "losses.csv").write_text("step,loss\n1,much\n")
    (folder / "evaluations.csv").unlink()
    assert report._curve(folder) is None


def test_ctrl_c_says_what_is_kept(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    out = tmp_path / "out"
    command = ["proxy", "train", "pedalboard:Gain", "--out", out]
    with monkeypatch.context() as patch:
        patch.setattr(train, "train_proxy", stop)
        shown = call(*command)
        assert shown.exit_code == 130 and "nothing was trained yet" in shown.stderr
        out.mkdir()
        (out / "checkpoint.json").touch()
        assert "run it again to go on" in call(*command).stderr
    monkeypatch.setattr(commands, "_held_out", stop)
    shown = call(*command)
    assert shown.exit_code == 130 and "without a page" in shown.stderr and "Gradient" in shown.stdout


def test_a_page_that_cannot_be_written_is_said(trained, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "write_proxy_page", full)
    with pytest.raises(DataError, match=r"^Cannot write the page[^\n]*No space left[^\n]*\.$"):
        commands._page(tmp_path, *(None,) * 3)


def test_a_list_fits_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = call("proxy", "list").stdout
    for listed in store.list_proxies():
        assert listed.name in shown


def test_a_list_names_the_members_of_a_rack():
    described = [commands._described(entry.card) for entry in store.list_proxies() if entry.name == "pedalboard-eq"]
    assert described == ["rack of low_shelf_filter, peak_filter, high_shelf_filter"]
