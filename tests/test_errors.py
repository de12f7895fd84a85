import errno
import pickle

import pytest

from dfdm_ray import errors
from dfdm_ray.errors import DfdmError, RejectCode, UserError, VideoRejectedError

EXAMPLES = [
    errors.IncompleteError("2 of 9 videos have no row"),
    DfdmError("x"),
    UserError("mend this"),
    errors.WriteError(28, "No space left on device", "/out/a.png"),
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


def test_a_file_that_cannot_be_written_is_one_line_for_the_user_and_an_oserror_for_code() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(UserError) as raised, errors.writing("/out/a.png"):
        raise full
    assert str(raised.value) == (
        "cannot write /out/a.png: No space left on device; correct this and run the same command again"
    )
    assert isinstance(raised.value, OSError)
    assert raised.value.errno == errno.ENOSPC
    with pytest.raises(UserError, match="write s3://b/a: ACCESS_DENIED;"), errors.writing("s3://b/a"):
        raise OSError("ACCESS_DENIED")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIA:hidden@bucket/a.mp4",
        "S3://AKIA:hid/den+x@bucket",  # a slash that should have been encoded
        "s3://hidden@bucket/a",
        "--videos=s3://AKIA:hidden@bucket/a?region=eu",
        "gs://user:hidden@bucket/a",
        "abfs://account:hidden==@container/a",
        "https://user:hidden@example.org/a.mp4",
        "abfs://container@account.dfs.core.windows.net/a?client_id=1&client_secret=hidden",
        "https://bucket.s3.amazonaws.com/a.mp4?X-Amz-Credential=1&X-Amz-Signature=hidden",
        "https://account.blob.core.windows.net/a.mp4?sv=1&sig=hidden",
        "gs://bucket/a?access_token=hidden",
    ],
)
def test_a_key_in_a_uri_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(UserError, match=r"^m\.parquet has a key, a password or a token in a URI") as raised:
        errors.refuse_keys(["/a.mp4", uri], origin="m.parquet")
    assert "hid" not in str(raised.value)


@pytest.mark.parametrize(
    "uri",
    [
        "/data/a:b@c.mp4",
        "file:///a?token=1.mp4",
        "s3://bucket/a:b@c.mp4?endpoint_override=localhost:9000&scheme=http&region=us-east-1",
        "s3://bucket?endpoint_override=localhost:9000",
        "gs://anonymous@bucket/a",
        "abfs://container@account.dfs.core.windows.net/a?credential_kind=default",
        "abfs://localhost:10000/container/a",
        "hdfs://user@host:9000/a",
        "hdfs://[::1]:9000/a",
        "ray://10.0.0.1:10001",
        "http://127.0.0.1:8265",
        "s3://bucket/design=1/secret=2/a.mp4",
    ],
)
def test_a_uri_without_a_key_passes(uri: str) -> None:
    errors.refuse_keys([uri], origin="m.parquet")
