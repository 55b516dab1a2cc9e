"""Target, programme, observation and read-out, from the headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from schemas.payloads import Inventory, Payload, Scalar
from tasks.delivery.report.series import Points
from tasks.delivery.report.wording import Row, make_row
from tasks.visit.images import Images

SILENT = "not in the raw header"


class Group(Payload):
    """Rows of a table under a common title."""

    title: str
    side: int  # column of the page
    rows: tuple[Row, ...]


class HeaderValues(NamedTuple):
    """The values of a header, in which 0 or N/A means that the raw header had none."""

    cards: Mapping[str, Scalar]

    def text(self, name: str) -> str:
        """Return a string, empty if the header has none."""
        value = self.cards.get(name)
        return value.strip() if isinstance(value, str) and value.strip() != "N/A" else ""

    def number(self, name: str, *, zero: bool = False) -> int | float | None:
        """Return a number, or None if the header has none; `zero` allows the value 0."""
        value = self.cards.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        return value if zero or value != 0 else None

    def time(self, name: str) -> str:
        """Return a time (UTC), truncated to whole seconds."""
        return self.text(name)[:19]

    def text_row(self, label: str, name: str) -> Row:
        """Make the row of a string."""
        return make_row(label, self.text(name), reason=SILENT)

    def time_row(self, label: str, name: str) -> Row:
        """Make the row of a time."""
        return make_row(label, self.time(name), reason=SILENT)

    def number_row(
        self, label: str, name: str, unit: str = "", style: str = "", *, zero: bool = False
    ) -> Row:
        """Make the row of a number."""
        return make_row(label, self.number(name, zero=zero), unit, SILENT, style)


def run_groups(
    inventory: Inventory, images: Images, points: Points, radii: Sequence[float]
) -> tuple[Group, ...]:
    """Tabulate target, programme, observation, read-out and photometry."""
    header = HeaderValues(images.image.header)
    apertures = (
        f"{len(radii)} circles, radii {min(radii):g} to {max(radii):g} pixels, following the target"
    )
    return (
        target_group(header),
        programme_group(header, inventory),
        observation_group(header, images, points),
        read_out_group(header, inventory, images),
        Group(title="Photometry", side=0, rows=(make_row("Apertures", apertures),)),
    )


def target_group(header: HeaderValues) -> Group:
    """Tabulate the target."""
    return Group(
        title="Target",
        side=0,
        rows=(
            header.text_row("Name", "TARGNAME"),
            header.number_row("Right ascension", "RA_TARG", "deg", ".5f", zero=True),
            header.number_row("Declination", "DEC_TARG", "deg", ".5f", zero=True),
            header.number_row("CHEOPS magnitude", "MAG_CHPS", "mag", ".3f"),
            header.number_row("G magnitude", "MAG_G", "mag", ".3f"),
            header.text_row("Spectral type", "SPECTYPE"),
            header.number_row("Effective temperature", "T_EFF", "K"),
        ),
    )


def programme_group(header: HeaderValues, inventory: Inventory) -> Group:
    """Tabulate visit and programme."""
    return Group(
        title="Programme",
        side=0,
        rows=(
            make_row("Visit", inventory.visit),
            make_row("OBSID", inventory.obsid),
            header.number_row("Programme type", "PROGTYPE", zero=True),
            header.number_row("Programme", "PROG_ID", zero=True),
            header.number_row("Request", "REQ_ID", zero=True),
            header.number_row("Visit within the request", "VISITCTR", zero=True),
            header.text_row("PI", "PI_NAME"),
            header.text_row("Category", "OBS_CAT"),
        ),
    )


def observation_group(header: HeaderValues, images: Images, points: Points) -> Group:
    """Tabulate times and numbers of images."""
    step = float(np.median(np.diff(points.hours))) * 3600 if points.count > 1 else None
    return Group(
        title="Observation",
        side=1,
        rows=(
            header.time_row("Start (UTC)", "V_STRT_U"),
            header.time_row("Stop (UTC)", "V_STOP_U"),
            header.time_row("Mid-time, first image (UTC)", "T_STRT_U"),
            header.time_row("Mid-time, last image (UTC)", "T_STOP_U"),
            make_row("First to last image", points.duration, "h", style=".2f"),
            make_row("Images", images.count),
            make_row("Good images", int(points.good.sum())),
            make_row("Flagged images", int((~points.good).sum())),
            make_row("Median cadence", step, "s", "only one image", ".2f"),
        ),
    )


def read_out_group(header: HeaderValues, inventory: Inventory, images: Images) -> Group:
    """Tabulate exposure, window and read-out."""
    ny, nx = images.shape
    on_board = header.cards.get("NLIN_COR")
    linearity = ("yes" if on_board else "no") if isinstance(on_board, bool) else ""
    return Group(
        title="Exposure and read-out",
        side=1,
        rows=(
            make_row("Exposure time", images.exposure_time, "s"),
            make_row("Exposures per image", images.nexp),
            make_row("Total exposure per image", images.nexp * images.exposure_time, "s"),
            header.text_row("On-board stacking", "STACKING"),
            make_row("Window", f"{nx} × {ny} pixels"),
            make_row("First pixel (x, y)", f"({images.x_offset}, {images.y_offset})"),
            header.text_row("Window shape", "SHAPE"),
            header.text_row("Read-out hardware", "RO_HW"),
            header.number_row("Read-out frequency", "RO_FREQU", "Hz"),
            header.number_row("Read-out script", "RO_SCRPT"),
            make_row("Linearity corrected on board", linearity, reason=SILENT),
            make_row("Imagettes", "yes" if inventory.imagettes is not None else "none"),
            make_row("Full array", "yes" if inventory.full_array is not None else "none"),
        ),
    )
