"""Make a crops dataset."""
