"""Job orders for tests: of the tiny visit with its references, to be changed at will."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from tests.support.faults import Outcome, run_in_process


def file_type(path: Path) -> str:
    """Return the EXTNAME in a SOC name."""
    name = path.name.split("T", 1)[1] if "_TU" in path.name else path.name
    at = max(name.find(p) for p in ("SCI_", "REF_", "EXT_", "AUX_", "MPS_"))
    return name[at:].rsplit("_V", 1)[0].split("-")[0]


@dataclass
class Order:
    """A job order as text, with inputs (File_Type, path) and replacements of parts of the text."""

    folder: Path
    inputs: list[tuple[str, object]] = field(default_factory=list)
    parameters: list[tuple[str, object]] = field(default_factory=list)
    levels: tuple[str, str] = ("INFO", "PROGRESS")
    changes: dict[str, str] = field(default_factory=dict)
    name: str = "order"

    @property
    def path(self) -> Path:
        """The path of the order."""
        return self.folder / f"{self.name}.xml"

    @property
    def log(self) -> Path:
        """The path of its log."""
        return self.folder / f"{self.name}.log"

    @property
    def out(self) -> Path:
        """Where the products go."""
        return self.folder / "OUT"

    @property
    def tmp(self) -> Path:
        """The folder for temporary files."""
        return self.folder / "TMP"

    def text(self) -> str:
        """Return the order."""
        listed = "".join(
            f"<Input><File_Type>{kind}</File_Type><File_Name_Type>Physical</File_Name_Type>\n"
            f"<List_of_File_Names "
            f'count="1"><File_Name>{escape(str(path))}</File_Name></List_of_File_Names></Input>\n'
            for kind, path in self.inputs
        )
        parameters = "".join(
            f"<Processing_Parameter><Name>{n}</Name><Value>{escape(str(v))}</Value></Processing_Parameter>\n"
            for n, v in self.parameters
        )
        outputs = "".join(
            f"<Output><File_Type>{kind}</File_Type><File_Name_Type>Directory</File_Name_Type><File_Name>{path}</File_Name></Output>\n"
            for kind, path in (("OUT", self.out), ("TMP", self.tmp))
        )
        text = f"""<?xml version="1.0" encoding="UTF-8"?>
<Ipf_Job_Order>
<Ipf_Conf>
<Processor_Name>data_reduction</Processor_Name>
<Version>01.00</Version>
<Stdout_Log_Level>{self.levels[0]}</Stdout_Log_Level>
<Stderr_Log_Level>{self.levels[1]}</Stderr_Log_Level>
<Test>false</Test>
<Breakpoint_Enable>false</Breakpoint_Enable>
<Processing_Station>HERE</Processing_Station>
<Dynamic_Processing_Parameters>{parameters}</Dynamic_Processing_Parameters>
</Ipf_Conf>
<List_of_Ipf_Procs count="1">
<Ipf_Proc>
<Task_Name>data_reduction</Task_Name>
<Task_Version>01.00</Task_Version>
<List_of_Inputs count="{len(self.inputs)}">
{listed}</List_of_Inputs>
<List_of_Outputs count="2">
{outputs}</List_of_Outputs>
</Ipf_Proc>
</List_of_Ipf_Procs>
</Ipf_Job_Order>
"""
        for old, new in self.changes.items():
            assert old in text, old
            text = text.replace(old, new)
        return text

    def write(self) -> Path:
        """Write the order down."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path.write_text(self.text())
        return self.path

    def run(self, *more: object) -> Outcome:
        """Write the order and do it within this process."""
        return run_in_process("job", self.write(), "--engine", "plain", *more)


def order_of(folder: Path, visit: Path, references: Sequence[Path]) -> Order:
    """Return the order to reduce a visit with the files of some folders."""
    order = Order(folder)
    for path in sorted(visit.rglob("*.fits")):
        if "truth" not in path.parts:
            order.inputs.append((file_type(path), path))
    for path in sorted(p for root in references for p in root.rglob("*.fits")):
        order.inputs.append((file_type(path), path))
    return order
