"""Bytes in, bytes out, and words to a person."""
