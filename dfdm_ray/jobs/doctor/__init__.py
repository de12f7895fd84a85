"""Check a cluster before a job does."""
