"""What a light curve says about its points, and visits that leave nothing to say."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from schemas.errors import NoScienceDataError
from schemas.flags import Quality
from tasks.photometry.noise import Points
from tasks.photometry.quality import point_columns, point_warnings, require_flux, unlike_star


class Sums(NamedTuple):
    """Fluxes in two apertures."""

    flux: Any
    radii: Any = (15.0, 25.0)


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


@pytest.mark.parametrize("value", [0.0, -1e6, 9.9e5, 1.01e8, 1e30, 1e300, np.inf])
def test_a_flux_far_from_the_usual_one_is_flagged(value: float) -> None:
    flux = np.full(9, 1e7)
    flux[[2, 6]] = value, np.nan
    # without a number there is a reason already
    assert np.flatnonzero(unlike_star(flux, np.zeros(9, np.int32))).tolist() == (
        [2] if np.isfinite(value) else []
    )


def test_an_eclipse_a_flare_and_flagged_points_are_usual() -> None:
    flux, quality = np.full(9, 1e7), np.zeros(9, np.int32)
    flux[[1, 4]] = 1.1e6, 9e7
    flux[7], quality[7] = 0.0, int(Quality.UNUSABLE_IMAGE)
    assert not unlike_star(flux, quality).any()
    assert not unlike_star(np.full(3, np.nan), quality[:3]).any()


def test_points_of_the_model_and_odd_ones_are_counted() -> None:
    some, none = np.array([True, True, False]), np.zeros(3, dtype=bool)
    assert point_warnings(none, none) == []
    modelled, odd = point_warnings(some, ~some)
    assert "cover more than 5% of the aperture R25 of 2 images" in modelled
    assert odd == ("the flux of 1 images is less than 0.1 or more than 10 times the usual: flagged")
