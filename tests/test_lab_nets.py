import dataclasses
import shutil

import pytest
from typer.testing import CliRunner

import blackbox_fx as bfx
from blackbox_fx.cli.__main__ import app
from blackbox_fx.lab import nets
from blackbox_fx.lab.nets import RIVALS, Nets, brought, net_table, tricks
from blackbox_fx.proxy.recipe import ProxyRecipe
from blackbox_fx.proxy.store import find_proxy, read_card, read_recipe

NAME = "pedalboard-distortion"


@pytest.fixture
def trained(monkeypatch):
    """Recipes that were trained; each has twice the error of the one before."""
    seen = []

    def stand_in(recipe, out, songs=None, progress=None):
        card = read_card(find_proxy(NAME))
        scores = card.scores
        worse = dataclasses.replace(scores, sound=dataclasses.replace(scores.sound, esr=0.01 * 2 ** len(seen)))
        seen.append(recipe)
        progress(1, 1, "done")
        return type("Trained", (), {"card": dataclasses.replace(card, scores=worse)})

    monkeypatch.setattr(nets, "train_proxy", stand_in)
    monkeypatch.setenv("COLUMNS", "200")
    return seen


def test_all_nets_are_trained_alike(trained):
    recipe = read_recipe(find_proxy(NAME))
    scores = list(Nets({NAME: recipe}, minutes=0.5, seed=3).run())
    assert [score.net for score in scores] == ["the recipe's", *RIVALS]
    for one, changes in zip(trained, [{}, *RIVALS.values()], strict=True):
        assert one == dataclasses.replace(recipe, minutes=0.5, seed=3, **changes)
    headings, *rows = net_table(scores)
    assert [row[headings.index("ESR")] for row in rows] == ["0.01", "0.02", "0.04"]


@pytest.mark.parametrize("slopes", [0.0, 0.3])
def test_tricks_change_one_thing_each(trained, slopes):
    recipe = ProxyRecipe("pedalboard:Distortion", seconds=1.0, slopes=slopes)
    assert [other for change in tricks(recipe).values() for other in change] == ["slopes", "seconds", "seconds"]
    scores = list(Nets({NAME: recipe}, of_tricks=True).run())
    assert [(one.slopes, one.seconds) for one in trained] == [
        (slopes, 1.0),
        (0.0 if slopes else 0.5, 1.0),
        (slopes, 2.0),
        (slopes, 0.5),
    ]
    first = next(iter(brought(scores).values()))
    assert first.startswith("ESR 0.02 and cosine") and "instead of ESR 0.01" in first


def test_of_a_filter_it_is_tried_to_learn_from_clips():
    recipe = read_recipe(find_proxy("pedalboard-eq"))
    assert list(tricks(recipe).values()) == [{"impulses": False}]
    assert {"slopes": 0.5} in tricks(dataclasses.replace(recipe, impulses=False)).values()


def test_a_capacitor_is_tried_without():
    recipe = read_recipe(find_proxy("zam-tube"))
    assert recipe.net["capacitor"] and {"net": {**recipe.net, "capacitor": False}} in tricks(recipe).values()


def test_what_tricks_brought_stands_on_the_card(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = shutil.copytree(find_proxy(NAME), tmp_path / "mine")
    done = CliRunner().invoke(app, ["bench", "nets", "mine", "--tricks", "--write"], catch_exceptions=False)
    assert done.exit_code == 0 and "half" in done.output
    assert list(read_card(place).tricks) == list(tricks(read_recipe(place)))
    assert bfx.load_proxy(place).space.width == 1
    with pytest.raises(bfx.ParameterError, match="give --tricks"):
        CliRunner().invoke(app, ["bench", "nets", str(place), "--write"], catch_exceptions=False)
