"""Whether a file is still the one that was read, by size, time, place and the bytes at its ends."""

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dfdm_ray.io.identity import FileIdentity, compare, fingerprint, look_at

CONTENT = np.random.default_rng(0).bytes(200_000)


def print_of(content: bytes) -> str:
    return fingerprint(io.BytesIO(content), len(content))


@pytest.mark.parametrize("content", [CONTENT, CONTENT[:100_000], CONTENT[:5], b""])
def test_equal_files_have_equal_fingerprints_whatever_their_length(content: bytes) -> None:
    assert print_of(content) == print_of(bytes(content))
    assert len(print_of(content)) == 64


@pytest.mark.parametrize(
    "other",
    [
        b"x" + CONTENT[1:],  # the header
        CONTENT[:-1] + b"x",  # an index at the end
        CONTENT[:65_535] + b"x" + CONTENT[65_536:],  # the last byte of the sample
        CONTENT[:100_000] + CONTENT[99_999:],  # one byte more, in the middle
    ],
)
def test_another_end_or_size_is_another_fingerprint(other: bytes) -> None:
    assert other != CONTENT
    assert print_of(other) != print_of(CONTENT)


OLD = FileIdentity(uri="/a/v.mp4", size_bytes=5, modified_ns=1, fingerprint="f")


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        (OLD, OLD, "same"),
        (OLD, replace(OLD, size_bytes=6, fingerprint="g"), "replaced"),
        (replace(OLD, fingerprint=None), replace(OLD, size_bytes=6), "replaced"),
        # a size that a user made up, in a manifest of their own
        (replace(OLD, size_bytes=0, modified_ns=None), OLD, "same"),
        # touched, or copied over
        (OLD, replace(OLD, modified_ns=2), "same"),
        (OLD, replace(OLD, modified_ns=2, fingerprint="g"), "replaced"),
        (replace(OLD, fingerprint=None), replace(OLD, modified_ns=2), "replaced"),
        # another archive with the same names
        (OLD, replace(OLD, uri="/b/v.mp4"), "moved"),
        (OLD, replace(OLD, uri="/b/v.mp4", modified_ns=2), "moved"),
        (OLD, replace(OLD, uri="/b/v.mp4", fingerprint="g"), "replaced"),
        (replace(OLD, fingerprint=None), replace(OLD, uri="/b/v.mp4"), "moved"),
        (replace(OLD, fingerprint=None), replace(OLD, uri="/b/v.mp4", modified_ns=2), "replaced"),
        # a folder of an earlier version, which stored neither time nor fingerprint
        (replace(OLD, modified_ns=None, fingerprint=None), OLD, "same"),
        (replace(OLD, modified_ns=None, fingerprint=None), replace(OLD, size_bytes=6), "replaced"),
        (replace(OLD, modified_ns=None, fingerprint=None), replace(OLD, uri="/b/v.mp4"), "unsure"),
        # a file that cannot be read now
        (OLD, replace(OLD, size_bytes=0, modified_ns=None, fingerprint=None), "same"),
        # a file that is empty now
        (OLD, replace(OLD, size_bytes=0, modified_ns=2, fingerprint=None), "replaced"),
    ],
)
def test_what_is_known_of_both_decides(before: FileIdentity, now: FileIdentity, verdict: str) -> None:
    assert compare([(before, now)]) == [verdict]


def test_the_file_itself_is_read_only_where_time_or_place_differ(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(CONTENT)
    (found,) = look_at([str(tmp_path / "v.mp4")])
    assert found == FileIdentity(
        uri=str(tmp_path / "v.mp4"),
        size_bytes=len(CONTENT),
        modified_ns=os.stat(tmp_path / "v.mp4").st_mtime_ns,
    )
    read = replace(found, fingerprint=print_of(CONTENT))
    touched = replace(found, modified_ns=found.modified_ns + 1)
    wrong = replace(read, fingerprint="of another file")
    pairs = [(read, touched), (wrong, touched), (wrong, found)]
    assert compare(pairs) == ["same", "replaced", "same"]
    assert compare([*pairs, (found, found)], read=True) == ["same", "replaced", "replaced", "same"]
    (tmp_path / "v.mp4").unlink()
    assert compare([(read, touched)]) == ["replaced"]


def test_what_is_no_readable_file_has_no_identity(tmp_path: Path) -> None:
    assert look_at([str(tmp_path), str(tmp_path / "gone"), "http://x/y"]) == [None, None, None]
