"""Compares the pipeline's products with the truth of simulated visits.

It has its own readers and kernels and shares none with the pipeline.
"""
