"""What is measured of a VST3 plugin by rendering it: its reset, which parameters act, and when settings may change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from blackbox_fx.effects import forgetting
from blackbox_fx.effects.hosts.vst3.bench import ACTS, EQUAL, LONG, MOMENT, NEAR, SHORT, Bench, Row, moved
from blackbox_fx.effects.hosts.vst3.hosting import BLOCK, Array, clip
from blackbox_fx.effects.hosts.vst3.movers import Movers
from blackbox_fx.effects.settling import difference

BASES = 8  # random settings at which a parameter in doubt is tried
_ROWS = 8  # random settings at which pieces are compared
_FOLLOWS = 5e-3  # relative to the largest sample
_MOVE = 1e-6  # of a range, which changes the output by next to nothing
_EVEN, _ODD = 2 * BLOCK, 441  # samples of pieces


@final
class Measures:
    """The measurements of a plugin.

    Args:
        bench: the plugin.
        report: called now and then with a word on the progress.
    """

    def __init__(self, bench: Bench, report: Callable[[Any], None]) -> None:
        self._bench, self._report, self._movers = bench, report, Movers(bench, report)
        self._is_plain = False  # whether the order of its settings and its reset after them are known to be no matter
        self.latency = 0  # samples, at the defaults
        self._moves_evenly = False  # whether moves by next to nothing at even hops are known to do no harm

    def _choose_reset(self) -> tuple[bool, Array]:
        """Chooses the reset, and finds whether settings have to be set again after it.

        Returns:
            Whether a clip may be rendered in pieces, and the render at the defaults.
        """
        bench, still, rows = self._bench, self._bench.defaults, self._bench.rows()
        first = bench.render(still)
        self.latency = bench.plugin.reported_latency_samples
        self._find_plain(rows)
        self._moves_evenly = self._is_plain and difference(first, bench.render(still, _EVEN, _MOVE)) <= NEAR
        if self._moves_evenly:
            return True, first
        again = bench.render(still, _EVEN)
        if bench.reset == "host" and difference(first, again) > EQUAL < difference(first, bench.render(still)):
            bench.reset = "reload"
            return self._choose_reset()
        # setting again goes by way of other positions, which gentle ones may not survive
        if bench.reset == "host" and not (self._is_plain or bench.forgets or bench.gentle):
            bench.forgets = forgetting.forgets(self._set, rows, range(len(still)), moved, ACTS)
            if bench.forgets:
                return self._choose_reset()
        return difference(first, again) <= NEAR, first

    def _find_plain(self, rows: list[Row]) -> None:
        """Finds whether the order of settings and a reset after them are no matter; they then arrive in a moment."""
        bench = self._bench
        plain = bench.reset == "host" and not (bench.first or bench.forgets or bench.gentle)
        for row in rows:
            wet = bench.render(row)
            plain = plain and self._movers.keeps(row, wet, bench.sure, bench.sure[::-1])
        self._is_plain, bench.moment = plain, MOMENT if plain else BLOCK

    def _set(self, row: Row, again: bool) -> Array:
        """The output at a row that is set before the reset alone, or again after it; after as much silence."""
        bench = self._bench
        self._report("heard what it forgets")
        bench.forgets, bench.silence = again, 0 if again else 1 + 2 * (len(bench.first) + 1)
        wet = bench.render(row)
        bench.forgets, bench.silence = False, 0
        return wet

    def hop_multiple(self, whole: Array) -> int:
        """At multiples of how many samples settings may change; 0 if nowhere.

        There, settings that move by next to nothing from hop to hop give nearly the output at the defaults, `whole`,
        and settings that stay give the same output in pieces, at the defaults and elsewhere, as in one.
        """
        bench = self._bench

        def follows(hop: int) -> bool:
            return difference(whole, bench.render(bench.defaults, hop, _MOVE)) <= _FOLLOWS

        if follows(_ODD):
            rows = (bench.defaults, *map(bench.random, range(_ROWS)))
            with bench.briefly(1):  # block, since pieces of another size differ from the first sample on
                if all(difference(bench.render(row), bench.again(row, _ODD)) <= ACTS for row in rows):
                    return 1
        return BLOCK if self._moves_evenly or follows(_EVEN) else 0

    def _active(self, first: Array) -> set[int]:
        """The doubtful parameters that change the output at the defaults, which gave `first`, or at random settings."""
        bench = self._bench
        found = {k for k in bench.doubts if difference(first, bench.render(moved(bench.defaults, k))) > ACTS}
        bench.audio = clip(bench.channels, LONG)
        for row in map(bench.random, range(1, 1 + BASES)):
            remaining = [k for k in bench.doubts if k not in found]
            if not remaining:
                break
            self._report(f"{len(remaining)} parameters in doubt")
            base = bench.render(row)
            least = ACTS + 4 * difference(base, bench.render(row))
            found |= {k for k in remaining if difference(base, bench.render(moved(row, k))) > least}
        bench.audio = clip(bench.channels, SHORT)
        return found

    def choose_reset_and_exclude_idle(self) -> tuple[bool, Array]:
        """Chooses the reset, and excludes parameters that change nothing.

        Returns:
            Whether a clip may be rendered in pieces, and the render at the defaults.
        """
        bench = self._bench
        known = bench.reset
        pieces, first = self._choose_reset()
        self._report("reset")
        measured, bench.reset = bench.reset, known
        if not self._is_plain:
            self._movers.find_first(bench.defaults if bench.gentle else bench.random(0))
        if bench.first:  # what they moved may have looked like something that a reset leaves
            pieces, first = self._choose_reset()
        else:
            bench.reset = measured
        active = self._active(first)
        for p in [bench.own[k] for k in bench.doubts if k not in active]:
            p["why"] = f"changes nothing at {BASES} random settings"
        self._movers.exclude_first()
        return pieces, first

    def remembers(self, k: int) -> bool:
        """Whether moving a parameter and setting it back changes the output of a plugin that otherwise repeats."""
        bench = self._bench
        first, again = bench.render(bench.defaults), bench.render(bench.defaults)
        bench.render(moved(bench.defaults, k))
        return difference(first, again) <= EQUAL < NEAR < difference(first, bench.render(bench.defaults))
