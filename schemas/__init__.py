"""What things are: payloads, settings, product declarations, flags and errors; no behaviour."""

VERSION = "0.1.0"
