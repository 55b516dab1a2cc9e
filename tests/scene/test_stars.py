"""Field stars: their band, their epoch, and the plate solution with which they are drawn."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from schemas.payloads import (
    Calibrated,
    FirstScene,
    Look,
    Plate,
    Pointing,
    Prior,
    Product,
    Psf,
    Reference,
    Stars,
)
from schemas.products import Structure, soc_structure
from schemas.settings import PlateSettings, PsfSettings, PsfUse
from schemas.terms import TERMS
from tasks.files.disk import sha256
from tasks.files.writer import NewHdu, write_fits
from tasks.scene.catalogue import read_colours, to_cheops_band
from tasks.scene.optics import to_spectrum
from tasks.scene.plate import solve_plate
from tasks.scene.prior import read_prior
from tasks.scene.star_model import Shape, Stamps, StarModel, Warmth
from tasks.scene.stars import (
    Field,
    core_light,
    draw_stars,
    find_stars,
    phases,
    read_field,
    spread,
)
from tasks.scene.track import Track
from tasks.visit.headers import nothing
from tests.conftest import raw_file
from tests.support.runs import Bench
from tests.support.star_field import NOMINAL, ROLL, SCALE, TARGET, TURN, Sky

MJD = 59094.23


def as_product(path: Path, extname: str) -> Product:
    return Product(path=str(path), sha256=sha256(path), extname=extname)


def test_gaia_magnitudes_go_to_the_band_of_cheops_by_temperature() -> None:
    table = np.array([3000.0, 6000.0]), np.array([0.02, 0.0])
    mag, teff = np.array([9.0, 12.0, 13.0, 14.0]), np.array([6000.0, 4500.0, np.nan, 0.0])
    # half-way between the two temperatures; the stars without one have the target's colour
    assert to_cheops_band(mag, teff, 0, table) == pytest.approx([9.0, 12.01, 13.0, 14.0])
    with pytest.raises(ValueError, match="column T_EFF is not increasing"):
        to_cheops_band(mag, teff, 0, (table[0][::-1], table[1]))


def test_the_real_flux_conversion_is_read(shared: Path) -> None:
    path = raw_file(shared / "real" / "instrument", "REF_APP_FluxConversion")
    product = as_product(path, "REF_APP_FluxConversion")
    temperature, colour = read_colours(
        Reference(kind="flux conversion", product=product, valid_from="")
    )
    assert (len(temperature), temperature[0]) == (378, 2300.0)
    assert colour[0] == pytest.approx(0.01953341, abs=1e-8)  # its first row


def test_stars_turn_with_a_roll_offset_as_with_the_roll() -> None:
    grid = np.zeros((64, 64))
    grid[32, 32] = 1.0
    time, still = np.arange(-30.0, 30.0), np.zeros(60)
    one = np.array([20.0]), np.array([5.0]), np.array([1e4]), np.array([10.0])

    def drawn(roll: float, turn: float) -> Any:
        track = Track(time, still, still, np.full(60, roll), 0.0)
        return Field(*one, grid, 1.0, turn, track, 0.0).image((80, 80), 40.0, 40.0, 0.0, 20.0)

    np.testing.assert_allclose(
        drawn(30.0, 12.5), drawn(42.5, 0.0), atol=1e-6
    )  # rounding of 1e4 electrons
    assert np.abs(drawn(30.0, 12.5) - drawn(30.0, 0.0)).max() > 1000


def test_a_star_keeps_the_light_of_its_core_when_the_psf_gets_other_wings(tmp_path: Path) -> None:
    one = {
        "XI": 20.0,
        "ETA": 5.0,
        "MAG": 12.0,
        "T_EFF": 5000.0,
        "FLUX": 1e5,
        "FLUXERR": 1e3,
        "TARGET": False,
    }
    used: dict[str, Any] = {
        "N_STARS": 1,
        "STAR_FIT": 1,
        "STAR_BND": True,
        "STAR_SCL": 1.0,
    } | dict.fromkeys(("STAR_ROL", "STAR_EPO", "STAR_AMP", "STAR_AMS"), 0.0)
    y, x = np.mgrid[-128:128, -128:128] / 2
    round_psf = [
        np.exp(-(x**2 + y**2) / (2 * sigma**2)) / (2 * np.pi * sigma**2) / 4
        for sigma in (5.0, 20.0)
    ]
    first, second = (share * round_psf[0] + (1 - share) * round_psf[1] for share in (0.98, 0.95))
    time, still = np.arange(-30.0, 30.0), np.zeros(60)
    track = Track(time, still, still, np.zeros(60), 0.0)

    def drawn(psf: Any) -> Any:
        where = Stamps((0, 0), 128)
        model = StarModel(
            Shape(to_spectrum(psf)), Warmth(0.0, 0.0), where, np.ones((128, 128)), 0.0, 40.0
        )
        used["STAR_COR"] = core_light(first)
        path = tmp_path / "stars.fits"
        path.unlink(missing_ok=True)
        columns = {name: np.array([value]) for name, value in one.items()}
        write_fits(path, [NewHdu(TERMS["TERM_STARS"], used, columns=columns)])
        stars = Stars(
            step="stars", products={"TERM_STARS": as_product(path, "TERM_STARS")}, used=used
        )
        field = read_field(stars, model, track)
        return field.image((160, 160), 80.0, 80.0, 0.0, 1.0), field.of_errors(stars).flux[0]

    (with_first, error), (with_second, other_error) = drawn(first), drawn(second)
    rows, columns = np.mgrid[:160, :160]
    core = np.hypot(columns - 60, rows - 85) < 15  # North is up and East to the left
    assert with_second[core].sum() == pytest.approx(
        with_first[core].sum(), rel=1e-3
    )  # pixels at the edge of the circle
    # a twentieth of the light is in wings of which a quarter is within 15 pixels, in place of a
    # fiftieth
    assert other_error / error == pytest.approx(
        (0.98 * 0.989 + 0.02 * 0.245) / (0.95 * 0.989 + 0.05 * 0.245), abs=1e-3
    )
    assert error == pytest.approx(1e3, rel=1e-12)  # the rounding of a Fourier transform and back


@pytest.fixture(scope="module")
def inputs(reduced: Bench, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `stars` reads of the tiny visit."""
    products = reduced.work / "products"
    terms = {name: next(products.rglob(f"{name}.fits")) for name in ("TERM_LOOK", "TERM_PSF_1")}
    folder = tmp_path_factory.mktemp("catalogue")
    catalogue = Path(shutil.copy(raw_file(reduced.visit, "EXT_PRE_StarCatalogue"), folder))
    raw = as_product(raw_file(reduced.visit, "SCI_RAW_SubArray"), "SCI_RAW_SubArray")
    return {
        "raw": raw,
        "catalogue": catalogue,
        "prior": prior_of(raw, catalogue, folder / "prior.fits"),
        "look": Look(
            step="look", products={"TERM_LOOK": as_product(terms["TERM_LOOK"], "TERM_LOOK")}
        ),
        "pointing": Pointing(step="pointing", used={"PIX_SCAL": 1.002, "REPETIT": 0.0}),
        "psf": Psf(
            step="psf_1",
            products={"TERM_PSF_1": as_product(terms["TERM_PSF_1"], "TERM_PSF_1")},
            used={"PSF_N": 12, "PSF_LIT": 1.0},
        ),
        "plate": None,
    }


