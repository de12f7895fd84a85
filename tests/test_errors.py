import pickle

import pytest

from dfdm_ray import errors
from dfdm_ray.errors import DfdmError, RejectCode, UserError, VideoRejectedError

EXAMPLES = [
    errors.IncompleteError("2 of 9 videos have no row"),
    DfdmError("x"),
    UserError("mend this"),
    VideoRejectedError(RejectCode.NO_FACE, "none in 16 frames"),
]


def test_every_error_has_an_example_here() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert kinds == {type(example) for example in EXAMPLES}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_crosses_a_process_border_whole(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
