"""Places are named one way, and files appear whole or not at all."""

import os
import resource
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from dfdm_ray.errors import UserError
from dfdm_ray.io import listing, storage


def test_a_written_file_is_read_back_and_leaves_nothing_else(tmp_path: Path) -> None:
    uri = str(tmp_path / "new" / "folders" / "a.bin")
    storage.write_atomic(uri, b"one")
    storage.write_atomic(uri, b"two")
    assert storage.read_bytes(uri, what="test file") == b"two"
    assert storage.size_bytes(uri) == 3
    assert os.listdir(tmp_path / "new" / "folders") == ["a.bin"]


def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_part(tmp_path: Path) -> None:
    uri = str(tmp_path / "a.bin")
    storage.write_atomic(uri, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the disk is full after 1000 bytes
    try:
        with pytest.raises(UserError, match=r"^cannot write .*/a\.bin: File too large; correct this and run"):
            storage.write_atomic(uri, b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == ["a.bin"]
    assert storage.read_bytes(uri, what="test file") == b"old"


def test_a_file_that_cannot_be_renamed_into_place_leaves_no_part(tmp_path: Path) -> None:
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(OSError, match="directory"):
        storage.write_atomic(str(tmp_path / "a.bin"), b"x")
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_reader_never_sees_a_part_of_a_file(tmp_path: Path) -> None:
    uri = str(tmp_path / "a.bin")
    whole = [bytes([digit]) * 2_000_000 for digit in range(2)]
    storage.write_atomic(uri, whole[0])
    stop = threading.Event()
    seen: list[bytes] = []

    def read() -> None:
        while not stop.is_set():
            content = storage.read_bytes(uri, what="test file")
            seen.append(content if content not in whole else content[:1])

    reader = threading.Thread(target=read)
    reader.start()
    for index in range(20):
        storage.write_atomic(uri, whole[index % 2])
    stop.set()
    reader.join()
    assert len(seen) > 1
    assert set(seen) <= {b"\0", b"\1"}


@pytest.mark.parametrize(
    ("root", "parts", "expected"),
    [
        # local: nothing is encoded
        ("/a b", ("c%", "d#e.mp4"), "/a b/c%/d#e.mp4"),
        ("file:///a%20b", ("c",), "/a b/c"),
        # remote: encoded, with the query at the end
        ("s3://bucket/a", ("b c", "d#e?f%.mp4"), "s3://bucket/a/b%20c/d%23e%3Ff%25.mp4"),
        ("s3://bucket/a/", ("b",), "s3://bucket/a/b"),
        # keys are text: nothing is normalised
        ("s3://bucket/a", ("b//c/../d",), "s3://bucket/a/b//c/../d"),
        ("s3://bucket", ("/a",), "s3://bucket//a"),
        (
            "s3://bucket?endpoint_override=localhost:9000&scheme=http",
            ("a", "b.parquet"),
            "s3://bucket/a/b.parquet?endpoint_override=localhost:9000&scheme=http",
        ),
    ],
)
def test_join_encodes_what_it_must_and_keeps_the_query(
    root: str, parts: tuple[str, ...], expected: str
) -> None:
    assert storage.join(root, *parts) == expected


@pytest.mark.parametrize(
    ("uri", "folder", "name"),
    [
        ("/a/b.parquet", "/a", "b.parquet"),
        ("b.parquet", "", "b.parquet"),
        ("file:///a%20b/c", "/a b", "c"),
        ("s3://bucket/a/b%20c?scheme=http", "s3://bucket/a?scheme=http", "b c"),
        ("gs://bucket/b", "gs://bucket", "b"),
    ],
)
def test_split_is_the_reverse_of_join(uri: str, folder: str, name: str) -> None:
    assert storage.split(uri) == (folder, name)
    assert storage.join(folder, name) == (uri if storage.is_remote(uri) else storage.local_path(uri))


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/a b/c%20.mp4", "/a b/c%20.mp4"),
        ("file:///a%20b.mp4", "/a b.mp4"),
        ("s3://bucket/a%20b/c.mp4?scheme=http", "/a b/c.mp4"),
        # object keys may have a bare number sign
        ("s3://bucket/take #2.mp4", "/take #2.mp4"),
    ],
)
def test_the_path_of_a_uri_is_decoded(uri: str, path: str) -> None:
    assert storage.path_of(uri) == path


