from typing import Any

import pytest

from dfdm_ray.models.preprocessing import Preprocessing


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"crop_size": 31}, "crop_size must be a whole number of at least 32, got 31"),
        ({"crop_size": 224.0}, "got 224.0"),
        ({"margin": -0.1}, "margin must be a number of at least 0, got -0.1"),
        ({"margin": float("nan")}, "got nan"),
        ({"mean": (0.1, 0.2)}, "mean must be three numbers"),
        ({"mean": (0.1, "0.2", 0.3)}, "mean must be three numbers"),
        ({"std": [1.0, 1.0, 1.0]}, "std must be three numbers"),  # a list is mutable
        ({"std": (0.1, 0.0, 0.3)}, "std must be above 0"),
        ({"detector": 3}, "detector must be a name, got 3"),
        ({"max_side": "480"}, "max_side must be a number, got '480'"),
    ],
)
def test_wrong_preprocessing_is_refused_by_value(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessing(**wrong)
