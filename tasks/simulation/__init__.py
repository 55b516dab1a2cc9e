"""A small simulator of CHEOPS visits: raw products with a known truth, for tests and
demonstrations.

It shares no code with the corrections, geometry included, so that a mistake made twice cannot
cancel.
"""
