"""The Python API: one model in this process, and a stage for pipelines of Ray Data."""
