"""Helpers for tests of faults: FITS files taken apart and reassembled, `drp` in this process."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits
from click.testing import CliRunner

from schemas.light_curves import DEFAULT_RADIUS, RADII
from schemas.payloads import Product
from tasks.files import disk
from tasks.files.reader import scan
from tasks.files.sums import encode_checksum, ones_complement_sum
from tests.support.runs import undrawn

BLOCK = 2880

_IMAGE = {8: "u1", 16: ">i2", 32: ">i4", -32: ">f4", -64: ">f8"}

_CELL = {"L": "S1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}


@dataclass
class Part:
    """One HDU as it lies in the file: its cards without END, its data without padding."""

    cards: list[bytes]
    data: bytes = b""

    def __contains__(self, name: str) -> bool:
        return any(card[:8].decode().strip() == name for card in self.cards)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a keyword."""
        card = next((c for c in self.cards if c[:8].decode().strip() == name), None)
        return default if card is None else fits.Card.fromstring(card).value

    def set(self, name: str, value: Any) -> None:
        """Set a keyword and keep its comment; a new keyword goes before the checksums."""
        old = next((c for c in self.cards if c[:8].decode("latin-1").strip() == name), None)
        card = fits.Card(name, value, "" if old is None else fits.Card.fromstring(old).comment)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a comment that has no room is cut
            self.put_card(name, str(card).encode())

    def put_card(self, name: str, card: bytes) -> None:
        """Put 80 bytes in the place of a keyword's card, whatever they are."""
        for i, old in enumerate(self.cards):
            if old[:8].decode("latin-1").strip() == name:
                self.cards[i] = card[:80].ljust(80)
                return
        at = next(
            (i for i, c in enumerate(self.cards) if c.startswith((b"CHECKSUM", b"DATASUM"))),
            len(self.cards),
        )
        self.cards.insert(at, card[:80].ljust(80))

    def drop(self, *names: str) -> None:
        """Take keywords out."""
        self.cards = [c for c in self.cards if c[:8].decode("latin-1").strip() not in names]

    @property
    def extname(self) -> str:
        """EXTNAME."""
        return str(self.get("EXTNAME", ""))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in numpy order."""
        return tuple(self.get(f"NAXIS{i}") for i in range(self.get("NAXIS"), 0, -1))

    @property
    def pixels(self) -> npt.NDArray[Any]:
        """The image with the offset of unsigned integers added."""
        stored = np.frombuffer(self.data, _IMAGE[self.get("BITPIX")]).reshape(self.shape)
        zero = self.get("BZERO", 0)
        return (
            stored.astype(np.int64) + zero
            if zero
            else stored.astype(stored.dtype.newbyteorder("="))
        )

    @pixels.setter
    def pixels(self, values: npt.NDArray[Any]) -> None:
        zero = self.get("BZERO", 0)
        self.data = (values - zero if zero else values).astype(_IMAGE[self.get("BITPIX")]).tobytes()
        self._set_axes(values.shape)

    def _set_axes(self, shape: tuple[int, ...]) -> None:
        self.set("NAXIS", len(shape))
        for i, n in enumerate(reversed(shape), 1):
            self.set(f"NAXIS{i}", n)

    @property
    def rows(self) -> npt.NDArray[Any]:
        """The rows of a table as a structured array, integers as stored."""
        names, formats = [], []
        for i in range(1, self.get("TFIELDS") + 1):
            text = self.get(f"TFORM{i}")
            repeat, letter = int(text[:-1] or 1), text[-1]
            names.append(self.get(f"TTYPE{i}"))
            formats.append(
                f"S{repeat}"
                if letter == "A"
                else (_CELL[letter], (repeat,))
                if repeat > 1
                else _CELL[letter]
            )
        return np.frombuffer(self.data, np.dtype({"names": names, "formats": formats})).copy()

    @rows.setter
    def rows(self, table: npt.NDArray[Any]) -> None:
        self.data = table.tobytes()
        self.set("NAXIS2", len(table))

    def number_of(self, column: str) -> int:
        """Return i of TTYPEi."""
        return next(i for i in range(1, self.get("TFIELDS") + 1) if self.get(f"TTYPE{i}") == column)

    def content(self, sums: bool) -> bytes:
        """Return the HDU as bytes; with `sums`, update the checksums it has."""
        data = self.data + bytes(-len(self.data) % BLOCK)
        if sums and "DATASUM" in self:
            self.set("DATASUM", str(ones_complement_sum(data)))
        if sums and "CHECKSUM" in self:
            self.set("CHECKSUM", "0" * 16)
            total = ones_complement_sum(self._header() + data)
            self.set("CHECKSUM", encode_checksum(total))
        return self._header() + data

    def _header(self) -> bytes:
        text = b"".join(self.cards) + b"END".ljust(80)
        return text + b" " * (-len(text) % BLOCK)


def take_apart(path: Path) -> list[Part]:
    """Return the HDUs of a valid file."""
    content, parts, at = path.read_bytes(), [], 0
    while at < len(content):
        cards = []
        while not (card := content[at : at + 80]).startswith(b"END     "):
            cards.append(card)
            at += 80
        at = (at // BLOCK + 1) * BLOCK
        part = Part(cards)
        size = abs(part.get("BITPIX")) // 8 * int(np.prod(part.shape)) if part.get("NAXIS") else 0
        part.data = content[at : at + size]
        at += -(-size // BLOCK) * BLOCK
        parts.append(part)
    return parts


def put_together(path: Path, parts: list[Part], sums: bool = True) -> None:
    """Replace a file by a new one; the old one may be a hard link."""
    replace(path, b"".join(part.content(sums) for part in parts))


def replace(path: Path, content: bytes) -> None:
    """Put a new file in the place of another."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


