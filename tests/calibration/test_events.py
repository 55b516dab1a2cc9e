"""Events: SAA, orbit, limb of the Earth, constraints, digits, repeated times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from schemas.flags import Quality
from tasks.calibration.event_digits import (
    EventDigits,
    angle_digit,
    compose_event,
    decompose_event,
    earth_digit,
    event_quality,
    limit_digit,
)
from tasks.calibration.repeated_times import flag_repeated_times
from tasks.calibration.saa import flag_saa
from tasks.calibration.sight import flag_from_rows
from tasks.numerics.orbit import (
    covered,
    earth_limb_angle,
    interpolate_orbit,
)
from tasks.numerics.times import utc_to_mjd
from tests.support.outside import SHARED

VISITS = SHARED / "visits"

MINUTE = 1 / 1440

SECOND = 1 / 86400

START = 59094.0

# A round orbit at 700 km: its radius [km] and its angular speed [rad/s], sqrt(398600.44 km^3/s^2 /
# r^3).
RADIUS = 7071.0

SPEED = np.sqrt(398600.44 / RADIUS**3)


def table(visit: str, folder: str, name: str, extname: str) -> Any:
    """Return the rows of a table of a shared visit, or of the folder of references."""
    if not VISITS.is_dir():
        pytest.skip(f"the visits of the mission's simulator are not at {VISITS}")
    with fits.open(next((VISITS / visit / folder).glob(f"*{name}*.fits")), memmap=False) as hdus:
        return hdus[extname].data


def orbit(visit: str) -> tuple[Any, ...]:
    rows = table(visit, "aux", "AUX_RES_Orbit", "AUX_RES_Orbit")
    position = np.stack([rows[c] for c in ("X", "Y", "Z")], axis=1)
    velocity = np.stack([rows[c] for c in ("X_DOT", "Y_DOT", "Z_DOT")], axis=1)
    return utc_to_mjd(rows["EPOCH"]), position, velocity, rows["LATITUDE"], rows["LONGITUDE"]


def circle(seconds: Any) -> tuple[Any, Any]:
    """Return positions and velocities on a circular polar orbit."""
    angle = SPEED * np.asarray(seconds, dtype=float)
    zero = np.zeros_like(angle)
    place = RADIUS * np.stack([np.cos(angle), zero, np.sin(angle)], axis=-1)
    return place, RADIUS * SPEED * np.stack([-np.sin(angle), zero, np.cos(angle)], axis=-1)


def ground_track(
    row_mjd: Any, row_position: Any, row_latitude: Any, row_longitude: Any, mjd: Any, position: Any
) -> tuple[Any, Any]:
    """Return latitude and longitude below the satellite between the rows of an orbit [deg].

    Only the difference to its position on the sky is interpolated: the even turn of the Earth, and
    the difference of geodetic and geocentric latitude, where the orbit gives the former.
    """

    def sky(place: Any) -> tuple[Any, Any]:
        x, y, z = np.moveaxis(place, -1, 0)
        return np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))

    north, east = sky(position)
    row_north, row_east = sky(row_position)
    turn = np.unwrap(row_longitude - row_east, period=360)
    latitude = north + np.interp(mjd, row_mjd, row_latitude - row_north)
    return latitude, (east + np.interp(mjd, row_mjd, turn) + 180) % 360 - 180


# ---- South Atlantic anomaly


def saa_map(inside: list[tuple[int, int]], last: int = 180) -> tuple[Any, Any, Any]:
    latitude, longitude = np.meshgrid(
        np.arange(-89, 90, 2), np.arange(-180, last + 1, 3), indexing="ij"
    )
    flag = np.zeros(latitude.shape, dtype=bool)
    for y, x in inside:
        flag |= (latitude == y) & (longitude == x)
    return latitude.ravel(), longitude.ravel(), flag.ravel()


@given(st.floats(-90, 90), st.floats(-180, 180), st.integers(-3, 3))
def test_the_saa_map_repeats_every_turn_and_its_rows_may_be_in_any_order(
    latitude: Any, longitude: Any, turns: Any
) -> None:
    cells = saa_map([(y, x) for y in range(-51, 0, 2) for x in range(-90, 41, 3)])
    # The edges of cells are rounding noise away after a turn: stand off them.
    if abs((longitude + 1.5) % 3 - 3) < 1e-9 or (longitude + 1.5) % 3 < 1e-9:
        return
    flagged, known = flag_saa(*cells, [latitude], [longitude])
    backwards = cells[0][::-1], cells[1][::-1], cells[2][::-1]
    again, _ = flag_saa(*backwards, [latitude], [longitude + 360 * turns])
    assert known.all()
    assert flagged == again


def test_the_nearest_cell_decides_also_across_the_date_line() -> None:
    cells = saa_map([(-29, -45), (11, -180)])
    latitude = [-29.9, -30.1, -29.0, -29.0, 11.0, 11.0, 11.0, 90.0, np.nan]
    longitude = [-46.4, -45.0, -46.6, 315.0, 178.6, -178.6, 178.4, 0.0, -45.0]
    flagged, known = flag_saa(*cells, latitude, longitude)
    assert flagged.tolist() == [True, False, False, True, True, True, False, False, False]
    assert known.tolist() == [True] * 8 + [False]


def test_a_map_without_its_last_column_is_the_same_map() -> None:
    longitude = np.linspace(-180, 180, 500)
    with_last, _ = flag_saa(*saa_map([(11, -180)]), np.full(500, 11.0), longitude)
    without, _ = flag_saa(*saa_map([(11, -180)], last=177), np.full(500, 11.0), longitude)
    assert (with_last == without).all()


def test_a_map_that_is_no_full_grid_around_the_earth_is_refused() -> None:
    latitude, longitude, flag = saa_map([])
    with pytest.raises(
        ValueError, match="SAA map has 10889 rows, expected each of 90 x 121 cells once"
    ):
        flag_saa(latitude[:-1], longitude[:-1], flag[:-1], [0.0], [0.0])
    west = longitude <= 0
    with pytest.raises(ValueError, match="SAA map spans 61 longitudes of 3 deg, expected 360 deg"):
        flag_saa(latitude[west], longitude[west], flag[west], [0.0], [0.0])
    with pytest.raises(ValueError, match="LATITUDE of the SAA map is not evenly spaced"):
        flag_saa(np.where(latitude == 1, 0.5, latitude), longitude, flag, [0.0], [0.0])


@pytest.mark.parametrize(("visit", "inside"), [("V9_G0_transit", 50), ("G10_field", 14)])
def test_orbit_and_map_give_the_saa_flags_of_the_mission(visit: Any, inside: Any) -> None:
    rows = table(visit, "data", "MPS_PRE_Visits", "MPS_PRE_VisitConstraints")
    cells = table("references", "", "EXT_APP_SAAMap", "EXT_APP_SAAMap")
    mjd, position, velocity, latitude, longitude = orbit(visit)
    times = rows["MJD_TIME"]
    place = interpolate_orbit(mjd, position, velocity, times)
    track = ground_track(mjd, position, latitude, longitude, times, place)
    flagged, known = flag_saa(cells["LATITUDE"], cells["LONGITUDE"], cells["SAA_FLAG"], *track)
    assert known.all()
    assert rows["SAA_FLAG"].sum() == inside
    # Recall and purity both 1: every minute of the two visits.
    assert (flagged == rows["SAA_FLAG"]).all()


# ---- orbit


@given(st.floats(0, 6000))
def test_the_cubic_follows_a_round_orbit_to_0_2_km(seconds: Any) -> None:
    rows = np.arange(0, 6001, 300.0)
    place = interpolate_orbit(START + rows * SECOND, *circle(rows), [START + seconds * SECOND])
    # Error of the cubic by hand: (300 s)^4 / 384 x radius x speed^4 = 0.19 km; 0.01 km for the
    # clock's rounding.
    assert np.linalg.norm(place - circle([seconds])[0]) < 0.20


def test_straight_lines_cut_90_km_below_the_orbit() -> None:
    rows = np.array([0.0, 300.0])
    place = interpolate_orbit(START + rows * SECOND, circle(rows)[0], None, [START + 150 * SECOND])
    # Sagitta by hand: radius x (1 - cos(0.159267)) = 89.5 km; tolerance: the digits written here.
    assert RADIUS - np.linalg.norm(place) == pytest.approx(89.5, abs=0.05)


def test_outside_the_orbit_and_in_its_gaps_the_place_is_unknown() -> None:
    rows = np.array([0.0, 300.0, 600.0, 1500.0, 1800.0])
    times = (
        START + np.array([-1.0, 0.0, 450.0, 600.0, 1000.0, 1500.0, 1800.0, 1801.0, np.nan]) * SECOND
    )
    for velocity in (circle(rows)[1], None):
        place = interpolate_orbit(START + rows * SECOND, circle(rows)[0], velocity, times)
        known = np.isfinite(place).all(axis=1)
        assert known.tolist() == [False, True, True, True, False, True, True, False, False]


def test_an_orbit_that_goes_back_in_time_or_lacks_a_coordinate_is_refused() -> None:
    place, velocity = circle([0.0, 300.0, 600.0])
    with pytest.raises(ValueError, match="times of the orbit do not increase at row 3"):
        interpolate_orbit([START, START + 1, START + 1], place, velocity, [START])
    with pytest.raises(
        ValueError, match=r"velocities of the orbit have shape \(3, 2\), expected \(3, 3\)"
    ):
        interpolate_orbit([START, START + 1, START + 2], place, velocity[:, :2], [START])
    with pytest.raises(ValueError, match="times of the orbit do not increase at row 1"):
        interpolate_orbit([], np.zeros((0, 3)), None, [START])


def test_a_span_is_covered_only_without_a_gap() -> None:
    rows = START + np.array([0, 5, 10, 30, 35]) * MINUTE
    start = START + np.array([0, 2, 9, 11, 30, 34, -1]) * MINUTE
    stop = START + np.array([10, 3, 31, 12, 35, 36, 1]) * MINUTE
    # The fourth span lies in the gap altogether, the third across it, the last two stick out.
    assert covered(rows, start, stop, 600.0).tolist() == [
        True,
        True,
        False,
        False,
        True,
        False,
        False,
    ]
    assert covered(rows, start, stop, 600.0, reach=60.0).tolist() == [
        True,
        True,
        False,
        False,
        True,
        True,
        True,
    ]


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=30), st.integers(-5, 500), st.integers(0, 60)
)
def test_a_longer_reach_never_uncovers(steps: Any, start: Any, length: Any) -> None:
    rows = START + np.cumsum(steps) * MINUTE
    span = [START + start * MINUTE], [START + (start + length) * MINUTE]
    assert covered(rows, *span, 300.0) <= covered(rows, *span, 300.0, reach=120.0)


def test_a_table_without_rows_covers_nothing_and_is_refused() -> None:
    with pytest.raises(ValueError, match="times of the table do not increase at row 1"):
        covered([], [START], [START], 60.0)


# ---- limb of the Earth


@given(st.floats(0, 360), st.floats(-90, 90))
def test_the_limb_angle_falls_by_what_the_line_of_sight_nods_down(
    right_ascension: Any, declination: Any
) -> None:
    place = [[0.0, 0.0, RADIUS]]
    # With the satellite over the pole the declination is the elevation. Rounding of arcsin at the
    # zenith: 1e-6 deg.
    angle = earth_limb_angle(place, right_ascension, declination) - earth_limb_angle(
        place, 0.0, 0.0
    )
    assert angle[0] == pytest.approx(declination, abs=2e-6)


def test_seen_from_700_km_the_limb_with_its_air_lies_23_8_deg_below_the_horizon() -> None:
    # arccos(6471 / 7071) = 23.773 deg by hand: +90 to the zenith, 0 below it occulted.
    angle = earth_limb_angle([[RADIUS, 0, 0]] * 3, [0.0, 90.0, 180.0], [0.0, 0.0, 0.0])
    np.testing.assert_allclose(angle, [113.773, 23.773, -66.227], atol=5e-4)
    assert np.isnan(earth_limb_angle([[np.nan, 0, 0]], 0.0, 0.0))


def test_a_satellite_inside_the_air_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"satellite is 7\.071 km from the geocentre, inside the atmosphere"
    ):
        earth_limb_angle([[7.071, 0, 0], [np.nan, 0, 0]], 0.0, 0.0)


@pytest.mark.parametrize(("visit", "tolerance"), [("G10_field", 0.006), ("V9_G0_transit", 0.055)])
def test_orbit_and_attitude_give_the_limb_angles_of_the_metadata(
    visit: Any, tolerance: Any
) -> None:
    rows = table(visit, "data", "SCI_RAW_SubArray", "SCI_RAW_ImageMetadata")
    attitude = table(visit, "data", "SCI_RAW_Attitude", "SCI_RAW_Attitude")
    mjd, position, velocity, *_ = orbit(visit)
    times = rows["MJD_TIME"].astype(float)
    right_ascension, declination = (
        np.interp(times, attitude["MJD_TIME"], attitude[c]) for c in ("SC_RA", "SC_DEC")
    )
    angle = earth_limb_angle(
        interpolate_orbit(mjd, position, velocity, times), right_ascension, declination
    )
    # Velocities in these files are 0.005 km/s off: 0.25 km or 0.0045 deg half way between rows. On
    # V9 the simulator draws straight lines between its minutes: 3.6 km too low half way, 0.05 deg.
    assert np.abs(angle - rows["LOS_TO_EARTH_ANGLE"]).max() < tolerance


@pytest.mark.parametrize(("visit", "minutes"), [("V9_G0_transit", 94), ("G10_field", 0)])
def test_orbit_and_target_give_the_occultations_of_the_mission(visit: Any, minutes: Any) -> None:
    rows = table(visit, "data", "MPS_PRE_Visits", "MPS_PRE_VisitConstraints")
    target = table(visit, "data", "MPS_PRE_Visits", "MPS_PRE_Visits")
    mjd, position, velocity, *_ = orbit(visit)
    place = interpolate_orbit(mjd, position, velocity, rows["MJD_TIME"])
    occulted = earth_limb_angle(place, target["RA_TARG"][0], target["DEC_TARG"][0]) < 0
    assert rows["EARTH_OCCULTATION"].sum() == minutes
    assert (occulted == rows["EARTH_OCCULTATION"]).all()


# ---- tables of constraints


@given(
    st.lists(st.booleans(), min_size=1, max_size=20),
    st.floats(-30, 30 * 60),
    st.floats(1, 300),
)
def test_an_image_is_flagged_if_a_row_during_or_nearest_to_it_is(
    flags: Any, middle: Any, duration: Any
) -> None:
    seconds = 60.0 * np.arange(len(flags))
    if (
        np.abs((middle - 30) % 60) < 0.01
        or np.abs(np.abs(seconds - middle) - duration / 2).min() < 0.01
    ):
        return  # ties are decided to a millisecond, and MJD is rounded
    flagged, known = flag_from_rows(
        START + seconds * SECOND, flags, [START + middle * SECOND], duration
    )
    inside = np.abs(seconds - middle) <= duration / 2
    inside[np.argmin(np.abs(seconds - middle))] = True
    spans = middle - duration / 2 > -60 and middle + duration / 2 < seconds[-1] + 60
    if (
        abs(middle - duration / 2 + 60) > 0.01
        and abs(middle + duration / 2 - seconds[-1] - 60) > 0.01
    ):
        assert known[0] == spans
        assert flagged[0] == (spans and np.asarray(flags)[inside].any())


def test_a_minute_of_saa_flags_the_stacks_that_touch_it() -> None:
    rows, flag = START + np.arange(6) * MINUTE, [False, False, True, False, False, False]
    middle = START + np.array([0.5, 1.4, 1.5, 1.6, 2.4, 2.5, 3.5, 6.0, 9.0]) * MINUTE
    flagged, known = flag_from_rows(rows, flag, middle, 30.0)
    # Half way between two rows both count; the last two end after the table.
    assert flagged.tolist() == [False, False, True, True, True, True, False, False, False]
    assert known.tolist() == [True] * 7 + [False, False]
    assert flag_from_rows(rows, flag, middle[1:2], 80.0)[0].tolist() == [True]


def test_a_gap_in_the_table_is_not_covered() -> None:
    rows = START + np.array([0, 1, 2, 8, 9]) * MINUTE
    _, known = flag_from_rows(
        rows, [False] * 5, START + np.array([1, 2.4, 5, 7.6, 8.5]) * MINUTE, 60.0
    )
    assert known.tolist() == [True, True, False, True, True]


def test_more_flags_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="constraints have 2 times and 3 flags"):
        flag_from_rows([START, START + 1], [True, False, True], [START], 60.0)
    with pytest.raises(ValueError, match="times of the constraints do not increase at row 2"):
        flag_from_rows([START, START], [True, False], [START], 60.0)


def test_no_written_stack_of_a_visit_lies_in_a_flagged_minute() -> None:
    rows = table("V9_G0_transit", "data", "MPS_PRE_Visits", "MPS_PRE_VisitConstraints")
    images = table("V9_G0_transit", "data", "SCI_RAW_SubArray", "SCI_RAW_ImageMetadata")
    for column in ("SAA_FLAG", "EARTH_OCCULTATION"):
        flagged, known = flag_from_rows(rows["MJD_TIME"], rows[column], images["MJD_TIME"], 60.0)
        # The simulator does not write stacks whose minute is flagged.
        assert known.all()
        assert not flagged.any()


# ---- digits

digits = st.integers(0, 9)


@given(st.lists(st.tuples(*[digits] * 6), max_size=10))
def test_event_decomposed_and_composed_is_the_same(rows: Any) -> None:
    given_digits = EventDigits(*np.array(rows, dtype=np.int32).reshape(-1, 6).T)
    event = compose_event(*given_digits)
    assert event.dtype == np.int32
    for found, wanted in zip(decompose_event(event), given_digits, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_occulted_in_the_saa_is_901() -> None:
    event = compose_event(
        [True, False, True], 0, earth_digit([2, 2, 0], [True] * 3, [True, False, False]), 0, 0, 0
    )
    assert event.tolist() == [901, 200, 101]


def test_event_sets_the_bits_of_quality() -> None:
    event = [0, 901, 110, 200, 2_000, 10_000, 300_000]
    assert event_quality(event).tolist() == [
        0,
        Quality.SAA | Quality.OCCULTED,
        Quality.TEMPERATURE | Quality.STRAY_LIGHT,
        Quality.STRAY_LIGHT,
        Quality.SUN_OR_MOON,
        Quality.SUN_OR_MOON,
        Quality.COSMIC_RAYS,
    ]


@given(st.lists(st.integers(0, 999_999), min_size=1))
def test_quality_is_zero_exactly_where_event_is(event: Any) -> None:
    assert ((event_quality(event) != 0) == (np.asarray(event) != 0)).all()


def test_digits_beyond_9_and_events_beyond_six_digits_are_refused() -> None:
    with pytest.raises(
        ValueError, match="digit moon of EVENT ranges from 0 to 12, expected 0 to 9"
    ):
        compose_event(0, 0, 0, [0, 12], 0, 0)
    for event in (-1, 1_000_000):
        with pytest.raises(ValueError, match=f"EVENT ranges from {event} to {event}, expected"):
            decompose_event([event])


def test_limits_are_soft_then_hard() -> None:
    # Limits of 2019 for the Earth (35 and 25 deg), and equal ones as for the Sun (120 deg); a limit
    # itself is allowed.
    assert angle_digit([40, 35, 34.9, 25, 24.9, np.nan], (35, 25)).tolist() == [0, 0, 1, 1, 2, 0]
    assert angle_digit([119.9, 120], (120, 120)).tolist() == [2, 0]
    assert limit_digit([-46, -43, -40, -37, -34], (-42, -45), (-38, -35)).tolist() == [
        2,
        1,
        0,
        1,
        2,
    ]


def test_without_limits_no_digit_is_set() -> None:
    assert angle_digit([0.0, 180.0], None).tolist() == [0, 0]
    assert angle_digit([0.0, 180.0], (np.nan, np.nan)).tolist() == [0, 0]
    assert limit_digit([-1e9, 1e9], None, None).tolist() == [0, 0]
    assert limit_digit([-1e9, 1e9], None, (0.0, np.nan)).tolist() == [0, 1]


@given(st.floats(-100, 100), st.floats(-100, 100), st.floats(0, 50))
def test_limits_mirrored_with_their_value_give_the_same_digit(
    value: Any, soft: Any, margin: Any
) -> None:
    assert limit_digit([value], (soft, soft - margin), None) == limit_digit(
        [-value], None, (-soft, -soft + margin)
    )


@pytest.mark.parametrize("limits", [(25, 35), (35,), 35, (35, 25, 15)])
def test_limits_in_the_wrong_order_or_number_are_refused(limits: Any) -> None:
    with pytest.raises(ValueError, match="expected a soft limit and a hard one beyond it"):
        angle_digit([30.0], limits)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), min_size=1))
def test_the_worst_effect_of_the_earth_wins(rows: Any) -> None:
    limb, stray, occulted = (np.array(column) for column in zip(*rows, strict=True))
    digit = earth_digit(limb, stray, occulted)
    assert (digit[occulted] == 9).all()
    assert (digit[~occulted] == np.maximum(limb, stray)[~occulted]).all()


def test_a_limb_digit_of_9_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"digits of the limb angle are \[0, 9\], expected 0, 1 or 2"
    ):
        earth_digit([0, 9], [False, False], [False, False])


# ---- repeated times


@given(st.lists(st.integers(0, 3), max_size=30))
def test_each_time_is_left_unflagged_exactly_once(steps: Any) -> None:
    minutes = np.cumsum(np.array(steps, dtype=int))
    flagged = flag_repeated_times(START + minutes * MINUTE)
    assert flagged.shape == minutes.shape
    assert minutes[~flagged].tolist() == sorted(set(minutes.tolist()))


def test_the_second_and_third_image_of_a_time_are_flagged() -> None:
    times = START + np.array([0, 1, 1, 1, 2]) * MINUTE
    assert flag_repeated_times(times).tolist() == [False, False, True, True, False]
    assert flag_repeated_times(times, 3600.0).tolist() == [False, True, True, True, True]


def test_times_that_go_back_or_are_missing_are_refused_with_their_rows() -> None:
    with pytest.raises(ValueError, match=r"time is earlier than in the row before in row 3, 5$"):
        flag_repeated_times(START + np.array([0, 2, 1, 4, 3]) * MINUTE)
    with pytest.raises(ValueError, match=r"in row 2, 3, 4, 5, 6 and 3 more$"):
        flag_repeated_times(START - np.arange(9))
    with pytest.raises(ValueError, match="time is missing in row 2"):
        flag_repeated_times([START, np.nan])
