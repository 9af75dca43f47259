"""How old a VST3 plugin has to be until it is ready."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np

from blackbox_fx.effects.hosts.vst3.bench import NEAR, Bench, Row
from blackbox_fx.effects.hosts.vst3.hosting import RATE, Array, flush, wait
from blackbox_fx.effects.ordering import is_stepped
from blackbox_fx.effects.settling import GROWN, difference, longest

_OPTIONS, _AT_ONCE = 96, 32  # positions of options that are tried, and instances that are waited for together
_ROWS = 4  # of options that are moved together
_ENOUGH = 3  # positions of an option that are measured


@final
class Ages:
    """New instances of a plugin, rendered at some age: some are ready only a while after they were loaded or set."""

    def __init__(self, bench: Bench, report: Callable[[Any], None]) -> None:
        self._bench, self._report = bench, report
        moved = [0.25 + value / 2 for value in bench.random(4)]
        self._base = [p["raw"] if is_stepped(p["steps"]) else u for p, u in zip(bench.own, moved, strict=True)]

    def find(self) -> tuple[float, list[int]]:
        """Seconds until a plugin is ready, and the indices of the parameters after whose change it needs them again."""
        if self._late([self._base]):
            settle, _ = longest([self._base], self._at)
            patient = settle > 0 and self._is_patient(settle)
            return settle, [p["index"] for p in self._bench.own] if patient else []
        options, late = self._options(), list[tuple[tuple[int, ...], Row]]()
        for start in range(0, len(options), _AT_ONCE):
            some = options[start : start + _AT_ONCE]
            late += [some[k] for k in self._late([row for _, row in some])]
        measured = [one for k, one in enumerate(late) if sum(which == one[0] for which, _ in late[:k]) < _ENOUGH]
        settle, slow = longest(measured, lambda option, age: self._at(option[1], age))
        return settle, sorted({self._bench.own[k]["index"] for which, _ in slow for k in which})

    def _options(self) -> list[tuple[tuple[int, ...], Row]]:
        """Positions of options, each alone away from its default, and some of all: which they are, and the settings."""
        stepped = [k for k in self._bench.sure if is_stepped(self._bench.own[k]["steps"])]
        ways = [
            ((k,), [u if j == k else v for j, v in enumerate(self._base)])
            for k in stepped
            for u in self._bench.positions(k)
            if u != self._base[k]
        ]
        rng = np.random.default_rng(0)
        together = [self._base.copy() for _ in range(_ROWS if len(stepped) > 1 else 0)]
        for row in together:
            for k in stepped:
                row[k] = float(rng.choice(self._bench.positions(k)))
        return ways[:: max(1, -(-len(ways) // _OPTIONS))] + [(tuple(stepped), row) for row in together]

    def _late(self, rows: Sequence[Row]) -> list[int]:
        """Which of these settings sound differently a while after a new instance was given them."""
        young = []
        for row in rows:
            view = self._at(row, 0.0)
            young.append((self._bench.plugin, view))
        wait(GROWN)
        late = []
        for k, (plugin, view) in enumerate(young):
            self._bench.plugin = plugin
            if difference(view, self._bench.view()) > NEAR:
                late.append(k)
        return late

    def _at(self, row: Row, age: float) -> Array:
        self._bench.renew()
        self._bench.apply(row)
        wait(age)
        self._report(f"{age:g} s old")
        return self._bench.view()

    def _is_patient(self, settle: float) -> bool:
        """Whether a plugin that is ready takes over settings only a while after it got them."""
        self._bench.renew()
        flush(self._bench.plugin, self._bench.channels, RATE)
        wait(settle)
        self._bench.apply(self._base)
        young = self._bench.view()
        wait(settle)
        return self._bench.reset == "host" and difference(young, self._bench.view()) > NEAR
