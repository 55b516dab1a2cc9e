"""Names of visits, of published folders and of SOC files: their patterns, once."""

from __future__ import annotations

import re

VISIT = re.compile(r"PR\d{6}_TG\d{6}")

PUBLISHED = re.compile(r"CH_(PR\d{6}_TG\d{6})_V(\d{4})")
