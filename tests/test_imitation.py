"""Training through a chain of effects: what is learnt, and what it is held against."""

import numpy as np

from blackbox_fx.lab import imitation
from blackbox_fx.lab.imitation import Learnt, study
from blackbox_fx.report.imitation import learnt_table, write_learnt_page


def learnt(way, losses, seconds, task="twins", seed=0):
    return Learnt(task, way, seed, tuple(seconds), tuple(losses))


def test_ways_are_held_against_autodiff_seed_by_seed(tmp_path):
    found = [
        learnt("autodiff", (2.0, 1.5, 1.0), (10, 20, 30)),
        learnt("default", (1.8, 1.2, 0.9), (10, 20, 40)),
        learnt("slow", (2.0, 1.9, 1.8), (30, 60, 90)),
    ]
    rows = {row[1]: row for row in learnt_table(found)[1:]}
    assert rows["autodiff"][-1] == "loss 1.00 at its time, its loss in 1.00 of its time"
    assert rows["default"][-1] == "loss 1.05 at its time, its loss in 1.33 of its time"
    assert rows["slow"][-1] == "loss 2.00 at its time, its loss in none (not by 1 of 1) of its time"
    page = write_learnt_page(tmp_path, found)
    assert page.exists() and {p.name for p in tmp_path.iterdir()} == {"index.html", "training.csv", "training.png"}


def test_default_layers_train_a_network(monkeypatch):
    small = {"_SONGS": 2, "_UNSEEN": 1, "_SONG_S": 2.0, "_TIME": 16384, "_PAIRS": 12, "_HELD_OUT": 3, "_EVERY": 4}
    for name, value in small.items():
        monkeypatch.setattr(imitation, name, value)
    rack, ways = imitation.tasks(["plugins"], 0.1)["plugins"]
    way, make = next(iter(ways.items()))
    (found,) = study({"plugins": (rack, {way: make})}, 1, 8)
    assert (found.task, found.way, found.seed) == ("plugins", way, 0)
    assert len(found.losses) == len(found.seconds) == 2 and np.isfinite(found.losses).all()
    assert found.losses[0] != found.losses[1] and 0 < found.seconds[0] < found.seconds[1]
