"""Compare predictions with the truth."""
