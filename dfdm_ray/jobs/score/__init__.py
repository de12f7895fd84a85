"""Attribute the videos of an archive."""
