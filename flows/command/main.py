"""The command `drp`.

Heavy packages are imported inside the commands, so that --help is instant.
"""

from __future__ import annotations

import contextlib
import os

import click

from flows.command import inspect, operate, reduce, validate
from flows.command.surroundings import settle_variables
from schemas import ROOT, VERSION
from schemas.errors import DrpError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="drp")
def main() -> None:
    """Reduce CHEOPS visits from raw images to calibrated images, light curves and a report."""
    settle_variables()
    # numba caches compiled kernels beside their source; if that is read-only, use the work folder,
    # since numba fails without a writable cache
    if "NUMBA_CACHE_DIR" not in os.environ and not os.access(ROOT / "tasks", os.W_OK):
        from tasks.engine.folders import default_work_folder

        with contextlib.suppress(DrpError):
            os.environ["NUMBA_CACHE_DIR"] = str(default_work_folder(lambda _: None) / "numba")


for command in (
    reduce.reduce,
    reduce.simulate,
    reduce.campaign,
    inspect.references,
    inspect.explain,
    inspect.diff,
    inspect.check,
    inspect.show,
    inspect.status,
    operate.job,
    operate.intake,
    operate.clean,
    operate.reprocess,
    operate.up,
    operate.down,
    validate.validate,
):
    main.add_command(command)

if __name__ == "__main__":
    main()
