"""XML from others: no entities, nothing deep, and not more than a session needs."""

from __future__ import annotations

import math
from typing import Any, NoReturn, final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.parsers import expat

_MOST, _DEEPEST = 3_000_000, 100  # elements and attributes; elements within each other
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Wrong(ValueError):
    """Something in a document that cannot be so, as a part of a sentence."""


@final
class _Builder(ElementTree.TreeBuilder):
    """Makes elements, and refuses what is too much."""

    def __init__(self, doctype: bool) -> None:
        super().__init__()
        self._count = self._depth = 0
        self._doctype = doctype

    def doctype(self, name: str, pubid: Any, system: Any) -> None:
        """A document type may define entities, and most sessions need none."""
        if not self._doctype:
            raise Wrong("its XML has a document type")

    def start(self, tag: Any, attrs: Any) -> Element:
        """An element begins."""
        self._count += 1 + len(attrs)
        self._depth += 1
        if self._count > _MOST or self._depth > _DEEPEST:
            raise Wrong("its XML has more elements than any session needs")
        return super().start(tag, attrs)

    def end(self, tag: str) -> Element:
        """An element ends."""
        self._depth -= 1
        return super().end(tag)


def _refuse_entities(content: bytes) -> None:
    """Raises Wrong if a document defines entities: the parser stops at the first one, before it stands for anything."""

    def refuse(*_: object) -> NoReturn:
        raise Wrong("its XML defines entities")

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse
    parser.Parse(content, True)


def parse(content: bytes, *roots: str, doctype: bool = False) -> Element:
    """The document whose outermost element has a name.

    Args:
        content: of the file.
        roots: the name, such as "Project", or several that are allowed.
        doctype: whether it may have a document type, without entities.

    Raises:
        Wrong: no XML, one of another name, or one with what no session needs.
    """
    parser = ElementTree.XMLParser(target=_Builder(doctype))
    try:
        if doctype:
            _refuse_entities(content)
        parser.feed(content)
        found = parser.close()
    except (ElementTree.ParseError, expat.ExpatError, LookupError, UnicodeError) as error:
        raise Wrong(f"its XML is damaged: {next(iter(str(error).splitlines()), 'it cannot be read')}") from error
    except ValueError as error:
        raise error if isinstance(error, Wrong) else Wrong(f"its XML is damaged: {error}") from error
    if found.tag not in roots:
        raise Wrong(f"its XML is a {found.tag!r:.40} in place of a {roots[0]}")
    return found


def number(element: Element, name: str, default: float | None = None) -> float:
    """An attribute that is a finite number. Raises Wrong if it is none, or missing without a default."""
    text = element.get(name)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or len(text or "") > 400:
        raise Wrong(f"{name} of a {element.tag} is {text!r:.40} and no number")
    return value


def count(element: Element, name: str, low: int, high: int) -> int:
    """An attribute that is a whole number within limits. Raises Wrong if it is none."""
    value = number(element, name)
    if value != round(value) or not low <= value <= high:
        raise Wrong(f"{name} of a {element.tag} is {value:g}, and no whole number from {low} to {high}")
    return round(value)


def truth(element: Element | None, name: str, default: bool) -> bool:
    """An attribute that is true or false. Raises Wrong if it is neither."""
    text = None if element is None else element.get(name)
    if element is None or text is None:
        return default
    if text.strip() not in _TRUTH:
        raise Wrong(f"{name} of a {element.tag} is {text!r:.40}, and must be true or false")
    return _TRUTH[text.strip()]
