"""The settings that the authors of many projects gave one plugin."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from blackbox_fx.effects import Effect
from blackbox_fx.effects.hosts.ladspa.effect import LADSPA
from blackbox_fx.errors import DataError, EffectError, ParameterError
from blackbox_fx.sessions.lmms.file import ENDINGS, is_lmms
from blackbox_fx.sessions.lmms.plugins import AuthorSettings, is_use_of, rows_of
from blackbox_fx.sessions.lmms.reading import read_lmms


def author_settings(
    effect: Effect, projects: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
) -> AuthorSettings:
    """The settings that authors of LMMS projects gave a LADSPA plugin.

    A use whose sides differ gives two rows. What is used several times with the same settings has as many rows.

    Args:
        effect: a LADSPA plugin; the free parameters are the columns, in the ranges that `within` may have given them.
        projects: a folder, which is searched with all folders in it for .mmp and .mmpz files, or paths of files.

    Returns:
        the rows, where they are from, and why other uses gave none. What moves stands where the project was saved.

    Raises:
        EffectError: the effect is no LADSPA plugin.
        DataError: no such folder, or no project in it.
    """
    if not isinstance(effect, LADSPA):
        raise EffectError(f"{effect!r:.80} is no LADSPA plugin; give one, such as bfx.load('ladspa:tap_reverb').")
    rows, origins, skipped = [], [], Counter[str]()
    for path in _paths(projects):
        try:
            project = read_lmms(path)
        except DataError as error:
            skipped[str(error)] += 1
            continue
        for where, source in project.effects:
            if not is_use_of(source, effect):
                continue
            try:
                found = rows_of(source, effect)
            except (EffectError, ParameterError) as error:
                skipped[str(error)] += 1
                continue
            rows += found
            origins += [f"{path}: {where}"] * len(found)
    params = np.array(rows).reshape(len(rows), effect.space.width)
    return AuthorSettings(tuple(effect.space.columns), params, tuple(origins), dict(skipped))


def _paths(projects: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    if not isinstance(projects, str | os.PathLike):
        yield from map(Path, projects)
        return
    path = Path(projects).expanduser()
    found = [path] if path.is_file() else sorted(each for each in path.rglob("*") if is_lmms(each) and each.is_file())
    if not found:
        raise DataError(f"{path!s:.200} holds no LMMS project; give a folder with {' or '.join(ENDINGS)} files.")
    yield from found
