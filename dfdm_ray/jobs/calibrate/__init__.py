"""Fit verdicts on labelled videos."""
