"""Trigger files: one comes with the inputs, another is written once the products are complete.

The latter passes on the values of the former.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.sax.saxutils import escape

from flows.orders.xml import Element, read_xml
from schemas import VERSION
from schemas.constants import PROCESSOR
from schemas.errors import BadInputError, plain
from schemas.names import visit_name
from schemas.orders import TRIGGER, Trigger
from tasks.files import disk

VALUES = (
    "PASS_ID",
    "PREV_PASS_ID",
    "PROGTYPE",
    "PROG_ID",
    "REQ_ID",
    "VISITCTR",
    "OBSID",
    "PROC_NUM",
    "PROC_NUM_OUT",
)

_NUMBERS = {
    "PROGTYPE": 99,
    "PROG_ID": 9999,
    "REQ_ID": 9999,
    "VISITCTR": 99,
    "OBSID": 1 << 31,
    "PROC_NUM": 99,
    "PROC_NUM_OUT": 99,
}

_TIME = re.compile(r"UTC=(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.\d{1,6})?")

_PASS = re.compile(r"\d{8}")


def read_trigger(path: Path) -> Trigger:
    """Read a trigger file.

    Raises
    ------
    BadInputError
        If it is damaged or a value is invalid; the message gives the line.
    """
    root = read_xml(path, BadInputError)
    parts = {e.name: e for e in root.below()}
    for name in ("Fixed_Header", "Variable_Header", "Validity_Start", "Validity_Stop"):
        if name not in parts:
            raise BadInputError(f"{path} line {root.line}: {name} is missing")
    values = {}
    for element in parts["Variable_Header"].children:
        if element.name in VALUES:
            values[element.name] = _value(element, path)
    return Trigger(
        root=root.name,
        file_class=parts["File_Class"].text if "File_Class" in parts else "OPER",
        values=values,
        validity_start=_time(parts["Validity_Start"], path),
        validity_stop=_time(parts["Validity_Stop"], path),
    )


def _value(element: Element, path: Path) -> str:
    most = _NUMBERS.get(element.name)
    good = element.text.isascii() and (
        _PASS.fullmatch(element.text)
        if most is None
        else len(element.text) <= 12 and element.text.isdigit() and int(element.text) <= most
    )
    if not good:
        expected = "8 digits" if most is None else f"a number up to {most}"
        raise BadInputError(
            f"{path} line {element.line}: {element.name} is {plain(element.text)!r}, expected "
            f"{expected}"
        )
    return element.text


def _time(element: Element, path: Path) -> str:
    match = _TIME.fullmatch(element.text)
    if match is None:
        raise BadInputError(
            f"{path} line {element.line}: {element.name} is {plain(element.text)!r}, expected "
            f"UTC=yyyy-mm-ddThh:mm:ss"
        )
    return match[1]


def visit_of(trigger: Trigger) -> str | None:
    """Return the visit of a trigger, or None if the trigger does not name it."""
    numbers = [trigger.number(n) for n in ("PROGTYPE", "PROG_ID", "REQ_ID", "VISITCTR")]
    known = [n for n in numbers if n is not None]
    return visit_name(*known) if len(known) == len(numbers) else None


def write_trigger(output: Path, trigger: Trigger, visit: str, label: str, date: str) -> Path:
    """Write the trigger file of the products to `output` and return its path.

    `label` is the version of the products, such as V0001.
    """
    start = trigger.validity_start.replace(":", "-")
    name = f"CH_{visit}_TU{start}_{TRIGGER}-{PROCESSOR}_{label}"
    fixed = {
        "File_Name": name,
        "File_Description": "Products of the data reduction are complete",
        "Notes": "",
        "Mission": "CHEOPS",
        "File_Class": trigger.file_class,
        "File_Type": TRIGGER,
        "Validity_Period": {
            "Validity_Start": f"UTC={trigger.validity_start}",
            "Validity_Stop": f"UTC={trigger.validity_stop}",
        },
        "File_Version": label[1:],
        "Source": {
            "System": "SOC",
            "Creator": PROCESSOR,
            "Creator_Version": VERSION,
            "Creation_Date": f"UTC={date}",
        },
    }
    values = {n: trigger.values[n] for n in VALUES if n in trigger.values}
    body = _lines({"Fixed_Header": fixed, "Variable_Header": values}, "  ")
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{trigger.root} '
        f'xmlns="cheops:gs">\n{body}</{trigger.root}>\n'
    )
    path = output / f"{name}.xml"
    disk.write_file(path, text.encode())
    return path


def _lines(values: dict[str, object] | object, indent: str) -> str:
    assert isinstance(values, dict)
    lines = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines.append(f"{indent}<{name}>\n{_lines(value, indent + '  ')}{indent}</{name}>\n")
        else:
            lines.append(f"{indent}<{name}>{escape(str(value))}</{name}>\n")
    return "".join(lines)
