"""The group of all commands: `drp --help` in sections; hints for mistyped commands and choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from schemas.nearest import did_you_mean


class Sections(click.Group):
    """A group whose commands are listed in sections, each with its whole first sentence.

    `examples` are lines that end the help.
    """

    def __init__(
        self,
        *args: object,
        sections: Mapping[str, Sequence[click.Command]],
        examples: str,
        **options: object,
    ) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.sections = sections
        self.examples = examples
        for commands in sections.values():
            for each in commands:
                self.add_command(each)

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the help."""
        return [str(each.name) for commands in self.sections.values() for each in commands]

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands section by section."""
        for title, commands in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(str(c.name), summary(c)) for c in commands], col_max=12)

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        with formatter.section("Examples"):
            for line in self.examples.splitlines():
                formatter.write(f"  {line}\n" if line else "\n")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name; the message of an error has a hint."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            hint = did_you_mean(args[0], self.list_commands(ctx)).removeprefix("; did")
            hint = f" Did{hint}" if hint else f" See '{ctx.command_path} --help'."
            ctx.fail(f"No such command {args[0][:100]!r}.{hint}")
        return super().resolve_command(ctx, args)


class Choice(click.Choice[str]):
    """One of some words; the message about another word has a hint."""

    def get_invalid_choice_message(self, value: object, ctx: click.Context | None) -> str:
        """Return the message, which lists the words."""
        message = super().get_invalid_choice_message(value, ctx).removesuffix(".")
        return message + (did_you_mean(str(value), self.choices) or ".")


def summary(command: click.Command) -> str:
    """Return the first paragraph of a command's help."""
    return " ".join((command.help or "").partition("\n\n")[0].split())
