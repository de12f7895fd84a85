"""Run all jobs on public videos."""
