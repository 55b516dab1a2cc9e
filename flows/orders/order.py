"""The scheduler's job order: parsed, checked, and its paths expanded.

Two environment variables restrict orders. DRP_JOB_VARIABLES lists the variables that `${NAME}` in a
path may refer to (separated by commas; none if not set). DRP_ROOTS lists the folders that all paths
must lie in (separated by colons; anywhere if not set).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from flows.orders.xml import Element, Kind, check, read_xml
from schemas.constants import PROCESSOR, TASK
from schemas.errors import ConfigurationError, plain
from schemas.orders import PROCESSOR_VERSION, JobInput, JobOrder, Level, Parameter
from tasks.files import disk

LONGEST_PATH = 4096

_MANY = 10_000


def _text(pattern: str) -> Kind:
    return Kind(text=pattern)


def _list(name: str, kind: Kind, least: int = 0) -> Kind:
    return Kind(children=((name, kind, least, _MANY),), counted=True)


def _all(**children: Kind) -> Kind:
    return Kind(children=tuple((name, kind, 1, 1) for name, kind in children.items()))


_LEVEL = _text("DEBUG|INFO|PROGRESS|WARNING|ERROR")

_BOOLEAN = _text("(?i:true|false|yes|no|on|off|1|0)")

_VERSION = _text(r"\d{2}\.\d{2}")

_NAME = _text(r"[A-Za-z0-9_.\-]{1,128}")

_PATH = _text(r".+")

_TIME = _text(r"\d{8}_\d{12}")

_FILE_NAMES = _text("Physical|Logical|Stem|Regexp|Directory")

_INPUT = _all(
    File_Type=_NAME, File_Name_Type=_FILE_NAMES, List_of_File_Names=_list("File_Name", _PATH)
)

_OUTPUT = _all(File_Type=_NAME, File_Name_Type=_FILE_NAMES, File_Name=_PATH)

_PROC = _all(
    Task_Name=_NAME,
    Task_Version=_VERSION,
    List_of_Inputs=_list("Input", _INPUT),
    List_of_Outputs=_list("Output", _OUTPUT),
)

_PARAMETERS = Kind(
    children=(("Processing_Parameter", _all(Name=_NAME, Value=_text(r"[^\0]*")), 0, _MANY),),
    counted=True,
)

_CONF = Kind(
    children=(
        ("Processor_Name", _NAME, 1, 1),
        ("Version", _VERSION, 1, 1),
        ("Stdout_Log_Level", _LEVEL, 1, 1),
        ("Stderr_Log_Level", _LEVEL, 1, 1),
        ("Test", _BOOLEAN, 1, 1),
        ("Breakpoint_Enable", _BOOLEAN, 1, 1),
        ("Processing_Station", _text(".*"), 1, 1),
        ("Config_Files", Kind(anything=True), 0, 1),
        ("Sensing_Time", _all(Start=_TIME, Stop=_TIME), 0, 1),
        ("Dynamic_Processing_Parameters", _PARAMETERS, 0, 1),
    )
)

_ORDER = _all(Ipf_Conf=_CONF, List_of_Ipf_Procs=_list("Ipf_Proc", _PROC, 1))


@dataclass(frozen=True)
class Rules:
    """The variables that an order may use, and the folders in which it may read and write."""

    variables: dict[str, str]
    roots: tuple[Path, ...] = ()


def rules_of_environment() -> Rules:
    """Return the rules set by DRP_JOB_VARIABLES and DRP_ROOTS."""
    names = [n.strip() for n in os.environ.get("DRP_JOB_VARIABLES", "").split(",") if n.strip()]
    roots = [r for r in os.environ.get("DRP_ROOTS", "").split(":") if r]
    return Rules(
        {n: os.environ[n] for n in names if n in os.environ},
        tuple(disk.resolved(Path(r)) for r in roots),
    )


def read_order(path: Path, rules: Rules) -> JobOrder:
    """Read a job order.

    Raises
    ------
    ConfigurationError
        If it is damaged, has another structure, is for another processor or version, or contains a
        path that is not allowed.
    """
    root = read_xml(path, ConfigurationError)
    if root.name != "Ipf_Job_Order":
        raise ConfigurationError(
            f"{path} line {root.line}: is {plain(root.name)}, expected Ipf_Job_Order"
        )
    check(root, _ORDER, path, ConfigurationError)
    conf, procs = root.children
    _must_be(conf, "Processor_Name", PROCESSOR, path)
    _must_be(conf, "Version", PROCESSOR_VERSION, path)
    _, _, listed, outputs = _our_proc(procs, path).children
    inputs, ignored = _read_inputs(listed, path, rules)
    folders = _read_folders(outputs, path, rules)
    return JobOrder(
        stdout_level=Level[str(conf.get("Stdout_Log_Level"))],
        stderr_level=Level[str(conf.get("Stderr_Log_Level"))],
        inputs=tuple(inputs),
        output=folders["OUT"],
        scratch=folders["TMP"],
        ignored=tuple(ignored),
        parameters=tuple(
            Parameter(name=str(p.get("Name")), value=str(p.get("Value")), line=p.line)
            for p in root.below()
            if p.name == "Processing_Parameter"
        ),
    )


def _our_proc(procs: Element, path: Path) -> Element:
    """Return the process of the order that is ours."""
    ours = [p for p in procs.children if p.get("Task_Name") == TASK]
    if len(ours) != 1:
        raise ConfigurationError(
            f"{path} line {procs.line}: {len(ours)} Ipf_Proc with Task_Name {TASK}, expected one"
        )
    _must_be(ours[0], "Task_Version", PROCESSOR_VERSION, path)
    return ours[0]


def _read_inputs(listed: Element, path: Path, rules: Rules) -> tuple[list[JobInput], list[str]]:
    """Return the input files, and messages about those that are ignored."""
    inputs, ignored = [], []
    for element in listed.children:
        kind, how = str(element.get("File_Type")), element.get("File_Name_Type")
        for name in element.all("List_of_File_Names")[0].children:
            if how == "Physical":
                place = _place(name, path, rules)
                inputs.append(JobInput(file_type=kind, path=place, line=name.line))
            else:
                ignored.append(f"line {name.line}: input {kind} is {how}, not Physical; ignored")
    return inputs, ignored


def _read_folders(outputs: Element, path: Path, rules: Rules) -> dict[str, Path]:
    """Return the folders OUT, for products, and TMP, for temporary files."""
    folders: dict[str, Path] = {}
    for element in outputs.children:
        if element.get("File_Name_Type") == "Directory":
            kind = str(element.get("File_Type"))
            if kind in folders:
                raise ConfigurationError(f"{path} line {element.line}: output {kind} occurs twice")
            folders[kind] = _place(element.all("File_Name")[0], path, rules)
    for kind in ("OUT", "TMP"):
        if kind not in folders:
            raise ConfigurationError(
                f"{path} line {outputs.line}: no output {kind} of type Directory"
            )
    return folders


def _must_be(parent: Element, name: str, expected: str, path: Path) -> None:
    child = parent.all(name)[0]
    if child.text != expected:
        raise ConfigurationError(
            f"{path} line {child.line}: {name} is {plain(child.text)}, expected {expected}"
        )


def _place(element: Element, path: Path, rules: Rules) -> Path:
    try:
        return allowed_path(element.text, rules)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path} line {element.line}: {error}") from error


def allowed_path(text: str, rules: Rules) -> Path:
    """Return a path of an order with its variables expanded.

    Raises
    ------
    ConfigurationError
        If it is not absolute, contains `..`, a control character or a variable that is not
        allowed, or lies outside the allowed roots, be it through a symbolic link.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in rules.variables:
            raise ConfigurationError(
                f"the variable {plain(match[0])} is not allowed (DRP_JOB_VARIABLES lists those "
                f"that are)"
            )
        return rules.variables[match[1]]

    expanded = re.sub(r"\$\{([^}]*)\}?", value, text)
    if not expanded.isprintable() or len(expanded) > LONGEST_PATH:
        raise ConfigurationError(
            f"the path {plain(expanded)} contains control characters, or is too long"
        )
    path = Path(expanded)
    if not path.is_absolute() or ".." in path.parts:
        raise ConfigurationError(f"the path {expanded} must be absolute and must not contain ..")
    if rules.roots and not any(disk.resolved(path).is_relative_to(root) for root in rules.roots):
        raise ConfigurationError(f"the path {expanded} is outside the allowed roots (DRP_ROOTS)")
    return path
