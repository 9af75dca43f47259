"""Work that may crash or hang, done in a process of its own, and what is kept of its answers.

The process runs one Python file, which calls `answer`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from blackbox_fx import sandbox

_log = logging.getLogger("blackbox_fx")
_LARGE = 64 * 2**20  # bytes of a file that is not read as a whole
_LOOK = 0.2  # seconds between looks at a process that says nothing


class Failed(Exception):
    """Why there is no answer, as the end of a sentence that begins with "it": "crashes with SIGSEGV"."""


class Refused(Exception):
    """The name of an error and its text, as the process itself gave them instead of an answer."""


def ask(
    file: str,
    question: Any,
    deadline: float,
    heard: Callable[[Any], None] | None = None,
    stop: threading.Event | None = None,
) -> Any:
    """What a Python file answers to a question, in a process of its own.

    Args:
        file: its path.
        question: anything JSON can hold.
        deadline: seconds within which the process must say something, again and again until it has answered.
        heard: called with each thing that it tells before the answer.
        stop: ends the process when it is set.

    Raises:
        Failed: the process crashed, hung, was stopped, or ended without an answer.
        Refused: it gave a reason instead.
    """
    ours, theirs = os.pipe()
    folder = sandbox.make_folder()
    try:
        with tempfile.TemporaryFile() as asked, (folder / sandbox.LOG).open("ab") as printed:
            asked.write(json.dumps(question).encode())
            asked.seek(0)
            process = subprocess.Popen(
                [sys.executable, "-P", file, str(theirs)],
                stdin=asked,
                stdout=printed,
                stderr=printed,
                pass_fds=(theirs,),
                start_new_session=True,
                env=sandbox.environment(folder),
            )
        os.close(theirs)
        theirs = -1
        try:
            for kind, content in _lines(ours, process, deadline, stop):
                if kind == "told":
                    if heard:
                        heard(content)
                elif kind == "refused":
                    raise Refused(*content)
                else:
                    return content
            raise Failed(_cause(process))
        finally:
            sandbox.end_all(folder, process.pid)
            process.wait(10)
    finally:
        sandbox.clear(folder)
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


def _lines(
    pipe: int, process: subprocess.Popen[bytes], deadline: float, stop: threading.Event | None
) -> Iterator[tuple[str, Any]]:
    """What the process says, until it ends. Raises Failed if it says nothing for too long."""
    rest, since = b"", time.monotonic()
    while True:
        ended = process.poll() is not None
        if stop and stop.is_set():
            raise Failed("was stopped")
        if select.select([pipe], [], [], 0 if ended else _LOOK)[0]:
            piece = os.read(pipe, 65536)
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield json.loads(line)
            if not piece:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK)
                return
            since = time.monotonic()
        elif ended:  # something that it started holds the pipe open
            return
        elif time.monotonic() - since > deadline:
            raise Failed(f"does not answer within {deadline:g} seconds")


def _cause(process: subprocess.Popen[bytes]) -> str:
    code = process.poll()
    if code is not None and code < 0:
        known = -code in set(signal.Signals)
        return f"crashes with {signal.Signals(-code).name if known else f'signal {-code}'}"
    return "ends the process that loads it"


def answer(reply: Callable[[Any, Callable[[Any], None]], Any]) -> None:
    """Answers the question of the parent, in the process that `ask` started, and ends it.

    Args:
        reply: called with the question and a function that tells the parent something before the answer. What it
            raises is given as the reason why there is none.
    """
    sandbox.limit()
    sandbox.follow(os.getppid(), Path(os.environ["TMPDIR"]))
    pipe = int(sys.argv[1])

    def say(kind: str, content: Any) -> None:
        line = json.dumps((kind, content)).encode() + b"\n"
        while line:
            line = line[os.write(pipe, line) :]

    try:
        say("answer", reply(json.load(sys.stdin), lambda content: say("told", content)))
    except Exception as error:
        say("refused", (type(error).__name__, " ".join(str(error).split())))
    os._exit(0)  # without what plugins do on exit


def digest(*paths: Path) -> str:
    """A name for what these files, and all files in these folders, are called and hold.

    Of files above 64 MiB, size and time of change stand for what they hold. Read once as long as sizes and times stay.

    Raises:
        OSError: one cannot be read.
    """
    files = []
    for path in paths:
        files += [(path.name, path)] if not path.is_dir() else []
        files += [(str(p.relative_to(path)), p) for p in sorted(path.rglob("*")) if p.is_file()]
    stats = [path.stat() for _, path in files]
    marks = [(str(p), name, s.st_size, s.st_mtime_ns) for (name, p), s in zip(files, stats, strict=True)]
    return _digest(tuple(marks))


@functools.lru_cache(1024)
def _digest(marks: tuple[tuple[str, str, int, int], ...]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for path, name, size, changed in marks:
        found.update(f"{name}\0{size}\0".encode(errors="surrogateescape"))
        if size > _LARGE:
            found.update(f"{changed}".encode())
            continue
        with Path(path).open("rb") as opened:
            found.update(hashlib.file_digest(opened, "blake2b").digest())
    return found.hexdigest()
