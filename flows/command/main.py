"""The command `drp`.

Heavy packages are imported inside the commands, so that --help is instant.
"""

from __future__ import annotations

import click

from flows.command import campaign, inspect, operate, reduce, validate
from flows.command.surroundings import settle_variables
from schemas import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="drp")
def main() -> None:
    """Reduce CHEOPS visits from raw images to calibrated images, light curves and a report."""
    settle_variables()


for command in (
    reduce.reduce,
    reduce.simulate,
    campaign.campaign,
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
