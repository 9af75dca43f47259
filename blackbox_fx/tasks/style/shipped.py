"""Where trained networks of this task lie that come with the package."""

from __future__ import annotations

from pathlib import Path

from blackbox_fx.errors import DataError, did_you_mean

_HOME = Path(__file__).parent / "networks"
_LONGEST = 100  # of a name in an error


def shipped(about: str) -> dict[str, Path]:
    """The folders of shipped networks by name.

    Args:
        about: the file that tells their kind, such as "style.json".
    """
    return {path.parent.name: path.parent for path in sorted(_HOME.glob(f"*/{about}"))}


def find_network(name: str | Path, about: str, what: str, command: str) -> Path:
    """The folder of a network: the one that is named, or that of a shipped one of this name.

    Args:
        name: of a shipped network, or a folder.
        about: the file that tells its kind, such as "style.json".
        what: it is, in words.
        command: that trains others.

    Raises:
        DataError: no such network.
    """
    if not isinstance(name, str | Path):
        raise DataError(f"A name or a folder of {what} is needed, got {name!r:.{_LONGEST}}.")
    folder = Path(name)
    try:
        if (folder / about).is_file():
            return folder
    except (OSError, ValueError):  # too long a name, for one
        pass
    known, text = shipped(about), str(name)
    if text in known:
        return known[text]
    raise DataError(
        f"There is no {what} {text[:_LONGEST]!r}{did_you_mean(text[:_LONGEST], known)}; shipped are "
        f"{', '.join(known) or 'none'}, and a folder that blackbox-fx {command} wrote will do."
    )
