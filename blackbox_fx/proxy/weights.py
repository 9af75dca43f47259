"""Weights of proxies as safetensors: read only if they are exactly those of the net, and never unpickled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from blackbox_fx.errors import DataError
from blackbox_fx.proxy.strict import shown

LIMIT = 2**26  # bytes of weights.safetensors
_REMEDY = "get the proxy again, or train it again"
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")


def compact(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in half precision, as they are stored; what would overflow, and doubles, keep their own."""
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        half = tensor.detach().cpu().contiguous().half()
        halved = tensor.is_floating_point() and tensor.dtype != torch.float64
        keeps = halved and bool(torch.isfinite(half).all())
        found[name] = half if keeps else tensor.detach().cpu().contiguous()
    return found


@torch.no_grad()
def round_weights(module: nn.Module) -> None:
    """Rounds the weights to what a file holds of them, so that what is scored is what is stored."""
    for name, tensor in module.state_dict().items():
        tensor.copy_(compact({name: tensor})[name])


def write_weights(weights: Mapping[str, Tensor]) -> bytes:
    """The content of weights.safetensors. Raises DataError if a weight is NaN or infinite."""
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise DataError(f"The weights {name} hold NaN or infinity, and are not kept; train with a lower rate.")
    return to_bytes(compact(weights))


def checksum(content: bytes) -> str:
    """SHA-256, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def read_weights(content: bytes, expected: Mapping[str, Tensor], sha256: str, what: str) -> dict[str, Tensor]:
    """The tensors of weights.safetensors, of the types that are expected.

    Args:
        content: of the file.
        expected: tensors of the same names, shapes and types, of any values, on any device.
        sha256: of the content, as the card says.
        what: names the file in errors.

    Raises:
        DataError: another checksum, no safetensors, or tensors that are not exactly those of the net, or not finite.
    """
    # a header of 640 bytes begins as a pickle does, but goes on with a brace
    if content.startswith(_PICKLES) and content[8:9] != b"{":
        raise DataError(f"{what} is a pickle or an archive, which may run any code and is not read; {_REMEDY}.")
    if checksum(content) != sha256:
        raise DataError(f"{what} is not what its card was written for (its SHA-256 is another); {_REMEDY}.")
    try:
        found = from_bytes(content)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise DataError(f"{what} is damaged ({shown(str(error))}); {_REMEDY}.") from error
    for name in found:
        if name not in expected:
            raise DataError(f"{what} holds weights {shown(name)} that its net does not have; {_REMEDY}.")
    for name, like in expected.items():
        if name not in found:
            raise DataError(f"{what} lacks the weights {name}; {_REMEDY}.")
        _check_tensor(name, found[name], like, what)
    return {name: t.to(expected[name].dtype) for name, t in found.items()}


def _check_tensor(name: str, tensor: Tensor, like: Tensor, what: str) -> None:
    """Raises DataError for another shape or type than expected, and for NaN and infinity."""
    if tensor.shape != like.shape:
        wanted, got = tuple(like.shape), tuple(tensor.shape)
        raise DataError(f"{what} has {name} of shape {got}, where the net has {wanted}; {_REMEDY}.")
    allowed = (torch.float16, torch.float32) if like.dtype == torch.float32 else (like.dtype,)
    if tensor.dtype not in allowed:
        raise DataError(f"{what} has {name} in {tensor.dtype}, where {allowed[0]} is allowed; {_REMEDY}.")
    if not bool(torch.isfinite(tensor).all()):
        raise DataError(f"{what} has NaN or infinity in {name}; {_REMEDY}.")
