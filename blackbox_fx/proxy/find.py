"""The proxies of an effect, among those that are shipped, a user's own and prepared ones."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from pathlib import Path

from blackbox_fx.core import paths
from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import BlackBoxError, DataError, ParameterError
from blackbox_fx.proxy.adapt import AdaptedProxy
from blackbox_fx.proxy.card import Card
from blackbox_fx.proxy.model import Proxy
from blackbox_fx.proxy.store import CARD, list_proxies, open_proxy, read_card

_log = logging.getLogger("blackbox_fx")


def prepared_folder() -> Path:
    """The folder of the proxies that `prepare` has trained, each in a folder of its own; it may be deleted."""
    return paths.cache() / "prepared"


def find_proxies(effect: Effect, sample_rate: float) -> list[AdaptedProxy]:
    """The proxies that can stand for an effect, adapted to its columns, the best first.

    Candidates are a user's own proxies, the shipped ones and those that `prepare` has trained. A proxy fits if it was
    trained on the same version of the effect, at this sample rate, and covers the free parameters and their ranges.
    One whose training has failed, see `Card.failure`, is left out. A proxy that cannot be read is logged and left out.

    Args:
        effect: as it is used.
        sample_rate: in Hz.
    """
    found: list[tuple[float, AdaptedProxy]] = []
    for name, card, fit in _tried(effect, sample_rate):
        if isinstance(fit, AdaptedProxy):
            found.append((card.scores.sound.esr, fit))
        else:
            _log.info("%s: the proxy %s is not used: %s", effect.name, name, fit)
    return [proxy for _, proxy in sorted(found, key=lambda pair: pair[0])]


def unfit_proxies(effect: Effect, sample_rate: float) -> list[str]:
    """A sentence for each known proxy of an effect that does not fit it as it is used."""
    tried = _tried(effect, sample_rate)
    return [f"The proxy {name} is not used: {fit}" for name, _, fit in tried if not isinstance(fit, AdaptedProxy)]


def _tried(effect: Effect, sample_rate: float) -> Iterator[tuple[str, Card, AdaptedProxy | str]]:
    """The name and card of every proxy of an effect, with the proxy, or why it cannot stand for the effect."""
    for name, folder, card in _cards():
        if card.original.name != effect.name:
            continue
        try:
            if card.failure:
                yield name, card, card.failure
            elif effect.with_space(card.space).fingerprint != card.original.fingerprint:
                yield name, card, "it was trained on another version of the effect, or on one with other options."
            elif card.sample_rate != sample_rate:
                yield name, card, f"it is for {card.sample_rate:g} Hz, the layer for {sample_rate:g} Hz."
            else:
                yield name, card, AdaptedProxy(_opened(folder, card.sha256), effect.space, name, card.sha256)
        except ParameterError as error:
            yield name, card, str(error)
        except DataError as error:
            _log.warning("The proxy %s is left out: %s", name, error)


@functools.lru_cache(maxsize=32)
def _opened(folder: Path, sha256: str) -> Proxy:
    return open_proxy(folder).requires_grad_(False)


def _cards() -> Iterator[tuple[str, Path, Card]]:
    """Name, folder and card of every proxy that can be read."""
    for entry in list_proxies():
        if entry.card is not None:
            yield entry.name, entry.folder, entry.card
    root = prepared_folder()
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if (folder / CARD).exists():
            try:
                yield f"prepared-{folder.name[:6]}", folder, read_card(folder)
            except BlackBoxError as error:
                _log.warning("The prepared proxy in %s is left out: %s", folder, error)
