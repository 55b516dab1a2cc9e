"""Long random trials of the whole pipeline, which `make soak` runs; no part of the test suite."""
