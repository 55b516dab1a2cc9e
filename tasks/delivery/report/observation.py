"""What the headers say of target, programme, observation and read-out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from schemas.payloads import Inventory, Payload, Scalar
from tasks.delivery.report.series import Points
from tasks.delivery.report.wording import Row, make_row
from tasks.visit.images import Images

SILENT = "the raw header does not say"


class Group(Payload):
    """Lines of a table that belong together."""

    title: str
    side: int  # column of the page
    rows: tuple[Row, ...]


class HeaderValues(NamedTuple):
    """The values of a header; it says 0 or N/A where the raw one was silent."""

    cards: Mapping[str, Scalar]

    def text(self, name: str) -> str:
        """Return a string, empty where the header is silent."""
        value = self.cards.get(name)
        return value.strip() if isinstance(value, str) and value.strip() != "N/A" else ""

    def number(self, name: str, *, zero: bool = False) -> int | float | None:
        """Return a number, None where the header is silent; 0 is a number if `zero` says so."""
        value = self.cards.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        return value if zero or value != 0 else None

    def time(self, name: str) -> str:
        """Return a time (UTC) in whole seconds."""
        return self.text(name)[:19]

    def text_row(self, label: str, name: str) -> Row:
        """Return the line of a string."""
        return make_row(label, self.text(name), reason=SILENT)

    def time_row(self, label: str, name: str) -> Row:
        """Return the line of a time."""
        return make_row(label, self.time(name), reason=SILENT)

    def number_row(
        self, label: str, name: str, unit: str = "", style: str = "", *, zero: bool = False
    ) -> Row:
        """Return the line of a number."""
        return make_row(label, self.number(name, zero=zero), unit, SILENT, style)


def run_groups(
    inventory: Inventory, images: Images, points: Points, radii: Sequence[float]
) -> tuple[Group, ...]:
    """Return everything that the headers say of target, programme, observation and read-out."""
    header = HeaderValues(images.image.header)
    apertures = (
        f"{len(radii)} circles of {min(radii):g} to {max(radii):g} pixels, following the target"
    )
    return (
        target_group(header),
        programme_group(header, inventory),
        observation_group(header, images, points),
        read_out_group(header, inventory, images),
        Group(title="Photometry", side=0, rows=(make_row("Apertures", apertures),)),
    )


def target_group(header: HeaderValues) -> Group:
    """Return the lines of the target."""
    return Group(
        title="Target",
        side=0,
        rows=(
            header.text_row("Name", "TARGNAME"),
            header.number_row("Right ascension", "RA_TARG", "deg", ".5f", zero=True),
            header.number_row("Declination", "DEC_TARG", "deg", ".5f", zero=True),
            header.number_row("Magnitude, CHEOPS", "MAG_CHPS", "mag", ".3f"),
            header.number_row("Magnitude, G", "MAG_G", "mag", ".3f"),
            header.text_row("Spectral type", "SPECTYPE"),
            header.number_row("Effective temperature", "T_EFF", "K"),
        ),
    )


def programme_group(header: HeaderValues, inventory: Inventory) -> Group:
    """Return the lines of visit and programme."""
    return Group(
        title="Programme",
        side=0,
        rows=(
            make_row("Visit", inventory.visit),
            make_row("OBSID", inventory.obsid),
            header.number_row("Programme type", "PROGTYPE", zero=True),
            header.number_row("Programme", "PROG_ID", zero=True),
            header.number_row("Request", "REQ_ID", zero=True),
            header.number_row("Visit of the request", "VISITCTR", zero=True),
            header.text_row("PI", "PI_NAME"),
            header.text_row("Category", "OBS_CAT"),
        ),
    )


def observation_group(header: HeaderValues, images: Images, points: Points) -> Group:
    """Return the lines of times and numbers of images."""
    step = float(np.median(np.diff(points.hours))) * 3600 if points.count > 1 else None
    return Group(
        title="Observation",
        side=1,
        rows=(
            header.time_row("Start (UTC)", "V_STRT_U"),
            header.time_row("Stop (UTC)", "V_STOP_U"),
            header.time_row("Middle of the first image (UTC)", "T_STRT_U"),
            header.time_row("Middle of the last image (UTC)", "T_STOP_U"),
            make_row("First to last image", points.duration, "h", style=".2f"),
            make_row("Images", images.count),
            make_row("Good images", int(points.good.sum())),
            make_row("Flagged images", int((~points.good).sum())),
            make_row(
                "Time from image to image, median", step, "s", "there is only one image", ".2f"
            ),
        ),
    )


def read_out_group(header: HeaderValues, inventory: Inventory, images: Images) -> Group:
    """Return the lines of exposure, window and read-out."""
    ny, nx = images.shape
    on_board = header.cards.get("NLIN_COR")
    linearity = ("yes" if on_board else "no") if isinstance(on_board, bool) else ""
    return Group(
        title="Exposure and read-out",
        side=1,
        rows=(
            make_row("Exposure", images.exposure_time, "s"),
            make_row("Exposures of an image", images.nexp),
            make_row("Exposure of an image", images.nexp * images.exposure_time, "s"),
            header.text_row("Stacking on board", "STACKING"),
            make_row("Window", f"{nx} × {ny} pixels"),
            make_row("First pixel (x, y)", f"({images.x_offset}, {images.y_offset})"),
            header.text_row("Shape of the window", "SHAPE"),
            header.text_row("Read-out hardware", "RO_HW"),
            header.number_row("Read-out frequency", "RO_FREQU", "Hz"),
            header.number_row("Read-out script", "RO_SCRPT"),
            make_row("Linearity corrected on board", linearity, reason=SILENT),
            make_row("Imagettes", "yes" if inventory.imagettes is not None else "none"),
            make_row("Full array", "yes" if inventory.full_array is not None else "none"),
        ),
    )
