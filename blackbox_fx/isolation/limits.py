"""What a worker process may have and use, and how nothing of it is left behind."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import final

from blackbox_fx.core import paths, system
from blackbox_fx.core.system import posix, resource

PREFIX = "blackbox_fx-worker-"
LOG = "output.txt"  # in the worker's own folder
_PROC = Path("/proc")
_HOME = str(Path(__file__).resolve().parents[2])
# what programs, libraries and plugins need of the environment; the rest, such as tokens and keys, is not passed on
_NAMES = ("PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_FOLDERS = ("LADSPA_PATH", "LV2_PATH", "VST_PATH", "LXVST_PATH", "VST3_PATH")
# without these, programs do not start on Windows
_NAMES += ("SYSTEMROOT", "COMSPEC", "PATHEXT", "APPDATA", "LOCALAPPDATA", "USERPROFILE", "PROGRAMFILES")
_PREFIXES = ("LC_", "XDG_", "PYTHON", "OMP_", "OPENBLAS_", "MKL_", "KMP_", "NUMBA_", "VECLIB_")
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# arrays of up to 32 MiB, the most that glibc takes here, stay in the heap: fresh pages cost more than rendering
_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**28), "MALLOC_TOP_PAD_": str(2**24)}
POLL = 0.25  # seconds between looks at whether the parent lives
_SETTLED = 4  # renders after which an effect that was opened has the memory that it needs
_SHOWN, _LINES = 3000, 30  # characters and lines of a worker's output in an error: a crash with its traceback
_KEPT = 2**18  # bytes of a worker's output that are kept once it has ended
_LARGEST = 2**20  # bytes of any file of output


def environment(folder: Path) -> dict[str, str]:
    """The environment of a worker whose temporary files go to a folder."""
    kept = {k: v for k, v in os.environ.items() if k in (*_NAMES, *_FOLDERS) or k.startswith(_PREFIXES)}
    own = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder)) | {
        "PYTHONPATH": os.pathsep.join(filter(None, search_path()))
    }
    return {**_ONE_THREAD, **_HEAP, **kept, **own}


def search_path() -> list[str]:
    """Where a worker looks for modules: as here, and first for this very package if only the current folder has it."""
    return [*([] if _HOME in sys.path else [_HOME]), *sys.path]


def make_folder() -> Path:
    """A new folder for the temporary files and the output of one worker of this process."""
    sweep()
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))


@contextlib.contextmanager
def worker_folder() -> Iterator[Path]:
    """A folder as `make_folder` gives it, which is cleared at the end."""
    folder = make_folder()
    try:
        yield folder
    finally:
        clear(folder)


@functools.cache
def sweep() -> None:
    """Removes, once, the folders of processes that were killed before they could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if not pid.isdigit() or not system.is_alive(int(pid)):
            clear(folder)


def limit() -> None:
    """Sets the limits of this process: no core dumps, and no more data than the machine has memory."""
    if resource is None:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):
        memory = posix.sysconf("SC_PAGE_SIZE") * posix.sysconf("SC_PHYS_PAGES")
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def allow_cpu(seconds: float) -> None:
    """Limits the computing time of this process from now on, in seconds; the kernel ends it after that."""
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        soft = int(time.process_time() + seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


@final
class Growth:
    """How far the memory of this process has grown beyond what its effects need. macOS does not report it.

    Args:
        most: bytes by which it may grow.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._page = posix.sysconf("SC_PAGE_SIZE")
        path = _PROC / "self/statm"
        self._fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC) if path.exists() else None
        self._settling, self._base, self._leaked = _SETTLED, 0, 0

    def _now(self) -> int:
        if self._fd is None:
            return 0
        _, resident, shared, *_ = posix.pread(self._fd, 200, 0).split()
        return (int(resident) - int(shared)) * self._page

    def opened(self) -> None:
        """An effect was opened: what it takes in its first renders is no leak."""
        if not self._settling:
            self._leaked = self._now() - self._base
        self._settling = _SETTLED

    def rendered(self) -> bool:
        """Whether it has grown too far; called after each render."""
        if not self._settling:
            return self._now() - self._base > self._most
        self._settling -= 1
        if not self._settling:
            self._base = self._now() - self._leaked
        return False


def _started_under(folder: Path) -> list[int]:
    """Processes, except this one, whose temporary files go to a folder: a worker and all that it started."""
    mark, found = f"TMPDIR={folder}".encode(), []
    for entry in _PROC.iterdir() if _PROC.is_dir() else ():
        # others' processes cannot be read, and any may end meanwhile
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                own = (entry / "environ").read_bytes().split(b"\0")
                if any(line == mark or line.startswith(mark + b"/") for line in own):
                    found.append(int(entry.name))
    return found


def end_all(folder: Path, group: int) -> None:
    """Ends all processes that a worker started, except this one, even if they left its group.

    Args:
        folder: of the worker.
        group: its process group, which is all that is known of its children where there is no /proc.
    """
    if group != _own_group():
        system.kill_group(group)
    for _ in range(10):  # what is started while others end
        found = _started_under(folder)
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, system.KILL)
        if not found:
            return
        time.sleep(0.01)


def _own_group() -> int:
    return posix.getpgrp() if hasattr(os, "getpgrp") else os.getpid()


def clear(folder: Path) -> None:
    """Removes the folder of a worker that has ended; its output goes to the log."""
    with contextlib.suppress(OSError):
        _keep(_end(folder / LOG, _KEPT))
    shutil.rmtree(folder, ignore_errors=True)


def follow(parent: int, folder: Path) -> None:
    """Ends this process, in whose folder it works, with its parent; meanwhile its output is kept short."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
            shorten(folder)
        leave(folder)

    threading.Thread(target=look, daemon=True).start()


def leave(folder: Path) -> None:
    """Ends all that was started in a worker's folder, and this process."""
    end_all(folder, _own_group())
    clear(folder)
    system.kill_group(_own_group())


def log_path() -> Path:
    """The file that gets what workers and their plugins printed; a full one is renamed to `plugins.log.1`."""
    return paths.cache() / "plugins.log"


def open_log() -> int:
    """A descriptor at the end of the file that `log_path` names."""
    path = log_path()
    try:
        _make_room(path)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)


def _make_room(path: Path) -> None:
    """Makes the folder of the log, and renames a full log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _LARGEST:
        path.replace(path.with_suffix(".log.1"))


@functools.cache
def in_worker() -> bool:
    """Whether this is a worker process, whose output goes to a file of its own."""
    return Path(os.environ.get("TMPDIR", "")).name.startswith(PREFIX)


def _keep(output: bytes) -> None:
    if not output.strip():
        return
    path = log_path()
    _make_room(path)
    with path.open("ab") as file:
        file.write(time.strftime("-- worker, ended %Y-%m-%d %H:%M:%S\n").encode() + output.rstrip() + b"\n")


def _end(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read(size)


def last_words(folder: Path) -> str:
    """The end of what a worker printed, at most 30 lines."""
    try:
        text = _end(folder / LOG, _SHOWN).decode(errors="replace")
    except OSError:
        return ""
    return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-_LINES:])


def shorten(folder: Path) -> None:
    """Keeps the output of a living worker from growing without end."""
    with contextlib.suppress(OSError), (folder / LOG).open("r+b") as file:
        if (size := file.seek(0, os.SEEK_END)) > _LARGEST:
            file.seek(size - _KEPT)
            tail = file.read()
            file.truncate(0)
            posix.pwrite(file.fileno(), tail, 0)
