"""Whether report and viewer of a published folder are what they should be: whole, and with nothing
fetched or run.
"""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

from tasks.files import disk

MOST_BYTES = 256 << 20

# attributes that name what is fetched
_FETCHES = {"src", "srcset", "data", "poster", "action", "formaction", "background", "ping"}

_RUNS = re.compile(rb"/(JavaScript|JS|Launch|EmbeddedFiles|OpenAction|AA)\b")


class _Page(HTMLParser):
    """What the markup of a page holds: its policy, the digests of its scripts and styles, and what
    it should not hold.
    """

    def __init__(self) -> None:
        super().__init__()
        self.policy: str | None = None
        self.digests: dict[str, list[str]] = {"script": [], "style": []}
        self.faults: list[str] = []
        self._open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._open = (
            tag if tag in self.digests and given.get("type", "") != "application/json" else ""
        )
        if tag == "meta" and given.get("http-equiv", "").lower() == "content-security-policy":
            self.policy = given.get("content", "")
        for name, value in given.items():
            inside = value.startswith(("#", "data:"))
            if (name in _FETCHES or (name == "href" and tag == "link")) and not inside:
                self.faults.append(f"<{tag}> fetches {value!r}: the page must hold all it shows")
            if name.startswith("on") or name == "style":
                self.faults.append(
                    f"<{tag}> has the attribute {name}, which no digest of the policy covers"
                )

    def handle_data(self, data: str) -> None:
        if self._open:
            digest = base64.b64encode(hashlib.sha256(data.encode()).digest()).decode()
            self.digests[self._open].append(f"'sha256-{digest}'")
            if self._open == "style" and re.search(r"@import|url\(\s*['\"]?(?!data:|#)", data):
                self.faults.append(
                    "<style> fetches from an address: the page must hold all it shows"
                )
        self._open = ""


def viewer_faults(path: Path) -> list[str]:
    """Return what is wrong with a viewer: it must be whole, hold all it shows, and have a policy
    that lets nothing else run.
    """
    try:
        text = disk.read_bytes(path, MOST_BYTES).decode()
    except UnicodeDecodeError:
        return ["is not text in UTF-8"]
    page = _Page()
    page.feed(text)
    faults = page.faults
    if not text.lower().startswith("<!doctype html>") or not text.rstrip().lower().endswith(
        "</html>"
    ):
        faults.append("is not a whole HTML page")
    if page.policy is None:
        return [*faults, "has no Content-Security-Policy"]
    rules = {
        name: rest
        for name, *rest in (rule.split() for rule in page.policy.split(";") if rule.strip())
    }
    if rules.get("default-src") != ["'none'"]:
        faults.append("its Content-Security-Policy does not begin with default-src 'none'")
    for kind, digests in page.digests.items():
        if sorted(digests) != sorted(rules.get(f"{kind}-src", [])):
            faults.append(
                f"its Content-Security-Policy does not name each <{kind}> by its digest, and "
                f"nothing else"
            )
    return faults


def report_faults(path: Path) -> list[str]:
    """Return what is wrong with a report as PDF, as far as its bytes tell: it must be whole, for
    archives, and run nothing.
    """
    data = disk.read_bytes(path, MOST_BYTES)
    faults = [] if data.startswith(b"%PDF-") else ["is not a PDF"]
    if not faults and not data.rstrip().endswith(b"%%EOF"):
        faults.append("is cut: the end of the PDF is missing")
    if not faults and b"<pdfaid:part>2</pdfaid:part>" not in data:
        faults.append("does not say that it is PDF/A-2")
    bare = re.sub(
        rb"\bstream\r?\n.*?endstream", b"", data, flags=re.DOTALL
    )  # what is compressed may look like anything
    return faults + [
        f"holds {found.decode()}: nothing in it may run"
        for found in sorted(set(_RUNS.findall(bare)))
    ]
