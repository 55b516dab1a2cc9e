"""What things are: payloads, settings, product declarations, flags and errors; no behaviour."""

from pathlib import Path

VERSION = "1.0.0"
ROOT = Path(__file__).resolve().parent.parent  # the checkout
