"""The documentation covers every declaration and step, and is built without network access."""

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
from flows.command.main import main as drp
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
    "What it leaves",
    "When something is missing",
    "Where it fails",
)


def page(name: str) -> str:
    return declared.expand((DOCS / name).read_text(encoding="utf-8"))


def pages_of_steps() -> list[str]:
    return re.findall(
        r"^([a-z0-9_]+)$", (DOCS / "steps/index.md").read_text(encoding="utf-8"), re.MULTILINE
    )


def test_every_step_has_a_page_and_pages_stand_in_the_order_of_the_pipeline() -> None:
    order = pages_of_steps()
    assert sorted(order) == sorted(STEPS)
    assert {path.stem for path in (DOCS / "steps").glob("*.md")} == {*STEPS, "index"}
    assert [name for name in order if name in runs.STEPS] == runs.STEPS


@pytest.mark.parametrize("name", STEPS)
def test_the_page_of_a_step_tells_all_that_is_wanted_of_it(name: str) -> None:
    text = page(f"steps/{name}.md")
    parts = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", text, re.MULTILINE))
    assert tuple(parts) == HEADINGS
    assert [heading for heading, body in parts.items() if not body.strip()] == []
    step = STEPS[name]
    assert all(f"`{keyword}`" in text for keyword in step.keywords)
    assert f"| version | {step.version} |" in text
    for section in declared.settings_of(step):
        assert all(
            f"`{section}.{key}`" in parts["Parameters"]
            for key in declared.sections()[section].model_fields
        )
    for leaf in (extname for extname in step.leaves if extname in TERMS):
        assert leaf in parts["What it leaves"]
        assert all(f"`{column.name}`" in parts["What it leaves"] for column in TERMS[leaf].columns)
    assert f"figures/{name}.png" in text


def test_every_setting_stands_in_the_page_of_settings_with_its_default() -> None:
    text = page("reference/settings.md")
    for section, field in PipelineSettings().model_dump().items():
        for key, default in field.items():
            shown = "not set" if default is None else f"`{str(default).lower()}`"
            assert f"| `{section}.{key}` | {shown} |" in text


def test_every_product_term_and_column_is_declared_in_a_page() -> None:
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


def test_every_keyword_stands_in_the_page_of_keywords() -> None:
    text = page("reference/keywords.md")
    names = {
        *USED,
        *(k for n in soc_extnames() for k in soc_structure(n).keywords),
        *(k for s in TERMS.values() for k in s.keywords),
    }
    assert [name for name in sorted(names) if f"| `{name}` |" not in text] == []


def test_every_flag_stands_in_the_page_of_flags_with_its_value() -> None:
    text = page("reference/flags.md")
    for flag in (*Quality, *PixelFlag):
        assert f"| {int(flag)} | `{flag.name}` |" in text


def test_every_input_stands_in_the_page_of_inputs_with_what_is_done_without_it() -> None:
    text = page("reference/inputs.md")
    for kind in (*VISIT_INPUTS, *REFERENCES):
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {kind.kind} |")]
        assert row.endswith(f"| {kind.fallback or '**needed**'} |")


def test_every_command_and_option_stands_in_the_page_of_commands() -> None:
    text = page("reference/commands.md")
    for name, command in drp.commands.items():
        _, _, rest = text.partition(f"## drp {name}\n")
        body, _, _ = rest.partition("\n## ")
        options = [option for p in command.params for option in p.opts if option.startswith("--")]
        assert [option for option in options if option not in body] == []


def test_a_mark_that_names_nothing_is_an_error() -> None:
    with pytest.raises(KeyError, match="no_such_step"):
        declared.expand("<!-- declared: step no_such_step -->")
    with pytest.raises(KeyError, match="no settings nothing"):
        declared.expand("<!-- declared: settings nothing -->")


def test_no_mark_is_left_in_any_page() -> None:
    assert [
        path.name
        for path in PAGES
        if "<!-- declared" in declared.expand(path.read_text(encoding="utf-8"))
    ] == []


def test_a_figure_is_drawn_for_every_step_and_has_words_for_those_who_do_not_see_it() -> None:
    assert set(FIGURES) == set(STEPS)
    assert all(
        len(drawn.alt.split()) >= 3 and drawn.caption.endswith(".") for drawn in FIGURES.values()
    )


def test_the_python_of_the_pages_is_python() -> None:
    blocks = [
        b
        for path in PAGES
        for b in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    ]
    assert len(blocks) >= 4
    for block in blocks:
        ast.parse(block)


def test_the_tutorial_plots_a_light_curve_and_holds_it_against_the_truth(
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
    # photon noise of a star of G = 9 in a minute is 200 ppm
    assert 50 < int(line.removesuffix(" ppm")) < 400


def outward(text: str) -> list[str]:
    """Run the documentation's own check, which lies in a module that needs the tools."""
    source = (DOCS / "conf.py").read_text(encoding="utf-8")
    (pattern,) = re.findall(r'^OUTWARD = re.compile\(r"""(.+)"""\)$', source, re.MULTILINE)
    return re.findall(pattern, text)


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://x.y/a.js"></script>',
        "<link rel='stylesheet' href='//x.y/a.css'>",
        '<img alt="a" src="http://x/a.png">',
    ],
)
def test_what_a_browser_would_fetch_is_seen(tag: str) -> None:
    assert outward(f"<p>{tag}</p>") == [tag.removesuffix("</script>")]
    assert outward('<a href="https://x.y/">elsewhere</a><script src="_static/a.js"></script>') == []
