"""Checkpoints: tensors as safetensors, the rest as JSON; written whole or not at all, and never unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from blackbox_fx.core.files import write_bytes, write_text
from blackbox_fx.errors import DataError

_VERSION = 1


def save(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Writes `checkpoint.json` and the tensors it names; the JSON comes last, so an interrupted save changes nothing.

    Args:
        folder: where; created if missing.
        module: whose state_dict is kept, generators included.
        optimizer: whose state is kept.
        state: anything JSON can hold; must have "step", "recipe", "losses" and "seconds".
    """
    folder.mkdir(parents=True, exist_ok=True)
    # clones, since parts of a module may share weights
    tensors = {f"module.{k}": v.contiguous().clone() for k, v in module.state_dict().items()}
    for index, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in entries.items()}
    name = f"checkpoint-{state['step']}.safetensors"
    write_bytes(folder / name, to_bytes(tensors))
    write_text(folder / "checkpoint.json", json.dumps({"version": _VERSION, "tensors": name, **state}))
    for old in folder.glob("checkpoint-*.safetensors"):
        if old.name != name:
            old.unlink()


def read_state(folder: Path) -> dict[str, Any] | None:
    """The state that `save` wrote, without tensors, or None where there is no checkpoint.

    Raises:
        DataError: a checkpoint that is damaged, or of another version.
    """
    path = folder / "checkpoint.json"
    if not path.exists():
        return None
    try:
        state = json.loads(path.read_text())
        version, *_ = (state[name] for name in ("version", "tensors", "step", "recipe", "losses", "seconds"))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise DataError(f"{path} is damaged ({error}); remove it, or train into another folder.") from error
    if version != _VERSION:
        raise DataError(f"{path} has version {version}; this release reads {_VERSION}: train into another folder.")
    return state


def load_part(folder: Path, module: nn.Module, name: str) -> bool:
    """Restores a part of a module that `save` wrote, by its name; whether there is a checkpoint.

    Raises:
        DataError: a checkpoint that is damaged, of another version, or of another module.
    """
    state = read_state(folder)
    if state is None:
        return False
    prefix = f"module.{name}."
    try:
        tensors: dict[str, Tensor] = load_file(folder / Path(state["tensors"]).name)
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    except (ValueError, KeyError, TypeError, OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"Cannot read the checkpoint in {folder} ({reason}); train again.") from error
    return True


def load(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Restores what `save` wrote. Returns the state, or None where there is no checkpoint.

    Raises:
        DataError: a checkpoint that is damaged, of another version, or of another network.
    """
    state = read_state(folder)
    if state is None:
        return None
    try:
        tensors: dict[str, Tensor] = load_file(folder / Path(state["tensors"]).name)
        module.load_state_dict({k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")})
        entries: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                entries.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})
    except (ValueError, KeyError, TypeError, OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"Cannot resume from {folder} ({reason}); remove it, or train into another one.") from error
    return state
