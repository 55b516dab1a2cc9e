"""The command `drp`."""

from flows.command.search_path import forget_working_folder

forget_working_folder()

from flows.command.surroundings import settle_process  # noqa: E402

settle_process()
