"""Markdown generated from the declarations, so that nothing is written down twice.

A line ``<!-- declared: KIND NAME -->`` in a page is replaced by the Markdown generated here.
`conf.py` does so when the pages are built; `tests/flows/test_docs.py` checks the result against the
declarations.
"""

from __future__ import annotations

import enum
import inspect
import json
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
from schemas.payloads import Bundle
from schemas.products import PER_RADIUS, Column, Keyword, Structure, soc_extnames, soc_structure
from schemas.settings import PipelineSettings, Settings
from schemas.terms import COMPANIONS, FIRST_ROUND, TERMS
from schemas.used import USED
from tasks.correction.hits import COSMIC, FROM_MODEL, HIGH_STATE, POSSIBLE
from tasks.delivery.light_curves import light_curve_structure
from tasks.delivery.report.tables import BIT_WORDS, EVENT_DIGITS
from tasks.engine.run import STEPS
from tasks.engine.step import Step

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"^<!-- declared: ([a-z-]+)(?: (\S+))? -->$", re.MULTILINE)
WRITTEN = ("SCI_CAL_", "SCI_COR_", "PIP_", "RPT_")
AnyStep = Step[Any, Any]


def expand(text: str) -> str:
    """Return the text of a page with its marks replaced.

    Raises
    ------
    KeyError
        If a mark names an unknown kind, step or section of settings.
    """
    return MARK.sub(lambda mark: KINDS[mark[1]](mark[2]) if mark[2] else KINDS[mark[1]](), text)


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table."""
    lines = [list(head), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def code(text: object) -> str:
    """Return the text set as code, or nothing if it is empty."""
    return f"`{text}`" if str(text) else ""


def sections() -> dict[str, type[Settings]]:
    """Return the settings models, keyed by the section name that `--set` uses."""
    return {
        name: typing.cast("type[Settings]", field.annotation)
        for name, field in PipelineSettings.model_fields.items()
    }


def allowed_values(field: FieldInfo) -> str:
    """Return the type and the limits of a setting."""
    if typing.get_origin(field.annotation) is tuple:
        return listed_numbers(field)
    types = typing.get_args(field.annotation) or (field.annotation,)
    names = {float: "number", int: "integer", bool: "true or false", str: "text"}
    choices = [
        code(choice) if isinstance(choice, str) else names[choice]
        for choice in types
        if choice is not type(None)
    ]
    return ", ".join([" or ".join(choices), *limits(field)])


def listed_numbers(field: FieldInfo) -> str:
    """Return how many numbers a list may hold, and their limits."""
    most = next(rule.max_length for rule in field.metadata if hasattr(rule, "max_length"))
    _, number = typing.get_args(typing.get_args(field.annotation)[0])
    return ", ".join([f"list of up to {most} numbers", *limits(number)])


def default_text(value: object) -> str:
    """Return the default of a setting as a settings file has it."""
    return str(list(value) if isinstance(value, tuple) else value).lower()


def limits(field: FieldInfo) -> list[str]:
    """Return the limits of a numeric setting, in words."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    texts = []
    for rule in field.metadata:
        texts += [
            f"{sign} {getattr(rule, name):g}"
            for name, sign in signs.items()
            if getattr(rule, name, None) is not None
        ]
        if getattr(rule, "multiple_of", None) is not None:
            texts.append(f"a multiple of {rule.multiple_of}")
    return texts


def settings_table(name: str | None = None) -> str:
    """Return a table of the settings of one section, or of all sections."""
    rows = [
        (
            code(f"{section}.{key}"),
            "not set" if field.default is None else code(default_text(field.default)),
            allowed_values(field),
            field.description,
        )
        for section, model in sections().items()
        if name in (None, section)
        for key, field in model.model_fields.items()
    ]
    if not rows:
        raise KeyError(f"there are no settings {name}")
    return table(("setting", "default", "values", "meaning"), rows)


def settings_of(step: AnyStep) -> list[str]:
    """Return the sections of settings that a step reads."""
    hints = typing.get_type_hints(step.fn)
    return [name for name, model in sections().items() if model in hints.values()]


