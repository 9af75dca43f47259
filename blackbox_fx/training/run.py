"""The folder of a training, opened once: recipe, effects, checkpoint, tables."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, final

import filelock
import torch
from torch import nn

from blackbox_fx.core.files import sweep, write_text
from blackbox_fx.effects import Effect, presets
from blackbox_fx.errors import DataError
from blackbox_fx.training import checkpoint

_LOCK = ".lock"


@final
class Run:
    """The folder of one training, held by one process at a time: a context manager.

    Opening it makes the folder, removes what killed runs left in it, and refuses the checkpoint of another recipe,
    before anything is rendered.

    Args:
        folder: of the run.
        recipe: the settings, as anything JSON can hold; None if the caller compares them.

    Attributes:
        folder: of the run.
        state: what the last checkpoint says, without tensors; None where there is none.

    Raises:
        DataError: a folder that cannot be written, that another process uses, or that holds the checkpoint of another
            recipe or a damaged one.
    """

    def __init__(self, folder: Path, recipe: Any = None) -> None:
        self.folder, self._recipe = folder, recipe
        self.state: dict[str, Any] | None = None

    def __enter__(self) -> Run:
        lock = self.folder / _LOCK
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(lock, blocking=False)
            self._lock.acquire()
        except filelock.Timeout:
            raise DataError(f"Another process uses {self.folder}; wait for it, or name another folder.") from None
        except OSError as error:
            raise DataError(f"Cannot write to the folder {self.folder} ({error.strerror}); name another.") from error
        try:
            sweep(self.folder)
            self.state = checkpoint.read_state(self.folder)
            if self._recipe is not None and self.state is not None and self.state.get("recipe") != self._recipe:
                what = _difference(self.state.get("recipe"), self._recipe)
                raise DataError(
                    f"{self.folder} holds a run with other settings ({what}); "
                    "train into another folder, or use its recipe.toml."
                )
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._release()

    def _release(self) -> None:
        with contextlib.suppress(OSError):
            (self.folder / _LOCK).unlink(missing_ok=True)
        self._lock.release()

    def require_effects(self, effects: Mapping[str, Effect]) -> None:
        """Writes what the effects are and where they stand to effects.json.

        Raises:
            DataError: the folder holds the checkpoint of a run with other effects, or with other versions of them.
        """
        now = {name: presets.record(effect) for name, effect in effects.items()}
        path = self.folder / "effects.json"
        if checkpoint.read_state(self.folder) is None:
            write_text(path, json.dumps(now, indent=1))
            return
        try:
            then = json.loads(path.read_text())
            found = [presets.change(then[name], now[name]) for name in then.keys() & now.keys()]
            found += [f"other effects ({', '.join(then)})"] * (then.keys() != now.keys())
        except (OSError, ValueError, AttributeError) as error:
            raise DataError(f"Cannot read {path} ({error}); train into another folder.") from error
        if changes := [words for words in found if words]:
            raise DataError(
                f"{self.folder} holds a run with {changes[0]}; go back to it, or train into another folder."
            )

    def resume(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        """Restores the last checkpoint; its state, or None where there is none. Raises DataError if it is damaged."""
        self.state = checkpoint.load(self.folder, module, optimizer)
        return self.state

    def save(self, module: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Writes a checkpoint; see `checkpoint.save`."""
        checkpoint.save(self.folder, module, optimizer, state)
        self.state = state

    def write_table(self, name: str, rows: Iterable[Iterable[Any]]) -> None:
        """Writes rows as a CSV file of this name."""
        table = io.StringIO()
        csv.writer(table).writerows(rows)
        write_text(self.folder / name, table.getvalue())


def _difference(then: Any, now: Any) -> str:
    """The first setting in which two recipes differ, in words."""
    if not isinstance(then, dict) or not isinstance(now, dict):
        return "of another kind"
    name = next(name for name in {**then, **now} if then.get(name) != now.get(name))
    return f"{name} is {then.get(name, 'missing')!r} there, and {now.get(name, 'missing')!r} here"
