"""The check of staged products before publication."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from schemas.errors import BadInputError, MissingInputError, SelfCheckError
from schemas.inputs import Input, Use
from schemas.products import Structure, soc_structure
from schemas.terms import MAY_BE_EMPTY, TERMS
from tasks.files.reader import open_declared, scan


def whole(structure: Structure) -> Use:
    """Return the declaration of an HDU that must hold all its keywords and columns."""
    columns = tuple(c.name for c in structure.columns)
    return Use(
        structure,
        dict.fromkeys(structure.keywords),
        columns,
        may_be_empty=structure.extname in MAY_BE_EMPTY,
    )


def self_check(stage: Path, files: Iterable[str]) -> None:
    """Read back every staged product, and check it and its checksums against its definition.

    Raises
    ------
    SelfCheckError
        If a product cannot be read back, or deviates from its definition.
    """
    for name in files:
        try:
            deviation = _first_deviation(stage / name)
        except (BadInputError, MissingInputError) as error:
            raise SelfCheckError(f"a product cannot be read back as written: {error}") from error
        if deviation:
            raise SelfCheckError(f"{name}: {deviation}")


def _first_deviation(path: Path) -> str:
    """Return the first deviation of a file from its definition; empty if it conforms."""
    with scan(path) as file:
        extnames = [hdu.extname for hdu in file.hdus[1:]]
    first = extnames[0]
    uses = {e: whole(TERMS[e] if e in TERMS else soc_structure(e)) for e in extnames}
    with open_declared(path, Input(first, (first,), uses, ""), sums=True) as file:
        associated = uses[first].structure.associated
        missing = [e for e, needed in associated.items() if needed and e not in file]
        return next(
            iter([*file.deviations, *(f"HDU {extname} is missing" for extname in missing)]), ""
        )
