"""The recipes of the pipeline, and the ways to run them: commands, job orders, Prefect."""
