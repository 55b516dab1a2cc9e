"""The step machine: keys, records, runs, and Prefect."""