def step_table(name: str) -> str:
    """Return a table of a step's declaration."""
    step = STEPS[name]
    source = Path(inspect.getfile(step.fn)).resolve().relative_to(ROOT)
    outputs = [term_link(leaf) for leaf in step.leaves] or ["products of its own, see below"]
    return table(
        ("", ""),
        [
            ("purpose", (inspect.getdoc(step.fn) or "").splitlines()[0]),
            ("state keyword", ", ".join(map(code, step.keywords)) or "none"),
            ("version", step.version),
            ("code", code(source)),
            ("reads", ", ".join(inputs_of(step))),
            ("output", ", ".join(outputs)),
        ],
    )


def inputs_of(step: AnyStep) -> list[str]:
    """Return what a step reads besides its settings; a bundle is named by its members."""
    hints = typing.get_type_hints(step.fn)
    names: list[str] = []
    for parameter in inspect.signature(step.fn).parameters:
        hint = hints[parameter]
        if not (isinstance(hint, type) and issubclass(hint, Settings)):
            names += members(parameter, hint)
    return [name.replace("_", " ") for name in names]


def members(name: str, hint: object) -> list[str]:
    """Return the names of a bundle's members, of its own bundles too; else the name itself."""
    bundles = [t for t in (hint, *typing.get_args(hint)) if isinstance(t, type)]
    for bundle in bundles:
        if issubclass(bundle, Bundle):
            fields = bundle.model_fields.items()
            return [member for key, field in fields for member in members(key, field.annotation)]
    return [name]


def parameters(name: str) -> str:
    """Return tables of the settings that a step reads."""
    return "\n".join(map(settings_table, settings_of(STEPS[name]))) or "None.\n"


def term_link(extname: str) -> str:
    """Return the EXTNAME of a product as a link to its declaration."""
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


def term_outputs(leaf: str) -> tuple[list[str], dict[str, Keyword]]:
    """Return a description of each HDU of a term, and the used values that its header carries."""
    descriptions: list[str] = []
    used: dict[str, Keyword] = {}
    for structure in (TERMS[extname] for extname in (leaf, *COMPANIONS.get(leaf, ()))):
        content = f".\n\n{columns(structure.columns)}" if structure.is_table else ", an image."
        descriptions.append(f"{term_link(structure.extname)}: {structure.meaning}{content}")
        used |= {name: key for name, key in structure.keywords.items() if name in USED}
    return descriptions, used


def product_output(leaf: str) -> str:
    """Return the description of a product that is not a term."""
    base = leaf.split("-")[0]
    if base in soc_extnames():
        return f"{term_link(leaf)}: {soc_structure(base).meaning}."
    return f"{code(leaf)}."


def outputs(name: str) -> str:
    """Return a step's output: its products, the columns of its terms, and its used values."""
    parts: list[str] = []
    used: dict[str, Keyword] = {}
    for leaf in STEPS[name].leaves:
        if leaf in TERMS:
            descriptions, values = term_outputs(leaf)
            parts += descriptions
            used |= values
        else:
            parts.append(product_output(leaf))
    if used:
        parts.append("Values used, copied to the headers of all products derived from them:")
        parts.append(keywords(used.values()))
    return "\n\n".join(parts) or "Nothing that a later step reads.\n"


def index() -> str:
    """Return a table of all steps, in the order of their pages."""
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
    return table(("step", "purpose", "keyword", "output"), rows)


def columns(declared: Iterable[Column]) -> str:
    """Return a table of declared columns."""
    return table(
        ("column", "type", "unit", "meaning"),
        [(code(c.name), c.type + elements(c), c.unit, c.meaning) for c in declared],
    )


def elements(column: Column) -> str:
    """Return how many elements a cell of a column has, unless it is one."""
    if column.size == PER_RADIUS:
        return " × radii"
    return f" × {column.size}" if column.size > 1 else ""


def keywords(declared: Iterable[Keyword]) -> str:
    """Return a table of declared keywords."""
    return table(
        ("keyword", "type", "unit", "meaning"),
        [(code(k.name), k.type, k.unit, k.meaning) for k in declared],
    )


