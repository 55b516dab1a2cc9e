"""The claims of the pipeline: their goals, the combination of visits, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from schemas.arrays import FloatArray
from tasks.validation.statistics import Estimate, Statistic, bootstrapped, share

Pool = Literal["rms", "mean", "share", "power"]
Verdict = Literal["pass", "fail", "open"]
DOUBTLESS = 3.0  # a goal missed by more errors than this is missed, however large the error


@dataclass(frozen=True)
class Claim:
    """A claim and its goal, a range for a measured quantity.

    Attributes
    ----------
    title, unit : str
        The measured quantity.
    low, high : float
        The limits of the goal.
    precision : float
        Largest statistical error with which the claim can be judged; NaN if any error will do.
    pool : str
        How visits are combined: ``rms`` of scatters weighted with their points, ``mean`` weighted
        with the errors, ``share`` of all hits, or ``power``, the mean of squared amplitudes without
        their noise.
    granted : float
        Number of statistical errors by which the goal may be missed.
    """

    title: str
    unit: str
    low: float = -np.inf
    high: float = np.inf
    precision: float = np.nan
    pool: Pool = "rms"
    granted: float = 1.0

    @property
    def goal(self) -> str:
        """The goal in words."""
        if np.isfinite(self.low) and np.isfinite(self.high):
            return f"{self.low:g} to {self.high:g}" if self.low < self.high else f"{self.low:g}"
        return f"at most {self.high:g}" if np.isfinite(self.high) else f"at least {self.low:g}"


# A goal without a source in the first column of docs/validation.md was reached and must be kept.
CLAIMS = {
    # light curves
    "noise": Claim("robust scatter over the photon floor", "", high=1.10, precision=0.03),
    "noise_neighbours": Claim(
        "point-to-point scatter over the photon floor", "", high=1.10, precision=0.03
    ),
    "noise_best": Claim("the same in the best circle", "", high=1.10, precision=0.03),
    "optimal": Claim("scatter of OPTIMAL over that of the quietest light curve", "", high=1.05),
    "optimal_default": Claim("scatter of OPTIMAL over that of DEFAULT", "", high=1.0),
    "detrended": Claim("scatter of OPTIMAL, detrended, over that of OPTIMAL", "", high=1.01),
    "used": Claim("share of good stacks that are used", "", low=0.9, pool="share"),
    "outliers": Claim(
        "used points that are off by more than 5 errors",
        "",
        high=0.003,
        precision=0.003,
        pool="share",
    ),
    "honesty": Claim("scatter in units of FLUXERR", "", low=0.9, high=1.1, precision=0.05),
    "honesty_soft": Claim(
        "rms of points with a soft flag in units of FLUXERR", "", low=0.9, high=1.1, precision=0.05
    ),
    "windows_3h": Claim(
        "noise in 3 h, if points were independent", "ppm", high=85.0, precision=8.0
    ),
    "windows_6h": Claim(
        "noise in 6 h, if points were independent", "ppm", high=20.0, precision=2.0
    ),
    "means_3h": Claim("noise of means over 3 h", "ppm", high=85.0, precision=17.0),
    "means_6h": Claim("noise of means over 6 h", "ppm", high=20.0, precision=4.0),
    "beta_1h": Claim(
        "noise of means over 1 h, relative to independent points", "", high=1.2, precision=0.1
    ),
    "beta_6h": Claim(
        "noise of means over 6 h, relative to independent points", "", high=1.5, precision=0.3
    ),
    "depth": Claim(
        "depth of the transit over the true one",
        "",
        low=0.99,
        high=1.01,
        precision=0.01,
        pool="mean",
    ),
    "shallow": Claim(
        "depth of the transit over the true one",
        "",
        low=1,
        high=1,
        precision=0.25,
        pool="mean",
        granted=2.0,
    ),
    "exact": Claim("rms of flux over truth, without noise", "ppm", high=3.0),
    "telegraphic_noise": Claim(
        "noise relative to that without telegraphic pixels",
        "",
        high=1.05,
        precision=0.03,
        pool="mean",
    ),
    "roll_1": Claim(
        "amplitude with the roll angle", "ppm", high=20.0, precision=10.0, pool="power"
    ),
    "roll_2": Claim(
        "amplitude with twice the roll angle", "ppm", high=20.0, precision=10.0, pool="power"
    ),
    "roll_3": Claim(
        "amplitude with three times the roll angle", "ppm", high=20.0, precision=10.0, pool="power"
    ),
    "with_position": Claim(
        "rms correlated with the star's position", "ppm", high=20.0, precision=10.0, pool="power"
    ),
    "with_background": Claim(
        "rms correlated with the background", "ppm", high=20.0, precision=10.0, pool="power"
    ),
    "with_temperature": Claim(
        "rms correlated with the telescope's temperature",
        "ppm",
        high=20.0,
        precision=10.0,
        pool="power",
    ),
    "with_blur": Claim(
        "rms correlated with the motion within a stack",
        "ppm",
        high=20.0,
        precision=10.0,
        pool="power",
    ),
    "flux_level": Claim(
        "flux of the target over its true electrons in the circle",
        "",
        low=0.99,
        high=1.01,
        pool="mean",
    ),
    "imagettes": Claim(
        "robust scatter of imagettes over the photon floor", "", high=1.15, precision=0.03
    ),
    # flags
    "saa": Claim("stacks in the SAA that are flagged", "", low=0.99, pool="share"),
    "saa_false": Claim("stacks outside the SAA that are flagged", "", high=0.01, pool="share"),
    "occultation": Claim("occulted stacks that are flagged", "", low=0.99, pool="share"),
    "occultation_false": Claim("stacks not occulted that are flagged", "", high=0.01, pool="share"),
    "spike_recall": Claim(
        "stacks above three times the usual sky that are flagged", "", low=0.95, pool="share"
    ),
    "spike_purity": Claim(
        "stacks flagged as spikes that have such a sky, or sudden light", "", low=0.9, pool="share"
    ),
    "gradient_recall": Claim(
        "stacks with a gradient above the usual sky that are flagged", "", low=0.95, pool="share"
    ),
    "gradient_purity": Claim(
        "stacks flagged for a gradient that have one", "", low=0.9, pool="share"
    ),
    "cosmic_recall": Claim(
        "cosmic-ray hits above 10 sigma that are found",
        "",
        low=0.98,
        precision=0.01,
        pool="share",
    ),
    "cosmic_purity": Claim(
        "pixels called hit that were hit", "", low=0.95, precision=0.01, pool="share"
    ),
    "hot_recall": Claim(
        "new hot pixels above 4 sigma that are found", "", low=0.9, precision=0.05, pool="share"
    ),
    "hot_purity": Claim(
        "pixels called hot that are hot", "", low=0.9, precision=0.05, pool="share"
    ),
    "telegraphic_recall": Claim(
        "telegraphic pixels above 4 sigma that are found", "", low=0.9, precision=0.05, pool="share"
    ),
    "telegraphic_purity": Claim(
        "pixels called telegraphic that are telegraphic", "", low=0.9, precision=0.05, pool="share"
    ),
    # estimates
    "bias_level": Claim("mean error of the bias level", "ADU", low=-0.1, high=0.1, pool="mean"),
    "bias_drift": Claim("rms error of the bias level about its mean", "ADU", high=0.02),
    "read_out_noise": Claim(
        "read-out noise relative to the true one",
        "",
        low=0.99,
        high=1.01,
        precision=0.01,
        pool="mean",
    ),
    "gain_drift": Claim("rms error of the gain about its mean", "ppm", high=1.0),
    "dark": Claim(
        "mean error of the dark current", "electron/s", low=-0.02, high=0.02, pool="mean"
    ),
    "dark_gradient": Claim(
        "uncorrected fraction of the rise of the thermal charge with the rows",
        "",
        high=0.03,
        precision=0.03,
        pool="mean",
    ),
    "background": Claim(
        "scatter of the background's error over its stated error", "", high=1.2, precision=0.05
    ),
    "smearing_time": Claim(
        "time of a row shift relative to the true one",
        "",
        low=0.99,
        high=1.01,
        precision=0.01,
        pool="mean",
    ),
    "smearing_curve": Claim(
        "rms error of smeared light within 25 pixels, relative to the star", "ppm", high=2.0
    ),
    "position": Claim("rms error of the position about its mean", "pixel", high=0.01),
    "field_stars": Claim(
        "rms error of field stars with a formal error below 0.005 mag", "mag", high=0.01
    ),
    "contamination_level": Claim(
        "mean error of CONTA_LC within 25 pixels", "ppm", low=-1000, high=1000, pool="mean"
    ),
    "contamination_pull": Claim(
        "mean error of CONTA_LC in units of CONTA_LC_ERR, rms over visits", "", high=3.0
    ),
    "contamination": Claim(
        "rms error of CONTA_LC within 25 pixels about its mean", "ppm", high=20.0
    ),
}


@dataclass(frozen=True)
class Measure:
    """One measured number of one visit."""

    claim: str
    of: str  # light curve or axis; may be empty
    value: float
    error: float
    points: int

    @classmethod
    def of_share(cls, claim: str, hits: int, total: int, of: str = "") -> Measure:
        """Measure the share of hits in a total."""
        return cls(claim, of, *share(hits, total), total)

    @classmethod
    def of_series(
        cls, claim: str, values: FloatArray, statistic: Statistic, of: str = ""
    ) -> Measure:
        """Measure a statistic of a series, shape (n,) or (n, k), with a bootstrapped error."""
        return cls(claim, of, *bootstrapped(values, statistic), len(values))

    def as_json(self) -> dict[str, Any]:
        """Return the measure in JSON's types; non-finite values become null."""
        return {
            k: None if isinstance(v, float) and not np.isfinite(v) else v
            for k, v in asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Measure:
        """Return the measure that `as_json` wrote."""
        known: dict[str, Any] = {k: np.nan if v is None else v for k, v in values.items()}
        return cls(**known)


def pooled(claim: Claim, measures: Iterable[Measure]) -> tuple[Estimate, int]:
    """Combine the measures of a claim from several visits; return also the number of points.

    NaN measures do not count. For scatters, the squares are averaged, weighted with their points.
    """
    known = [m for m in measures if np.isfinite(m.value) and (claim.pool != "mean" or m.error > 0)]
    points = sum(m.points for m in known)
    if not points:
        return Estimate(np.nan, np.nan), 0
    value, error, weight = (
        np.array([float(getattr(m, a)) for m in known]) for a in ("value", "error", "points")
    )
    if claim.pool == "share":
        return share(round(float((value * weight).sum())), points), points
    if claim.pool == "rms":
        total = float(np.sqrt(np.sum(weight * value**2) / points))
        spread = (
            float(np.sqrt(np.sum((weight * value * error) ** 2)) / points / total)
            if total > 0
            else 0.0
        )
        return Estimate(total, spread), points
    weight = 1 / np.maximum(error, 1e-30) ** 2
    mean, spread = float((weight * value).sum() / weight.sum()), float(weight.sum() ** -0.5)
    return (amplitude(mean, spread) if claim.pool == "power" else Estimate(mean, spread)), points


def amplitude(power: float, error: float) -> Estimate:
    """Return the amplitude for a squared amplitude, with its error.

    The error of a square that is within its own error is the distance to the upper limit.
    """
    value = float(np.sqrt(max(power, 0.0)))
    return Estimate(
        value,
        float(error / (2 * value))
        if power > error
        else float(np.sqrt(max(power, 0.0) + error)) - value,
    )


def judge(claim: Claim, reached: Estimate) -> Verdict:
    """Return whether the goal is reached or missed, or open for too few points.

    A goal counts as reached if it is missed by at most `granted` statistical errors.
    """
    if not np.isfinite(reached.value):
        return "open"
    miss = max(claim.low - reached.value, reached.value - claim.high, 0.0)
    doubtful = not np.isfinite(reached.error) or reached.error > claim.precision
    if doubtful:
        return "fail" if np.isfinite(reached.error) and miss > DOUBTLESS * reached.error else "open"
    return "fail" if miss > claim.granted * reached.error else "pass"
