"""The command `drp`."""
