"""Errors: mistakes of the user, and faults of one video."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum

_KEY = re.compile(
    r"s3://[^/?]*[:@]|(?:gs|gcs)://[^/?]*:|(?<!file)://"  # names of buckets have neither
    r"(?:[^/?\[]*:(?!\d*(?:[/?]|$))|.*[?&](?:sig|[^=&]*(?:secret|token|password|signature)[^=&]*)=)",
    re.IGNORECASE,
)
"""Keys in a URI: ``s3://KEY:SECRET@bucket``, ``abfs://account:KEY@host``, ``...?client_secret=...``."""


class DfdmError(Exception):
    """Base of all errors that this package raises on purpose."""


class UserError(DfdmError):
    """An error that the caller can correct; the command line prints it as one line and exits with 2."""


class WriteError(UserError, OSError):
    """A file that cannot be written, for instance because the disk is full."""

    def __str__(self) -> str:
        return f"cannot write {self.filename}: {self.strerror}; correct this and run the same command again"


@contextmanager
def writing(file: str) -> Iterator[None]:
    """Raise an ``OSError`` of the block as a :class:`WriteError`."""
    try:
        yield
    except OSError as error:
        raise WriteError(error.errno, error.strerror or str(error), file) from error


class IncompleteError(DfdmError):
    """A run ended although planned videos have no row; the command line prints one line and exits with 1."""


@contextmanager
def writing_to(out: str) -> Iterator[None]:
    """Raise a :class:`UserError` if something cannot be written below ``--out``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write to --out {out}: {reason}; correct this and run the same command again"
        ) from error


def refuse_keys(uris: Iterable[str], *, origin: str) -> None:
    """Raise a :class:`UserError` if one of ``uris`` contains a key; results and messages contain URIs."""
    if any("://" in uri and _KEY.search(uri) for uri in uris):
        raise UserError(
            f"{origin} has a key, a password or a token in a URI, which all results would show; leave it out "
            "and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the variables of your store"
        )


class RejectCode(StrEnum):
    """Reasons why a video has no attribution. The values are stored in predictions; do not rename them."""

    UNREADABLE = "unreadable"
    """The file cannot be opened or read: missing, no permission, not a regular file, storage error."""
    EMPTY_FILE = "empty_file"
    """The file has zero bytes."""
    NOT_A_VIDEO = "not_a_video"
    """The demuxer does not recognise the content, or the index is missing (an mp4 cut before its moov)."""
    STORAGE_ERROR = "storage_error"
    """Requests to the object store failed, repeats included, or used up the time; the file may be sound."""
    NO_VIDEO_STREAM = "no_video_stream"
    """The file has no video, for instance audio only."""
    UNSUPPORTED_CODEC = "unsupported_codec"
    """There is no decoder for the codec of the stream."""
    ENCRYPTED = "encrypted"
    """The video is encrypted, as by a streaming service."""
    DECODE_ERROR = "decode_error"
    """Frames are damaged, and no part of the video has enough whole frames."""
    TOO_LARGE = "too_large"
    """Frames have more pixels than ``--limits.max-pixels``."""
    CRASHED = "crashed"
    """The decoding process crashed or returned nonsense in every attempt."""
    TIMED_OUT = "timed_out"
    """The video took longer than ``--limits.seconds``."""
    OUT_OF_MEMORY = "out_of_memory"
    """The decoding process exceeded ``--limits.memory-gib`` in every attempt."""
    INTERNAL_ERROR = "internal_error"
    """A bug of this program; the log contains the traceback. Please report it."""
    TOO_SHORT = "too_short"
    """The video has fewer frames than a clip needs."""
    NO_FACE = "no_face"
    """No face was found in any searched frame."""
    FACE_TOO_SMALL = "face_too_small"
    """The subject's face is smaller than ``min_face_px``."""
    FACE_TOO_BRIEF = "face_too_brief"
    """The face is in fewer frames than a clip needs."""
    SEVERAL_FACES = "several_faces"
    """The video shows several people where one identity is wanted; only when making data."""
    UNFIT_FRAMES = "unfit_frames"
    """Images are missing, too many, of another size or unreadable; only when reading crops."""
    UNKNOWN_CLASS = "unknown_class"
    """The name of the class folder is no generator; only when reading a PNG tree."""


class VideoRejectedError(DfdmError):
    """A fault of one video; the run continues. Workers raise it, so it must pickle."""

    def __init__(self, code: RejectCode, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

    def __reduce__(self) -> tuple[type["VideoRejectedError"], tuple[RejectCode, str]]:
        return type(self), (self.code, self.detail)
