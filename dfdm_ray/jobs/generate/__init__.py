"""Make a DFDM-shaped dataset."""
