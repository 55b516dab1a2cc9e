"""Names of visits, published folders and SOC files: how they are read and built."""

from __future__ import annotations

import re
from typing import NamedTuple

Version = tuple[int, int]  # (ARCH_REV, PROC_NUM)

_VISIT = r"PR\d{6}_TG\d{6}"
_TIME = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d"

VISIT = re.compile(_VISIT)

PUBLISHED = re.compile(rf"CH_(?P<visit>{_VISIT})_V(?P<version>\d{{4}})")

# CH_<visit>_<pass>_<time>_<EXTNAME>-<data name>_<version>; reference files name no visit
_SOC_FILE = re.compile(
    rf"CH(?:_PR(?P<program>\d{{6}})_TG(?P<target>\d{{6}}))?(?:_PS\d{{8}})?_TU(?P<time>{_TIME})"
    r"_(?P<extname>[A-Z]{3}_[A-Z]{3,4}_[A-Za-z0-9]+)(?:-(?P<data>[A-Za-z0-9_.+-]+?))?"
    r"_V(?P<version>\d{3,4})\.fits"
)

# terms in a published folder; those of the full array apart
TERM = re.compile(r"terms/(?:full_array/)?[a-z][a-z0-9_]*\.fits")

# report and viewer
PAGE = re.compile(rf"CH_{_VISIT}_TU{_TIME}_RPT_COR_DataReduction_V\d{{4}}\.(?:pdf|html)")

_VERSION = re.compile(r"_V(\d\d)(\d\d)(?:\.fits)?$")


class SocName(NamedTuple):
    """The parts of a SOC file name; `program`, `target` and `data` may be empty."""

    program: str
    target: str
    time: str  # yyyy-mm-ddThh-mm-ss
    extname: str
    data: str
    version: str

    @property
    def visit(self) -> str:
        """Identifier of the visit, or empty."""
        return f"PR{self.program}_TG{self.target}" if self.program else ""


def read_soc_name(name: str) -> SocName | None:
    """Return the parts of a SOC file name, or None if it is not one."""
    match = _SOC_FILE.fullmatch(name)
    return None if match is None else SocName(**match.groupdict(default=""))


def read_published_name(name: str) -> tuple[str, Version] | None:
    """Return visit and version of a published folder, or None if `name` is not that of one."""
    match = PUBLISHED.fullmatch(name)
    return None if match is None else (match["visit"], divmod(int(match["version"]), 100))


def read_version(name: str) -> Version | None:
    """Return the version at the end of a folder or file name, or None if it has none."""
    match = _VERSION.search(name)
    return None if match is None else (int(match[1]), int(match[2]))


def version_label(version: Version) -> str:
    """Return a version as names write it, such as V0102."""
    return f"V{version[0]:02d}{version[1]:02d}"


def published_name(visit: str, version: Version) -> str:
    """Return the name of a published folder."""
    return f"CH_{visit}_{version_label(version)}"


def visit_name(programme_type: int, programme: int, request: int, counter: int) -> str:
    """Return the identifier of a visit, such as PR900001_TG000001.

    The arguments are PROGTYPE, PROG_ID, REQ_ID and VISITCTR of its files.
    """
    return f"PR{programme_type:02d}{programme:04d}_TG{request:04d}{counter:02d}"
