"""Folders of proxies: recipe.toml, weights.safetensors and card.json; those that are shipped, and a user's own."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import blackbox_fx
from blackbox_fx.core import paths
from blackbox_fx.core.files import write_bytes, write_text
from blackbox_fx.errors import BlackBoxError, DataError, ParameterError, did_you_mean
from blackbox_fx.proxy import card as cards
from blackbox_fx.proxy.card import Card
from blackbox_fx.proxy.recipe import ProxyRecipe
from blackbox_fx.proxy.strict import read_bytes, shown

if TYPE_CHECKING:
    from blackbox_fx.proxy.model import Proxy
    from blackbox_fx.proxy.nets import ProxyNet

# torch is imported where weights are: to list proxies takes no second
RECIPE, WEIGHTS, CARD = "recipe.toml", "weights.safetensors", "card.json"
_SLUG = re.compile("(?=.{1,64}$)[a-z0-9]+(-[a-z0-9]+)*")
_LARGEST = 4096, 600.0  # whole number and other number among the arguments of a net
_SHIPPED = "shipped_proxies"  # in an installed package


def save_proxy(folder: str | os.PathLike[str], proxy: Proxy, recipe: ProxyRecipe, card: Card) -> Card:
    """Writes a proxy; the card comes last, so that a folder with a card is complete.

    The weights are stored in half precision, and those of the proxy are rounded to it. Call `round_weights(proxy)`
    before scoring, so that the card has the scores of the stored weights.

    Args:
        folder: to write to; made if it is missing.
        proxy: to keep.
        recipe: of its training.
        card: whose checksum is filled in.

    Returns:
        The card with the checksum of the weights.

    Raises:
        DataError: a card of another proxy, a weight that is NaN or infinite, or a folder that cannot be written.
    """
    from blackbox_fx.proxy import weights as files

    folder = Path(folder)
    if (card.space, card.original.fingerprint) != (proxy.space, proxy.fingerprint):
        raise DataError(f"The card is that of {card.original.name}, not of this proxy of {proxy.effect_name}.")
    content = files.write_weights(proxy.net.state_dict())
    _blank_net(card, "The card")
    files.round_weights(proxy.net)
    card = dataclasses.replace(card, sha256=files.checksum(content))
    text = card.to_json()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / RECIPE, recipe.to_toml())
        write_bytes(folder / WEIGHTS, content)
        write_text(folder / CARD, text)
    except OSError as error:
        raise DataError(f"Cannot write the proxy to {folder} ({error.strerror}); name another folder.") from error
    return card


def load_proxy(name: str | os.PathLike[str]) -> Proxy:
    """A trained proxy, on the CPU, ready to be called with `(audio, params, sample_rate)`.

    Nothing is unpickled, and no code from the files runs.

    Args:
        name: of a shipped proxy or of one in your own folder, such as "zam-comp-x2", see `list_proxies`; or a folder.

    Raises:
        DataError: no such proxy, files that are damaged or not those of a proxy, or a card of a later release.
    """
    return open_proxy(find_proxy(name))


def open_proxy(folder: Path) -> Proxy:
    """The proxy of a folder; see `load_proxy`."""
    from blackbox_fx.proxy import weights as files

    card = read_card(folder)
    content = read_bytes(folder, WEIGHTS, files.LIMIT)
    proxy = assemble(card, content, str(folder / WEIGHTS), str(folder / CARD))
    with contextlib.suppress(DataError, ParameterError):  # only `Proxy.effect` needs the recipe
        proxy.address = read_recipe(folder).effect
    return proxy


def assemble(card: Card, content: bytes, what: str, where: str) -> Proxy:
    """A proxy of its card and the content of its weights, which errors call `what` and `where`."""
    from blackbox_fx.proxy import weights as files
    from blackbox_fx.proxy.model import Proxy
    from blackbox_fx.proxy.nets import make_net

    blank = _blank_net(card, where)
    weights = files.read_weights(content, blank.state_dict(), card.sha256, what)
    net = make_net(card.net, card.space.width, card.sample_rate)
    net.load_state_dict(weights)
    proxy = Proxy(net, card.space, card.original.name, card.original.fingerprint, card.original.version)
    proxy.failure = card.failure
    return proxy


def _blank_net(card: Card, what: str) -> ProxyNet:
    """The net without memory for its weights, since a card may claim anything."""
    import torch

    from blackbox_fx.proxy.nets import make_net

    for name, value in card.net.items():
        largest = _LARGEST[isinstance(value, float)]
        if not isinstance(value, (str, bool)) and not -largest <= value <= largest:
            raise DataError(
                f"{what} names a net with {shown(name)} = {value}; at most {largest} is allowed: get the proxy again."
            )
    try:
        with torch.device("meta"):
            return make_net(card.net, card.space.width, card.sample_rate)
    except (BlackBoxError, ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        reason = str(error).rstrip(".")
        raise DataError(
            f"{what} names a net that this release does not have ({reason}); update blackbox_fx."
        ) from error


def read_card(folder: Path) -> Card:
    """The card of a folder. Raises DataError as `load_proxy` does."""
    return Card.from_json(read_bytes(folder, CARD, cards.LIMIT), str(folder / CARD))


def read_recipe(folder: Path) -> ProxyRecipe:
    """The recipe of a folder. Raises DataError or ParameterError if it cannot be read."""
    read_bytes(folder, RECIPE, cards.LIMIT)
    return ProxyRecipe.read(folder / RECIPE)


def find_proxy(name: str | os.PathLike[str]) -> Path:
    """The folder of a proxy; your own comes before a shipped one of the same name, and both before the present folder.

    Raises:
        DataError: no such proxy.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise DataError(f"A proxy is named by a text or a folder, got {shown(name)}; see blackbox-fx proxy list.")
    if isinstance(name, str) and not name.startswith(("/", "./", "../", "~")):
        if _SLUG.fullmatch(name):
            for folder in (own_folder() / name, shipped_folder() / name):
                if (folder / CARD).exists():
                    return _inside(folder)
        elif ".." in Path(name).parts:
            raise DataError(f"{shown(name)} is no name of a proxy; for a folder, write its path from / or ./ on.")
    with contextlib.suppress(OSError, RuntimeError):  # a name that is too long, a user without a home
        folder = Path(name).expanduser()
        if os.fspath(name) and folder.is_dir():
            return folder
    known = [entry.name for entry in list_proxies()]
    text = os.fspath(name)
    raise DataError(
        f"There is no proxy {shown(text)}{did_you_mean(text, known)}; known are "
        f"{', '.join(known) or 'none'}: give one of these, or a folder that `blackbox-fx proxy train` wrote."
    )


