"""Object stores that fail now and then: what may pass is tried again and counted, what will not is told."""

import io
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np
import pyarrow as pa
import pytest
from support.flaky_s3 import FlakyS3, client, serving

from dfdm_ray.engine import heartbeat
from dfdm_ray.errors import RejectCode, UserError, VideoRejectedError
from dfdm_ray.io import listing, object_store, storage
from dfdm_ray.io.identity import compare, fingerprint, look_at
from dfdm_ray.io.listing import ListingProblem
from dfdm_ray.io.object_store import drain_failures, may_pass, persistently
from dfdm_ray.manifest.build import build_manifest
from dfdm_ray.manifest.sources import list_source
from dfdm_ray.video.decode import VideoReader

pytestmark = pytest.mark.slow

CONTENT = np.random.default_rng(0).bytes(3 << 20)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(object_store._again.wait, "multiplier", 0.01)
    monkeypatch.setattr(object_store, "_REQUEST_S", 1.0)
    drain_failures()
    object_store.remote_filesystem.cache_clear()
    yield
    object_store.remote_filesystem.cache_clear()


@pytest.mark.parametrize("kind", ["500 InternalError", "503 SlowDown", "stall"])
def test_whatever_fails_three_times_in_ten_is_done_all_the_same_and_counted(kind: str) -> None:
    app = FlakyS3(share=0.3, kinds=(kind,), stall_s=3.0)
    table = pa.table({"a": [1, 2, 3]})
    with serving(app) as bucket:
        for name in ("a", "b/c"):
            storage.write_atomic(bucket.format(name), CONTENT)
            assert storage.read_bytes(bucket.format(name), what="file") == CONTENT
            assert storage.size_bytes(bucket.format(name)) == len(CONTENT)
        with storage.open_input(bucket.format("a")) as file:
            file.seek(-5, 2)
            assert file.read() == CONTENT[-5:]
            file.seek(1 << 20)
            assert file.read(7) == CONTENT[1 << 20 : (1 << 20) + 7]
            assert file.tell() == (1 << 20) + 7
        storage.write_parquet(bucket.format("t.parquet"), table)
        assert storage.read_parquet(bucket.format("t.parquet"), what="table").equals(table)
        assert storage.list_names(bucket.format("b")) == ["c"]
        assert [entry.relative for entry in listing.list_files(bucket.format("b"))] == ["c"]
        storage.remove_file(bucket.format("a"))
        assert not storage.exists(bucket.format("a"))
    assert app.injected[kind] > 0
    assert len(drain_failures()) >= app.injected[kind] * 0.5  # some fail together in one call
    assert drain_failures() == []


def test_objects_have_a_time_and_a_fingerprint_by_which_they_are_known() -> None:
    with serving(FlakyS3(share=0.0)) as bucket:
        uri, copy, other = (bucket.format(name) for name in ("a/v.mp4", "b/v.mp4", "c/v.mp4"))
        for place, content in ((uri, CONTENT), (copy, CONTENT), (other, CONTENT[::-1])):
            storage.write_atomic(place, content)
        (entry,) = listing.list_files(bucket.format("a"))
        assert isinstance(entry, listing.FileEntry)
        assert abs(entry.modified_ns / 1e9 - time.time()) < 60
        (found, elsewhere, replaced, *nothing) = look_at([uri, copy, other, bucket.format("gone")])
        assert (found.uri, found.modified_ns) == (uri, entry.modified_ns)
        assert nothing == [None]
        read = replace(found, fingerprint=fingerprint(io.BytesIO(CONTENT), len(CONTENT)))
        assert compare([(read, elsewhere), (read, replaced)]) == ["moved", "replaced"]
        by_list = build_manifest(uri).table
        assert by_list["modified_ns"].to_pylist() == [found.modified_ns]


