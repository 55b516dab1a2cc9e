"""The stars of the field: their positions, brightness, motion and variability.

Counts: the number of stars brighter than m is N(<m) ~ 10^(s m) - 10^(5 s), where s is the case's
`count_slope` (no star is brighter than 5). The case gives the mean number brighter than 15; the
actual number is a Poisson variable. Stars are spread evenly over a disc of 551 arcsec.

Temperatures: at magnitude m, the number of stars of a class with absolute magnitude M is
proportional to phi d^3 exp(-d / h), where d = 10^((m - M + 5) / 5) pc is the distance, phi the
number per pc^3 near the Sun (from the census within 10 pc) and h the scale height of the class
above the galactic plane over sin 40 deg, the galactic latitude of the field. Bright fields thus
consist of A to K stars, faint ones of K and M dwarfs. The numbers are round ones from memory. There
is no extinction.

Proper motion: a velocity of 30 km/s rms in each direction at the distance of a dwarf, v / (4.74 d)
arcsec per year. Variable stars: seven in ten vary as a sine, the others have eclipses, triangles of
a tenth of the period. Amplitudes are 0.01-0.3, periods 0.1-10 days, both uniform in the logarithm.

From a file: one star per line, right ascension (h:m:s), declination (d:m:s), magnitude and spectral
type, separated by blanks; lines that begin with # are comments. The magnitude is used as Gaia G.
The first star is at the centre of the field. A star within 1 arcsec of the target is replaced by
it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas.arrays import BoolArray, FloatArray
from schemas.constants import DAY
from tasks.simulation import main_sequence, spectrum
from tasks.simulation.case import Case

RADIUS = 551.0  # of the field [arcsec]
# generated stars within this radius [arcsec] are this much fainter than the target [mag]
OBSERVABLE, LEAST_FAINTER = 150.0, 1.0
NEAR = (30.0, 110.0)  # distances of the near stars [arcsec]
NEAR_RANGE = 2.5  # the brightest near star is at least this much fainter than the target [mag]
NEAR_FAINTEST = 18.0
BRIGHTEST, COUNTED = 5.0, 15.0  # [mag]
VELOCITY = 30.0  # [km/s]
SAME_PLACE = 1.0  # [arcsec]
ECLIPSING = 0.3  # fraction of the variable stars
ECLIPSE_HALF_WIDTH = 0.05  # [period]
# temperatures [K], absolute magnitude (0: main sequence), number per pc^3, h [pc]
_CLASSES = np.array([
    (7400, 9800, 0, 0.8e-3, 150),  # A
    (6000, 7400, 0, 1.8e-3, 300),  # F
    (5300, 6000, 0, 4.8e-3, 400),  # G
    (3900, 5300, 0, 1.0e-2, 450),  # K
    (2800, 3900, 0, 5.5e-2, 450),  # M
    (4200, 5000, 0.8, 0.4e-3, 450),  # giants, G and K
])  # fmt: skip


@dataclass(frozen=True)
class Field:
    """The stars of a field, the target first."""

    xi: FloatArray  # standard coordinate about the target at the time of the visit, East [arcsec]
    eta: FloatArray  # the same, North
    g_magnitude: FloatArray
    teff: FloatArray  # [K]
    flux: FloatArray  # without variability [electron/s]
    motion_xi: FloatArray  # proper motion [arcsec/year]
    motion_eta: FloatArray
    amplitude: FloatArray  # relative, of the sine or the eclipse; 0 for a constant star
    period: FloatArray  # [day]
    phase: FloatArray  # at the start of the visit [period]
    eclipsing: BoolArray

    def flux_at(self, seconds: FloatArray) -> FloatArray:
        """Return the flux of each star, shape (stars, n) [electron/s].

        `seconds` are times since the start of the visit, shape (n,).
        """
        turn = np.asarray(seconds, float) / DAY / self.period[:, None] + self.phase[:, None]
        from_eclipse = np.abs(turn - np.rint(turn))
        eclipse = -np.maximum(1 - from_eclipse / ECLIPSE_HALF_WIDTH, 0.0)
        change = np.where(self.eclipsing[:, None], eclipse, np.sin(2 * np.pi * turn))
        return np.asarray(self.flux[:, None] * (1 + self.amplitude[:, None] * change))


def draw(rng: np.random.Generator, case: Case) -> Field:
    """Draw the field of a case, or read its file.

    Raises
    ------
    ValueError
        If the file is not such a catalogue.
    """
    target = constant([0.0], [0.0], [case.magnitude], [case.teff], case.cool_excess)
    if case.field_file is not None:
        xi, eta, magnitude, teff = read_catalogue(
            case.field_file, case.field_offset, case.faintest
        ).T
        far = constant(xi, eta, magnitude, teff, case.cool_excess)
    else:
        far = _generate(rng, case)
    moving = _vary(rng, _move(rng, far, case.proper_motion), case.variable_stars)
    xi, eta, magnitude, teff = np.array(case.more_stars, float).reshape(-1, 4).T
    more = constant(xi, eta, magnitude, teff, case.cool_excess)
    return _join([target, moving, more])


def constant(
    xi: ArrayLike, eta: ArrayLike, g_magnitude: ArrayLike, teff: ArrayLike, excess: float
) -> Field:
    """Return stars that neither move nor vary.

    Parameters
    ----------
    xi, eta : array_like, shape (n,)
        Standard coordinates about the target [arcsec].
    g_magnitude : array_like, shape (n,)
        Gaia G.
    teff : array_like, shape (n,)
        Effective temperature [K].
    excess : float
        Scale of the excess light of cool stars.
    """
    xi, eta, g_magnitude, teff = (
        np.asarray(column, float) for column in (xi, eta, g_magnitude, teff)
    )
    zero, flux = np.zeros(xi.size), spectrum.star_flux(g_magnitude, teff, excess)
    return Field(
        xi, eta, g_magnitude, teff, flux, zero, zero, zero, zero + 1, zero, np.zeros(xi.size, bool)
    )


def _join(parts: list[Field]) -> Field:
    return Field(
        **{
            item.name: np.concatenate([getattr(part, item.name) for part in parts])
            for item in fields(Field)
        }
    )


def _generate(rng: np.random.Generator, case: Case) -> Field:
    near, slope = case.near_stars, case.count_slope
    brightest = min(case.magnitude + NEAR_RANGE, NEAR_FAINTEST - 0.5)
    near_magnitude = brightest + np.log2(
        1 + rng.uniform(0, 1, near) * (2 ** (NEAR_FAINTEST - brightest) - 1)
    )
    distance, angle = rng.uniform(*NEAR, near), rng.uniform(0, 2 * np.pi, near)
    number = rng.poisson(case.stars * counts(case.faintest, slope) / counts(COUNTED, slope))
    magnitude = magnitudes(rng.uniform(0, 1, number), case.faintest, slope)
    distance = np.concatenate(
        [distance, RADIUS * np.sqrt(rng.uniform((case.nearest / RADIUS) ** 2, 1, number))]
    )
    angle = np.concatenate([angle, rng.uniform(0, 2 * np.pi, number)])
    magnitude = np.concatenate([near_magnitude, magnitude])
    # a target outshone by a neighbour in its window would not be observed
    kept = (distance > OBSERVABLE) | (magnitude > case.magnitude + LEAST_FAINTER)
    distance, angle, magnitude = distance[kept], angle[kept], magnitude[kept]
    teff = draw_temperatures(rng, magnitude)
    return constant(
        distance * np.sin(angle), distance * np.cos(angle), magnitude, teff, case.cool_excess
    )


def counts(faintest: float, slope: float) -> float:
    """Return the number of stars from magnitude 5 to `faintest`, up to a common factor.

    `slope` is the increase of log10 of the counts per magnitude.
    """
    rate = slope * np.log(10)
    return (
        float(np.expm1(rate * (faintest - BRIGHTEST)) / rate) if rate > 0 else faintest - BRIGHTEST
    )


def magnitudes(share: FloatArray, faintest: float, slope: float) -> FloatArray:
    """Return the magnitude below which a share of the stars lies, the inverse of `counts`."""
    rate = slope * np.log(10)
    if rate == 0:
        return BRIGHTEST + share * (faintest - BRIGHTEST)
    return np.asarray(BRIGHTEST + np.log1p(share * np.expm1(rate * (faintest - BRIGHTEST))) / rate)


def draw_temperatures(rng: np.random.Generator, magnitude: FloatArray) -> FloatArray:
    """Draw the effective temperatures [K] of stars with these magnitudes, shape (n,)."""
    cold, hot, absolute, number, height = _CLASSES.T
    middle = np.where(absolute > 0, absolute, main_sequence.absolute_magnitude((cold + hot) / 2))
    distance = 10 ** ((magnitude[:, None] - middle + 5) / 5)
    share = np.cumsum(number * distance**3 * np.exp(-distance / height), axis=1)
    kind = (rng.uniform(0, 1, (magnitude.size, 1)) * share[:, -1:] > share).sum(axis=1)
    return np.asarray(rng.uniform(cold[kind], hot[kind]).round())


def _move(rng: np.random.Generator, stars: Field, scale: float) -> Field:
    distance = 10 ** ((stars.g_magnitude - main_sequence.absolute_magnitude(stars.teff) + 5) / 5)
    motion = scale * VELOCITY * rng.normal(size=(2, distance.size)) / (4.74 * distance)
    return _with(stars, motion_xi=motion[0], motion_eta=motion[1])


def _vary(rng: np.random.Generator, stars: Field, part: float) -> Field:
    size = stars.xi.size
    varies = rng.uniform(size=size) < part
    amplitude, period = 10 ** rng.uniform(-2, np.log10(0.3), size), 10 ** rng.uniform(-1, 1, size)
    phase, eclipsing = rng.uniform(size=size), rng.uniform(size=size) < ECLIPSING
    return _with(
        stars,
        amplitude=np.where(varies, amplitude, 0.0),
        period=period,
        phase=phase,
        eclipsing=eclipsing,
    )


def _with(stars: Field, **columns: NDArray[np.generic]) -> Field:
    return Field(
        **{item.name: columns.get(item.name, getattr(stars, item.name)) for item in fields(Field)}
    )


def read_catalogue(path: Path, offset: tuple[float, float], faintest: float) -> FloatArray:
    """Read a field from a file, without a star at the position of the target.

    Parameters
    ----------
    path : Path
        A file of the form described at the head of this module.
    offset : tuple of float
        Position of the target relative to the first star, East and North [arcsec].
    faintest : float
        Fainter stars are ignored [mag].

    Returns
    -------
    ndarray, shape (n, 4)
        Standard coordinates about the target, East and North [arcsec], magnitude, effective
        temperature [K].

    Raises
    ------
    ValueError
        If a line is not that of a star, or there are no stars.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not a text file, expected a list of stars") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                rows.append(_star(line.split()))
            except ValueError as error:
                raise ValueError(f"{path}: line {number}: {error}") from None
    if not rows:
        raise ValueError(f"{path}: lists no stars")
    ra, dec, magnitude, teff = np.array(rows, float).T
    if (angle := _apart(ra, dec)).max() > 5400:
        raise ValueError(
            f"{path}: star {angle.argmax() + 1} is {angle.max() / 3600:.1f} deg from the "
            f"first, expected a field of about a degree"
        )
    xi, eta = standard(ra, dec, float(ra[0]), float(dec[0]))
    xi, eta = xi - offset[0], eta - offset[1]
    away = np.hypot(xi, eta)
    kept = (away > SAME_PLACE) & (magnitude <= faintest)
    return np.stack([xi[kept], eta[kept], magnitude[kept], teff[kept]], axis=1)


