"""Which parameters overwrite others, of plugins that are written here."""

import numpy as np
import pytest

from blackbox_fx.effects import forgetting
from blackbox_fx.effects.ordering import find_first, passes, random_row, sorted_movers

STEPS = {0: 0, 1: 4, 2: 4, 3: 0}  # a gain, two options, a macro


class Filtered:
    """A plugin whose wrapper passes on only what changed, in order; `react` is called with what is set."""

    def __init__(self, react):
        self.react, self.heard = react, 0
        self.renew()

    def renew(self):
        self.values, self.wrapper = dict.fromkeys(STEPS, 0.0), dict.fromkeys(STEPS, 0.0)

    def set(self, raws):
        for k, raw in raws.items():
            if self.wrapper[k] != raw:
                self.react(self.values, k, raw)
                self.wrapper[k] = self.values[k] = raw

    def __call__(self, row, moves, new):
        self.heard += 1
        if new:
            self.renew()
        for part in (row, *moves):
            self.set(part)
        return np.array([self.values[k] * (k + 1) for k in STEPS], np.float32)


def nothing(values, k, raw):
    pass


def option_to_option(values, k, raw):
    if k == 2:
        values[1] = 0.0


def chain(values, k, raw):
    if k == 1:
        values[0] = 0.3
    if k == 3:
        values[1] = 1.0


@pytest.mark.parametrize(("react", "first"), [(nothing, []), (option_to_option, [2]), (chain, [3, 1])])
def test_those_that_overwrite_others_are_found_in_their_order(react, first):
    plugin = Filtered(react)
    assert find_first(plugin, STEPS, dict.fromkeys(STEPS, 0.0), random_row(STEPS)) == first
    assert first or plugin.heard == 4  # twice at each row: nothing is searched where nothing is heard
    rng = np.random.default_rng(0)
    for _ in range(8):
        row = {k: float(rng.choice(4)) / 3 if steps else float(rng.random()) for k, steps in STEPS.items()}
        for part in passes(row, first, STEPS) if first else [row]:
            plugin.set(part)
        assert plugin.values == row


@pytest.mark.parametrize("least", [0.0, 0.9])  # anywhere, or near the upper end only
@pytest.mark.parametrize("mover", [0, 1, 2, 3])
@pytest.mark.parametrize("other", [0, 1, 2, 3])
def test_ranges_that_overwrite_others_are_found_in_either_order(mover, other, least):
    def react(values, k, raw):
        if k == mover and k != other and raw >= least:
            values[other] = 0.7

    ranges, plugin = dict.fromkeys(STEPS, 0), Filtered(react)
    found = find_first(plugin, ranges, dict.fromkeys(STEPS, 0.0), random_row(ranges))
    assert found == ([mover] if mover != other else [])


def test_a_plugin_that_never_repeats_overwrites_nothing():
    rng = np.random.default_rng(0)
    assert not find_first(
        lambda row, moves, new: rng.random(4, np.float32), STEPS, dict.fromkeys(STEPS, 0.0), random_row(STEPS)
    )


def test_those_that_overwrite_each_other_are_sorted_all_the_same():
    assert sorted_movers({0: {1}, 1: {0}, 2: {0}, 3: set()}) == [2, 0, 1]


@pytest.mark.parametrize("lost", [None, 126])
def test_of_many_parameters_that_may_be_forgotten_some_are_moved_alone(lost):
    moved = set()

    def wet(row, again):
        here = [value for name, value in row.items() if name != lost or again]
        return np.array([1.0 + again, sum(here)], np.float32)  # something else is heard as well

    def elsewhere(row, name):
        moved.add(name)
        return {**row, name: 5.0}

    # all but the forgotten one are heard at once
    assert forgetting.forgets(wet, [dict.fromkeys(range(400), 0.0)], range(400), elsewhere) == (lost is not None)
    assert len(moved) <= 64
