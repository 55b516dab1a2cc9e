"""`drp simulate` with an invalid case or a bad disk: one line, an exit code, no partial visit."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from flows.simulate import simulate_into
from schemas import ROOT
from schemas.errors import CannotCreateError, DrpError

TINY = """
images = 2
nexp = 1
width = 16
height = 16
window_x = 500
window_y = 500
near_stars = 0
stars = 0.0
saa = "never"
"""


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def assert_rejected(folder: Path, code: int, *texts: str, case: str | Path) -> None:
    """Simulate, and expect an error with a code and all of the texts, and no trace of a visit."""
    before = files_below(folder)
    with pytest.raises(DrpError) as caught:
        simulate_into(folder / "visit", str(case), None, 1, None)
    assert caught.value.exit_code == code
    for text in texts:
        assert text in str(caught.value)
    assert files_below(folder) == before


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("change", "code", "texts"),
    [
        ("imges = 3", 78, ("imges", "unknown key")),
        ("magnitude = 40.0", 78, ("magnitude", "less than or equal to 20")),
        ('magnitude = "bright"', 78, ("magnitude", "valid number")),
        ("exptime = nan", 78, ("exptime", "finite number")),
        ("target_x = inf", 78, ("target_x", "finite number")),
        ("imgs = 3\nmagnitude = 40.0", 78, ("imgs", "magnitude")),
        ('start = "yesterday"', 78, ("start",)),
        ("kept_flagged = 0.0\nocculted = 3", 78, ("occulted",)),
        ("imagettes = true", 78, ("nexp must be at least 2",)),
        ('occultation = "always"', 78, ("kept_flagged",)),
        ("images = ", 78, ("mine.toml", "Invalid value")),
        ('psf_file = "psf.fits"', 66, ("psf_file", "psf.fits", "no such file")),
        ('field_file = "stars.txt"', 66, ("field_file", "stars.txt", "no such file")),
        ('light_curve = "curve.csv"', 66, ("light_curve", "curve.csv", "no such file")),
        ('psf_file = "mine.toml"', 65, ("psf_file", "mine.toml", "not a FITS file")),
        ('field_file = "mine.toml"', 65, ("field_file", "mine.toml", "line ")),
        ('light_curve = "mine.toml"', 65, ("light_curve", "mine.toml")),
    ],
)
def test_an_invalid_case_is_rejected_in_one_line(
    tmp_path: Path, change: str, code: int, texts: tuple[str, ...]
) -> None:
    keys = {line.split("=")[0].strip() for line in change.splitlines()}
    kept = [line for line in TINY.splitlines() if line.split("=")[0].strip() not in keys]
    path = write(tmp_path, "\n".join([*kept, change, ""]))
    assert_rejected(tmp_path, code, *texts, case=path)


def test_a_psf_of_the_wrong_shape_is_rejected(tmp_path: Path) -> None:
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((30, 40)))]).writeto(
        tmp_path / "psf.fits"
    )
    assert_rejected(
        tmp_path,
        65,
        "psf_file",
        "psf.fits",
        "(30, 40)",
        case=write(tmp_path, TINY + 'psf_file = "psf.fits"\n'),
    )


def test_a_case_whose_target_is_never_visible_is_rejected(tmp_path: Path) -> None:
    text = TINY.replace("images = 2", "images = 2\nmissing = 0.9999999")
    assert_rejected(tmp_path, 78, "hardly ever visible", case=write(tmp_path, text))


@pytest.mark.parametrize("name", ["nonsense", "x" * 300, ""])
def test_an_unknown_case_name_is_rejected_with_the_known_names(tmp_path: Path, name: str) -> None:
    assert_rejected(tmp_path, 78, "demo", "tiny", case=name)


@pytest.mark.parametrize("name", ["no/such/file.toml", "y" * 300 + ".toml", "../demo"])
def test_a_missing_file_is_rejected(tmp_path: Path, name: str) -> None:
    assert_rejected(tmp_path, 78, name[:3], case=name)


@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir,
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.write_bytes(bytes(2 << 20)),
    ],
    ids=["folder", "pipe", "device", "two megabytes"],
)
def test_anything_but_a_settings_file_is_rejected_at_once(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "mine.toml")
    assert_rejected(tmp_path, 78, "mine.toml", case=tmp_path / "mine.toml")


def test_a_deeply_nested_case_is_rejected(tmp_path: Path) -> None:
    assert_rejected(
        tmp_path, 78, "mine.toml", case=write(tmp_path, "a = " + "[" * 10_000 + "]" * 10_000)
    )


def run(
    folder: Path, case: Path, output: Path, before: Callable[[], None] | None = None, *prefix: str
) -> tuple[int, str]:
    """Run the command; return its exit code and its output on standard error."""
    command = [
        *prefix,
        sys.executable,
        "-m",
        "flows.command.main",
        "simulate",
        str(output),
        "--case",
        str(case),
        "-q",
    ]
    environment = {**os.environ, "HOME": "/nonexistent"} if prefix else None
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, preexec_fn=before, env=environment
    )
    return done.returncode, done.stderr


def test_the_command_reports_an_unknown_key_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, TINY + "imges = 3\n")
    code, message = run(tmp_path, path, tmp_path / "visit")
    assert code == 78
    (line,) = message.splitlines()
    assert line.startswith(f"ERROR case {path}: imges: ")


@pytest.mark.parametrize("size", [20_000, 200_000])
def test_a_full_disk_leaves_nothing(tmp_path: Path, size: int) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    code, message = run(tmp_path, write(tmp_path, TINY), tmp_path / "visit", limit)
    assert (code, len(message.splitlines())) == (74, 1), message
    assert str(tmp_path / "visit") in message
    assert files_below(tmp_path) == {"mine.toml"}


def test_an_existing_or_impossible_output_folder_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "visit").mkdir()
    (tmp_path / "visit/old").touch()
    assert_rejected(tmp_path, 73, "visit: exists", case=write(tmp_path, TINY))
    (tmp_path / "file").touch()
    with pytest.raises(CannotCreateError, match="cannot be created"):
        simulate_into(tmp_path / "file/visit", "tiny", None, 1, None)
    assert files_below(tmp_path) == {"visit", "visit/old", "file", "mine.toml"}


def test_a_write_protected_folder_is_rejected(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        # the other user must reach the folder, which is not his
        for folder in (tmp_path, *tmp_path.parents):
            if folder.owner() == "root" and folder.stat().st_mode & 0o005 != 0o005:
                folder.chmod(folder.stat().st_mode | 0o005)
    else:
        prefix = []
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o555)
    code, message = run(tmp_path, write(tmp_path, TINY), tmp_path / "closed/visit", None, *prefix)
    assert code == 73, message
    assert "closed" in message
    assert files_below(tmp_path) == {"closed", "mine.toml"}
