"""The check of reports and viewers: they must be complete, and fetch or execute nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

from tasks.files import disk

MOST_BYTES = 256 << 20

# attributes whose value is fetched
_FETCHING = {"src", "srcset", "data", "poster", "action", "formaction", "background", "ping"}

_ACTIVE = re.compile(rb"/(JavaScript|JS|Launch|EmbeddedFiles|OpenAction|AA)\b")


class _Page(HTMLParser):
    """The policy of a page, the digests of its scripts and styles, and its faults."""

    def __init__(self) -> None:
        super().__init__()
        self.policy: str | None = None
        self.digests: dict[str, list[str]] = {"script": [], "style": []}
        self.faults: list[str] = []
        self._open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self._open = (
            tag if tag in self.digests and attributes.get("type", "") != "application/json" else ""
        )
        if tag == "meta" and attributes.get("http-equiv", "").lower() == "content-security-policy":
            self.policy = attributes.get("content", "")
        for name, value in attributes.items():
            embedded = value.startswith(("#", "data:"))
            if (name in _FETCHING or (name == "href" and tag == "link")) and not embedded:
                self.faults.append(f"<{tag}> fetches {value!r}: the page must be self-contained")
            if name.startswith("on") or name == "style":
                self.faults.append(
                    f"<{tag}> has the attribute {name}, which no digest in the policy covers"
                )

    def handle_data(self, data: str) -> None:
        if self._open:
            digest = base64.b64encode(hashlib.sha256(data.encode()).digest()).decode()
            self.digests[self._open].append(f"'sha256-{digest}'")
            if self._open == "style" and re.search(r"@import|url\(\s*['\"]?(?!data:|#)", data):
                self.faults.append(
                    "<style> fetches from an address: the page must be self-contained"
                )
        self._open = ""


def viewer_faults(path: Path) -> list[str]:
    """Return the faults of a viewer.

    It must be complete and self-contained, and have a policy that allows no other script or style.
    """
    try:
        text = disk.read_bytes(path, MOST_BYTES).decode()
    except UnicodeDecodeError:
        return ["is not UTF-8 text"]
    page = _Page()
    page.feed(text)
    faults = page.faults
    if not text.lower().startswith("<!doctype html>") or not text.rstrip().lower().endswith(
        "</html>"
    ):
        faults.append("is not a complete HTML page")
    if page.policy is None:
        return [*faults, "has no Content-Security-Policy"]
    rules = {
        name: sources
        for name, *sources in (rule.split() for rule in page.policy.split(";") if rule.strip())
    }
    if rules.get("default-src") != ["'none'"]:
        faults.append("its Content-Security-Policy lacks default-src 'none'")
    for kind, digests in page.digests.items():
        if sorted(digests) != sorted(rules.get(f"{kind}-src", [])):
            faults.append(
                f"its Content-Security-Policy does not list exactly the digests of its <{kind}> "
                f"elements"
            )
    return faults


def report_faults(path: Path) -> list[str]:
    """Return the faults of a PDF report, as far as its bytes show them.

    It must be complete, PDF/A-2 (for archives), and execute nothing.
    """
    data = disk.read_bytes(path, MOST_BYTES)
    faults = [] if data.startswith(b"%PDF-") else ["is not a PDF"]
    if not faults and not data.rstrip().endswith(b"%%EOF"):
        faults.append("is truncated: the end of the PDF is missing")
    if not faults and b"<pdfaid:part>2</pdfaid:part>" not in data:
        faults.append("does not declare itself PDF/A-2")
    # compressed streams may contain any sequence of bytes
    bare = re.sub(rb"\bstream\r?\n.*?endstream", b"", data, flags=re.DOTALL)
    return faults + [
        f"contains {name.decode()}: nothing in it may be executed"
        for name in sorted(set(_ACTIVE.findall(bare)))
    ]
