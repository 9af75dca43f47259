"""Work that may crash or hang, done in a process of its own, which answers one question.

The process runs one module of this package, which calls `answer`.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

from blackbox_fx.core import system
from blackbox_fx.isolation import limits

_LOOK = 0.2  # seconds between looks at a process that says nothing
_KILLED = 10.0  # seconds in which a process that is killed is gone


class Failed(Exception):
    """Why there is no answer, as the end of a sentence that begins with "it": "crashes with SIGSEGV"."""


class Refused(Exception):
    """The name of an error and its text, as the process itself gave them instead of an answer."""


def call(
    module: str,
    question: Any,
    deadline: float,
    on_report: Callable[[Any], None] | None = None,
    stop: threading.Event | None = None,
) -> Any:
    """Asks a module a question, in a process of its own.

    Args:
        module: its dotted name.
        question: anything JSON can hold.
        deadline: seconds of silence after which the process is killed; each report starts them again.
        on_report: called with each thing that the process reports before the answer.
        stop: ends the process when it is set.

    Returns:
        the answer.

    Raises:
        Failed: the process crashed, hung, was stopped, or ended without an answer.
        Refused: it gave a reason instead.
    """
    with limits.worker_folder() as folder:
        with tempfile.TemporaryFile() as asked, (folder / limits.LOG).open("ab") as printed:
            asked.write(json.dumps(question).encode())
            asked.seek(0)
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(folder)],
                stdin=asked,
                stdout=subprocess.PIPE,
                stderr=printed,
                start_new_session=True,
                env=limits.environment(folder),
            )
        try:
            for kind, content in _lines(process, deadline, stop):
                if kind == "report":
                    if on_report:
                        on_report(content)
                elif kind == "refused":
                    raise Refused(*content)
                else:
                    return content
            raise Failed(_cause(process))
        finally:
            limits.end_all(folder, process.pid)
            process.wait(_KILLED)


def _lines(
    process: subprocess.Popen[bytes], deadline: float, stop: threading.Event | None
) -> Iterator[tuple[str, Any]]:
    """What the process says, until it ends. Raises Failed if it says nothing for too long."""
    assert process.stdout is not None
    said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(process.stdout, said.put), daemon=True).start()
    since = time.monotonic()
    while True:
        ended = process.poll() is not None
        if stop and stop.is_set():
            raise Failed("was stopped")
        try:
            line = said.get(timeout=_LOOK)
        except queue.Empty:
            if ended:  # something that it started holds the pipe open
                return
            if time.monotonic() - since > deadline:
                raise Failed(f"does not answer within {deadline:g} seconds") from None
            continue
        if line is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK)
            return
        since = time.monotonic()
        yield json.loads(line)


def _listen(pipe: IO[bytes], give: Callable[[bytes | None], None]) -> None:
    with pipe:
        for line in pipe:
            give(line)
    give(None)


def _cause(process: subprocess.Popen[bytes]) -> str:
    code = process.poll()
    if code is not None and code < 0:
        return f"crashes with {system.signal_name(-code)}"
    return "ends the process that loads it"
