"""Manifests from file names: list, parse, write, summarise."""
