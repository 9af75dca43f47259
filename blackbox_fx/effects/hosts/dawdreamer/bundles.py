"""What LV2 bundles say of themselves: which plugins are installed, and what ports each has; nothing is loaded."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import final
from urllib.parse import unquote

_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|"(?:[^"\\\n]|\\.)*"|\'\'\'(?:[^\\]|\\.)*?\'\'\'|\'(?:[^\'\\\n]|\\.)*\'|<[^<>\s]*>|#[^\n]*'
    r'|[][();,]|[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?(?![\w.:])|\.(?=\s|$)|(?:[^][\s();,<>"\'.#]|\.(?!\s|$)|(?<=\w)#)+',
    re.DOTALL,
)
_NAMESPACES = {
    "http://lv2plug.in/ns/lv2core#": "lv2",
    "http://lv2plug.in/ns/ext/port-props#": "pprops",
    "http://lv2plug.in/ns/ext/port-groups#": "pg",
    "http://lv2plug.in/ns/extensions/units#": "units",
    "http://www.w3.org/2000/01/rdf-schema#": "rdfs",
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#": "rdf",
}
_DEEPEST = 32  # nodes in nodes
_MANIFEST = "manifest.ttl"
_NEWEST = "30000"  # a minor version
_NOTHING = "<urn:blackbox_fx:nothing>"
_UNITS = {"db": "dB", "hz": "Hz", "khz": "kHz", "mhz": "MHz", "ms": "ms", "s": "s", "min": "min", "pc": "%"}
_UNITS |= {"bpm": "bpm", "cent": "cents", "degree": "deg", "oct": "octaves", "semitone12TET": "semitones"}
_UNITS |= {"frame": "samples", "m": "m", "cm": "cm", "mm": "mm"}


@final
class _Term(str):
    """A URI, short where its beginning is known, or the text of a literal; with its place in a file."""

    file = ""
    start = stop = 0

    def named(self, text: str) -> _Term:
        """Another text at the same place."""
        term = _Term(text)
        term.file, term.start, term.stop = self.file, self.start, self.stop
        return term


Node = dict[str, list["_Term | Node"]]  # predicates with their objects


@final
@dataclasses.dataclass(frozen=True)
class Port:
    """A port of an LV2 plugin.

    Args:
        name: as it is shown.
        kinds: such as "lv2:InputPort" and "lv2:ControlPort".
        properties: such as "lv2:toggled", "lv2:sampleRate" and "pprops:trigger".
        designation: such as "lv2:enabled" or "lv2:latency"; empty if there is none.
        unit: such as "dB"; empty if none is known.
        ends: the default, and what its lowest and highest position stand for, as far as they are told.
        points: names of values.
        side: whether it is said, or named, to be a side chain.
    """

    name: str
    kinds: frozenset[str]
    properties: frozenset[str]
    designation: str
    unit: str
    ends: tuple[float | None, float | None, float | None]
    points: dict[str, float]
    side: bool

    @property
    def parts(self) -> tuple[float, float] | None:
        """Its ends as parts of the sample rate, if that is what they are."""
        _, low, high = self.ends
        if "lv2:sampleRate" not in self.properties or low is None or high is None or low >= high:
            return None
        return low, high

    @property
    def tells_latency(self) -> bool:
        """Whether it is the output that tells the latency."""
        return "lv2:reportsLatency" in self.properties or self.designation == "lv2:latency"

    def is_a(self, *kinds: str) -> bool:
        """Whether it is of all these kinds, such as "Input" and "Control"."""
        return self.kinds >= {f"lv2:{kind}Port" for kind in kinds}


def _tokens(text: str, file: str) -> Iterator[_Term]:
    for match in _TOKEN.finditer(text):
        if match[0][0] != "#":
            term = _Term(match[0])
            term.file, term.start, term.stop = file, *match.span()
            yield term


class _Reader:
    """Statements of a Turtle text, as nodes by subject; what it cannot make sense of is left out."""

    def __init__(self, text: str, file: str = _MANIFEST) -> None:
        self.prefixes: dict[str, str] = {}
        self.nodes: dict[str, Node] = {}
        statement: list[_Term] = []
        depth = 0
        for token in _tokens(text, file):
            depth += (token in "[(") - (token in "])")
            if token != "." or depth > 0:
                statement.append(token)
                continue
            self._statement(statement)
            statement, depth = [], 0

    def _statement(self, tokens: list[_Term]) -> None:
        if len(tokens) == 3 and tokens[0].lower() in ("@prefix", "prefix"):
            self.prefixes[tokens[1].rstrip(":")] = tokens[2][1:-1]
        elif len(tokens) > 2 and tokens[0] not in "[(":
            node, _ = self._pairs(tokens, 1, 0)
            known = self.nodes.setdefault(self._name(tokens[0]), {})
            for predicate, objects in node.items():
                known.setdefault(predicate, []).extend(objects)

    def _pairs(self, tokens: list[_Term], k: int, depth: int) -> tuple[Node, int]:
        """Predicates and objects from token k to a closing bracket or the end, and the place after them."""
        node: Node = {}
        predicate = ""
        while k < len(tokens) and tokens[k] not in "])":
            token = tokens[k]
            if token in ";,":
                predicate = "" if token == ";" else predicate
                k += 1
            elif not predicate:
                predicate, k = self._name(token), k + 1
            else:
                value, k = self._object(tokens, k, depth)
                node.setdefault(predicate, []).append(value)
        return node, k + 1

    def _object(self, tokens: list[_Term], k: int, depth: int) -> tuple[_Term | Node, int]:
        token = tokens[k]
        if token == "[" and depth < _DEEPEST:
            return self._pairs(tokens, k + 1, depth + 1)
        if token in "[(":  # lists are not needed
            start, level = k, 0
            while k < len(tokens) and (level or k == start):
                level += (tokens[k] in "[(") - (tokens[k] in "])")
                k += 1
            return {}, k
        return self._name(token), k + 1

    def _name(self, token: _Term) -> _Term:
        """What a token stands for."""
        if token == "a":
            return token.named("rdf:type")
        if token[0] in "\"'":
            marks = 3 if token[:3] in ('"""', "'''") and len(token) > 5 else 1
            return token.named(re.sub(r"\\(.)", r"\1", token[marks:-marks]))
        prefix, colon, name = token.partition(":")
        whole = token[1:-1] if token[0] == "<" else self.prefixes.get(prefix, f"{prefix}{colon}") + name
        for space, short in _NAMESPACES.items():
            if whole.startswith(space):
                return token.named(f"{short}:{whole.removeprefix(space)}")
        return token.named(whole)


