"""Curves for TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from blackbox_fx.errors import BlackBoxError


@final
class Board:
    """Writes the numbers of a training for TensorBoard, into the folder of its run.

    Args:
        folder: of the run; `tensorboard --logdir` takes it, or the folder above for several runs.

    Raises:
        BlackBoxError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise BlackBoxError(
                f"--tensorboard needs tensorboard ({error}); pip install 'blackbox_fx[tensorboard]'."
            ) from error
        self._writer: Any = SummaryWriter
        self.folder, self._open, self._done = folder, None, 0

    def write(self, name: str, values: Sequence[float]) -> None:
        """Adds what is new of a curve.

        Args:
            name: of the curve.
            values: from the first step on; those that an earlier call wrote are not written again.
        """
        if self._open is None:
            # a resumed run writes its curve anew from the first step, over that of the one before
            self._open = self._writer(str(self.folder), purge_step=1)
        for step in range(self._done, len(values)):
            self._open.add_scalar(name, values[step], step + 1)
        self._done = len(values)
        self._open.flush()

    def close(self) -> None:
        """Writes what is left."""
        if self._open is not None:
            self._open.close()
