"""The parameters of a VST3 plugin that move others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np

from blackbox_fx.effects import ordering
from blackbox_fx.effects.hosts.vst3.bench import ACTS, EQUAL, NEAR, Bench, Row
from blackbox_fx.effects.hosts.vst3.hosting import Array, LatencyMoved
from blackbox_fx.effects.settling import difference


@final
class Movers:
    """Finds them, and what they need.

    Args:
        bench: the plugin, which is told what comes first.
        report: called now and then with a word on the progress.
    """

    def __init__(self, bench: Bench, report: Callable[[Any], None]) -> None:
        self._bench, self._report = bench, report
        self._seen: list[int] = []  # those whose values were seen to move others

    def _stand(self, row: Row) -> Row:
        """Sets a row, and says where the parameters then stand."""
        bench = self._bench
        bench.apply(row)
        if not np.allclose(bench.raws(), row, rtol=0, atol=1e-6):  # what moves others has moved them since
            bench.apply(row)
        return bench.raws()

    def _go_through(self, order: Sequence[int], row: Row, watch: bool = True) -> bool:
        """Takes parameters to all positions and back, one after another; stops if another one is seen to move.

        Args:
            order: of the parameters.
            row: where all stand.
            watch: whether to look at the others; returns False without.
        """
        bench, sure = self._bench, self._bench.sure

        def strays(k: int) -> bool:
            now = bench.raws()
            return any(abs(now[j] - row[j]) > 1e-6 for j in sure if j != k)

        for k in order:
            index = bench.own[k]["index"]
            for raw in bench.positions(k):
                bench.put({index: raw})
                if watch and strays(k):
                    return True
            bench.put({index: row[k]})
        return False

    def keeps(self, row: Row, wet: Array, *orders: Sequence[int]) -> bool:
        """Whether a plugin sounds the same if it is set after its reset, and in these orders.

        Args:
            row: the settings.
            wet: what it gave when it was set before its reset.
            orders: in which parameters go through all positions and back.
        """
        bench = self._bench
        for n, order in enumerate(orders):
            bench.restart()
            bench.apply(row)
            if self._go_through(order, bench.raws(), watch=n == 0):
                return False
            try:
                if difference(wet, bench.hear()) > EQUAL:
                    return False
            except LatencyMoved:
                return False
        return True

    def find_first(self, row: Row) -> None:
        """Finds the parameters that move others: seen in their values, or unseen, in what is heard.

        Args:
            row: settings to start at; the defaults, if only one other position is tried.
        """
        bench = self._bench
        now = self._stand(row)
        for k in bench.sure:
            if self._go_through([k], now):
                self._seen.append(bench.own[k]["index"])
                bench.first = list(self._seen)
                bench.renew()
                bench.apply(row)
        self._report("gone through")
        if self._seen or bench.gentle or bench.reset == "reload":
            return

        tried = [(bench.own[k], now[k]) for k in bench.sure]
        steps, defaults = ({p["index"]: p[what] for p, _ in tried} for what in ("steps", "raw"))
        stands = {p["index"]: raw for p, raw in tried}
        bench.first = ordering.find_first(self._hear, steps, defaults, stands, self._hear({}, (), False))
        if bench.first:
            bench.renew()

    def _hear(self, row: ordering.Raws, moves: ordering.Moves, new: bool) -> Array:
        """The output after parameters were moved one by one; see `ordering.Hear`."""
        bench = self._bench
        self._report("heard in another order")
        if new:
            bench.renew()
        if bench.forgets:
            bench.restart()
        for part in (row, *moves):
            bench.put(part)
        with bench.briefly():
            return bench.hear() if bench.forgets else bench.view()

    def exclude_first(self) -> None:
        """Excludes those whose effect does not repeat although they are set first, or that only move others."""
        bench = self._bench
        for index in list(bench.first):
            k = next(k for k, p in enumerate(bench.own) if p["index"] == index)
            if why := self._fault_of_first(k):
                bench.own[k]["why"] = why
                bench.first.remove(index)
                bench.renew()
            self._report("tried what moves others")

    def _fault_of_first(self, k: int) -> str:
        bench = self._bench
        row = bench.defaults if bench.gentle else bench.random(3)
        rows = [row, *([raw if j == k else v for j, v in enumerate(row)] for raw in bench.positions(k))]
        once = [bench.render(r) for r in rows]
        twice = [bench.render(r) for r in reversed(rows)][::-1]
        if max(map(difference, once, twice)) > NEAR:
            return "moves others, and the same settings then do not give the same output"
        idle = max(difference(once[0], other) for other in once) <= ACTS
        return "only moves others" if idle and bench.own[k]["index"] in self._seen else ""
