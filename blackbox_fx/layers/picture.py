"""A picture of a console: tracks, strips, groups, sends and the mix bus, with lines for what goes where."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from blackbox_fx.layers.bypass import ON, Switched
from blackbox_fx.layers.chain import Dry
from blackbox_fx.layers.desk import Desk

_WIDTH, _LINE, _GAP, _ACROSS = 190, 15, 16, 70  # of a box, of a line of text, between boxes, between columns
_MARGIN = 16  # on the left, for lines of keys
_TEXT = 'font-family="sans-serif" font-size="11"'
_COLOURS = {"strip": "#dbeafe", "group": "#dcfce7", "return": "#fef3c7", "bus": "#e5e7eb"}


class _Box(NamedTuple):
    """One part: its kind, its name, what it holds, and where it stands."""

    kind: str
    name: str
    lines: list[str]
    x: float
    y: float

    @property
    def height(self) -> float:
        return _LINE * (len(self.lines) + 1) + 12

    @property
    def entry(self) -> tuple[float, float]:
        return self.x, self.y + self.height / 2

    @property
    def exit(self) -> tuple[float, float]:
        return self.x + _WIDTH, self.y + self.height / 2


def console_svg(console: Desk) -> str:
    """The picture of a console as the text of an SVG.

    Full lines are sound behind faders, dashed ones sends, and dotted ones keys.
    """
    strips = _stack("strip", _strips(console), 0)
    grouped = [(name, [", ".join(group.roles), *_held(console.groups[name])]) for name, group in console.routes.items()]
    groups = _stack("group", grouped, 1)
    below = groups[-1].y + groups[-1].height + 2 * _GAP if groups else 0
    returns = _stack("return", [(name, _held(layer)) for name, layer in console.returns.items()], 1, below)
    boxes = [*strips, *groups, *returns]
    # what goes straight to the mix passes below all that stands between
    lane = max((box.y + box.height + _GAP for box in [*groups, *returns]), default=None)
    height = max([box.y + box.height for box in boxes] + ([lane] if lane else []))
    bus = _Box("bus", "mix", _held(console.bus) if console.bus else [], 2 * (_WIDTH + _ACROSS), 0)
    bus = bus._replace(y=(height - bus.height) / 2)
    lines = [
        *_tracks(console, strips, groups, bus, lane),
        *_sends(console, strips, returns, bus),
        *_keys(console, strips),
    ]
    lines += [_line(group.exit, bus.entry) for group in groups]
    drawn = [*lines, *map(_draw, [*boxes, bus])]
    legend = "".join([*(["dashed: sends"] if returns else []), *([", dotted: keys"] if console.keys else [])])
    drawn.append(f'<text x="0" y="{height + _GAP}" {_TEXT} fill="#6b7280">{legend.lstrip(", ")}</text>')
    width, height = bus.x + _WIDTH + _MARGIN + 1, height + 2 * _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="{-_MARGIN} -1 {width} {height}">{"".join(drawn)}</svg>'
    )


def _strips(console: Desk) -> list[tuple[str, list[str]]]:
    """The strips with what they hold; tracks of groups whose roles have no strip share that of all others."""
    found = [(name, _held(layer)) for name, layer in console.strips.items()]
    return [*found, ("other tracks" if found else "all tracks", _held(console.strip) if console.strip else [])]


def _held(layer: Any) -> list[str]:
    """The effects in a layer, one to a line."""
    if isinstance(layer, Switched):
        first, *rest = _held(layer.layer) or ["wire"]
        return [f"{first} ({ON}/off)", *rest]
    if isinstance(layer, Dry):
        return []
    members = getattr(layer, "members", None)
    if members is not None:
        return [line for member in members.values() for line in _held(member)]
    model = getattr(layer, "effect", None) or getattr(layer, "model", None)
    return [str(getattr(model, "name", "") or getattr(model, "effect_name", "") or type(layer).__name__)]


def _stack(kind: str, parts: Iterable[tuple[str, list[str]]], column: int, y: float = 0) -> list[_Box]:
    boxes = []
    for name, lines in parts:
        boxes.append(_Box(kind, name, lines, column * (_WIDTH + _ACROSS), y))
        y += boxes[-1].height + _GAP
    return boxes


def _tracks(console: Desk, strips: Sequence[_Box], groups: Sequence[_Box], bus: _Box, lane: float | None) -> list[str]:
    """Lines from strips to the groups of their roles, and to the mix."""
    own, lines = set(console.strips.names), []
    for strip in strips:
        shared = strip is strips[-1]
        homes = {
            name
            for name, group in console.routes.items()
            if (any(role not in own for role in group.roles) if shared else strip.name in group.roles)
        }
        lines += [_line(strip.exit, group.entry) for group in groups if group.name in homes]
        if shared or not homes:
            lines.append(_line(strip.exit, bus.entry, lane=lane))
    return lines


def _sends(console: Desk, strips: Sequence[_Box], returns: Sequence[_Box], bus: _Box) -> list[str]:
    lines = [_line(strip.exit, back.entry, "5 4") for strip in strips for back in returns]
    return [*lines, *(_line(back.exit, bus.entry) for back in returns)]


def _keys(console: Desk, strips: Sequence[_Box]) -> list[str]:
    """Lines from the strips of keys to those that hear them, along their left side."""
    where = {strip.name: strip for strip in strips}
    lines = []
    for role, source in console.keys.items():
        there, here = (where.get(name, strips[-1]) for name in (source, role))
        (x, a), (_, b) = there.entry, here.entry
        path = f"M {x} {a} C {x - 1.2 * _MARGIN} {a}, {x - 1.2 * _MARGIN} {b}, {x} {b}"
        lines.append(f'<path d="{path}" fill="none" stroke="#b91c1c" stroke-dasharray="1 3"/>')
    return lines


def _line(start: tuple[float, float], end: tuple[float, float], dashes: str = "", lane: float | None = None) -> str:
    """A curve between two points; with a lane, along it from one column to the next but one."""
    (x, y), (to_x, to_y) = start, end
    style = f' stroke-dasharray="{dashes}"' if dashes else ""
    path = f"M {x} {y}"
    if lane is not None:
        path += f" {_bend(x, y, x + _ACROSS, lane)} H {to_x - _ACROSS}"
        x, y = to_x - _ACROSS, lane
    path += f" {_bend(x, y, to_x, to_y)}"
    return f'<path d="{path}" fill="none" stroke="#6b7280"{style}/>'


def _bend(x: float, y: float, to_x: float, to_y: float) -> str:
    middle = (x + to_x) / 2
    return f"C {middle} {y}, {middle} {to_y}, {to_x} {to_y}"


def _draw(box: _Box) -> str:
    rows = [f'<tspan font-weight="bold">{html.escape(box.name)}</tspan>', *map(html.escape, box.lines)]
    texts = [f'<text x="{box.x + 8}" y="{box.y + 18 + _LINE * k}" {_TEXT}>{row}</text>' for k, row in enumerate(rows)]
    frame = (
        f'<rect x="{box.x}" y="{box.y}" width="{_WIDTH}" height="{box.height}" rx="5" fill="{_COLOURS[box.kind]}" '
        'stroke="#6b7280"/>'
    )
    return frame + "".join(texts)
