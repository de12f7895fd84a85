"""Draw the crops that score uses."""
