"""Sessions of this library and of others, read back."""

from __future__ import annotations

import os
from xml.etree.ElementTree import Element

from blackbox_fx.errors import DataError
from blackbox_fx.sessions import strict
from blackbox_fx.sessions.ardour.folder import is_ardour
from blackbox_fx.sessions.ardour.reading import read_ardour
from blackbox_fx.sessions.channels import Channels
from blackbox_fx.sessions.container import METADATA, PROJECT, Archive
from blackbox_fx.sessions.lmms.file import is_lmms
from blackbox_fx.sessions.session import Session
from blackbox_fx.sessions.skipped import Skipped
from blackbox_fx.sessions.timeline import Timeline

_TEMPO = 120.0


def read_session(path: str | os.PathLike[str]) -> Session:
    """A DAWproject file or an Ardour session: what `save_session` wrote, or what another program did.

    Nothing is written to disk, nothing outside the session is read, and no plugin is loaded. Levels are given in dB
    and places in [-1, 1] by the law of `Console`, whatever unit or law the session has. What has no place in a
    `Session` is listed in its `skipped`: notes, videos, markers, clip launchers, time warps, built-in devices and
    automation of plugins.

    Args:
        path: of the ".dawproject" or ".ardour" file, or of the folder of an Ardour session.

    Raises:
        DataError: no such file, or one that is damaged, or holds what no session needs.
    """
    if is_ardour(path):
        return read_ardour(path)
    if is_lmms(path):
        raise DataError(f"{os.fspath(path)!s:.200} is an LMMS project; read it with read_lmms.")
    with Archive(path) as archive:
        try:
            return _session(archive)
        except strict.Wrong as error:
            raise archive.damaged(str(error)) from error
        except RecursionError as error:
            raise DataError(f"{archive.path} is nested deeper than any session is; save it again.") from error


def _session(archive: Archive) -> Session:
    root = strict.parse(archive.xml(PROJECT), "Project")
    version = root.get("version", "")
    if version.partition(".")[0] != "1":
        raise strict.Wrong(f"its version is {version!r:.20}, and this release reads 1.0")
    said = strict.parse(archive.xml(METADATA), "MetaData") if METADATA in archive else Element("MetaData")
    skipped = Skipped()
    channels = Channels(root, archive.check, skipped.add)
    tempo = _tempo(root)
    timeline = Timeline(root, tempo, archive.check, skipped.add, channels.parameters, channels.tracks)
    _others(root, skipped)
    application = root.find("Application")
    by = "" if application is None else f"{application.get('name', '')} {application.get('version', '')}".strip()
    return Session(
        path=archive.path,
        title=said.findtext("Title") or "",
        comment=said.findtext("Comment") or "",
        application=by,
        tempo=tempo,
        tracks=channels.found(timeline),
        skipped=skipped.sentences,
    )


def _tempo(root: Element) -> float:
    found = root.find("Transport/Tempo")
    if found is None:
        return _TEMPO
    tempo = strict.number(found, "value", _TEMPO)
    if tempo <= 0:
        raise strict.Wrong(f"its tempo is {tempo:g}, and must be above 0")
    return tempo


def _others(root: Element, skipped: Skipped) -> None:
    """Says which parts of a document were not read."""
    known = {"Application", "Transport", "Structure", "Arrangement"}
    for part in root:
        if part.tag not in known and len(part):
            skipped.add(f"{part.tag} with {len(part)} elements")
    signature = root.find("Transport/TimeSignature")
    if signature is not None and (signature.get("numerator"), signature.get("denominator")) != ("4", "4"):
        skipped.add("the time signature")
