"""XML from outside: parsed without entities or DTD, within limits, and checked against a structure.

The structure is declared with `Kind`; errors name the line.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from schemas.errors import DrpError, StorageError, plain
from tasks.files import disk

MOST_BYTES = 1 << 20

DEEPEST = 16


@dataclass
class Element:
    """An element with its line, attributes, children and text."""

    name: str
    line: int
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text, without surrounding white space."""
        return "".join(self.raw).strip()

    def all(self, name: str) -> list[Element]:
        """Return the children with this name."""
        return [c for c in self.children if c.name == name]

    def get(self, name: str) -> str | None:
        """Return the text of the first child with this name, or None."""
        return next((c.text for c in self.children if c.name == name), None)

    def below(self) -> Iterator[Element]:
        """Yield this element and all its descendants."""
        yield self
        for child in self.children:
            yield from child.below()


@dataclass(frozen=True)
class Kind:
    """The content an element must have.

    Either text that matches a pattern, or children in this order: (name, kind, fewest, most). A
    `counted` element may state the number of its children in the attribute `count`.
    """

    text: str | None = None
    children: tuple[tuple[str, Kind, int, int], ...] = ()
    counted: bool = False
    anything: bool = False


def read_xml(path: Path, wrong: type[DrpError]) -> Element:
    """Return the root element of a file.

    Raises
    ------
    DrpError
        Of class `wrong`, if the file is not a regular file, larger than 1 MB, not well-formed,
        nested deeper than 16 elements, or contains a DTD; the message gives the line.
    """
    try:
        data = disk.read_bytes(path, limit=MOST_BYTES)
    except StorageError:
        raise
    except DrpError as error:
        raise wrong(str(error)) from error
    reader = _Reader(path, wrong)
    try:
        reader.parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the last two: unknown encoding
        line = getattr(error, "lineno", 1)
        raise wrong(f"{path} line {line}: is not well-formed XML, {plain(error)}") from error
    return reader.roots[0]


class _Reader:
    """Builds the tree of elements while expat parses a file."""

    def __init__(self, path: Path, wrong: type[DrpError]) -> None:
        self.path, self.wrong = path, wrong
        self.roots: list[Element] = []
        self.open: list[Element] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self.parser.EntityDeclHandler = self.refuse
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.text

    def error(self, text: str) -> DrpError:
        return self.wrong(f"{self.path} line {self.parser.CurrentLineNumber}: {text}")

    def refuse(self, *_: object) -> None:
        raise self.error("a DTD or an entity is not allowed")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self.open) == DEEPEST:
            raise self.error(f"nested deeper than {DEEPEST} elements")
        element = Element(name, self.parser.CurrentLineNumber, attributes)
        (self.open[-1].children if self.open else self.roots).append(element)
        self.open.append(element)

    def end(self, _name: str) -> None:
        self.open.pop()

    def text(self, part: str) -> None:
        self.open[-1].raw.append(part)


def check(element: Element, kind: Kind, path: Path, wrong: type[DrpError]) -> None:
    """Check an element against its declaration.

    Raises
    ------
    DrpError
        Of class `wrong`, if it does not conform; the message gives the line, the content found and
        the content expected.
    """
    try:
        _check(element, kind)
    except _Misfit as misfit:
        at = misfit.element
        raise wrong(f"{path} line {at.line}: {plain(at.name)} {misfit}") from None


class _Misfit(Exception):
    """An element does not conform to its declaration."""

    def __init__(self, element: Element, text: str) -> None:
        super().__init__(text)
        self.element = element


def _check(element: Element, kind: Kind) -> None:
    if kind.anything:
        return
    allowed = {"count"} if kind.counted else set()
    for name in element.attributes:
        if name not in allowed and not name.startswith(("xmlns", "xsi:")):
            raise _Misfit(element, f"has the unknown attribute {plain(name)!r}")
    if kind.text is not None:
        _check_text(element, kind.text)
    else:
        _check_children(element, kind)
        _check_count(element)


def _check_text(element: Element, pattern: str) -> None:
    if element.children:
        raise _Misfit(element, f"contains {plain(element.children[0].name)}, expected text")
    if not re.fullmatch(pattern, element.text):
        raise _Misfit(element, f"is {plain(element.text)!r}, expected {pattern}")


def _check_children(element: Element, kind: Kind) -> None:
    """Check the children of an element and their order."""
    if element.text:
        raise _Misfit(element, f"contains the text {plain(element.text)!r}, expected elements")
    left = deque(element.children)
    for name, child, least, most in kind.children:
        met = 0
        while left and left[0].name == name and met < most:
            _check(left.popleft(), child)
            met += 1
        if met < least:
            instead = plain(left[0].name) if left else "nothing more"
            raise _Misfit(element, f"contains {instead} where {name} is expected")
    if left:
        raise _Misfit(left[0], f"is unknown, misplaced or repeated in {element.name}")


def _check_count(element: Element) -> None:
    count, number = element.attributes.get("count"), len(element.children)
    if count is not None and count != str(number):
        raise _Misfit(element, f"has count {plain(count)!r}, but contains {number} elements")
