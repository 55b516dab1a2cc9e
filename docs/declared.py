"""Pages from the declarations: what stands in the code is not written down a second time.

A line ``<!-- declared: KIND NAME -->`` of a page is replaced by the Markdown that is made here.
`conf.py` does so when the pages are built; `tests/flows/test_docs.py` holds the outcome against the
declarations.
"""

from __future__ import annotations

import enum
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from pydantic.fields import FieldInfo

import flows.reduce  # noqa: F401  (its imports declare the steps)
from flows.command.main import main as drp
from schemas import errors
from schemas.flags import PixelFlag, Quality
from schemas.inputs import REFERENCES, VISIT_INPUTS, Input
from schemas.products import Column, Keyword, Structure, soc_extnames, soc_structure
from schemas.settings import PipelineSettings, Settings
from schemas.terms import COMPANIONS, FIRST_ROUND, TERMS
from schemas.used import USED
from tasks.correction.hits import COSMIC, FROM_MODEL, HIGH_STATE
from tasks.delivery.light_curves import light_curve_structure
from tasks.delivery.report.tables import BIT_WORDS, EVENT_DIGITS
from tasks.engine.run import STEPS
from tasks.engine.step import Step

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"^<!-- declared: ([a-z-]+)(?: (\S+))? -->$", re.MULTILINE)
WRITTEN = ("SCI_CAL_", "SCI_COR_", "PIP_", "RPT_")
AnyStep = Step[Any, Any]


