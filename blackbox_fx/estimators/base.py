"""Base classes of estimators, which compute gradients from extra renders of an effect without a derivative."""

from __future__ import annotations

import abc
import copy
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from blackbox_fx.estimators.call import Call, Plan, carry_out
from blackbox_fx.space import Space


class _State(bytes):
    """The state of a random generator."""


class _Replicable(nn.Module):
    """A module that can be copied for each of several effects, and pickled into any process."""

    @property
    def pulls(self) -> bool:
        """Whether the next gradient comes from a surrogate, so that one pass of it may serve audio and params."""
        return False

    @property
    def in_use(self) -> str:
        """What gives the gradient at present, in a few words."""
        return type(self).__name__

    def explain(self) -> str:
        """What gives the gradient and why; of one that compares several ways, the table."""
        return self.in_use

    def __getstate__(self) -> dict[str, Any]:
        # torch pickles a generator as a tensor in shared memory, which a spawned process cannot read
        return {
            name: _State(value.get_state().numpy().tobytes()) if isinstance(value, torch.Generator) else value
            for name, value in self.__dict__.items()
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({name: _thawed(value) for name, value in state.items()})

    @final
    def replicate(self) -> Self:
        """A copy that draws random numbers of its own; they follow from the state of this one's generator."""
        other = copy.deepcopy(self)
        mine, theirs = _generators(self), _generators(other)
        for own, copied in zip(mine, theirs, strict=True):
            copied.manual_seed(int(torch.randint(2**62, (), generator=own)))
        return other


def _thawed(value: Any) -> Any:
    if not isinstance(value, _State):
        return value
    generator = torch.Generator()
    generator.set_state(torch.frombuffer(bytearray(value), dtype=torch.uint8))
    return generator


def _generators(module: nn.Module) -> list[torch.Generator]:
    """The random generators in a module, each once."""
    found = (value for part in module.modules() for value in vars(part).values())
    return list({id(value): value for value in found if isinstance(value, torch.Generator)}.values())


class Estimator(_Replicable, abc.ABC):
    """Gives the gradient with respect to parameters.

    A subclass implements `vjp` and `cost`. One whose renders do not depend on the cotangent subclasses `Probing`, and
    implements `plan` and `cost`.

    Attributes:
        wants_surrogates: whether it uses `Call.surrogates`.
    """

    wants_surrogates: ClassVar[bool] = False

    @abc.abstractmethod
    def vjp(self, call: Call, cotangent: Tensor) -> Tensor:
        """The gradient of <cotangent, output> with respect to params.

        The gradient of a continuous or integer column is a slope on the [0, 1] axis. The gradient of an on/off column
        is the difference between on and off. The gradient of an option of a choice is the difference between this
        option and the present one.

        Args:
            call: the forward pass.
            cotangent: of its output, (batch, channel, time), float32.

        Returns:
            (batch, width), any floating type.
        """

    @abc.abstractmethod
    def cost(self, space: Space) -> int:
        """The most renders that `vjp` makes for one item of the batch."""

    def ahead(self, call: Call) -> Plan | None:
        """The renders of `vjp`, if they do not depend on the cotangent; see `Probing`."""
        return None


class Probing(Estimator):
    """An estimator whose renders do not depend on the cotangent: they can be planned, and run, before it is known."""

    @abc.abstractmethod
    def plan(self, call: Call) -> Plan:
        """What to render; random estimators draw again each time. `call.output` is not used."""

    def ahead(self, call: Call) -> Plan | None:
        """The plan."""
        return self.plan(call)

    def vjp(self, call: Call, cotangent: Tensor) -> Tensor:
        """The gradient with respect to params; see `Estimator.vjp`."""
        return carry_out(self.plan(call), call, cotangent)


class AudioRule(_Replicable, abc.ABC):
    """Gives the gradient with respect to audio; a subclass implements `vjp` and `cost`.

    Attributes:
        any_channels: whether it supports effects whose output has another number of channels than their input.
        wants_surrogates: whether it uses `Call.surrogates`.
    """

    any_channels: ClassVar[bool] = False
    wants_surrogates: ClassVar[bool] = False

    @abc.abstractmethod
    def vjp(self, call: Call, cotangent: Tensor) -> Tensor:
        """The gradient of <cotangent, output> with respect to audio.

        Args:
            call: the forward pass.
            cotangent: of its output, (batch, channel, time), float32.

        Returns:
            (batch, channel, time), any floating type.
        """

    @abc.abstractmethod
    def cost(self, channels: int) -> int:
        """The most renders that `vjp` makes for one item of the batch, with this number of channels."""