def structure_text(structure: Structure) -> str:
    """Return the section about an HDU: meaning, pixels or columns, keywords."""
    lines = [
        f"## {structure.extname}\n",
        f"{structure.meaning[:1].upper()}{structure.meaning[1:]}.\n",
    ]
    if structure.image:
        axes = " × ".join("any" if axis == 0 else str(axis) for axis in structure.axes)
        lines.append(f"Image of {structure.image}, axes {axes} (x first).\n")
    if structure.columns:
        lines.append(columns(structure.columns))
    lines += companions(structure)
    lines.append("Keywords: " + (", ".join(map(code, structure.keywords)) or "none") + ".\n")
    return "\n".join(lines)


def companions(structure: Structure) -> list[str]:
    """Return sentences that name the other HDUs of the same file."""
    sentences = []
    for required, words in ((True, "In the same file"), (False, "Optionally in the same file")):
        names = [code(name) for name, needed in structure.associated.items() if needed is required]
        if names:
            sentences.append(f"{words}: {', '.join(names)}.\n")
    return sentences


def structures(written: bool) -> list[Structure]:
    """Return the SOC's structures that this pipeline writes, or those that it only reads."""
    return [
        light_curve_structure({}) if name == "SCI_COR_Lightcurve" else soc_structure(name)
        for name in soc_extnames()
        if name.startswith(WRITTEN) is written
    ]


def terms() -> str:
    """Return the sections about our own terms; a first round refers to its second."""
    firsts = {first: final for final, first in FIRST_ROUND.items()}
    parts = []
    for name, structure in TERMS.items():
        if name in firsts:
            parts.append(
                f"## {name}\n\nFirst round of {term_link(firsts[name])}, with the same structure.\n"
            )
        else:
            parts.append(structure_text(structure))
    return "\n".join(parts)


def every_keyword() -> dict[str, Keyword]:
    """Return all keywords of all structures and terms, and all used values, sorted by name."""
    declared = [*structures(True), *structures(False), *TERMS.values()]
    by_name = {name: key for structure in declared for name, key in structure.keywords.items()}
    return dict(sorted({**by_name, **USED}.items()))


def inputs(which: Iterable[Input]) -> str:
    """Return a table of input files: required HDUs and contents, and the fall-back without them."""
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
    return table(("kind", "first HDU", "content", "required", "if missing"), rows)


def input_ranges(which: Iterable[Input]) -> str:
    """Return a table of the ranges of keywords and columns, and what happens outside of them."""
    rows = {}
    for kind in which:
        for extname, use in kind.hdus.items():
            limits = {n: a for n, a in use.keywords.items() if a is not None}
            for name, allowed in {**limits, **use.ranges}.items():
                declared = {c.name for c in use.structure.columns} | set(limits)
                if name in declared:
                    outcome = "missing" if allowed.missing else "rejected"
                    row = rows.setdefault((name, str(allowed), outcome), [])
                    row.append(code(extname))
    return table(
        ("name", "range", "outside", "in"),
        [(*key, ", ".join(dict.fromkeys(where))) for key, where in sorted(rows.items())],
    )


def event() -> str:
    """Return a table of the digits of EVENT."""
    rows = [
        (str(unit * digit), name, words)
        for unit, name, values in EVENT_DIGITS
        for digit, words in values.items()
    ]
    return table(("value", "condition", "meaning"), rows)


def bits(flags: type[enum.IntFlag], words: Mapping[int, str]) -> str:
    """Return a table of the bits of a field."""
    return table(
        ("bit", "value", "name", "meaning"),
        [(f.bit_length() - 1, int(f), code(f.name), words[f]) for f in flags],
    )


def comments(flags: type[enum.IntFlag]) -> dict[int, str]:
    """Return the meaning of each flag: its source comment, else its name in words.

    Flags taken from the reference map say so.
    """
    # the formatter puts parentheses around a value whose comment is too long for its line
    pattern = re.compile(
        r"^    ([A-Z_]+) = (?:\(\s+)?1 << \d+(?:\s+\))?(?:  # (.+))?$", re.MULTILINE
    )
    written = dict(pattern.findall(inspect.getsource(flags)))
    words = {flag: str(flag.name).lower().replace("_", " ") for flag in flags}
    return {
        f: f"the reference map says{w[3:]}" if w.startswith("map ") else written[str(f.name)] or w
        for f, w in words.items()
    }


