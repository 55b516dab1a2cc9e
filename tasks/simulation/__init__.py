"""A small simulator of CHEOPS visits with a known truth, for tests and demonstrations.

It shares no code with the pipeline, not even the geometry, so that the same mistake on both sides
cannot cancel.
"""