def _texts(node: Node, predicate: str) -> list[_Term]:
    return [value for value in node.get(predicate, ()) if isinstance(value, str)]


def _number(node: Node, predicate: str) -> float | None:
    for text in _texts(node, predicate):
        with contextlib.suppress(ValueError):
            return float(text)
    return {"true": 1.0, "false": 0.0}.get("".join(_texts(node, predicate)))


def uris(manifest: str) -> list[str]:
    """The plugins that a manifest in Turtle names, in order."""
    return [uri for uri, node in _Reader(manifest).nodes.items() if "lv2:Plugin" in node.get("rdf:type", ())]


def bundles(folders: Iterable[Path]) -> dict[str, Path]:
    """The bundle of each plugin, by URI; the first folder that has a plugin counts."""
    found: dict[str, Path] = {}
    for folder in folders:
        for manifest in sorted(folder.glob("*/manifest.ttl")):
            for uri in uris(manifest.read_text(errors="replace")):
                found.setdefault(uri, manifest.parent)
    return found


def saved_values(state: str) -> dict[str, float]:
    """What ports stand at, by symbol, in a state of a plugin in Turtle."""
    found: dict[str, float] = {}
    for node in _Reader(state).nodes.values():
        for port in node.get("lv2:port", ()):
            value = _number(port, "pset:value") if isinstance(port, dict) else None
            if isinstance(port, dict) and value is not None:
                found["".join(_texts(port, "lv2:symbol")[:1])] = value
    return found


def ports(uri: str, bundle: Path) -> list[Port]:
    """The ports of a plugin in order, as its files tell them; empty if they tell nothing."""
    nodes = _nodes(uri, bundle)
    placed = [(index, node) for node in _listed(uri, nodes) if (index := _number(node, "lv2:index")) is not None]
    return [_port(node, nodes) for _, node in sorted(placed, key=lambda pair: pair[0])]


