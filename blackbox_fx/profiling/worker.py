"""Measures an effect in the process that `isolation.call` starts."""

from __future__ import annotations

import base64
import math
import pickle
import time
from collections.abc import Callable
from typing import Any

from blackbox_fx import isolation
from blackbox_fx.effects import load
from blackbox_fx.profiling import check, curves, sensitivity
from blackbox_fx.profiling.measures import SECTIONS, Subject, safely


def _measure(question: dict[str, Any], effect: Any, report: Callable[[Any], None]) -> None:
    began, budget = time.perf_counter(), question["budget"]
    report({"begin": "opening"})
    subject = Subject(effect, budget)
    sections: dict[str, Callable[[Subject], dict[str, Any]]] = {
        **SECTIONS,
        "parameters": lambda s: {"parameters": sensitivity.parameters(s, began + budget)},
        "plots": lambda s: {"plots": curves.curves(s)},
    }
    for name in question["sections"]:
        report({"begin": name})
        values = safely(subject, sections[name], name)
        report({"done": name, "values": _plain(values), "notes": subject.notes, "settings": subject.count})
        subject.notes = []


def _plain(value: Any) -> Any:
    """NaN and infinity as None, so that reports are JSON."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _check(question: dict[str, Any], effect: Any, report: Callable[[Any], None]) -> None:
    for found in check.run(effect, question["seconds"], question["names"]):
        report([found.name, found.passed, found.value, found.allowed])


def _open(question: dict[str, Any], effect: Any, report: Callable[[Any], None]) -> None:
    """Nothing more: what had to be read of the effect is kept for the next process."""


def _reply(question: dict[str, Any], report: Callable[[Any], None]) -> None:
    address, recipe = question.get("address"), question.get("recipe", "")
    effect = load(address) if address else pickle.loads(base64.b64decode(recipe))  # from the parent, which made it
    todo = {"measure": _measure, "check": _check, "open": _open}
    todo[question["what"]](question, effect, report)


if __name__ == "__main__":
    isolation.answer(_reply)
