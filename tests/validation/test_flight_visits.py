"""Visits of the mission's own simulator, which was written independently, against their truth."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from tasks.correction.hits import RAYS
from tasks.scene.stars import field_places
from tests.conftest import raw_file
from tests.support import calibrated

# Relative statistical error of a robust scatter of n points: 1.17 / sqrt(n) (asymptotic, normal
# noise; a standard deviation of normal points is good to 0.71 / sqrt(n), and the median of the
# distances has 37 % of its efficiency).
ERROR = 1.17


def table(path: Path) -> np.ndarray:
    """Return the table of HDU 1, with the file closed."""
    with fits.open(path, memmap=False) as hdus:
        return np.array(hdus[1].data)


def seconds(path: Path) -> float:
    """Return the duration of a stack."""
    with fits.open(path, memmap=False) as hdus:
        return float(hdus[1].header["TEXPTIME"])


def score(published: Path, visit: Path, name: str) -> tuple[float, float, int]:
    """Return robust scatter of flux / truth [ppm], formal floor [ppm] and number of good points."""
    curve_file = raw_file(published, f"SCI_COR_Lightcurve-{name}_V")
    curve, incident = (
        table(curve_file),
        table(visit / "truth" / "incidentNormalizedLightCurve.fits"),
    )
    t, half = curve["MJD_TIME"], seconds(curve_file) / 86400 / 2
    truth = np.array([incident["FLUX"][np.abs(incident["MJD_TIME"] - a) < half].mean() for a in t])
    good = (curve["EVENT"] == 0) & (curve["QUALITY"] == 0)
    ratio = (curve["FLUX"] / truth)[good]
    scatter = 1e6 * 1.4826 * np.median(np.abs(ratio / np.median(ratio) - 1))
    error = 1e6 * np.median((curve["FLUXERR"] / curve["FLUX"])[good])
    return float(scatter), float(error), int(good.sum())


@pytest.fixture(scope="module")
def reduced(
    shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, Path]]:
    """Reduce a visit with the command, once; return its published folder and its own."""
    done: dict[str, Path] = {}

    def reduce(name: str) -> tuple[Path, Path]:
        visit = shared / "visits" / name
        if name not in done:
            out = tmp_path_factory.mktemp(name)
            command = [
                sys.executable,
                "-m",
                "flows.command.main",
                "reduce",
                str(visit),
                "--references",
                str(shared / "visits" / "references"),
            ]
            run = subprocess.run(
                [
                    *command,
                    "--output",
                    str(out),
                    "--work",
                    str(out / "work"),
                    "--engine",
                    "plain",
                    "-q",
                ],
                text=True,
                capture_output=True,
                check=False,
            )
            assert run.returncode == 0, run.stderr
            done[name] = Path(run.stdout.splitlines()[-1])
        return done[name], visit

    return reduce


def imagette_score(published: Path, visit: Path, name: str) -> tuple[float, float, float, int]:
    """Return scatter of imagettes and of means over stacks, the formal floor [ppm], and points.

    Both scatters are those of flux / truth, relative to the floor.
    """
    curve = table(raw_file(published, f"SCI_COR_Lightcurve-{name}_V"))
    incident = table(visit / "truth" / "incidentNormalizedLightCurve.fits")
    truth = incident["FLUX"][
        np.abs(incident["MJD_TIME"][None] - curve["MJD_TIME"][:, None]).argmin(axis=1)
    ]
    good = (curve["EVENT"] == 0) & (curve["QUALITY"] == 0)
    stack = table(published / "terms" / "correct_imagettes.fits")["STACK"]
    ratio = curve["FLUX"] / truth / np.median((curve["FLUX"] / truth)[good])
    whole = [k for k in np.unique(stack) if (good & (stack == k)).sum() == 3]
    binned = np.array([ratio[good & (stack == k)].mean() for k in whole])
    term = table(published / "terms" / "imagette_photometry.fits")
    flux, read_out = np.median(curve["FLUX"]), (3.55 / 0.5111) ** 2
    noise = np.sqrt(flux + np.pi * term["RADIUS"][0] ** 2 * (np.median(term["LEVEL"]) + read_out))
    floor = float(noise / flux)
    single, means = (
        1.4826 * float(np.median(np.abs(v - np.median(v)))) for v in (ratio[good], binned)
    )
    return single / floor, means / floor * np.sqrt(3), 1e6 * floor, int(good.sum())


def best(published: Path, visit: Path, names: tuple[str, ...]) -> tuple[float, int]:
    """Return the smallest scatter over the formal floor, and the number of points."""
    scores = [score(published, visit, name) for name in names]
    return min((scatter / error, n) for scatter, error, n in scores)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "images"), [("V9_G0_transit", 241), ("G10_field", 146)])
def test_the_best_light_curve_is_within_a_tenth_of_the_photon_floor(
    name: str, images: int, reduced: Callable[[str], tuple[Path, Path]]
) -> None:
    ratio, n = best(*reduced(name), ("DEFAULT", "OPTIMAL", "PSF"))
    assert n >= 0.9 * images  # nearly all points must be used
    # the goal is 1.10; one statistical error of the scatter is granted
    assert ratio < 1.10 * (1 + ERROR / np.sqrt(n))


@pytest.mark.slow
def test_apertures_scatter_less_than_without_removal_of_cosmic_rays(
    reduced: Callable[[str], tuple[Path, Path]],
) -> None:
    published, visit = reduced("V9_G0_transit")
    # what an independent trial reached with the true cosmic rays subtracted [ppm]
    for name, freed in (("R25", 372), ("R33", 229), ("R40", 220)):
        scatter, _, n = score(published, visit, name)
        assert scatter < freed * (1 + 2 * ERROR / np.sqrt(n))


@pytest.mark.slow
def test_the_flux_is_not_correlated_with_the_roll_angle_in_a_rich_field(
    reduced: Callable[[str], tuple[Path, Path]],
) -> None:
    published, _ = reduced("G10_field")
    curve = table(raw_file(published, "SCI_COR_Lightcurve-OPTIMAL_V"))
    good = (curve["EVENT"] == 0) & (curve["QUALITY"] == 0)
    flux = curve["FLUX"][good] / (1 + curve["CONTA_LC"][good])
    phase = np.radians(curve["ROLL_ANGLE"][good])
    waves = [f(k * phase) for k in (1, 2, 3) for f in (np.cos, np.sin)]
    design = np.stack(
        [np.ones_like(phase), curve["MJD_TIME"][good] - curve["MJD_TIME"][good].mean(), *waves],
        axis=1,
    )
    coefficients = np.linalg.lstsq(design, 1e6 * (flux / np.median(flux) - 1), rcond=None)[0][2:]
    # the true flux is constant; the error of one coefficient is 36 ppm
    assert np.hypot(coefficients[::2], coefficients[1::2]).max() < 100


def place_in_window(published: Path) -> tuple[float, float]:
    """Return the median position of the target as an index of the window."""
    position = table(published / "terms" / "position.fits")
    with fits.open(raw_file(published, "SCI_COR_SubArray"), memmap=False) as hdus:
        corner = hdus[1].header["X_WINOFF"], hdus[1].header["Y_WINOFF"]
    return float(np.median(position["X"])) - corner[0] - 0.5, float(
        np.median(position["Y"])
    ) - corner[1] - 0.5


def pixel_noise(published: Path) -> np.ndarray:
    """Return the noise of each pixel of a stack from star, sky and read-out, shape (ny, nx)."""
    with fits.open(raw_file(published, "SCI_COR_SubArray"), memmap=False) as hdus:
        image, header = np.median(hdus[1].data[:60], axis=0), dict(hdus[1].header)
    sky = np.median(table(published / "terms" / "background.fits")["LEVEL"])
    return np.asarray(
        np.sqrt(
            np.maximum(image, 0)
            + sky
            + header["NEXP"] * (header["RON_ADU"] / header["GAIN_AVG"]) ** 2
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smoke", "V9_G0_transit", "G10_field"])
def test_cosmic_rays_are_found_inside_and_outside_of_the_aperture(
    name: str, reduced: Callable[[str], tuple[Path, Path]]
) -> None:
    published, visit = reduced(name)
    truth = table(raw_file(visit / "truth", "SIM_TRU_SubArray"))
    noise, (x0, y0) = pixel_noise(published), place_in_window(published)
    charge: dict[tuple[int, int, int], float] = {}
    for i, row in enumerate(truth):
        for x, y, n in zip(
            row["COSMIC_XPIXEL"], row["COSMIC_YPIXEL"], row["COSMIC_NELECTRONS"], strict=True
        ):
            if 0 <= x < 200 and 0 <= y < 200 and n > 0:
                charge[i, int(y), int(x)] = charge.get((i, int(y), int(x)), 0.0) + float(n)
    with fits.open(
        published / "terms" / "defects.fits", memmap=False
    ) as hdus:  # unsigned columns need their offsets
        rays = hdus[1].data[np.isin(hdus[1].data["KIND"], RAYS)]
        found = set(
            zip(*(rays[c].astype(int).tolist() for c in ("IMAGE_INDEX", "Y", "X")), strict=True)
        )
    seen = {"inside": [0, 0], "outside": [0, 0]}
    for (i, y, x), n in charge.items():
        if n > 10 * noise[y, x]:
            counts = seen["inside" if np.hypot(x - x0, y - y0) < 25 else "outside"]
            counts[0] += (i, y, x) in found
            counts[1] += 1
    for where, (hit, all_of_them) in seen.items():
        assert all_of_them > 0, where
        assert hit >= 0.95 * all_of_them, (where, hit, all_of_them)
    assert sum(key in charge for key in found) >= 0.8 * len(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["V9_G0_transit", "G10_field"])
def test_telegraphic_pixels_are_found_and_no_others(
    name: str, reduced: Callable[[str], tuple[Path, Path]]
) -> None:
    published, visit = reduced(name)
    truth = table(raw_file(visit / "truth", "SIM_TRU_SubArray"))
    noise = pixel_noise(published)
    charge: dict[tuple[int, int], list[float]] = {}
    for row in truth:
        for x, y, n, kind in zip(
            row["HOT_XPIXEL"],
            row["HOT_YPIXEL"],
            row["HOT_NELECTRONS"],
            row["HOT_TYPE"],
            strict=True,
        ):
            if (
                kind in (2, 3) and 0 <= x < 200 and 0 <= y < 200 and np.isfinite(noise[y, x])
            ):  # active and inactive
                charge.setdefault((int(y), int(x)), []).append(float(n) if kind == 2 else 0.0)
    plain = {
        place
        for place, n in charge.items()
        if np.ptp(n) > 5 * noise[place] and 0.1 < np.mean(np.array(n) > np.ptp(n) / 2) < 0.9
    }
    with fits.open(published / "terms" / "defects.fits", memmap=False) as hdus:
        found = {(int(r["Y"]), int(r["X"])) for r in hdus["TERM_TELEGRAPHIC"].data}
    assert len(plain) >= 2
    assert plain <= found
    assert found <= set(charge)


@pytest.mark.slow
def test_the_psf_photometry_is_at_the_photon_floor_in_spite_of_breathing(
    reduced: Callable[[str], tuple[Path, Path]],
) -> None:
    # without the change of the PSF with the telescope's temperature it scatters by 1.9 times the
    # floor; 1.15 is no goal but the level that was reached (1.13 to 1.19 with one statistical error
    # of 5 %), to notice when it is lost
    ratio, n = best(*reduced("V9_G0_transit"), ("PSF",))
    assert ratio < 1.15 * (1 + ERROR / np.sqrt(n))


@pytest.mark.slow
def test_a_circle_at_rest_is_called_fixed_and_is_worse_for_a_moving_star(
    reduced: Callable[[str], tuple[Path, Path]],
) -> None:
    published, visit = reduced("V9_G0_transit")
    with fits.open(raw_file(published, "SCI_COR_Lightcurve-R25_Fixed_V"), memmap=False) as hdus:
        assert (hdus[1].header["AP_TYPE"], hdus[1].header["AP_RADI"]) == ("Fixed", 25.0)
    assert score(published, visit, "R25_Fixed")[0] > 2 * score(published, visit, "R25")[0]


@pytest.mark.slow
def test_field_stars_are_where_catalogue_and_roll_angle_put_them(
    reduced: Callable[[str], tuple[Path, Path]],
) -> None:
    published, visit = reduced("G10_field")
    truth = table(raw_file(visit / "truth", "SIM_TRU_SubArray"))
    stars, pointing = (
        table(published / "terms" / "stars.fits"),
        table(published / "terms" / "pointing.fits"),
    )
    field = stars[np.hypot(stars["XI"], stars["ETA"]) > 1]  # without the target
    nothing = np.zeros(len(pointing))
    x, y = field_places(
        *(field[c].astype(float) for c in ("XI", "ETA")),
        pointing["ROLL_ANGLE"].astype(float),
        nothing,
        nothing,
        1.002,
    )
    away = []
    for i, (tx, ty) in enumerate(zip(truth["PSF_MEAN_X"], truth["PSF_MEAN_Y"], strict=True)):
        # a star at the window's edge has a truth of only part of its arc
        for k in np.flatnonzero(np.hypot(tx[1:] - 100, ty[1:] - 100) < 90) + 1:
            away.append(np.hypot(x[:, i] - (tx[k] - tx[0]), y[:, i] - (ty[k] - ty[0])).min())
    assert len(away) > 100
    assert np.percentile(away, 99) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["V9_G0_transit", "G10_field", "smoke"])
def test_every_product_of_a_visit_passes_the_mission_s_checker(
    name: str, reduced: Callable[[str], tuple[Path, Path]], shared: Path
) -> None:
    published, _ = reduced(name)
    files = sorted(str(p) for p in published.iterdir() if p.suffix in (".fits", ".pdf"))
    model = shared / "datamodel"
    check = [
        sys.executable,
        str(model / "check_product.py"),
        "--quiet",
        str(model / "data_model.json"),
        *files,
    ]
    run = subprocess.run(check, text=True, capture_output=True, check=False)
    assert run.returncode == 0, run.stdout


@pytest.mark.slow
def test_the_roll_angle_decreases_and_the_position_is_the_photocentre(
    reduced: Callable[[str], tuple[Path, Path]],
) -> None:
    published, visit = reduced("G10_field")
    curve = table(raw_file(published, "SCI_COR_Lightcurve-DEFAULT_V"))
    truth = table(raw_file(visit / "truth", "SIM_TRU_SubArray"))
    # the truth's roll has the other sign; float32 angles of 1 Hz samples differ by half a second of
    # motion, 0.03 deg
    turned = (curve["ROLL_ANGLE"] + truth["ROLL_ANGLE"] + 180) % 360 - 180
    assert np.abs(turned).max() < 0.1
    # the photocentre of the PSF stands off its truth position by a constant, which is not ours to
    # know
    offset = (
        curve["CENTROID_X"] - truth["PSF_MEAN_X"][:, 0],
        curve["CENTROID_Y"] - truth["PSF_MEAN_Y"][:, 0],
    )
    assert max(float(np.std(o)) for o in offset) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "single", "means"), [("IMAGETTE", 1.15, 1.1), ("IMAGETTE_PSF", 1.1, 1.1)]
)
def test_imagettes_are_near_the_photon_floor(
    name: str, single: float, means: float, reduced: Callable[[str], tuple[Path, Path]]
) -> None:
    scatter, binned, floor, n = imagette_score(*reduced("V9_G0_transit"), name)
    assert n >= 0.95 * 723  # nearly all imagettes must be used
    assert floor == pytest.approx(385, abs=15)  # 3e5 electrons/s for 20 s, G = 9
    # met: 1.12 and 0.98 within the circle, 1.04 and 1.01 by PSF, all against the floor of the
    # circle; one statistical error of the scatter is granted
    assert scatter < single * (1 + ERROR / np.sqrt(n))
    assert binned < means * (1 + ERROR / np.sqrt(n / 3))


@pytest.mark.slow
def test_imagettes_of_a_stack_have_the_flux_of_the_stack(
    reduced: Callable[[str], tuple[Path, Path]],
) -> None:
    published, _ = reduced("V9_G0_transit")
    term = table(published / "terms" / "imagette_photometry.fits")
    stack = table(published / "terms" / "correct_imagettes.fits")["STACK"]
    apertures, fit = (
        table(published / "terms" / "apertures.fits"),
        table(published / "terms" / "psf_fit.fits"),
    )
    radius = 15.0  # the smallest of the stacks' circles, near the imagettes' 14
    k = sorted([*map(float, range(15, 41)), 22.5]).index(radius)
    in_stack = apertures["FLUX"][:, k] / fit["SHARE"][:, k]
    in_imagettes = np.where(term["MASKED"] < 0.01, term["SUM"] / term["SHARE"], np.nan)
    means = np.array(
        [
            in_imagettes[stack == i].mean() if (stack == i).sum() == 3 else np.nan
            for i in range(len(in_stack))
        ]
    )
    quality = table(published / "terms" / "quality.fits")
    good = np.isfinite(means) & (quality["EVENT"] == 0) & (quality["QUALITY"] == 0)
    ratio = 3 * means[good] / in_stack[good]
    # both hold the same electrons: what differs is the ring from 14 to 15 pixels, 2 % of the light,
    # which adds 30 ppm of photon noise and breathes by 150 ppm
    assert 1.4826 * np.median(np.abs(ratio - np.median(ratio))) < 250e-6
    assert np.median(ratio) == pytest.approx(1.0, abs=0.003)


@pytest.mark.slow
def test_the_full_array_has_its_star_and_nothing_else(
    reduced: Callable[[str], tuple[Path, Path]],
) -> None:
    published, visit = reduced("V9_G0_transit")
    truth = table(raw_file(visit / "truth", "SIM_TRU_FullArray"))
    with fits.open(published / "terms" / "plate.fits", memmap=False) as hdus:
        spots, header = np.array(hdus[1].data), dict(hdus[1].header)
    # taken in the SAA, where cosmic rays hit a quarter of the pixels: none may pass for a star
    assert (len(spots), header["PLT_OK"]) == (1, False)
    # the photocentre of the PSF stands off its truth position by up to (0.5, 1.6) pixels
    assert abs(spots["X"][0] - truth["PSF_MEAN_X"][0, 0]) < 0.6
    assert abs(spots["Y"][0] - truth["PSF_MEAN_Y"][0, 0]) < 1.7
    with fits.open(raw_file(published, "SCI_COR_FullArray"), memmap=False) as hdus:
        frame, smeared = hdus[1].data, hdus["SCI_COR_SmearingRow"].data
    # the truth of this frame is 16 % above that of the stacks, exposure by exposure, which nothing
    # tells; ours is theirs
    assert smeared.max() == pytest.approx(truth["SMEAR_ROW"].max(), rel=0.2)
    stacks = table(raw_file(visit / "truth", "SIM_TRU_SubArray"))
    # wings of stars that the PSF does not hold are some percent of the light of a column
    assert smeared.max() == pytest.approx(np.median(stacks["SMEAR_ROW"], axis=0).max() / 3, rel=0.1)
    # noise of a dark pixel is 24 electrons; the level of 1e6 of them must be near 0, left tracks
    # lift it
    assert abs(np.nanmedian(frame)) < 2
    assert np.isnan(frame).mean() < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smoke", "V9_G0_transit", "G10_field"])
def test_calibrated_images_agree_with_the_truth(
    name: str, reduced: Callable[[str], tuple[Path, Path]]
) -> None:
    published, visit = reduced(name)
    found = {(row.effect, row.compared): row for row in calibrated.Visit(visit, published).rows()}
    bias, noise, gain = (found[key] for key in list(found)[:3])
    # the reference frame's own level is good to a fifth of a count; in the light curve only a
    # change counts
    assert abs(bias.mean) < 0.2
    assert bias.scatter < 0.02
    # the noise is known to 1 or 2 % from 1500 to 4000 pixels of an image, to 3 % from few images
    assert abs(noise.mean) < 3.0
    assert abs(gain.mean) < 1.0
    assert gain.scatter < 1.0
    # 24 000 pixels of 15 electrons give the ring's median to 0.12
    assert found["bias, dark", "ring of 45 to 97 pixels, per pixel"].scatter < 0.25
    (hot,) = (row for row in found.values() if "hot pixels" in row.compared)
    # each holds a few per cent of noise, and only some images and pixels are there
    assert abs(hot.mean) < 5.0
    curves = {row.compared: row.scatter for row in found.values() if row.effect == "star"}
    floor = curves.pop("photon noise of the star alone")
    as_calibrated = curves["flux in 25 pixels: level of the ring subtracted"]
    without_rays = curves["flux in 25 pixels: true cosmic rays subtracted too"]
    if name != "smoke":  # five stacks are too few for a scatter
        assert without_rays < as_calibrated
        # the excess over photon noise is motion within a stack (0.9 pixel in V9) and breathing,
        # which calibration does not correct
        assert without_rays < (2.0 if name.startswith("V9") else 1.15) * floor
