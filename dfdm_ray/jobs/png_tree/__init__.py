"""Exchange crops with the authors' code."""