def test_a_file_uri_goes_there_and_back(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/a\xff %#?.bin")
    uri = storage.local_uri(path)
    assert uri.startswith("file:///")
    assert uri.isascii()
    assert storage.local_path(uri) == path
    assert storage.resolve(uri)[1] == path
    assert storage.local_uri("/plain % name") == "/plain % name"
    storage.write_atomic(f"file://{tmp_path}/a%20b", b"x")
    assert (tmp_path / "a b").read_bytes() == b"x"
    assert storage.exists(f"file://{tmp_path}/a%20b")
    assert not storage.exists(f"file://{tmp_path}/a%2520b")


def test_only_object_stores_are_remote() -> None:
    assert storage.is_remote("s3://bucket/a")
    assert storage.is_remote("GS://bucket/a")
    for uri in ("/a/b", "s3:/a", "s3:bucket", "file:///a", "http://a/b", "//[a", ""):
        assert not storage.is_remote(uri)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        # a scheme nothing here reads
        ("http://example.org/a.mp4", "unknown scheme 'http'; use file, s3, gs"),
        # no host can be called so
        ("s3://[a/b", "Invalid IPv6 URL"),
        # an option pyarrow does not know
        ("s3://bucket/a?colour=red", "cannot use s3://bucket/a"),
        # a key, which rows and messages would repeat
        ("s3://AKIA:hidden@[a/b", "^s3://... has a key, a password or a token in a URI"),
    ],
)
def test_a_place_that_cannot_be_named_is_a_user_error(uri: str, words: str) -> None:
    with pytest.raises(UserError, match=words.replace("?", r"\?").replace("[", r"\[")):
        storage.resolve(uri)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("gs://bucket/a", "bucket/a"),
        ("gs://anonymous@bucket/a/b", "bucket/a/b"),
        ("abfs://container@account.dfs.core.windows.net/a/b", "container/a/b"),
        ("abfss://container@account.dfs.core.windows.net/", "container"),
        ("abfss://account.blob.core.windows.net/container/a", "container/a"),
        ("abfs://account@container/a", "container/a"),
    ],
)
def test_who_asks_and_where_are_no_part_of_a_remote_path(uri: str, path: str) -> None:
    assert storage.resolve(uri)[1] == path


def test_a_remote_key_is_decoded_once() -> None:
    filesystem, path = storage.resolve("s3://bucket/a%2520b/c?endpoint_override=localhost:1&scheme=http")
    assert isinstance(filesystem, pafs.S3FileSystem)
    assert path == "bucket/a%20b/c"


def test_a_parquet_file_is_read_back_and_what_is_none_is_a_user_error(tmp_path: Path) -> None:
    uri = str(tmp_path / "a.parquet")
    table = pa.table({"a": [1, 2], "b": ["x", None]}).replace_schema_metadata({"key": "value"})
    storage.write_parquet(uri, table)
    back = storage.read_parquet(uri, what="manifest")
    assert back.equals(table)
    assert back.schema.metadata == {b"key": b"value"}
    assert storage.read_parquet(uri, what="manifest", columns=["b"]).column_names == ["b"]
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"the manifest .* is not a Parquet file"):
        storage.read_parquet(str(tmp_path / "b.parquet"), what="manifest")
    with pytest.raises(UserError, match="cannot read the manifest"):
        storage.read_parquet(str(tmp_path / "c.parquet"), what="manifest")
    with pytest.raises(UserError, match=r"cannot read the list .*: No such file"):
        storage.read_bytes(str(tmp_path / "c.txt"), what="list")


def test_files_are_listed_in_one_order_below_their_root(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", "c/d/3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = list(listing.list_files(str(tmp_path)))
    assert [entry.relative for entry in found] == ["a", "b/1", "b/2", "c/d/3"]
    assert found[1] == listing.FileEntry(
        uri=str(tmp_path / "b" / "1"),
        relative="b/1",
        size_bytes=3,
        modified_ns=(tmp_path / "b" / "1").stat().st_mtime_ns,
    )
    with pytest.raises(UserError, match="no such folder"):
        list(listing.list_files(str(tmp_path / "a")))


def test_a_tree_is_removed_and_none_is_no_error(tmp_path: Path) -> None:
    storage.write_atomic(str(tmp_path / "a" / "b" / "c"), b"x")
    storage.remove(str(tmp_path / "a"))
    storage.remove(str(tmp_path / "a"))
    assert os.listdir(tmp_path) == []


def test_parts_are_read_in_order_and_what_is_no_part_is_left_alone(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("a", pa.int32())])
    assert storage.read_parts(str(tmp_path / "gone"), schema).num_rows == 0
    for name, value in (("part-00001.parquet", 2), ("part-00000.parquet", 1)):
        storage.write_parquet(str(tmp_path / name), pa.table({"a": [value]}))
    (tmp_path / "part-00002.parquet.0123.part").write_bytes(b"torn")
    (tmp_path / "merged.parquet").write_bytes(b"of somebody else")
    table = storage.read_parts(str(tmp_path), schema)
    assert table.schema.equals(schema)
    assert table["a"].to_pylist() == [1, 2]
    storage.write_parquet(str(tmp_path / "part-00003.parquet"), pa.table({"a": ["x"], "b": [1]}))
    with pytest.raises(UserError, match="other columns"):
        storage.read_parts(str(tmp_path), schema)


def test_what_killed_writers_left_is_removed_and_what_a_user_named_alike_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", lambda part, path: left.append(part))
        patched.setattr(os, "unlink", lambda path: None)  # a killed writer tidies nothing up
        storage.write_atomic(str(tmp_path / "run.json"), b"{")
    kept = {"run.json", "film.part", "a.mp4.part", "a.0123abc.part"}
    for name in kept:
        (tmp_path / name).touch()
    assert [Path(part).exists() for part in left] == [True]
    storage.remove_unfinished(str(tmp_path))
    assert set(os.listdir(tmp_path)) == kept
    storage.remove_unfinished(str(tmp_path / "gone"))


def test_a_file_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a%20b", "a b"):
        (tmp_path / name).touch()
    storage.remove_file(str(tmp_path / "a b"))
    assert os.listdir(tmp_path) == ["a%20b"]


def test_a_place_that_cannot_be_looked_at_is_a_user_error(tmp_path: Path) -> None:
    assert not storage.exists(str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"cannot look at .*/n+: .*File name too long"):
        storage.exists(str(tmp_path / ("n" * 300)))