@contextmanager
def edited(path: Path, extname: str, sums: bool = True) -> Iterator[Part]:
    """Yield an HDU to be changed, then rewrite the file."""
    parts = take_apart(path)
    yield next(p for p in parts if p.extname == extname)
    put_together(path, parts, sums)


def raw_product(path: Path) -> Product:
    """Return a file as steps are given it."""
    with scan(path) as file:
        return Product(
            path=str(path),
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            extname=file.extname,
        )


def fill_disk(monkeypatch: pytest.MonkeyPatch, action: str = "", ending: str = "") -> None:
    """Simulate a full disk, for one kind of call or all, on files whose names end with `ending`."""

    def full(met: str, path: str) -> None:
        if action in ("", met) and path.endswith(ending):
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(disk, "fault_hook", full)


def tree(folder: Path) -> dict[str, str]:
    """Return a digest of every file below a folder, and the names of its folders."""
    return {
        str(p.relative_to(folder)): "folder"
        if p.is_dir()
        else hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
    }


@dataclass(frozen=True)
class Outcome:
    """What a person sees of a run."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what went wrong."""
        lines = [line for line in self.err.splitlines() if line.startswith("ERROR")]
        assert len(lines) == 1, self.err
        return lines[0]

    @property
    def folder(self) -> Path:
        """The published folder: the last line of the output."""
        assert self.code in (0, 3), self.err
        return Path(self.out.splitlines()[-1])


