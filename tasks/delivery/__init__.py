"""How results leave the pipeline: light curves, report, archive."""
