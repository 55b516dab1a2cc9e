"""The star field that tests of plate and catalogue share."""

from __future__ import annotations

import pytest

from tests.support.star_field import Sky, draw_sky


@pytest.fixture(scope="module")
def sky() -> Sky:
    return draw_sky()
