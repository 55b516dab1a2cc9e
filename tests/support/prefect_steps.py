"""Small steps under a Prefect server, in their own process because Prefect's imports warn.

Run ``python -m tests.support.prefect_steps FOLDER`` with PREFECT_API_URL set; it answers in JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.service.environment import silence
from schemas.errors import BadInputError, Interrupted, StorageError
from tasks.engine import step as machine
from tests.support.step_bench import Bench, fault_once, outcomes, own_flat, permanent


def ended(run: Callable[[], Any]) -> str:
    """Return how a run ended: the name of what it raised."""
    try:
        run()
    except BaseException as error:
        return type(error).__name__
    return "well"


def main(folder: Path) -> None:
    """Run the steps in all ways, and answer what happened."""
    silence(verbose=False)
    answer: dict[str, Any] = {}

    def bench(name: str, fault: Callable[[], None] = lambda: None) -> Bench:
        machine.STEPS.clear()
        (folder / name).mkdir(parents=True)
        made = Bench(folder / name)
        made.before = fault
        return made

    own = bench("well")
    first, run = own.run(engine="prefect")
    answer["first"] = [*own.calls, *outcomes(run)]
    again, run = own.run(engine="prefect")
    plain, _ = own.run()
    answer["again"] = [*own.calls, *outcomes(run)]
    answer["same payload"] = first == again == plain
    _, run = own.run(engine="prefect", replacements={"TERM_FLAT": own_flat(folder / "flat.fits")})
    answer["by hand"] = outcomes(run)
    _, run = own.run(engine="prefect", until="double")
    answer["until"] = outcomes(run)

    own = bench("retried", fault_once(StorageError("in.fits: read failed")))
    _, run = own.run(engine="prefect")
    answer["retried"] = [*own.calls, *outcomes(run), *run.warnings]
    own.before = fault_once(StorageError("in.fits: read failed"))
    _, run = own.run(engine="prefect", forget={"sum"})
    answer["forgotten and retried"] = [*own.calls, *outcomes(run)]

    for name, error in {
        "stays": StorageError("in.fits: read failed"),
        "disk full": permanent("out.fits: write failed"),
        "bad input": BadInputError("in.fits: is no FITS file"),
        "our own fault": ZeroDivisionError("oh"),
        "memory": MemoryError(),
        "stopped": Interrupted(15, "SIGTERM"),
    }.items():
        own = bench(name, fault_once(error, times=99))
        answer[name] = [ended(lambda own=own: own.run(engine="prefect")), own.calls.count("sum")]  # type: ignore[misc]
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
