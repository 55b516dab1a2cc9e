"""XML from outside: read with no entities and no DTD, within limits, and held against a declared
structure.
"""

from __future__ import annotations

import re
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
    """An element: where it begins, and what it holds."""

    name: str
    line: int
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Its text without blanks around it."""
        return "".join(self.raw).strip()

    def all(self, name: str) -> list[Element]:
        """Return its children of a name."""
        return [c for c in self.children if c.name == name]

    def get(self, name: str) -> str | None:
        """Return the text of its first child of a name, or None if there is no such child."""
        return next((c.text for c in self.children if c.name == name), None)

    def below(self) -> Iterator[Element]:
        """Yield itself and all that lies below it."""
        yield self
        for child in self.children:
            yield from child.below()


@dataclass(frozen=True)
class Kind:
    """What an element must hold: text of a pattern, or these children in this order (name, kind,
    least, most).

    One that is `counted` may say in the attribute `count` how many children it has, which must be
    true.
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
        Of the class `wrong`, with the line: if it is no regular file, larger than 1 MB, not
        well-formed, nested deeper than 16 elements, or holds a DTD.
    """
    try:
        data = disk.read_bytes(path, limit=MOST_BYTES)
    except StorageError:
        raise
    except DrpError as error:
        raise wrong(str(error)) from error
    parser = expat.ParserCreate()
    parser.buffer_text = True
    open_elements: list[Element] = []
    roots: list[Element] = []

    def refuse(*_: object) -> None:
        raise wrong(f"{path} line {parser.CurrentLineNumber}: a DTD or an entity is not allowed")

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(open_elements) == DEEPEST:
            raise wrong(
                f"{path} line {parser.CurrentLineNumber}: nested deeper than {DEEPEST} elements"
            )
        element = Element(name, parser.CurrentLineNumber, attributes)
        (open_elements[-1].children if open_elements else roots).append(element)
        open_elements.append(element)

    def end(_name: str) -> None:
        open_elements.pop()

    def text(part: str) -> None:
        open_elements[-1].raw.append(part)

    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = (
        start,
        end,
        text,
    )
    try:
        parser.Parse(data, True)
    except (
        expat.ExpatError,
        ValueError,
        LookupError,
    ) as error:  # an unknown encoding is one of the last two
        line = getattr(error, "lineno", 1)
        raise wrong(f"{path} line {line}: is not well-formed XML, {plain(error)}") from error
    return roots[0]


def check(element: Element, kind: Kind, path: Path, wrong: type[DrpError]) -> None:
    """Hold an element against what it must be.

    Raises
    ------
    DrpError
        Of the class `wrong`; it names the line, what stands there and what is wanted.
    """

    def refuse(at: Element, what: str) -> DrpError:
        return wrong(f"{path} line {at.line}: {plain(at.name)} {what}")

    if kind.anything:
        return
    allowed = {"count"} if kind.counted else set()
    for name in element.attributes:
        if name not in allowed and not name.startswith(("xmlns", "xsi:")):
            raise refuse(element, f"has the attribute {plain(name)!r}, which is not known")
    if kind.text is not None:
        if element.children:
            raise refuse(element, f"holds {plain(element.children[0].name)}, wanted text")
        if not re.fullmatch(kind.text, element.text):
            raise refuse(element, f"is {plain(element.text)!r}, wanted {kind.text}")
        return
    if element.text:
        raise refuse(element, f"holds the text {plain(element.text)!r}, wanted elements")
    at = 0
    for name, child, least, most in kind.children:
        met = 0
        while at < len(element.children) and element.children[at].name == name and met < most:
            check(element.children[at], child, path, wrong)
            at, met = at + 1, met + 1
        if met < least:
            found = (
                plain(element.children[at].name) if at < len(element.children) else "nothing more"
            )
            raise refuse(element, f"holds {found} where {name} is wanted")
    if at < len(element.children):
        raise refuse(
            element.children[at],
            f"is not known here, or is in the wrong place or too often, in {element.name}",
        )
    if (count := element.attributes.get("count")) is not None and count != str(
        len(element.children)
    ):
        raise refuse(element, f"has count {plain(count)!r}, but holds {len(element.children)}")
