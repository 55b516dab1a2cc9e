"""The command `drp`.

Heavy packages are imported inside the commands, so that --help is instant.
"""

from __future__ import annotations

import click

from flows.command import campaign, config, inspect, operate, reduce, validate
from flows.command.group import Sections
from flows.command.surroundings import settle_variables
from schemas import VERSION

SECTIONS = {
    "Reduce": (reduce.reduce, campaign.campaign, operate.reprocess, reduce.simulate),
    "Look at results": (
        *(inspect.explain, inspect.diff, inspect.plot, inspect.show, inspect.provenance),
        inspect.check,
    ),
    "Show state and settings": (inspect.status, inspect.references, config.config),
    "Operate": (operate.up, operate.down, operate.job, operate.intake, operate.clean),
    "Other": (validate.validate, config.completion),
}

EXAMPLES = """\
drp simulate visit --case demo                        a visit to try
drp reduce visit --output products                    its light curves and report
drp reduce visit --set background.inner=50 --dry-run  what a setting would change
drp explain products/CH_PR900001_TG000101_V0000 --image 12
drp COMMAND --help                                    all options of a command"""


@click.group(
    cls=Sections,
    sections=SECTIONS,
    examples=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(VERSION, prog_name="drp")
def main() -> None:
    """Reduce CHEOPS visits from raw images to calibrated images, light curves and a report."""
    settle_variables()


if __name__ == "__main__":
    main()