def prior_of(raw: Product, catalogue: Path, path: Path) -> Prior:
    """Return what is known before the look, with the stars of a catalogue."""
    leaves = read_prior.fn(raw, None, None, as_product(catalogue, "EXT_PRE_StarCatalogue"), None)
    write_fits(path, leaves.files["TERM_PRIOR"])
    return Prior(step="prior", products={"TERM_PRIOR": as_product(path, "TERM_PRIOR")})


def found_stars(inputs: dict[str, Any], **other: Any) -> Any:
    """Run `stars_1` with some of its inputs replaced."""
    given = inputs | other
    first = FirstScene(**{name: given[name] for name in ("look", "pointing", "prior")})
    return find_stars.fn(first, given["psf"], given["plate"], PsfUse.of(PsfSettings()))


def test_a_plate_solution_is_used_where_it_holds(inputs: dict[str, Any]) -> None:
    used = {"PLT_OK": True, "PLT_SCAL": 1.0037, "PLT_ROLL": -0.21}
    solved = found_stars(inputs, plate=Plate(step="plate", used=used))
    assert {k: solved.used[k] for k in ("STAR_SCL", "STAR_ROL")} == {
        "STAR_SCL": 1.0037,
        "STAR_ROL": -0.21,
    }
    lost = found_stars(inputs, plate=Plate(step="plate", used={**used, "PLT_OK": False}))
    assert {k: lost.used[k] for k in ("STAR_SCL", "STAR_ROL")} == {
        "STAR_SCL": 1.002,
        "STAR_ROL": 0.0,
    }
    assert (
        abs(float(lost.used["STAR_EPO"])) < 0.01
    )  # the simulator's catalogue is of the visit's epoch
    assert (lost.warnings, lost.used["STAR_BND"]) == ([], False)


