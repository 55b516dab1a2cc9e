"""Every column that is written has a UCD, of the words of the IVOA."""

from __future__ import annotations

import pytest
from astropy.io.votable.ucd import parse_ucd

from schemas.products import Column, Structure, soc_extnames, soc_structure
from schemas.terms import TERMS
from schemas.ucds import UCDS, ucd_of
from tasks.delivery.light_curves import OWN_COLUMNS

WRITTEN = [
    *TERMS.values(),
    *(s for s in map(soc_structure, soc_extnames()) if s.level in ("L1", "L2", "QL")),
]


@pytest.mark.parametrize("ucd", sorted(set(UCDS.values())))
def test_a_ucd_is_made_of_the_words_of_the_vocabulary(ucd: str) -> None:
    assert parse_ucd(ucd, check_controlled_vocabulary=True)


@pytest.mark.parametrize("structure", WRITTEN, ids=lambda s: s.extname)
def test_every_written_column_has_one(structure: Structure) -> None:
    assert [c.name for c in (*structure.columns, *OWN_COLUMNS) if not ucd_of(c)] == []


def test_the_unit_tells_a_variance_from_a_flux() -> None:
    assert ucd_of(Column("FLAT", "double", "electron")) == "phot.count"
    assert ucd_of(Column("FLAT", "double", "electron**2")) == "stat.variance;phot.count"
