"""Sphinx configuration of the pages that `make docs` builds.

Nothing is fetched from the network, neither during the build nor by a browser showing the pages.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import latex2mathml.converter  # noqa: E402

from docs import declared  # noqa: E402
from schemas import VERSION  # noqa: E402

project = "CHEOPS data reduction pipeline"
author = "the authors of the pipeline"
copyright = author  # noqa: A001
version = release = VERSION
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "CHEOPS data reduction pipeline"
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
html_use_index = False
html_static_path = ["static"]
html_css_files = ["pages.css"]
nitpicky = True
# elements that make a browser fetch something from another site
OUTWARD = re.compile(
    r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)\s*=\s*["'](?:https?:)?//[^"']*["'][^>]*>|@import"""
)


def outward(page: str) -> list[str]:
    """Return the elements of a page that a browser would fetch from another site."""
    return OUTWARD.findall(page)


def mathml(self: Any, node: Any) -> None:
    """Write a formula as MathML, which browsers render without a script."""
    import docutils.nodes

    display = "block" if isinstance(node, docutils.nodes.math_block) else "inline"
    formula = latex2mathml.converter.convert(node.astext(), display=display)
    self.body.append(f'<div class="math">{formula}</div>' if display == "block" else formula)
    raise docutils.nodes.SkipNode


def expand(_app: Any, _page: str, source: list[str]) -> None:
    """Insert the Markdown generated from the declarations."""
    source[0] = declared.expand(source[0])


def check_pages(app: Any, error: Exception | None) -> None:
    """Raise an error if a page needs the network."""
    from sphinx.errors import ExtensionError

    if error is None:
        for page in sorted(Path(app.outdir).rglob("*.html")):
            if elements := outward(page.read_text(encoding="utf-8")):
                raise ExtensionError(f"{page.name} needs the network: {elements[0]}")


def setup(app: Any) -> None:
    """Register formulas, generated Markdown and the final check with Sphinx."""
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
    app.connect("source-read", expand)
    app.connect("build-finished", check_pages)
