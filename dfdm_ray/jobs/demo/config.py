"""Configuration of `dfdm-ray demo`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Run all main jobs on public face videos, from the download to the evaluation."""

    out: str = "build/demo"
    """Output folder of the demo."""
