"""Read a raw visit as PIPE does before its photometry; run by its own Python, outside of the
pipeline's environment.

usage: use_pipe.py VISIT REFERENCES FOLDER, with a folder that is not there yet. The last line
reports the result.

PIPE asks for its folders on standard input unless its configuration is written, and looks for the
files of a visit in one folder. Its PSF library is no product of the SOC and not public with it:
what needs one is left out, and with it the photometry.
"""

from __future__ import annotations

import json
import shutil
import sys
import types
from pathlib import Path

import numpy as np

visit, references, folder = map(Path, sys.argv[1:])
data, calibration = folder / "data" / "target" / "visit", folder / "references"
for place in (data, calibration):
    place.mkdir(parents=True)
for path in visit.glob("*/*.fits"):
    if path.parent.name != "truth":
        shutil.copy(path, data)
for path in references.glob("*.fits"):
    shutil.copy(path, calibration)
# in ADU and as a factor; PIPE's own curve is one of the real instrument
np.save(calibration / "nonlin.npy", np.array([[0.0, 1.0], [65535.0, 1.0]]))
paths = types.ModuleType("pipe.config.pipeconf")
paths.get_conf_paths = lambda: (str(folder / "data"), str(calibration))
paths.cache_dir = lambda: str(folder)
sys.modules["pipe.config.pipeconf"] = paths

from pipe import psf_phot, syntstar  # noqa: E402
from pipe.pipe_param import PipeParam  # noqa: E402

CORRECTIONS = ("flatfield", "non_lin", "darksub", "mask_badpix", "bgstars")


class Stars(syntstar.star_bg):
    """The catalogue without images of its stars."""

    def assign_psf(self) -> tuple[None, None]:
        return None, None


class Reader(psf_phot.PsfPhot):
    """Reads everything that a visit and the references hold; has no PSF library."""

    def define_psf_library(self) -> None:
        self.psf_lib = None


psf_phot.star_bg = Stars
parameters = PipeParam("target", "visit", outdir=str(folder / "out"))
(folder / "out").mkdir()
parameters.plog_verbosity = 0
parameters.nthreads = 1
found = Reader(parameters)
star = np.hypot(*(np.indices(found.sa_debias.shape[1:]) - 99.5)) < 25
clean = found.sa_debias - found.sa_dark - np.nanmedian(found.sa_debias, axis=(1, 2))[:, None, None]
answer = {
    "files": {
        name: Path(getattr(parameters, name)).name
        for name in (
            "file_att",
            "file_sa_raw",
            "file_hk",
            "file_im",
            "file_starcat",
            "file_flats",
            "file_gain",
            "file_nonlin",
        )
    },
    "switched_off": [n for n in CORRECTIONS if not getattr(parameters, n)],
    "gain": float(found.gain_fun()),
    "bias": float(found.bias / found.gain_fun()),
    "ron": float(found.ron / found.gain_fun()),
    "stacks": found.sa_debias.shape,
    "imagettes": found.im_debias.shape,
    "offsets": [list(map(int, v)) for v in (found.sa_off, found.im_off, found.im_sa_off)],
    "mjd": found.sa_mjd.tolist(),
    "bjd": found.mjd2bjd(found.sa_mjd).tolist(),
    "roll": found.sa_att[:, 3].tolist(),
    "imagette_roll": found.im_att[:, 3].tolist(),
    "temperature": found.sa_thermFront_2.tolist(),
    "teff": float(parameters.Teff),
    "masked": int(np.sum(found.sa_apt & ~found.sa_mask.astype(bool))),
    "dark": float(np.sum(found.sa_dark > 0)),
    "stars": found.starcat.catsize,
    "flux": [float(np.nansum(image[star])) for image in clean],
}
sys.stdout.write("\n" + json.dumps(answer) + "\n")
