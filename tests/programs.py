"""Modules that tests write for a process of their own."""

import itertools

_NUMBERS = itertools.count()


def write_module(folder, monkeypatch, body, head="import os, signal, sys, time"):
    """A module that answers `isolation.call` with the body of a function of question and report; its name."""
    name = f"program_{next(_NUMBERS)}"
    lines = [head, "from blackbox_fx import isolation", "def reply(question, report):", *body.splitlines()]
    text = "\n".join([*lines[:3], *(f"    {line}" for line in lines[3:]), "isolation.answer(reply)"])
    (folder / f"{name}.py").write_text(text + "\n")
    monkeypatch.syspath_prepend(str(folder))
    return name
