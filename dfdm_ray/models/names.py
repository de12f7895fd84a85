"""What a command line may ask for; nothing here loads torch."""

from typing import Literal

Backbone = Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101"]
"""The trunks there are; ResNet-10, which torchvision lacks, is ResNet-18 with one block a stage, not two."""
