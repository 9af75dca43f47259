"""Which LV2 plugins are installed, by what their bundles say of themselves; nothing of them is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|"(?:[^"\\]|\\.)*"|<[^<>\s]*>|#[^\n]*|[][();,]|\.(?=\s|$)|(?:[^][\s();,<>".#]|\.(?!\s|$)|(?<=\w)#)+',
    re.DOTALL,
)
_CORE = "http://lv2plug.in/ns/lv2core#"


def _statements(text: str) -> Iterator[list[str]]:
    """The tokens of each statement of a Turtle file, without what stands in brackets."""
    depth, statement = 0, list[str]()
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in "])":
            depth -= 1
        elif token == "." and not depth:
            yield statement
            statement = []
        elif not depth and token[0] not in "#[(":
            statement.append(token)
        depth += token in "[("


def uris(manifest: str) -> list[str]:
    """The plugins that a manifest in Turtle names, in order."""
    prefixes: dict[str, str] = {}
    found: dict[str, None] = {}

    def whole(token: str) -> str:
        if token.startswith("<"):
            return token[1:-1]
        prefix, _, name = token.partition(":")
        return prefixes.get(prefix, f"{prefix}:") + name

    for statement in _statements(manifest):
        if statement[0:1] == ["@prefix"] and len(statement) == 3:
            prefixes[statement[1].rstrip(":")] = statement[2][1:-1]
            continue
        predicate = ""
        for k, token in enumerate(statement[1:]):
            if k == 0 or statement[k] == ";":
                predicate = token
            elif predicate == "a" and token not in ",;" and whole(token) == f"{_CORE}Plugin":
                found[whole(statement[0])] = None
    return list(found)


def bundles(folders: Iterable[Path]) -> dict[str, Path]:
    """The bundle of each plugin, by URI; the first folder that has a plugin counts."""
    found: dict[str, Path] = {}
    for folder in folders:
        for manifest in sorted(folder.glob("*/manifest.ttl")):
            for uri in uris(manifest.read_text(errors="replace")):
                found.setdefault(uri, manifest.parent)
    return found