def quality() -> str:
    """Return a table of the bits of QUALITY, in the words of the report where it has any."""
    return bits(Quality, {f: BIT_WORDS.get(f, comments(Quality)[f]) for f in Quality})


def kinds() -> str:
    """Return a table of the kinds of entries in the list of defects."""
    words = {
        COSMIC: "cosmic ray",
        HIGH_STATE: "telegraphic pixel above the scene",
        FROM_MODEL: "dead or flickering pixel",
        POSSIBLE: "possible cosmic ray, near a limit; subtracted in part",
    }
    return table(("KIND", "meaning"), words.items())


def exit_codes() -> str:
    """Return a table of the exit codes of errors."""
    classes = [
        e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.DrpError)
    ]
    rows = [
        (e.exit_code, (e.__doc__ or "").split("\n")[0]) for e in classes if e is not errors.DrpError
    ]
    return table(("exit code", "meaning"), [(0, "Done, or already up to date."), *sorted(rows)])


def every_command() -> list[tuple[str, click.Command]]:
    """Return the commands of `drp` with their names; the one that need not be named has no name."""
    found: list[tuple[str, click.Command]] = []
    for name, command in drp.commands.items():
        if isinstance(command, click.Group):
            parts = command.commands.items()
            found += [(f"{name} {part}".removesuffix(" run"), c) for part, c in parts]
        else:
            found.append((name, command))
    return found


def unwrapped(text: str) -> str:
    """Return a help text with the paragraphs that click does not wrap as blocks of code."""
    return re.sub(
        r"^\x08\n((?:.+\n?)+)",
        lambda found: f"```text\n{found[1].rstrip()}\n```\n",
        text,
        flags=re.M,
    )


def commands() -> str:
    """Return the sections about the commands of `drp`, with usage, help and options."""
    parts = []
    for name, command in every_command():
        context = click.Context(command, info_name=name)
        usage = " ".join(command.collect_usage_pieces(context))
        parts.append(
            f"## drp {name}\n\n```text\ndrp {name} "
            f"{usage}\n```\n\n{unwrapped(inspect.cleandoc(command.help or ''))}\n"
        )
        records = [p.get_help_record(context) for p in command.params]
        parts.append(
            table(
                ("option", "meaning"),
                [(code(r[0]), r[1].replace("<", "\\<")) for r in records if r and r[1]],
            )
        )
    return "\n".join(parts)


def figure(name: str) -> str:
    """Return the figure of a step with its caption."""
    from docs.figures import FIGURES

    drawn = FIGURES[name]
    path = f"/../build/docs/figures/{name}.png"
    return f"```{{figure}} {path}\n:alt: {drawn.alt}\n\n{drawn.caption}\n```\n"


def notebook(name: str) -> str:
    """Return a notebook with its results; without them, only its text, until `make docs` ran it."""
    path = ROOT / "build" / "docs" / "notebooks" / f"{name}.md"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    cells = json.loads((ROOT / "docs" / "notebooks" / f"{name}.ipynb").read_bytes())["cells"]
    fences = {"markdown": ("", ""), "code": ("```python\n", "\n```")}
    return "\n\n".join("".join(c["source"]).join(fences[c["cell_type"]]) for c in cells) + "\n"


KINDS: dict[str, Callable[..., str]] = {
    "notebook": notebook,
    "steps": index,
    "step": step_table,
    "parameters": parameters,
    "output": outputs,
    "settings": settings_table,
    "products": lambda: "\n".join(map(structure_text, structures(True))),
    "input-structures": lambda: "\n".join(map(structure_text, structures(False))),
    "terms": terms,
    "keywords": lambda: keywords(every_keyword().values()),
    "visit-inputs": lambda: inputs(VISIT_INPUTS),
    "references": lambda: inputs(REFERENCES),
    "input-ranges": lambda: input_ranges((*VISIT_INPUTS, *REFERENCES)),
    "event": event,
    "quality": quality,
    "pixel-flags": lambda: bits(PixelFlag, comments(PixelFlag)),
    "kinds": kinds,
    "exit-codes": exit_codes,
    "commands": commands,
    "figure": figure,
}
