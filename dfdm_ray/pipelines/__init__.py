"""Whole jobs: how the stages are wired, run and written down."""
