"""The pages cover everything that is declared, one page per step, and need no network."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flows.reduce  # noqa: F401  (its imports declare the steps)
from docs import declared
from docs.figures import FIGURES
from schemas import ROOT
from schemas.flags import PixelFlag, Quality
from schemas.inputs import REFERENCES, VISIT_INPUTS
from schemas.products import soc_extnames, soc_structure
from schemas.settings import PipelineSettings
from schemas.terms import TERMS
from schemas.used import USED
from tasks.delivery.light_curves import light_curve_structure
from tasks.engine.run import STEPS
from tests.support import runs
from tests.support.runs import Bench

DOCS = ROOT / "docs"

PAGES = sorted(DOCS.rglob("*.md"))

HEADINGS = (
    "Formula",
    "Source",
    "Parameters",
    "Output",
    "Missing inputs",
    "Limitations",
)


def page(name: str) -> str:
    return declared.expand((DOCS / name).read_text(encoding="utf-8"))


def pages_of_steps() -> list[str]:
    return re.findall(
        r"^([a-z0-9_]+)$", (DOCS / "steps/index.md").read_text(encoding="utf-8"), re.MULTILINE
    )


def test_every_step_has_a_page_and_pages_follow_the_order_of_the_pipeline() -> None:
    order = pages_of_steps()
    assert sorted(order) == sorted(STEPS)
    assert {path.stem for path in (DOCS / "steps").glob("*.md")} == {*STEPS, "index"}
    assert [name for name in order if name in runs.STEPS] == runs.STEPS


@pytest.mark.parametrize("name", STEPS)
def test_the_page_of_a_step_is_complete(name: str) -> None:
    text = page(f"steps/{name}.md")
    sections = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", text, re.MULTILINE))
    assert tuple(sections) == HEADINGS
    assert [heading for heading, body in sections.items() if not body.strip()] == []
    step = STEPS[name]
    assert all(f"`{keyword}`" in text for keyword in step.keywords)
    assert f"| version | {step.version} |" in text
    for section in declared.settings_of(step):
        assert all(
            f"`{section}.{key}`" in sections["Parameters"]
            for key in declared.sections()[section].model_fields
        )
    for leaf in (extname for extname in step.leaves if extname in TERMS):
        assert leaf in sections["Output"]
        assert all(f"`{column.name}`" in sections["Output"] for column in TERMS[leaf].columns)
    assert f"figures/{name}.png" in text


def test_files_named_in_the_pages_exist() -> None:
    pages = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    folders = "benchmarks|deploy|docs|flows|reference_data|schemas|tasks|tests"
    pattern = re.compile(rf"`((?:{folders})/[a-z0-9_/]+\.[a-z]+)`")
    named = {name for path in pages for name in pattern.findall(path.read_text(encoding="utf-8"))}
    assert len(named) > 40
    assert sorted(name for name in named if not (ROOT / name).is_file()) == []


def test_every_setting_is_listed_with_its_default() -> None:
    text = page("reference/settings.md")
    for section, field in PipelineSettings().model_dump().items():
        for key, default in field.items():
            value = list(default) if isinstance(default, tuple) else default
            shown = "not set" if default is None else f"`{str(value).lower()}`"
            assert f"| `{section}.{key}` | {shown} |" in text


def test_every_product_term_and_column_is_listed() -> None:
    texts = {name: page(f"reference/{name}.md") for name in ("products", "terms", "structures")}
    sections = {
        extname: body
        for text in texts.values()
        for extname, body in re.findall(r"^## (\S+)\n((?:(?!^## ).*\n)*)", text, re.MULTILINE)
    }
    assert set(sections) == {*soc_extnames(), *TERMS}
    first_rounds = {name for name in TERMS if name.endswith("_1")}
    known = [soc_structure(n) for n in soc_extnames()] + [
        s for n, s in TERMS.items() if n not in first_rounds
    ]
    for structure in (*known, light_curve_structure({})):
        rows = [f"| `{c.name}` |" for c in structure.columns]
        assert [row for row in rows if row not in sections[structure.extname]] == []


def test_every_keyword_is_listed() -> None:
    text = page("reference/keywords.md")
    names = {
        *USED,
        *(k for n in soc_extnames() for k in soc_structure(n).keywords),
        *(k for s in TERMS.values() for k in s.keywords),
    }
    assert [name for name in sorted(names) if f"| `{name}` |" not in text] == []


def test_every_flag_is_listed_with_its_value() -> None:
    text = page("reference/flags.md")
    for flag in (*Quality, *PixelFlag):
        assert f"| {int(flag)} | `{flag.name}` |" in text


def test_every_input_is_listed_with_its_fall_back() -> None:
    text = page("reference/inputs.md")
    for kind in (*VISIT_INPUTS, *REFERENCES):
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {kind.kind} |")]
        assert row.endswith(f"| {kind.fallback or '**needed**'} |")


def test_every_range_is_listed_with_what_happens_outside_of_it() -> None:
    text = page("reference/inputs.md")
    assert "| HK_VOLT_FEE_VOD | 28 to 34 | missing |" in text
    assert "| GAIN_NOM | more than 0.3, at most 0.9 | rejected |" in text


def test_every_command_and_option_is_listed() -> None:
    text = page("reference/commands.md")
    for name, command in declared.every_command():
        _, _, rest = text.partition(f"## drp {name}\n")
        body, _, _ = rest.partition("\n## ")
        options = [option for p in command.params for option in p.opts if option.startswith("--")]
        assert [option for option in options if option not in body] == []


def test_an_unknown_mark_is_an_error() -> None:
    with pytest.raises(KeyError, match="no_such_step"):
        declared.expand("<!-- declared: step no_such_step -->")
    with pytest.raises(KeyError, match="no settings nothing"):
        declared.expand("<!-- declared: settings nothing -->")


def test_every_mark_of_every_page_is_expanded() -> None:
    assert [
        path.name
        for path in PAGES
        if "<!-- declared" in declared.expand(path.read_text(encoding="utf-8"))
    ] == []


def test_every_step_has_a_figure_with_a_text_alternative() -> None:
    assert set(FIGURES) == set(STEPS)
    assert all(
        len(figure.alt.split()) >= 3 and figure.caption.endswith(".") for figure in FIGURES.values()
    )


def test_python_blocks_of_the_pages_parse() -> None:
    blocks = [
        b
        for path in PAGES
        for b in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    ]
    assert len(blocks) >= 4
    for block in blocks:
        ast.parse(block)


def test_the_tutorial_plots_a_light_curve_and_compares_it_with_the_truth(
    reduced: Bench, tmp_path: Path
) -> None:
    (tmp_path / "mine").symlink_to(reduced.output)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "visit").symlink_to(reduced.visit)
    blocks = re.findall(
        r"```python\n(.*?)```", (DOCS / "tutorial.md").read_text(encoding="utf-8"), re.DOTALL
    )
    command = [sys.executable, "-c", "\n".join(blocks)]
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    # the photon noise of a star of G = 9 is 200 ppm in one minute
    assert 50 < int(line.removesuffix(" ppm")) < 400


def outward(text: str) -> list[str]:
    """Apply the pattern of docs/conf.py, which cannot be imported without the docs tools."""
    source = (DOCS / "conf.py").read_text(encoding="utf-8")
    (pattern,) = re.findall(r'^OUTWARD = re\.compile\(\s*r"""(.+)"""\s*\)$', source, re.MULTILINE)
    return re.findall(pattern, text)


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://x.y/a.js"></script>',
        "<link rel='stylesheet' href='//x.y/a.css'>",
        '<img alt="a" src="http://x/a.png">',
    ],
)
def test_elements_that_a_browser_would_fetch_are_found(tag: str) -> None:
    assert outward(f"<p>{tag}</p>") == [tag.removesuffix("</script>")]
    assert outward('<a href="https://x.y/">elsewhere</a><script src="_static/a.js"></script>') == []
