"""The default reference library: synthetic reference files in the SOC's formats, and what builds
them.
"""