def _nodes(uri: str, bundle: Path) -> dict[str, Node]:
    """What the manifest and the files that it names for a plugin tell, by subject."""
    nodes = _Reader(_text(bundle / _MANIFEST)).nodes
    for name in dict.fromkeys(map(str, _texts(nodes.get(uri, {}), "rdfs:seeAlso"))):
        if re.fullmatch(r"[^/:]+", name):
            for subject, node in _Reader(_text(bundle / unquote(name)), unquote(name)).nodes.items():
                known = nodes.setdefault(subject, {})
                for predicate, objects in node.items():
                    known.setdefault(predicate, []).extend(objects)
    return nodes


def _listed(uri: str, nodes: dict[str, Node]) -> list[Node]:
    return [node for node in nodes.get(uri, {}).get("lv2:port", ()) if isinstance(node, dict)]


def _audio(uri: str, nodes: dict[str, Node], kind: str) -> list[Node]:
    """The audio ports of a kind, "lv2:InputPort" or "lv2:OutputPort"."""
    return [node for node in _listed(uri, nodes) if {kind, "lv2:AudioPort"} <= set(_texts(node, "rdf:type"))]


def changed(uri: str, bundle: Path, sample_rate: float) -> dict[str, str]:
    """The files of a bundle by name, so changed that the host shows all of a plugin.

    Ranges in parts of the sample rate become ranges in Hz, which the host does not do, and where there are more audio
    inputs than outputs, those that may be left unconnected have to be connected. The version becomes one that the host
    prefers to others.

    Args:
        uri: the plugin.
        bundle: its folder.
        sample_rate: in Hz.

    Returns:
        the texts of the manifest and of what else changes; empty if the host shows all of it as it is.
    """
    nodes = _nodes(uri, bundle)
    edits: list[tuple[_Term, str]] = []
    takes, gives = (_audio(uri, nodes, f"lv2:{kind}Port") for kind in ("Input", "Output"))
    if len(takes) > len(gives):
        optional = [p for node in takes for p in _texts(node, "lv2:portProperty") if p == "lv2:connectionOptional"]
        edits += [(term, _NOTHING) for term in optional]
    for node in _listed(uri, nodes):
        properties = _texts(node, "lv2:portProperty")
        if {"lv2:sampleRate"} & set(properties):
            ends = _texts(node, "lv2:minimum") + _texts(node, "lv2:maximum")
            edits += [(end, f"{float(end) * sample_rate:.9g}") for end in ends]
    if not edits:
        return {}
    edits += [(term, _NEWEST) for term in _texts(nodes[uri], "lv2:minorVersion")]
    newest = f"<{uri}> <http://lv2plug.in/ns/lv2core#minorVersion> {_NEWEST} ."
    texts = {_MANIFEST: f"{_text(bundle / _MANIFEST)}\n{newest}\n"}
    for term, text in sorted(edits, key=lambda edit: -edit[0].start):
        old = texts.get(term.file) or _text(bundle / term.file)
        texts[term.file] = old[: term.start] + text + old[term.stop :]
    return texts


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _port(node: Node, nodes: dict[str, Node]) -> Port:
    properties = frozenset(_texts(node, "lv2:portProperty"))
    groups = [nodes.get(name, {}) for name in _texts(node, "pg:group")]
    name = "".join(_texts(node, "lv2:name")[:1])
    side = "lv2:isSideChain" in properties or any("pg:sideChainOf" in group for group in (node, *groups))
    side = side or re.match(r"side.?chain", name.lower()) is not None
    low, high = (_number(node, f"lv2:{end}") for end in ("minimum", "maximum"))
    return Port(
        name=name,
        kinds=frozenset(_texts(node, "rdf:type")),
        properties=properties,
        designation="".join(_texts(node, "lv2:designation")[:1]),
        unit=_unit(node),
        ends=(_number(node, "lv2:default"), low, high),
        points=_points(node),
        side=side,
    )


def _unit(node: Node) -> str:
    for unit in node.get("units:unit", ()):
        if isinstance(unit, str):
            return _UNITS.get(unit.removeprefix("units:"), "")
        return "".join(_texts(unit, "units:symbol")[:1])
    return ""


def _points(node: Node) -> dict[str, float]:
    """The names of values, in order of the values."""
    found: dict[str, float] = {}
    for point in node.get("lv2:scalePoint", ()):
        if isinstance(point, dict) and (value := _number(point, "rdf:value")) is not None:
            found["".join(_texts(point, "rdfs:label")[:1])] = value
    return dict(sorted(found.items(), key=lambda item: item[1]))
