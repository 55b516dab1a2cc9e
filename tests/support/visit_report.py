"""A small visit that a report or viewer can be made of, and its report as data, PDF and words."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from schemas.light_curves import DEFAULT_RADIUS, FIXED, LIGHT_CURVES, OPTIMAL, PSF, RADII, Way
from schemas.payloads import (
    Apertures,
    Background,
    Bias,
    Calibrated,
    CalibratedVisit,
    CalibrationStages,
    Contamination,
    Corrected,
    CorrectedVisit,
    Corrections,
    CorrectionStages,
    Dark,
    Defects,
    Events,
    Flat,
    FlatField,
    Gain,
    Inventory,
    Leaf,
    LightCurves,
    Linearity,
    Look,
    MeasuredVisit,
    Pointing,
    Position,
    Prior,
    Product,
    Psf,
    PsfFit,
    QualityTerm,
    Reference,
    Scalar,
    Smearing,
    Spread,
    Stars,
    Status,
)
from schemas.products import PER_RADIUS, Structure, soc_structure
from schemas.settings import ReportSettings
from schemas.terms import TERMS
from tasks.delivery.report.report import DATA, collect_report, typeset_report
from tasks.files import disk
from tasks.files.writer import NewHdu, write_fits

L = TypeVar("L", bound=Leaf)


Array = np.ndarray[Any, Any]


VISIT = "PR900001_TG000001"


FACTS = {
    "version": "V0001",
    "date": "2026-02-03T04:05:06",
    "software": "0.1.0",
    "folder": f"CH_{VISIT}_V0001",
}


@dataclass(frozen=True)
class Visit:
    """The output of the earlier stages for a visit with `n` images.

    `ended` overrides fields of the leaves of steps that did not complete.
    """

    n: int = 120
    event: Array | None = None
    quality: Array | None = None
    flux: Array | None = None
    header: Mapping[str, Scalar] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    ended: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fallbacks: Mapping[str, str] = field(default_factory=dict)

    def leaf(
        self,
        kind: type[L],
        step: str,
        *keywords: str,
        product: Product | None = None,
        **used: Scalar,
    ) -> L:
        status = dict.fromkeys(keywords, Status.COMPLETED)
        products = {} if product is None else {product.extname: product}
        return kind.model_validate(
            {
                "step": step,
                "products": products,
                "status": status,
                "used": used,
                **self.ended.get(step, {}),
            }
        )

    def arguments(
        self, folder: Path
    ) -> tuple[Inventory, CalibratedVisit, CorrectedVisit, MeasuredVisit, ReportSettings]:
        """Return the arguments of the step; its products are written to `folder`."""
        folder.mkdir(exist_ok=True)
        mjd = 59000.0 + np.arange(self.n) / 1440
        images, sums, quality = (
            self.corrected(folder, mjd),
            self.sums(folder, mjd),
            self.judged(folder, mjd),
        )
        inventory = Inventory(
            visit=VISIT,
            obsid=7,
            target="HD 209458",
            arch_rev=0,
            proc_num=0,
            start="2020-05-31T00:00:00",
            images=self.n,
            subarray=images,
            attitude=images,
            deviations=("raw.fits: CHECKSUM is missing",) * 3,
            fallbacks=dict(self.fallbacks),
            references={
                "bias frame": Reference(
                    kind="bias frame", product=sums, valid_from="2019-01-01T00:00:00"
                )
            },
        )
        calibrated = CalibratedVisit(
            events=self.leaf(Events, "events", "FLAGGING", N_SAA=0),
            bias=self.leaf(Bias, "bias", "BIAS_RON", BIAS_SRC="BlankLeft", BIAS_LVL=610.123),
            gain=self.leaf(Gain, "gain", "ADU_CONV"),
            linearity=self.leaf(Linearity, "linearity", "ADU_CONV", LIN_DONE=False),
            spread=self.leaf(Spread, "spread", "ADU_CONV"),
            dark=self.leaf(Dark, "dark", "DARK"),
            flat=self.leaf(Flat, "flat", "FFIELD"),
            flat_field=self.leaf(FlatField, "flat_field"),
            subarray=self.leaf(Calibrated, "calibrate"),
        )
        corrected = CorrectedVisit(
            pointing=self.leaf(Pointing, "pointing", "JITTER"),
            prior=self.leaf(Prior, "prior"),
            look=self.leaf(Look, "look"),
            calibration_stages=self.leaf(CalibrationStages, "calibration_stages"),
            first_background=self.leaf(Background, "background_1"),
            first_psf=self.leaf(Psf, "psf_1"),
            first_stars=self.leaf(Stars, "stars_1"),
            stars=self.leaf(Stars, "stars", "CONTAMIN"),
            smearing=self.leaf(Smearing, "smearing", "SMEARING"),
            first_defects=self.leaf(Defects, "defects_1"),
            background=self.leaf(Background, "background", "BKGSL_W"),
            psf=self.leaf(Psf, "psf", "PSF_FIT"),
            position=self.leaf(Position, "position", "WCS"),
            defects=self.leaf(
                Defects, "defects", "BDPIX_D1", "BDPIX_D3", CR_PIX=412, CR_RATE=0.0572, HOT_PIX=17
            ),
            correction_stages=self.leaf(CorrectionStages, "correction_stages"),
            subarray=self.leaf(Corrected, "correct", "BKGSL_C", product=images),
            corrections=self.leaf(Corrections, "corrections"),
        )
        measured = MeasuredVisit(
            apertures=self.leaf(Apertures, "apertures", "APERTURE", product=sums),
            psf_fit=self.leaf(PsfFit, "psf_fit", "PSF_FIT"),
            contamination=self.leaf(Contamination, "contamination", "CONTAMIN", CONTA_25=0.0125),
            quality=self.leaf(
                QualityTerm, "quality", "LC_QUAL", product=quality, OPT_WAY=str(Way.CIRCLE)
            ),
            light_curves=self.leaf(LightCurves, "light_curves", "LC_CFG"),
        )
        return inventory, calibrated, corrected, measured, ReportSettings()

    def corrected(self, folder: Path, mjd: Array) -> Product:
        declared, table = soc_structure("SCI_COR_SubArray"), soc_structure("SCI_COR_ImageMetadata")
        values = {
            **neutral(declared),
            "BUNIT": "electrons",
            "SHAPE": "circular",
            "NEXP": 3,
            "EXPTIME": 20.0,
            "TARGNAME": "HD 209458",
            "SPECTYPE": "G0",
            "T_EFF": 6065,
            "MAG_G": 7.51,
            "PI_NAME": "A. Stronomer",
            "V_STRT_U": "2020-05-31T00:00:00.000000",
            "T_STRT_U": "2020-05-31T00:00:30.000000",
            "V_STOP_U": "2020-05-31T02:00:00.000000",
            **self.header,
        }
        columns = {c.name: np.full(self.n, "" if c.letter == "A" else 0) for c in table.columns}
        image = NewHdu(declared, values, pixels=np.zeros((self.n, 2, 3)))
        return write_product(
            folder, image, NewHdu(table, neutral(table), columns={**columns, "MJD_TIME": mjd})
        )

    def sums(self, folder: Path, mjd: Array) -> Product:
        default = (
            1e7 * (1 + 1e-4 * np.random.default_rng(3).normal(size=self.n))
            if self.flux is None
            else self.flux
        )
        flux = np.full(
            (self.n, len(RADII)), 4.0
        )  # so that only the radius of DEFAULT gives the numbers tested here
        flux[:, RADII.index(DEFAULT_RADIUS)] = default
        columns = {
            "MJD_TIME": mjd,
            "FLUX": flux,
            "AREA": flux,
            "DARK": flux,
            "SMEARING": flux,
            "HOT": flux,
            "FIXED": mjd,
            "FIXED_AREA": mjd,
            "X": mjd,
            "Y": mjd,
        }
        radii = NewHdu(TERMS["TERM_APERTURES_RADII"], columns={"RADIUS": np.array(RADII)})
        return write_product(folder, NewHdu(TERMS["TERM_APERTURES"], columns=columns), radii)

    def judged(self, folder: Path, mjd: Array) -> Product:
        none = np.zeros(self.n, dtype=np.int32)
        event, quality = (none if flags is None else flags for flags in (self.event, self.quality))
        columns = {
            "MJD_TIME": mjd,
            "BJD_TIME": mjd,
            "EVENT": event,
            "STATUS": none,
            "QUALITY": quality,
            "FLUXERR": np.ones((self.n, len(RADII))),
            "OPT_FLUX": mjd,
            "OPT_ERR": mjd,
            "FIXED_ERR": mjd,
            "PSF_FLUX": mjd,
            "PSF_ERR": mjd,
            "LOSS": np.zeros((self.n, len(RADII))),
            "SAT_LIGHT_TIME": mjd,
            "SAT_LIGHT_RATE": mjd,
        }
        curves = [*LIGHT_CURVES, OPTIMAL, FIXED, PSF]
        values = {c.name: 100.0 for c in TERMS["TERM_METRICS"].columns} | {
            "N_GOOD": self.n,
            **self.metrics,
        }
        rows = {name: np.full(len(curves), value) for name, value in values.items()} | {
            "DATANAME": np.array(curves)
        }
        metrics = NewHdu(TERMS["TERM_METRICS"], columns=rows)
        used = {
            "RON_E": 7.0,
            "AP_OPT": 25.0,
            "OPT_WAY": str(Way.CIRCLE),
            **dict.fromkeys(("LOST_SAA", "LOST_OCC", "LOST_STR", "N_GAP", "DRP_PPM"), 0),
        }
        variances = {
            c.name: np.full((self.n, len(RADII)), 4.0)
            for c in TERMS["TERM_ERRORS"].columns
            if c.size == PER_RADIUS
        }
        ways = [*Way]
        candidates = NewHdu(
            TERMS["TERM_CANDIDATES"],
            columns={
                "WAY": np.array([str(way) for way in ways]),
                "RADIUS": np.full(len(ways), 25.0),
                "NOISE": np.full(len(ways), 100.0),
            },
        )
        errors = NewHdu(TERMS["TERM_ERRORS"], columns={"MJD_TIME": mjd, **variances})
        return write_product(
            folder,
            NewHdu(TERMS["TERM_QUALITY"], used, columns=columns),
            metrics,
            candidates,
            errors,
        )


def neutral(declared: Structure) -> dict[str, Scalar]:
    """Return a neutral value for every keyword without a default."""
    nothing: dict[str, Scalar] = {"string": "N/A", "utc": "1970-01-01T00:00:00", "boolean": False}
    return {k.name: nothing.get(k.type, 0) for k in declared.keywords.values() if k.default is None}


def write_product(folder: Path, *hdus: NewHdu) -> Product:
    extname = hdus[0].declared.extname
    path = folder / f"{extname}.fits"
    path.unlink(missing_ok=True)
    write_fits(path, hdus)
    return Product(path=str(path), sha256=disk.sha256(path), extname=extname)


def collect(visit: Visit, folder: Path) -> dict[str, Any]:
    """Return the JSON of a visit's report; it and the figures are written to `folder`."""
    made = collect_report.fn(*visit.arguments(folder))
    for name, data in made.blobs.items():
        (folder / name).write_bytes(data)
    return dict(json.loads(made.blobs[DATA]))


def typeset(visit: Visit, folder: Path, facts: Mapping[str, Any] = FACTS) -> Path:
    collect(visit, folder)
    typeset_report(folder, facts, folder / "report.pdf")
    return folder / "report.pdf"


def words(pdf: Path, *options: str) -> str:
    """Return the text of a PDF with single spaces."""
    found = subprocess.run(
        ["pdftotext", "-layout", *options, pdf, "-"], capture_output=True, text=True, check=True
    ).stdout
    return " ".join(found.split())


def first_page(pdf: Path) -> str:
    """Return the text of the first page, after checking that the second is the introduction."""
    assert "Introduction This report describes" in words(pdf, "-f", "2", "-l", "2")
    return words(pdf, "-l", "1")


def row(table: list[dict[str, Any]], label: str) -> dict[str, Any]:
    (found,) = (r for r in table if r["label"].startswith(label))
    return found