def expand(text: str) -> str:
    """Return a page with its marks replaced.

    Raises
    ------
    KeyError
        If a mark names what there is not.
    """
    return MARK.sub(lambda mark: KINDS[mark[1]](mark[2]) if mark[2] else KINDS[mark[1]](), text)


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table in Markdown."""
    lines = [list(head), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def code(text: object) -> str:
    """Return text set as code; nothing for none."""
    return f"`{text}`" if str(text) else ""


# ---- settings


def sections() -> dict[str, type[Settings]]:
    """Return the settings of every step by the name under which `--set` finds them."""
    return {
        name: typing.cast("type[Settings]", field.annotation)
        for name, field in PipelineSettings.model_fields.items()
    }


def allowed(field: FieldInfo) -> str:
    """Return which values a setting may have."""
    limits = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    parts = []
    for rule in field.metadata:
        parts += [
            f"{sign} {getattr(rule, name):g}"
            for name, sign in limits.items()
            if getattr(rule, name, None) is not None
        ]
        if getattr(rule, "multiple_of", None) is not None:
            parts.append(f"a multiple of {rule.multiple_of}")
    kinds = [
        k for k in (typing.get_args(field.annotation) or (field.annotation,)) if k is not type(None)
    ]
    names = {float: "number", int: "whole number", bool: "true or false"}
    return ", ".join(
        [" or ".join(code(k) if isinstance(k, str) else names[k] for k in kinds), *parts]
    )


def settings_table(name: str | None = None) -> str:
    """Return the settings of one section, or of all."""
    rows = [
        (
            code(f"{section}.{key}"),
            "not set" if field.default is None else code(str(field.default).lower()),
            allowed(field),
            field.description,
        )
        for section, model in sections().items()
        if name in (None, section)
        for key, field in model.model_fields.items()
    ]
    if not rows:
        raise KeyError(f"there are no settings {name}")
    return table(("setting", "default", "may be", "meaning"), rows)


def settings_of(step: AnyStep) -> list[str]:
    """Return the sections whose settings a step reads."""
    hints = typing.get_type_hints(step.fn)
    return [name for name, model in sections().items() if model in hints.values()]


# ---- steps


def step_table(name: str) -> str:
    """Return what is declared of a step."""
    step = STEPS[name]
    source = Path(inspect.getfile(step.fn)).resolve().relative_to(ROOT)
    hints = typing.get_type_hints(step.fn)
    reads = [
        p.replace("_", " ")
        for p in inspect.signature(step.fn).parameters
        if not _is_settings(hints[p])
    ]
    leaves = [term_link(leaf) for leaf in step.leaves] or ["products of its own, see below"]
    return table(
        ("", ""),
        [
            ("in a sentence", (inspect.getdoc(step.fn) or "").splitlines()[0]),
            ("keyword in headers", ", ".join(map(code, step.keywords)) or "none"),
            ("version", step.version),
            ("code", code(source)),
            ("reads", ", ".join(reads)),
            ("leaves", ", ".join(leaves)),
        ],
    )


def _is_settings(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, Settings)


def parameters(name: str) -> str:
    """Return the settings that a step reads."""
    found = settings_of(STEPS[name])
    return "\n".join(map(settings_table, found)) if found else "It has none.\n"


def term_link(extname: str) -> str:
    """Return the name of a product as a link to its declaration."""
    if extname in TERMS:
        return f"[{extname}](/reference/terms.md#{anchor(extname)})"
    base = extname.split("-")[0]
    return (
        f"[{extname}](/reference/products.md#{anchor(base)})"
        if base in soc_extnames()
        else code(extname)
    )


def anchor(heading: str) -> str:
    """Return the anchor of a heading."""
    return heading.lower()


def leaves(name: str) -> str:
    """Return what a step leaves, with the columns of its terms, and the values that go into
    headers.
    """
    parts, used = [], {}
    for leaf in STEPS[name].leaves:
        for extname in (leaf, *COMPANIONS.get(leaf, ())) if leaf in TERMS else ():
            structure = TERMS[extname]
            parts.append(
                f"{term_link(extname)}: {structure.meaning}.\n\n{columns(structure.columns)}"
                if structure.is_table
                else f"{term_link(extname)}: {structure.meaning}, an image."
            )
            used |= {k: v for k, v in structure.keywords.items() if k in USED}
        if leaf not in TERMS:
            base = leaf.split("-")[0]
            parts.append(
                f"{term_link(leaf)}: {soc_structure(base).meaning}."
                if base in soc_extnames()
                else f"{code(leaf)}."
            )
    text = "\n\n".join(parts)
    if used:
        text += (
            "\n\nValues it used, in the headers of everything that is made from it:\n\n"
            + keywords(used.values())
        )
    return text or "Nothing that a later step reads.\n"


def index() -> str:
    """Return all steps with their keywords, as the pages about them are ordered."""
    order = re.findall(
        r"^([a-z0-9_]+)$", (ROOT / "docs/steps/index.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    rows = [
        (
            f"[{name}](/steps/{name}.md)",
            (inspect.getdoc(STEPS[name].fn) or "").splitlines()[0],
            ", ".join(map(code, STEPS[name].keywords)),
            ", ".join(map(term_link, STEPS[name].leaves)),
        )
        for name in order
    ]
    return table(("step", "does", "keyword", "leaves"), rows)


# ---- products


def columns(declared: Iterable[Column]) -> str:
    """Return columns of a table."""
    return table(
        ("column", "type", "unit", "meaning"),
        [
            (code(c.name), c.type + (f" × {c.size}" if c.size > 1 else ""), c.unit, c.meaning)
            for c in declared
        ],
    )


def keywords(declared: Iterable[Keyword]) -> str:
    """Return keywords."""
    return table(
        ("keyword", "type", "unit", "meaning"),
        [(code(k.name), k.type, k.unit, k.meaning) for k in declared],
    )


def structure_text(structure: Structure) -> str:
    """Return an HDU: heading, meaning, pixels or columns, keywords."""
    lines = [
        f"## {structure.extname}\n",
        f"{structure.meaning[:1].upper()}{structure.meaning[1:]}.\n",
    ]
    if structure.image:
        axes = " × ".join("free" if axis == 0 else str(axis) for axis in structure.axes)
        lines.append(f"Image of {structure.image}, axes {axes} (x first).\n")
    if structure.columns:
        lines.append(columns(structure.columns))
    if structure.associated:
        for which, words in ((True, "In the same file"), (False, "It may also hold")):
            if others := [
                code(name) for name, needed in structure.associated.items() if needed is which
            ]:
                lines.append(f"{words}: {', '.join(others)}.\n")
    lines.append("Keywords: " + (", ".join(map(code, structure.keywords)) or "none") + ".\n")
    return "\n".join(lines)


def structures(written: bool) -> list[Structure]:
    """Return the SOC's structures that this pipeline writes, or those that it or its simulator
    takes from others.
    """
    return [
        light_curve_structure({}) if name == "SCI_COR_Lightcurve" else soc_structure(name)
        for name in soc_extnames()
        if name.startswith(WRITTEN) is written
    ]


def terms() -> str:
    """Return our own products; first rounds are declared as the second ones."""
    firsts = {first: final for final, first in FIRST_ROUND.items()}
    parts = []
    for name, structure in TERMS.items():
        if name in firsts:
            parts.append(
                f"## {name}\n\nThe first round of {term_link(firsts[name])}, declared as that.\n"
            )
        else:
            parts.append(structure_text(structure))
    return "\n".join(parts)


def every_keyword() -> dict[str, Keyword]:
    """Return all keywords of all structures and terms, and all used values, by name."""
    declared = [*structures(True), *structures(False), *TERMS.values()]
    found = {
        name: keyword for structure in declared for name, keyword in structure.keywords.items()
    }
    return dict(sorted({**found, **USED}.items()))


# ---- inputs


def inputs(which: Iterable[Input]) -> str:
    """Return kinds of files, what is needed of each, and what happens without it."""
    rows = []
    for kind in which:
        needed = []
        for name, use in kind.hdus.items():
            names = [*use.keywords, *use.columns]
            if not use.optional and names:
                needed.append(f"{code(name)}: {', '.join(names)}")
        first = " or ".join(map(code, kind.first))
        rows.append(
            (kind.kind, first, kind.meaning, "; ".join(needed), kind.fallback or "**needed**")
        )
    return table(("kind", "first HDU", "is", "what of it must be there", "without it"), rows)


# ---- flags


def event() -> str:
    """Return the digits of EVENT."""
    rows = [
        (str(unit * digit), name, words)
        for unit, name, values in EVENT_DIGITS
        for digit, words in values.items()
    ]
    return table(("adds", "what", "meaning"), rows)


def bits(flags: type[enum.IntFlag], words: Mapping[int, str]) -> str:
    """Return the bits of a field."""
    return table(
        ("bit", "value", "name", "meaning"),
        [(f.bit_length() - 1, int(f), code(f.name), words[f]) for f in flags],
    )


def comments(flags: type[enum.IntFlag]) -> dict[int, str]:
    """Return what the source says behind each flag, or else its name in words; a flag of the
    reference map says so.
    """
    found = dict(
        re.findall(
            r"^    ([A-Z_]+) = 1 << \d+(?:  # (.+))?$", inspect.getsource(flags), re.MULTILINE
        )
    )
    words = {flag: str(flag.name).lower().replace("_", " ") for flag in flags}
    return {
        f: f"the reference map says{w[3:]}" if w.startswith("map ") else found[str(f.name)] or w
        for f, w in words.items()
    }


def quality() -> str:
    """Return the bits of QUALITY: in the words of the report, and what the declaration says
    more.
    """
    return bits(Quality, {f: BIT_WORDS.get(f, comments(Quality)[f]) for f in Quality})


def kinds() -> str:
    """Return the kinds of entries in the list of defects."""
    words = {
        COSMIC: "cosmic ray",
        HIGH_STATE: "telegraphic pixel above the scene",
        FROM_MODEL: "dead or flickering pixel",
    }
    return table(("KIND", "meaning"), words.items())


# ---- commands


def exit_codes() -> str:
    """Return the exit codes that errors carry."""
    found = [
        e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.DrpError)
    ]
    rows = [
        (e.exit_code, (e.__doc__ or "").split("\n")[0]) for e in found if e is not errors.DrpError
    ]
    return table(("exit code", "meaning"), [(0, "Done, or nothing to do."), *sorted(rows)])


def commands() -> str:
    """Return every command of `drp` with its options."""
    parts = []
    for name, command in drp.commands.items():
        context = click.Context(command, info_name=name)
        usage = " ".join(command.collect_usage_pieces(context))
        parts.append(
            f"## drp {name}\n\n```text\ndrp {name} "
            f"{usage}\n```\n\n{inspect.cleandoc(command.help or '')}\n"
        )
        records = [p.get_help_record(context) for p in command.params]
        parts.append(
            table(
                ("option", "meaning"),
                [(code(r[0]), r[1].replace("<", "\\<")) for r in records if r and r[1]],
            )
        )
    return "\n".join(parts)


# ---- figures


def figure(name: str) -> str:
    """Return a figure of the simulated visit with its caption."""
    from docs.figures import FIGURES

    drawn = FIGURES[name]
    return (
        f"```{{figure}} /../build/docs/figures/{name}.png\n:alt: "
        f"{drawn.alt}\n\n{drawn.caption}\n```\n"
    )


KINDS: dict[str, Callable[..., str]] = {
    "steps": index,
    "step": step_table,
    "parameters": parameters,
    "leaves": leaves,
    "settings": settings_table,
    "products": lambda: "\n".join(map(structure_text, structures(True))),
    "given": lambda: "\n".join(map(structure_text, structures(False))),
    "terms": terms,
    "keywords": lambda: keywords(every_keyword().values()),
    "visit-inputs": lambda: inputs(VISIT_INPUTS),
    "references": lambda: inputs(REFERENCES),
    "event": event,
    "quality": quality,
    "pixel-flags": lambda: bits(PixelFlag, comments(PixelFlag)),
    "kinds": kinds,
    "exit-codes": exit_codes,
    "commands": commands,
    "figure": figure,
}