def test_a_run_into_an_object_store_has_a_heartbeat_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_EVERY_S", 0.05)
    with serving(FlakyS3(share=0.0)) as bucket:
        root = bucket.format("out")
        with heartbeat.heartbeat(root) as name:
            first_ns = storage.modified_ns(storage.join(root, name))
            with pytest.raises(UserError, match="another run writes to --out s3://"):
                heartbeat.require_alone(root)
            for _ in range(100):  # times of objects are whole seconds
                time.sleep(0.1)
                if storage.modified_ns(storage.join(root, name)) > first_ns:
                    break
            assert storage.modified_ns(storage.join(root, name)) > first_ns
        assert storage.list_names(root) == []


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_endpoint_may_stand_in_the_environment(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(FlakyS3(share=0.0)) as bucket:
        uri, _, options = bucket.format("a").partition("?")
        monkeypatch.setenv(variable, f"http://{parse_qs(options)['endpoint_override'][0]}")
        storage.write_atomic(f"{uri}?region=us-east-1", b"content")
        assert storage.read_bytes(bucket.format("a"), what="file") == b"content"


def test_a_store_that_never_works_is_given_up_after_a_bounded_number_of_requests() -> None:
    app = FlakyS3(share=0.0, kinds=("500 InternalError",))
    with serving(app) as bucket:
        storage.write_atomic(bucket.format("a.mp4"), CONTENT)
        app.share = 1.0
        app.requests.clear()
        with pytest.raises(VideoRejectedError) as rejected:
            VideoReader(bucket.format("a.mp4"))
        assert rejected.value.code == RejectCode.STORAGE_ERROR
        assert len(app.requests) == object_store.ATTEMPTS
        with pytest.raises(UserError, match="cannot read the checkpoint"):
            storage.read_bytes(bucket.format("a.mp4"), what="checkpoint")


def test_a_refused_key_is_told_at_once() -> None:
    app = FlakyS3(share=1.0, kinds=("403 AccessDenied",))
    with serving(app) as bucket:
        with pytest.raises(VideoRejectedError) as rejected:
            VideoReader(bucket.format("a.mp4"))
        assert rejected.value.code == RejectCode.UNREADABLE
        with pytest.raises(UserError, match="ACCESS_DENIED"):
            storage.list_names(bucket.format("b"))
    assert len(app.requests) == 2
    assert drain_failures() == []


def test_a_missing_object_is_not_asked_for_again() -> None:
    app = FlakyS3(share=0.0)
    with serving(app) as bucket:
        object_store.remote_filesystem.cache_clear()
        with pytest.raises(VideoRejectedError) as rejected:
            VideoReader(bucket.format("gone.mp4"))
        assert rejected.value.code == RejectCode.UNREADABLE
    assert drain_failures() == []


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError("AWS Error INTERNAL_FAILURE during GetObject operation: injected (HTTP status 500)"), True),
        (OSError("AWS Error SLOW_DOWN during GetObject operation (HTTP status 503)"), True),
        (OSError("(HTTP status 429)"), True),
        (OSError("AWS Error NETWORK_CONNECTION: curlCode: 28, Timeout was reached"), True),
        (OSError("AWS Error REQUEST_TIMEOUT during PutObject operation: no data came"), True),
        (OSError("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation: busy"), True),
        (OSError("AWS Error [code 134] during GetObject operation: newer than Arrow"), True),
        (OSError("the connection was closed"), True),
        (
            OSError("AWS Error UNKNOWN (HTTP status 400) during HeadObject operation: No response body."),
            False,
        ),
        (OSError("AWS Error ACCESS_DENIED during HeadObject operation: No response body."), False),
        (OSError("AWS Error NO_SUCH_BUCKET during ListObjectsV2 operation: there is no such bucket"), False),
        (OSError("AWS Error INVALID_ACCESS_KEY_ID during GetObject operation: unknown key"), False),
        (OSError("AWS Error SIGNATURE_DOES_NOT_MATCH during GetObject operation: wrong secret"), False),
        (OSError("(HTTP status 404)"), False),
        (FileNotFoundError("no such object"), False),
        (OSError(5, "Input/output error"), False),
        (UserError("x"), False),
    ],
)
def test_what_may_pass_is_told_from_what_will_not(error: Exception, passes: bool) -> None:
    assert may_pass(error) == passes