@dataclass
class Bench:
    """A visit, references and folders of one test, and the command that is run on them."""

    visit: Path
    root: Path
    references: Path | None = None
    output: Path = field(init=False)
    work: Path = field(init=False)

    def __post_init__(self) -> None:
        self.output, self.work = self.root / "out", self.root / "work"
        standing = self.output / "CH_PR900001_TG000101_V0000"
        standing.mkdir(parents=True, exist_ok=True)
        (standing / "older.txt").write_text("what was published before")

    def raw(self, kind: str) -> Path:
        """Return the visit's only file of a kind."""
        (path,) = self.visit.rglob(f"*{kind}*.fits")
        return path

    def reference(self, kind: str) -> Path:
        """Return the reference of a kind, the earliest if there are several."""
        assert self.references is not None
        return sorted(self.references.rglob(f"*_{kind}*.fits"))[0]

    def arguments(self, *more: object) -> list[str]:
        """Return the arguments of `drp`."""
        given = ["--references", str(self.references)] if self.references is not None else []
        return [
            "reduce",
            str(self.visit),
            "--output",
            str(self.output),
            "--work",
            str(self.work),
            "--engine",
            "plain",
            *given,
            *map(str, more),
        ]

    def run(self, *more: object) -> Outcome:
        """Run the command within this process."""
        return run_in_process(*self.arguments(*more))

    def scratch(self) -> list[str]:
        """Return what a run should have cleared away."""
        return [
            str(p)
            for folder in (self.output, self.work)
            for p in folder.rglob("*")
            if p.suffix in (".stage", ".part")
        ]

    def refused(self, code: int, *words: str, more: tuple[object, ...] = ()) -> Outcome:
        """Run; assert exit code and words of the ERROR line, and that nothing else has changed."""
        inputs = [folder for folder in (self.visit, self.references) if folder is not None]
        before = [tree(folder) for folder in (self.output, *inputs)]
        outcome = self.run(*more)
        self.check_refusal(outcome, code, *words)
        assert [tree(folder) for folder in (self.output, *inputs)] == before
        return outcome

    def check_refusal(self, outcome: Outcome, code: int, *words: str) -> None:
        """Assert exit code and ERROR line; no temporary files and no traceback may remain."""
        assert outcome.code == code, outcome.err
        missing = [word for word in words if word not in outcome.error]
        assert not missing, f"{missing} not in: {outcome.error}"
        assert "Traceback" not in outcome.err
        assert outcome.error.isprintable()
        assert self.scratch() == []

    def published(self, *more: object) -> Outcome:
        """Run; assert that a new folder is published beside the older one and nothing else changed.

        The report's figures are empty.
        """
        inputs = [folder for folder in (self.visit, self.references) if folder is not None]
        before, older = [tree(folder) for folder in inputs], tree(self.output)
        with undrawn():
            outcome = self.run(*more)
        assert outcome.code == 0, outcome.err
        assert "ERROR" not in outcome.err
        assert [tree(folder) for folder in inputs] == before
        assert self.scratch() == []
        after = tree(self.output)
        assert {k: v for k, v in after.items() if k in older} == older
        assert (outcome.folder / "manifest.json").is_file()
        return outcome

    def measured(self, *more: object) -> tuple[dict[str, Any], str]:
        """Run up to the last measuring step; return the light curve and the steps' messages."""
        inputs = [folder for folder in (self.visit, self.references) if folder is not None]
        before = [tree(folder) for folder in (self.output, *inputs)]
        outcome = self.run("--until", "quality", *more)
        assert outcome.code == 0, outcome.err
        assert [tree(folder) for folder in (self.output, *inputs)] == before
        assert self.scratch() == []
        rows = {**self.term("position"), **self.term("background"), **self.term("quality")}
        rows["FLUX"] = self.term("apertures")["FLUX"][:, RADII.index(DEFAULT_RADIUS)]
        return {**rows, "CENTROID_X": rows["X"], "BACKGROUND": rows["LEVEL"]}, outcome.err

    def term(self, step: str) -> dict[str, Any]:
        """Return the columns of the term that a step left, the latest if there are several."""
        found = self.work.glob(f"products/*/{step}-*/*.fits")
        path = max(found, key=lambda path: path.stat().st_mtime_ns)
        with fits.open(path, memmap=False) as hdus:
            return {name: hdus[1].data[name].copy() for name in hdus[1].data.names}


def run_in_process(*arguments: object) -> Outcome:
    """Run `drp` in this process, which saves the start of an interpreter."""
    from flows.command import console
    from flows.command import main as cli

    console._stopped.clear()  # a signal that ended an earlier run of this process is over
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    place = os.getcwd()
    try:
        result = CliRunner().invoke(cli.main, [str(a) for a in arguments], catch_exceptions=False)
    finally:
        os.chdir(place)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Outcome(result.exit_code, result.stdout, result.stderr)


def light_curve(folder: Path, name: str = "DEFAULT") -> Any:
    """Return the rows of a published light curve."""
    (path,) = folder.glob(f"*SCI_COR_Lightcurve-{name}_V*.fits")
    with fits.open(path, memmap=False) as hdus:
        return hdus[1].data.copy()
