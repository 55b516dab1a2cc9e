"""A published visit: light curves, images, noise, and the account of every flux."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from drp.cube import Cube, Kind, Level, open_cube
from drp.series import Flagged, is_good, time_series
from schemas.errors import UsageError
from schemas.manifest import Manifest
from schemas.nearest import not_a_curve
from tasks.delivery.published.explain import Explanation, explain
from tasks.delivery.published.visit import PublishedVisit
from tasks.files import disk

if TYPE_CHECKING:
    import pandas
    from astropy.timeseries import TimeSeries
    from lightkurve import LightCurve

# fields of `Noise` and the keywords they come from
_METRICS = {
    "point_to_point": "P2P_PPM",
    "robust": "ROB_PPM",
    "formal": "FORM_PPM",
    "cdpp_30min": "CDPP_30M",
    "cdpp_3h": "CDPP_3H",
    "cdpp_6h": "CDPP_6H",
}


@dataclass(frozen=True)
class Noise:
    """The noise of the good points of a light curve [ppm]; None where it could not be measured.

    `photon` is that of the median flux alone: no measurement can be below.
    """

    points: int
    photon: float | None
    point_to_point: float | None
    robust: float | None
    formal: float | None
    cdpp_30min: float | None
    cdpp_3h: float | None
    cdpp_6h: float | None


class Visit:
    """A published visit.

    Attributes
    ----------
    folder : Path
        The published folder.
    manifest : Manifest
        The record of the run: files, steps, inputs, settings, software.
    """

    def __init__(self, published: PublishedVisit) -> None:
        self._published = published
        self.folder: Path = published.folder
        self.manifest: Manifest = published.manifest

    def __repr__(self) -> str:
        verdict = f" {self.verdict!r}" if self.verdict else ""
        return f"<Visit {self.name} {self.version}{verdict}>"

    @property
    def name(self) -> str:
        """Name of the visit, such as PR100001_TG000101."""
        return self.manifest.visit

    @property
    def version(self) -> str:
        """Version of the publication, such as V0100."""
        return self.manifest.version

    @property
    def verdict(self) -> str:
        """``good``, ``usable with care`` or ``not usable``; empty without a report."""
        return self.manifest.verdict.word if self.manifest.verdict is not None else ""

    @property
    def reasons(self) -> tuple[str, ...]:
        """What the verdict rests on, in sentences."""
        return self.manifest.verdict.reasons if self.manifest.verdict is not None else ()

    @property
    def light_curves(self) -> tuple[str, ...]:
        """Names of the light curves, those of the imagettes last."""
        return tuple(self._published.every_curve())

    def light_curve(self, name: str = "OPTIMAL", flagged: Flagged = "mask") -> TimeSeries:
        """Return a light curve.

        Times are BJD in TDB. `flux` and `flux_err` are electrons per image; both are masked where a
        point has an event or a quality flag. Other columns are those of the file, in lower case.

        Parameters
        ----------
        name : str
            One of `light_curves`.
        flagged : str
            ``mask`` flagged points, ``drop`` them, or ``keep`` them as they are.

        Examples
        --------
        >>> import drp
        >>> curve = drp.open_visit("products").light_curve("OPTIMAL")
        >>> curve["flux"].unit, curve.time.scale, curve.meta["OBJECT"]
        (Unit("electron"), 'tdb', 'Simulated')
        """
        self._check(name)
        keywords = self._published.keywords(name, "TARGNAME", "AP_RADI", "AP_TYPE", "NEXP")
        meta = {
            "OBJECT": keywords["TARGNAME"],
            "TELESCOP": "CHEOPS",
            "VISIT": self.name,
            "VERSION": self.version,
            "DATANAME": name,
            "AP_RADI": keywords["AP_RADI"],
            "AP_TYPE": keywords["AP_TYPE"],
            "NEXP": keywords["NEXP"],
        }
        return time_series(self._published.curve(name), meta, flagged)

    def to_lightkurve(self, name: str = "OPTIMAL", flagged: Flagged = "drop") -> LightCurve:
        """Return a light curve for lightkurve, which must be installed; without flagged points."""
        from lightkurve import LightCurve

        curve = LightCurve(self.light_curve(name, flagged))
        curve.meta.update(LABEL=curve.meta["OBJECT"], MISSION="CHEOPS", AUTHOR="drp")
        return curve

    def to_pandas(self, name: str = "OPTIMAL", flagged: Flagged = "mask") -> pandas.DataFrame:
        """Return a light curve for pandas, which must be installed.

        The index is the time; column `bjd` has it as a number. A masked flux is NaN.
        """
        series = self.light_curve(name, flagged)
        frame: pandas.DataFrame = series.to_pandas()
        frame.insert(0, "bjd", series.time.jd)
        return frame

    def images(self, level: Level = "COR", kind: Kind = "sub_array") -> Cube:
        """Return calibrated (CAL) or corrected (COR) images.

        Parameters
        ----------
        level : str
            ``CAL`` or ``COR``.
        kind : str
            ``sub_array``, ``imagette`` or ``full_array``.

        Examples
        --------
        >>> import drp
        >>> images = drp.open_visit("products").images("COR")
        >>> images.shape, images[0].shape
        ((12, 200, 200), (200, 200))
        """
        return open_cube(self._published, level, kind)

    def explain(self, image: int, name: str = "DEFAULT") -> Explanation:
        """Return how the flux of one image came about: stages, other light, errors, flags.

        Examples
        --------
        >>> import drp
        >>> budget = drp.open_visit("products").explain(3, "R25")
        >>> [stage.stage for stage in budget.stages][:4]
        ['RAW', 'BIAS', 'GAIN', 'LINEARITY']
        """
        return explain(self._published, image, name)

    def noise(self, name: str = "OPTIMAL") -> Noise:
        """Return the noise of a light curve.

        Examples
        --------
        >>> import drp
        >>> noise = drp.open_visit("products").noise("OPTIMAL")
        >>> noise.photon < noise.formal
        True
        """
        self._check(name)
        values = self._published.keywords(name, "N_GOOD", *_METRICS.values())
        columns = self._published.curve(name)
        good = columns["FLUX"][is_good(columns)]
        flux = float(np.median(good)) if len(good) else 0.0
        return Noise(
            points=int(values["N_GOOD"]),
            photon=1e6 / flux**0.5 if flux > 0 else None,
            # the header has 0 for what could not be measured
            **{field: float(values[key]) or None for field, key in _METRICS.items()},
        )

    def _check(self, name: str) -> None:
        if name not in self.light_curves:
            raise UsageError(not_a_curve("light curve", name, self.light_curves))


def open_visit(folder: str | PathLike[str]) -> Visit:
    """Open a published visit: its folder, or a folder that holds only this one.

    Raises
    ------
    DrpError
        If there is none, or its manifest is damaged.
    """
    return Visit(PublishedVisit.at(disk.absolute(Path(folder))))
