"""What a light curve says about its points, and visits that leave nothing to say."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from schemas.errors import NoScienceDataError
from schemas.flags import Quality
from tasks.photometry.noise import Points
from tasks.photometry.quality import point_columns, require_flux


class Sums(NamedTuple):
    """Fluxes in two apertures."""

    flux: Any


def test_a_visit_without_a_flux_is_no_science_data_and_names_saturation() -> None:
    flux = np.full((3, 2), np.nan)
    quality = np.array([int(Quality.SATURATED), int(Quality.SATURATED), 0])
    sums: Any = Sums(flux)
    with pytest.raises(NoScienceDataError, match=r"in none of 3 images: .*saturated in 2 of them"):
        require_flux(sums, quality)
    flux[1, 0] = 5.0
    require_flux(sums, quality)


def test_status_is_1_for_events_and_unusable_images() -> None:
    event = np.array([0, 100, 0, 0])
    flags = [0, Quality.STRAY_LIGHT, Quality.UNUSABLE_IMAGE, Quality.SATURATED]
    points = Points(np.zeros(4), event, np.array([int(f) for f in flags]), 60.0)
    assert point_columns(points)["STATUS"].tolist() == [0, 1, 1, 0]