@pytest.mark.parametrize(
    ("epoch", "text"),
    [
        (2015.5, r"is [+]\d\.\d years from the visit: proper motion"),
        (None, "is not known: proper motion"),
    ],
)
def test_an_old_catalogue_is_a_warning(
    inputs: dict[str, Any], epoch: float | None, text: str, tmp_path: Path
) -> None:
    path = tmp_path / "catalogue.fits"
    with fits.open(inputs["catalogue"]) as hdus:
        if epoch is None:
            del hdus[1].header["OBSEPOCH"]
        else:
            hdus[1].header["OBSEPOCH"] = epoch
        hdus.writeto(path, checksum=True)
    old = found_stars(inputs, prior=prior_of(inputs["raw"], path, tmp_path / "prior.fits"))
    (warning,) = old.warnings
    assert re.search(text, warning)


def hdu(structure: Structure, keywords: dict[str, Any], **data: Any) -> NewHdu:
    """Return an HDU with a neutral value for all that is not given."""
    neutral = {
        "string": "N/A",
        "utc": "2020-09-02T05:30:40.000000",
        "boolean": False,
        "integer": 0,
        "unsigned": 0,
    }
    own = {
        k.name: neutral.get(k.type, 0.0) for k in structure.keywords.values() if k.default is None
    }
    if structure.columns:
        data = {"columns": {c.name: nothing(c, 1) for c in structure.columns} | data["columns"]}
    return NewHdu(structure, own | keywords, **data)