def _star(words: list[str]) -> tuple[float, float, float, float]:
    if len(words) != 4:
        raise ValueError(
            f"has {len(words)} words, expected four: right ascension, declination, magnitude and "
            f"spectral type"
        )
    ra, dec = 15 * _sexagesimal(words[0], 24), _sexagesimal(words[1], 90)
    try:
        magnitude = float(words[2])
    except ValueError:
        raise ValueError(f"magnitude is {words[2]!r}, expected a number") from None
    if not -2 < magnitude < 30:
        raise ValueError(f"magnitude is {words[2]}, expected a number between -2 and 30")
    return ra, dec, magnitude, main_sequence.temperature(words[3])


def _sexagesimal(text: str, limit: float) -> float:
    parts = text.lstrip("+-").split(":")
    try:
        first, minute, second = (float(part) for part in parts)
    except ValueError:
        raise ValueError(f"position is {text!r}, expected the form 12:34:56.7") from None
    value = first + minute / 60 + second / 3600
    if not (0 <= minute < 60 and 0 <= second < 60.0001 and 0 <= value <= limit):
        raise ValueError(f"position is {text!r}, expected the form 12:34:56.7")
    return -value if text.startswith("-") else value


def _apart(ra: FloatArray, dec: FloatArray) -> FloatArray:
    """Return the angular distances to the first position [arcsec]."""
    a, d = np.deg2rad(ra), np.deg2rad(dec)
    half = np.sin((d - d[0]) / 2) ** 2 + np.cos(d) * np.cos(d[0]) * np.sin((a - a[0]) / 2) ** 2
    return np.asarray(2 * 3600 * np.rad2deg(np.arcsin(np.sqrt(np.clip(half, 0, 1)))))


def standard(
    ra: FloatArray, dec: FloatArray, ra_centre: float, dec_centre: float
) -> tuple[FloatArray, FloatArray]:
    """Return the standard coordinates [arcsec] of positions [deg] (gnomonic projection)."""
    a, d, d0 = np.deg2rad(ra - ra_centre), np.deg2rad(dec), np.deg2rad(dec_centre)
    depth = np.sin(d) * np.sin(d0) + np.cos(d) * np.cos(d0) * np.cos(a)
    xi = np.cos(d) * np.sin(a) / depth
    eta = (np.sin(d) * np.cos(d0) - np.cos(d) * np.sin(d0) * np.cos(a)) / depth
    return np.asarray(np.rad2deg(xi) * 3600), np.asarray(np.rad2deg(eta) * 3600)
