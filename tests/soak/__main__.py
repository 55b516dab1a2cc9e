"""Soak the pipeline: spoiled files, manifests and job orders, then kills at random moments.

Everything follows from the seed; a single trial is repeated by its family and number.
"""

from __future__ import annotations

import collections
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np

from schemas.errors import DrpError
from schemas.inputs import REFERENCES, VISIT_INPUTS, Input
from schemas.names import read_soc_name
from tasks.files.reader import open_declared
from tests.soak.documents import try_manifest, try_order
from tests.soak.kills import try_kills
from tests.soak.mutants import ABSURD, DAMAGE, Random, spoil
from tests.soak.stage import Ended, Stage, begin, escapes, finish, run, set_stage

FAMILIES = ("gate", "visits", "manifests", "orders", "kills")
# trials of each family for one mutation through the gate, by their cost
SHARES = {"gate": 1.0, "visits": 0.1, "manifests": 0.2, "orders": 0.1}


@dataclass
class Tally:
    """The outcomes of a family: how often each code was met, and what escaped."""

    trials: int = 0
    seconds: float = 0.0
    codes: collections.Counter[int] = field(default_factory=collections.Counter)
    escaped: list[str] = field(default_factory=list)


@dataclass
class Soak:
    """A soak with its stage, seed and tallies."""

    stage: Stage
    seed: int
    tallies: dict[str, Tally] = field(default_factory=lambda: {f: Tally() for f in FAMILIES})

    def random(self, family: str, number: int) -> Random:
        """Return the generator of one trial."""
        return np.random.default_rng([self.seed, FAMILIES.index(family), number])

    @property
    def log(self) -> Path:
        """The output of the current trial."""
        return self.stage.root / "trial.log"

    def enter(
        self, family: str, number: int, how: str, ended: Sequence[Ended], wrong: list[str]
    ) -> None:
        """Enter a trial with the processes that ended in it, and report what escaped."""
        tally = self.tallies[family]
        tally.trials += 1
        tally.seconds += sum(each.seconds for each in ended)
        tally.codes.update(each.code for each in ended)
        if wrong:
            line = f"{family} {number} [{how}]: {'; '.join(wrong)}"
            tally.escaped.append(line)
            crashes = [p.read_text() for p in self.stage.root.rglob("drp-crash-*.txt")]
            text = "\n".join([ended[-1].text[-3000:], *crashes])
            click.echo(f"ESCAPED {line}\n{text}", err=True)

    def trial(self, family: str, number: int, duration: float) -> None:
        """Run one trial of a family."""
        rng = self.random(family, number)
        if family == "gate":
            how, ended, wrong = self.try_gate(rng)
        elif family == "kills":
            processes, wrong = try_kills(self.stage, rng, duration, self.log)
            self.enter(family, number, f"{len(processes)} processes", processes, wrong)
            return
        else:
            case = self.stage.case(f"case_{family}")
            how, ended, wrong = self.try_case(family, case, rng)
            if not wrong:
                shutil.rmtree(case.root)
        self.enter(family, number, how, [ended], wrong)

    def try_gate(self, rng: Random) -> tuple[str, Ended, list[str]]:
        """Spoil a file and read all of it through the gate."""
        path, declared = _choose(self.stage.visit, self.stage.references, rng)
        copy = self.stage.root / "gate" / path.name
        shutil.rmtree(copy.parent, ignore_errors=True)
        copy.parent.mkdir()
        shutil.copyfile(path, copy)
        how = spoil(copy, rng, DAMAGE)
        ended = finish(begin(lambda: read_all(copy, declared), self.log), self.log)
        return how, ended, escapes(ended)

    def try_case(self, family: str, case: Stage, rng: Random) -> tuple[str, Ended, list[str]]:
        """Run a command on a spoiled visit, manifest or order."""
        if family == "manifests":
            how, ended = try_manifest(self.stage, case, rng, self.log)
            return how, ended, escapes(ended, case.work)
        if family == "orders":
            how, ended = try_order(case, rng, self.log)
            return how, ended, escapes(ended, case.root / "order")
        path, _ = _choose(case.visit, case.references, rng)
        how = spoil(path, rng, ABSURD if rng.random() < 0.85 else DAMAGE)
        ended = run(case.reduce("-q"), self.log, draw=bool(rng.random() < 0.25))
        return how, ended, escapes(ended, case.output, case.work)

    def table(self) -> str:
        """Return the summary."""
        lines = [f"{'family':10s} {'trials':>7s} {'escaped':>8s} {'time [s]':>9s}  exit codes"]
        for family, tally in self.tallies.items():
            codes = ", ".join(f"{code}: {n}" for code, n in sorted(tally.codes.items()))
            counts = f"{tally.trials:7d} {len(tally.escaped):8d} {tally.seconds:9.0f}"
            lines.append(f"{family:10s} {counts}  {codes}")
        return "\n".join([*lines, *(line for t in self.tallies.values() for line in t.escaped)])