def test_the_step_solves_a_frame_from_attitude_and_catalogue(sky: Sky, tmp_path: Path) -> None:
    frame = tmp_path / "frame.fits"
    metadata = {"MJD_TIME": np.array([MJD]), "UTC_TIME": np.array(["2020-09-02T05:31:12.000000"])}
    write_fits(
        frame,
        [
            hdu(soc_structure("SCI_CAL_FullArray"), {"NEXP": 1, "EXPTIME": 20.0}, pixels=sky.frame),
            hdu(soc_structure("SCI_CAL_ImageMetadata"), {}, columns=metadata),
        ],
    )
    track = tmp_path / "pointing.fits"
    seconds = np.arange(-60.0, 60.0) + 0.25
    places = {
        "MJD_TIME": MJD + seconds / 86400,
        "X": 0 * seconds,
        "Y": 0 * seconds,
        "ROLL_ANGLE": ROLL - 0.06 * seconds,
    }
    write_fits(
        track,
        [
            hdu(TERMS["TERM_POINTING"], {}, columns={"MJD_TIME": np.array([MJD])}),
            NewHdu(TERMS["TERM_TRACK"], columns=places),
        ],
    )
    catalogue = tmp_path / "catalogue.fits"
    mag = 9 - 2.5 * np.log10(sky.flux / 2e7)
    first, teff = np.arange(len(mag)) == 0, np.full(len(mag), 5000.0)
    columns = [
        fits.Column(*c[:2], unit=c[2], array=c[3])
        for c in (
            ("TARGET", "L", None, first),
            ("RA", "D", "deg", sky.ra),
            ("DEC", "D", "deg", sky.dec),
            ("MAG_GAIA", "D", "mag", mag),
            ("T_EFF", "D", "Kelvin", teff),
        )
    ]
    table = fits.BinTableHDU.from_columns(columns)
    table.header["EXTNAME"] = "EXT_PRE_StarCatalogue"
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(catalogue)
    pointing = Pointing(
        step="pointing",
        products={"TERM_POINTING": as_product(track, "TERM_POINTING")},
        used={"PIX_SCAL": NOMINAL, "LOC_X": 512.0, "LOC_Y": 512.0, "REPETIT": 0.0},
    )
    calibrated = Calibrated(
        step="", products={"SCI_CAL_FullArray": as_product(frame, "SCI_CAL_FullArray")}
    )
    made = solve_plate.fn(
        calibrated,
        as_product(catalogue, "EXT_PRE_StarCatalogue"),
        pointing,
        Psf(step="psf_1", used={"PSF_LAG": 0.0}),
        PlateSettings(),
    )
    assert made.used["PLT_OK"]
    assert int(made.used["PLT_MAT"]) > 40
    # the 20 samples of the exposure are a quarter of a second early in the mean, 0.015 deg; stars
    # tell the roll to 0.001 deg
    assert made.used["PLT_ROLL"] == pytest.approx(TURN - 0.015, abs=0.005)
    assert made.used["PLT_SCAL"] == pytest.approx(SCALE, rel=1e-4)
    # a window of 14 pixels cuts the lobes unevenly, which moves all stars alike
    assert (
        np.hypot(float(made.used["PLT_X"]) - sky.x[0], float(made.used["PLT_Y"]) - sky.y[0]) < 0.5
    )
    assert made.status["WCS"] == "completed"
    alone = solve_plate.fn(calibrated, None, pointing, Psf(step="psf_1"), PlateSettings())
    assert (alone.used["PLT_OK"], alone.status["WCS"], alone.warnings) == (False, "N/A", [])
    assert alone.used["PLT_SCAL"] == NOMINAL
    assert TARGET[0] == sky.ra[0]


def test_a_psf_from_fewer_images_than_the_setting_is_not_used(inputs: dict[str, Any]) -> None:
    first = FirstScene(**{name: inputs[name] for name in ("look", "pointing", "prior")})
    fluxes = []
    for fewest in (12, 13):  # the PSF is from 12 images
        use = PsfUse.of(PsfSettings(fewest=fewest))
        (table,) = find_stars.fn(first, inputs["psf"], None, use).files["TERM_STARS_1"]
        fluxes.append(np.asarray(table.columns["FLUX"]).max())
    # without a PSF the light beyond the aperture is unknown, and the flux lower
    assert fluxes[1] < fluxes[0]


@pytest.mark.parametrize("place", [-60.0, 100.0, 1e12, -1e30, 1e308, np.nan, np.inf])
def test_a_star_far_from_the_image_is_not_drawn(place: float) -> None:
    # a place of 1e30, as from an attitude that cannot be, has no integer that could be an index
    image, light = np.zeros((40, 40)), np.zeros((40, 40), np.float32)
    psf, one = phases(np.full((64, 64), 1.0 / 64**2)), np.array([1.0])
    for x, y in ((place, 20.0), (20.0, place)):
        places = np.array([[x]]), np.array([[y]])
        draw_stars(image, *places, one, psf, np.array([50.0]))
        spread(light, (40, 40), *places, one)
    assert (image.sum(), light.sum()) == (0.0, 0.0)
