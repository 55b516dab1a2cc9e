"""The visit shown in the figures: simulated from a seed, then reduced."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from schemas.arrays import FloatArray

# One orbit of a star of G = 9, with the CCD of March 2024; stacks taken in the SAA or behind the
# Earth are kept.
CASE: dict[str, Any] = {
    "images": 100,
    "nexp": 3,
    "exptime": 20.0,
    "magnitude": 9.0,
    "teff": 5900,
    "transit": False,
    "tilt": 26.0,
    "bias_drift": 0.2,
    "imagettes": True,
    "full_frame": True,
    "start": "2024-03-10T08:00:00",
    "kept_flagged": 1.0,
}
SEED = 1


class ReducedVisit:
    """The published products and terms of the visit, with the truth behind them."""

    def __init__(self, raw: Path, published: Path) -> None:
        self.raw, self.published = raw, published

    def term(self, step: str, hdu: int | str = 1, sub: str = "") -> Any:
        """Return the data of one HDU of a step's term."""
        return fits.getdata(self.published / "terms" / sub / f"{step}.fits", hdu)

    def header(self, step: str) -> Any:
        """Return the header of a step's term."""
        return fits.getheader(self.published / "terms" / f"{step}.fits", 1)

    def product(self, name: str, hdu: int = 1) -> Any:
        """Return the data of a published product."""
        (path,) = self.published.glob(f"*_{name}_V*.fits")
        return fits.getdata(path, hdu)

    def truth(self, name: str) -> Any:
        """Return a table or image of the truth."""
        return fits.getdata(self.raw / "truth" / "truth.fits", name)

    @cached_property
    def stacks(self) -> Any:
        """The true values of every stack."""
        return self.truth("TRUTH_STACKS")

    @cached_property
    def minutes(self) -> FloatArray:
        """Time of every stack since the first [min]."""
        return np.asarray((self.stacks["MJD_TIME"] - self.stacks["MJD_TIME"][0]) * 1440)

    @cached_property
    def good(self) -> Any:
        """Mask of the unflagged stacks."""
        table = self.term("quality")
        return (table["EVENT"] == 0) & (table["QUALITY"] == 0)

    def most_hit_stack(self) -> int:
        """Return the index of the unflagged stack with the most pixels hit by cosmic rays."""
        hits = np.where(self.good, self.term("defects", "TERM_DEFECTS_IMAGES")["ALL"], -1)
        return int(np.argmax(hits))


def reduce_visit(folder: Path) -> ReducedVisit:
    """Simulate the visit in `folder` and reduce it, without Prefect."""
    from flows.runs.reduction import run_reduce
    from reference_data.library import library_folder
    from schemas.requests import ReduceRequest
    from tasks.simulation.case import Case
    from tasks.simulation.visit import simulate_visit

    simulate_visit(folder / "visit", Case.model_validate(CASE), seed=SEED)
    request = ReduceRequest(
        visit=folder / "visit",
        references=(library_folder(),),
        output=folder / "products",
        work=folder / "work",
    )
    published, _ = run_reduce(request, "plain")
    assert published is not None
    return ReducedVisit(folder / "visit", Path(published.folder))