def test_other_errors_are_raised_at_once() -> None:
    calls: list[Path] = []

    def fail() -> None:
        calls.append(Path())
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError):
        persistently(fail)
    assert len(calls) == 1


class Object:
    """What ``pyarrow`` opens, of known content; counts what is asked for."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked: list[tuple[int, int]] = []

    def size(self) -> int:
        return len(self.content)

    def read_at(self, count: int, start: int) -> bytes:
        self.asked.append((start, count))
        return self.content[start : start + count]

    def close(self) -> None:
        pass


def test_what_was_read_is_not_asked_for_again() -> None:
    held = Object(bytes(range(256)) * 20)
    file = object_store.RemoteFile(held)
    for start, count in ((0, 1000), (4000, 1000), (48, 1000), (4100, 10), (999, 1), (1000, 20)):
        file.seek(start)
        wanted = held.content[start : start + count]
        got = file.read(count)
        assert got == wanted[: len(got)]
        assert got
    assert held.asked == [(0, 1000), (4000, 1000), (1000, 20)]


def test_an_open_file_keeps_few_and_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "_KEPT_BYTES", 100)
    held = Object(bytes(10_000))
    file = object_store.RemoteFile(held)
    for start, count in (
        (0, 101),
        (0, 100),
        (1000, 10),
        (2000, 10),
        (3000, 10),
        (0, 10),
        (4000, 10),
        (0, 10),
    ):
        file.seek(start)
        assert file.read(count) == bytes(count)
    assert [start for start, _ in held.asked] == [0, 0, 1000, 2000, 3000, 4000, 0]


@pytest.mark.parametrize("seed", range(5))
def test_reading_to_and_fro_gives_the_files_bytes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    held = Object(rng.bytes(5000))
    file = io.BufferedReader(object_store.RemoteFile(held), buffer_size=700)
    for _ in range(300):
        start, count = int(rng.integers(0, 5100)), int(rng.integers(0, 2000))
        file.seek(start)
        assert file.read(count) == held.content[start : start + count]


def test_keys_are_text_and_are_read_under_the_names_under_which_they_are_listed_or_say_why_not() -> None:
    keys, refused = ["a/b", "a/b/c", ".a/b.."], ["a//b", "/a/b", "a/b//c", "a/./b", "a/c/../b"]
    with serving(FlakyS3(share=0.0)) as bucket:
        endpoint = parse_qs(bucket.partition("?")[2])["endpoint_override"][0]
        for key in keys + refused:
            client(f"http://{endpoint}").put_object(Bucket="archive", Key=f"v/{key}", Body=key.encode())
        found = {one.relative: one for one in listing.list_files(bucket.format("v"))}
        assert sorted(found) == sorted(keys + refused)
        assert [name for name, one in found.items() if isinstance(one, ListingProblem)] == sorted(refused)
        for key in keys:
            assert storage.size_bytes(found[key].uri) == len(key)
            assert storage.read_bytes(found[key].uri, what="object") == key.encode()
        for key in refused:
            with pytest.raises(VideoRejectedError, match=r"unreadable: .*pyarrow reads no key"):
                VideoReader(found[key].uri)
        storage.write_atomic(bucket.format("v/list.txt"), b"a//b\na/b\n./a/x/../b\n")
        listed = list_source(bucket.format("v/list.txt"))
        assert [one.relative for one in listed.unreadable] == ["a//b"]
        assert [storage.read_bytes(one.uri, what="object") for one in listed.files] == [b"a/b"]
        assert [one.relative for one in listed.doubled] == ["./a/x/../b"]


def test_what_reads_say_of_a_failing_store_keeps_its_code() -> None:
    passing, lasting = OSError("AWS Error SLOW_DOWN (HTTP status 503)"), FileNotFoundError("gone")
    for reason, code in ((passing, RejectCode.STORAGE_ERROR), (lasting, RejectCode.UNREADABLE)):
        told = UserError("cannot read the crops")
        told.__cause__ = reason
        assert [object_store.unreadable(error).code for error in (reason, told)] == [code, code]
