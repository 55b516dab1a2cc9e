"""Invalid settings and arguments are rejected at once, with exit code and a clear message."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.faults import run_in_process

TEXTS = {
    "unknown key": ("[flat]\nskop = true\n", "unknown setting flat.skop"),
    "unknown step": ("[flut]\nskip = true\n", "unknown setting flut"),
    "wrong type": ('[bias]\nclip = "much"\n', "setting bias.clip"),
    "not a number": ("[bias]\nclip = nan\n", "setting bias.clip"),
    "beyond all numbers": ("[bias]\nclip = 1e400\n", "bias.clip"),
    "nested": ("a = " + "[" * 10_000 + "]" * 10_000, "settings.toml"),
    "large": ("a = 1\n" + "#" * (100 << 20), "larger than 1048576 bytes"),
    "not TOML": ("<a/>", "settings.toml"),
    "not text": ("\udcff", "settings.toml"),
}


def refused(settings: Path, visit: Path, *words: str) -> None:
    """Reduce with a settings file; it is refused within a second, by one line."""
    began = time.monotonic()
    outcome = run_in_process(
        "reduce",
        visit,
        "--settings",
        settings,
        "--output",
        visit.parent / "out",
        "--engine",
        "plain",
    )
    assert outcome.code == 78, outcome.err
    assert all(word in outcome.error for word in words), outcome.error
    assert outcome.error.isprintable()
    assert "Traceback" not in outcome.err
    assert time.monotonic() - began < 10  # most of it imports, on a busy machine
    assert not list((visit.parent / "out").glob("*"))


@pytest.mark.parametrize("name", TEXTS)
def test_settings_that_cannot_be_are_refused(name: str, tmp_path: Path) -> None:
    text, words = TEXTS[name]
    path = tmp_path / "settings.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    (tmp_path / "visit").mkdir()
    refused(path, tmp_path / "visit", words)


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "absent"])
def test_settings_that_are_no_file_are_refused_without_waiting(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    (tmp_path / "visit").mkdir()
    refused(path, tmp_path / "visit", str(path))
