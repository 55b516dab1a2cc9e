"""CHECKSUM and DATASUM: no flipped bit passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits as afits
from hypothesis import given
from hypothesis import strategies as st

from tasks.files.reader import open_declared
from tasks.files.structure import BLOCK
from tests.support.damaged_product import (
    UNSUMMED,
    changed,
    content,
    content_or_refusal,
    many,
    refused,
    rewritten,
)
from tests.support.small_product import (
    INPUT,
    OPTIONAL,
    astropy_hdus,
)


def test_a_flipped_bit_in_data_is_refused_as_checksum(path: Path, ours: Path) -> None:
    data = bytearray(ours.read_bytes())
    data[2 * BLOCK + 7] ^= 16
    path.write_bytes(data)
    refused(path, "HDU 1 TST_IMAGE: checksum: DATASUM is [0-9]+, the sum of the data is [0-9]+")


@pytest.mark.parametrize("checksum", [True, "datasum", False])
def test_a_flipped_bit_in_padding_is_refused_with_and_without_sums(
    checksum: Any, path: Path
) -> None:
    hdus = astropy_hdus()
    hdus.writeto(path, checksum=checksum)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    refused(path, "HDU 2 TST_TABLE: (checksum|the padding)")


def test_a_flipped_bit_in_a_comment_is_refused_as_checksum(path: Path, ours: Path) -> None:
    data = ours.read_bytes()
    path.write_bytes(data.replace(b"exposures", b"exposurew"))
    refused(path, "HDU 1 TST_IMAGE: checksum: CHECKSUM does not match")


def test_absent_sums_are_deviations(path: Path) -> None:
    with open_declared(changed(path, lambda h: None, checksum=False), INPUT, sums=True) as file:
        assert file.deviations == [
            "HDU 1 TST_IMAGE: no CHECKSUM and no DATASUM",
            "HDU 2 TST_TABLE: no CHECKSUM and no DATASUM",
        ]


def test_empty_sums_count_as_absent(path: Path) -> None:
    cards = [("TST_IMAGE", "ARCH_REV", "CHECKSUM= ''"), ("TST_IMAGE", "PIPE_VER", "DATASUM =")]
    with open_declared(rewritten(path, *cards), OPTIONAL, sums=True) as file:
        assert "HDU 1 TST_IMAGE: no CHECKSUM and no DATASUM" in file.deviations


def test_a_datasum_alone_is_checked(path: Path) -> None:
    astropy_hdus().writeto(path, checksum="datasum")
    with open_declared(path, INPUT, sums=True) as file:
        assert "HDU 1 TST_IMAGE: no CHECKSUM" in file.deviations
    path.write_bytes(path.read_bytes().replace(b"b c\0", b"b d\0"))
    refused(path, "HDU 2 TST_TABLE: checksum: DATASUM")


def test_a_datasum_may_have_leading_zeros(path: Path) -> None:
    hdus = astropy_hdus()
    hdus[1] = afits.ImageHDU(np.full((1, 1, 2), 32769, np.uint16), hdus[1].header)
    hdus.writeto(path, checksum="datasum")
    data = path.read_bytes()
    assert b"DATASUM = '65537   '" in data
    path.write_bytes(data.replace(b"DATASUM = '65537   '", b"DATASUM = '00065537'"))
    content(path)


@many
@given(data=st.data())
def test_a_flipped_bit_is_refused_or_changes_nothing(
    data: st.DataObject, ours: Path, path: Path
) -> None:
    raw = bytearray(ours.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    path.write_bytes(raw)
    found = content_or_refusal(path)
    # a flip in the name CHECKSUM makes it absent, which is a deviation: DATASUM still vouches for
    # the data
    assert found == content(ours) if isinstance(found, list) else str(path) in found


@many
@given(data=st.data())
def test_a_flipped_bit_in_a_file_without_sums_breaks_nothing_but_our_own_way(
    data: st.DataObject, path: Path
) -> None:
    raw = bytearray(UNSUMMED)
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    path.write_bytes(raw)
    found = content_or_refusal(path)
    assert isinstance(found, list) or str(path) in found