def _choose(visit: Path, references: Path, rng: Random) -> tuple[Path, Input]:
    """Choose a file that the pipeline reads: half of the time one of the visit."""
    folder, kinds = (visit, VISIT_INPUTS) if rng.random() < 0.5 else (references, REFERENCES)
    declared = {extname: kind for kind in kinds for extname in kind.first}
    named = ((p, read_soc_name(p.name)) for p in sorted(folder.rglob("*.fits")))
    files = [
        (path, declared[name.extname])
        for path, name in named
        if name is not None and name.extname in declared and "truth" not in path.parts
    ]
    return files[rng.integers(len(files))]


def read_all(path: Path, declared: Input) -> int:
    """Read a file through the gate, every column and pixel, and return the exit code."""
    try:
        with open_declared(path, declared, sums=True) as file:
            for hdu in file.hdus[1:]:
                if hdu.declared is not None and hdu.declared.is_table:
                    for column in hdu.declared.columns:
                        if column.name in hdu.present():
                            hdu.column(column.name)
                elif hdu.declared is not None:
                    hdu.image()
    except DrpError as error:
        click.echo(f"ERROR {error}")
        return error.exit_code
    return 0


@click.command()
@click.option(
    "--mutations",
    "-n",
    default=1000,
    show_default=True,
    help="Files spoiled for the gate; other families get shares of it.",
)
@click.option("--minutes", "-m", default=10.0, show_default=True, help="Time for kills.")
@click.option("--seed", default=1, show_default=True)
@click.option("--only", type=click.Choice(FAMILIES), help="Run one family only.")
@click.option("--case", type=int, help="Repeat this trial of the family only.")
def main(mutations: int, minutes: float, seed: int, only: str | None, case: int | None) -> None:
    """Soak the pipeline; exits with 1 if anything but a documented exit code escapes."""
    root = Path(tempfile.mkdtemp(prefix="drp-soak-"))
    os.environ |= {
        "SOURCE_DATE_EPOCH": "1700000000",
        "DRP_WORK": str(root / "home"),
        "DRP_RETRY_DELAY": "0.01",
        "OMP_NUM_THREADS": "1",
    }
    click.echo(f"soak in {root}, seed {seed}", err=True)
    soak = Soak(set_stage(root), seed)
    quick = finish(*_undisturbed(soak))
    for family in [only] if only else FAMILIES:
        soak_family(soak, family, mutations, minutes, case, quick.seconds)
    click.echo(soak.table())
    escaped = any(tally.escaped for tally in soak.tallies.values())
    if not escaped:
        shutil.rmtree(root)
    sys.exit(1 if escaped else 0)


def _undisturbed(soak: Soak) -> tuple[int, Path]:
    """Begin a reduction that nothing disturbs, for its duration."""
    from tests.soak.kills import reduce_undrawn

    stage = soak.stage
    root = stage.root / "quick"
    case = Stage(root, stage.visit, stage.references, root / "work", root / "out")
    return begin(lambda: reduce_undrawn(case.reduce("-q")), soak.log), soak.log


def soak_family(
    soak: Soak, family: str, mutations: int, minutes: float, case: int | None, duration: float
) -> None:
    """Run the trials of a family: a share of the mutations, or kills for some minutes."""
    if case is not None:
        soak.trial(family, case, duration)
        return
    count = round(mutations * SHARES[family]) if family in SHARES else 0
    started = shown = time.monotonic()
    number = 0
    while number < count or (family == "kills" and time.monotonic() < started + 60 * minutes):
        soak.trial(family, number, duration)
        number += 1
        if time.monotonic() > shown + 30:
            shown = time.monotonic()
            of = f" of {count}" if count else ""
            escaped = len(soak.tallies[family].escaped)
            click.echo(
                f"  {family} {number}{of}, {shown - started:.0f} s, {escaped} escaped", err=True
            )


if __name__ == "__main__":
    main()