def _inside(folder: Path) -> Path:
    if folder.resolve().parent != folder.parent.resolve():
        raise DataError(f"{folder} is a link to outside {folder.parent}, and is not read; give that folder itself.")
    return folder


def own_folder() -> Path:
    """The folder that holds the user's own proxies, each in a folder of its own."""
    return paths.data() / "proxies"


def shipped_folder() -> Path:
    """The folder of the proxies that come with the package; in a clone, its folder proxies."""
    package = Path(blackbox_fx.__file__).parent
    clone = package.parent / "proxies"
    return clone if clone.is_dir() and (package.parent / "pyproject.toml").is_file() else package / _SHIPPED


class Listed(NamedTuple):
    """A proxy that `load_proxy` finds by name.

    Args:
        name: for `load_proxy`.
        folder: where it is.
        shipped: whether it came with the package.
        card: None if it cannot be read.
        problem: why not, or "".
    """

    name: str
    folder: Path
    shipped: bool
    card: Card | None
    problem: str


def list_proxies() -> list[Listed]:
    """Your own proxies and the shipped ones, by name; one that cannot be read says why."""
    found: dict[str, Listed] = {}
    for root in (own_folder(), shipped_folder()):
        for folder in sorted(root.iterdir()) if root.is_dir() else ():
            if not _SLUG.fullmatch(folder.name) or not (folder / CARD).exists() or folder.name in found:
                continue
            shipped = root == shipped_folder()
            try:
                found[folder.name] = Listed(folder.name, folder, shipped, read_card(_inside(folder)), "")
            except DataError as error:
                found[folder.name] = Listed(folder.name, folder, shipped, None, str(error))
    return [found[name] for name in sorted(found)]
