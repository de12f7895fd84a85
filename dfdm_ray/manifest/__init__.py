"""From file names to a manifest: list, parse, split, summarise."""
