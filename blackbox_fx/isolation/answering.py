"""The side of the process that `call` started."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blackbox_fx.isolation import limits


def answer(reply: Callable[[Any, Callable[[Any], None]], Any]) -> None:
    """Answers the question of the parent, in the process that `call` started, and ends it.

    Args:
        reply: called with the question and a function that reports something to the parent before the answer. What it
            raises is given as the reason why there is no answer.
    """
    folder = Path(sys.argv[1])
    pipe = os.dup(1)
    with (folder / limits.LOG).open("ab") as printed:
        os.dup2(printed.fileno(), 1)  # what plugins print is no answer
    limits.limit()
    limits.follow(os.getppid(), folder)

    def say(kind: str, content: Any) -> None:
        line = json.dumps((kind, content)).encode() + b"\n"
        while line:
            line = line[os.write(pipe, line) :]

    try:
        say("answer", reply(json.load(sys.stdin), lambda content: say("report", content)))
    except Exception as error:
        say("refused", (type(error).__name__, " ".join(str(error).split())))
    os._exit(0)  # without what plugins do on exit
