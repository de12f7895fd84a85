"""What a command line may ask for; nothing here loads torch."""

from typing import Literal

Backbone = Literal["resnet18", "resnet34", "resnet50", "resnet101"]
"""The trunks there are."""
