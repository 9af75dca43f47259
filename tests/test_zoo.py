"""The proxies that are shipped: complete, small, and as good as their cards say."""

import numpy as np
import pytest
import torch

import blackbox_fx as bfx
from blackbox_fx.losses.error import esr
from blackbox_fx.proxy.clips import ClipStream
from blackbox_fx.proxy.store import list_proxies, read_card, read_recipe, shipped_folder
from blackbox_fx.runtime import Inline

RATE = 44100
FOLDERS = sorted(path for path in shipped_folder().iterdir() if path.is_dir())


def test_they_are_of_built_ins_and_of_plugins():
    listed = [item for item in list_proxies() if item.shipped]
    assert {item.name for item in listed} == {path.name for path in FOLDERS}
    assert len(FOLDERS) >= 16 and sum(item.name.startswith("zam") for item in listed) >= 4
    assert not any(item.problem for item in listed)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_folder_holds_what_is_needed_and_no_more(folder):
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert set(files) == {"recipe.toml", "card.json", "weights.safetensors"} and sum(files.values()) < 2**20
    card, recipe = read_card(folder), read_recipe(folder)
    assert card.net == recipe.net and card.training.seed == recipe.seed
    dry, oracle = card.baselines["dry"], card.baselines["dry at the best gain"]
    assert card.scores.sound.esr < dry.esr and card.scores.sound.stft < dry.stft and oracle.esr <= dry.esr
    assert card.scores.parameters.mean is not None


# most error-to-signal ratio, and least cosine of the gradients of parameters
WANTED = {
    "freeverb3": (0.05, 0.85),
    "pedalboard-chorus": (1e-4, 0.98),
    "pedalboard-delay": (1e-6, 0.98),
    "pedalboard-limiter": (0.004, 0.9),
    "pedalboard-noise-gate": (0.004, 0.9),
    "pedalboard-phaser": (1e-4, 0.98),
    "pedalboard-eq": (0.05, 0.95),
    "pedalboard-compressor": (0.02, 0.95),
    "wide-compressor": (0.02, 0.95),
    "pedalboard-distortion": (0.004, 0.98),
    "wide-distortion": (0.004, 0.98),
    "pedalboard-reverb": (0.05, 0.85),
    "zam-eq2": (0.05, 0.95),
    "zam-comp-x2": (0.02, 0.92),
    "zam-multi-comp-x2": (0.02, 0.92),
    "zam-tube": (0.05, 0.85),
}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_card_says_what_is_wanted_of_its_kind_of_effect(folder):
    (most, least), card = WANTED[folder.name], read_card(folder)
    assert card.training.seconds <= 600 and card.scores.realtime >= 70
    assert card.scores.sound.esr <= most and card.scores.parameters.mean >= least


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_it_imitates_its_effect(folder):
    recipe, card, proxy = read_recipe(folder), read_card(folder), bfx.load_proxy(folder.name)
    effect = recipe.load_effect()
    assert effect.space.columns == proxy.columns
    pool = bfx.Processes(1) if effect.native else Inline()
    with pool:
        batch = ClipStream(effect, [song()], pool, 1.0, 6, 5).batch(0)
    with torch.no_grad():
        found = esr(proxy(batch.audio, batch.params, RATE), batch.wet).numpy()
    assert np.median(found) < 3 * card.scores.sound.esr + 0.01


def song():
    from blackbox_fx.data import compose

    return compose(77, 3.0)
