"""The declared structure of the products of a step: part of its key.

If a declaration in `schemas` changes, the step that writes it runs again, so that no product with
an earlier structure is published.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict

from schemas.products import Structure, soc_extnames, soc_structure
from schemas.terms import COMPANIONS, OPTIONAL_COMPANIONS, TERMS
from schemas.ucds import ucd_of
from tasks.engine.keys import sha256_of


def structures(products: Iterable[str | Structure]) -> Iterator[Structure]:
    """Yield the structure of each HDU of some products, and of those that accompany it.

    A product is an EXTNAME, followed by a hyphen and a name if there are several of it. Other
    products, such as JSON, have no declared structure.
    """
    for product in products:
        if isinstance(product, Structure):
            yield product
            continue
        extname = product.partition("-")[0]
        if extname in TERMS:
            yield TERMS[extname]
            others = (*COMPANIONS.get(extname, ()), *OPTIONAL_COMPANIONS.get(extname, ()))
            yield from (TERMS[name] for name in others)
        elif extname in soc_extnames():
            structure = soc_structure(extname)
            yield structure
            yield from map(soc_structure, structure.associated)


def declarations(products: Iterable[str | Structure]) -> dict[str, str]:
    """Return the digest of each declared structure that some products may contain, by EXTNAME."""
    declared: dict[str, list[object]] = {}
    for structure in structures(products):
        declared.setdefault(structure.extname, []).append(written_part(structure))
    return {extname: sha256_of(parts)[:16] for extname, parts in declared.items()}


# Raise it when the writer gives all products other cards, so that none is published without them.
CARDS = 2


def written_part(structure: Structure) -> object:
    """Return the part of a structure on which the bytes of a product depend."""
    return {
        "keywords": [asdict(keyword) for keyword in structure.keywords.values()],
        "columns": [asdict(column) for column in structure.columns],
        "ucds": [ucd_of(column) for column in structure.columns],
        "cards": CARDS,
        "image": structure.image,
        "axes": structure.axes,
        "null": structure.null,
        "associated": dict(structure.associated),
    }
