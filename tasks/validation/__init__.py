"""Judges the pipeline's products by the truth of simulated visits: files are read here anew, with
no kernel of the pipeline.
"""
