"""The error tree: what a user did wrong, and what is wrong with one video."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum


class DfdmError(Exception):
    """Base of every error this package raises on purpose."""


class UserError(DfdmError):
    """Something the caller can mend; the command line prints it as one line and exits with 2."""


class IncompleteError(DfdmError):
    """A run ended although planned videos have no row; the command line prints one line and exits with 1."""


@contextmanager
def writing_to(out: str) -> Iterator[None]:
    """Tell the user in one line when something cannot be written below ``--out``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write to --out {out}: {reason}; mend that and run the same command again"
        ) from error


class RejectCode(StrEnum):
    """Why a video has no attribution. The values stand in the predictions; do not rename them."""

    UNREADABLE = "unreadable"
    """The file cannot be opened or read: missing, no permission, not a regular file, storage error."""
    EMPTY_FILE = "empty_file"
    """The file has zero bytes."""
    NOT_A_VIDEO = "not_a_video"
    """The demuxer does not know the content, or its index is missing (an mp4 cut before its moov)."""
    STORAGE_ERROR = "storage_error"
    """The object store kept failing, however often it was asked; the file itself may be fine."""
    NO_VIDEO_STREAM = "no_video_stream"
    """A media file without a picture, for instance audio only."""
    UNSUPPORTED_CODEC = "unsupported_codec"
    """The stream's codec has no decoder here."""
    DECODE_ERROR = "decode_error"
    """Frames are damaged and no part of the video with enough whole frames was found."""
    TOO_LARGE = "too_large"
    """Frames of more pixels than ``--limits.max-pixels``."""
    CRASHED = "crashed"
    """The process that decodes died of this file, or answered nonsense, each time it was tried."""
    TIMED_OUT = "timed_out"
    """The video took longer than ``--limits.seconds``."""
    OUT_OF_MEMORY = "out_of_memory"
    """The process that decodes grew beyond ``--limits.memory-gib``, each time the file was tried."""
    INTERNAL_ERROR = "internal_error"
    """The video met a bug of this program, which the log shows in full; please report it."""
    TOO_SHORT = "too_short"
    """Fewer frames than a clip needs."""
    NO_FACE = "no_face"
    """No face was found in any frame looked at."""
    FACE_TOO_SMALL = "face_too_small"
    """The subject's face is smaller than ``min_face_px``."""
    FACE_TOO_BRIEF = "face_too_brief"
    """There is a face, but in fewer frames than a clip needs."""
    SEVERAL_FACES = "several_faces"
    """Several people where one identity is wanted; only when making data."""
    UNFIT_FRAMES = "unfit_frames"
    """Pictures that are missing, too many, of another size or none; only when reading crops."""
    UNKNOWN_CLASS = "unknown_class"
    """The folder of a class names no generator; only when reading a PNG tree."""


class VideoRejectedError(DfdmError):
    """One video cannot be attributed; the run goes on. Raised in workers, so it must pickle."""

    def __init__(self, code: RejectCode, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

    def __reduce__(self) -> tuple[type["VideoRejectedError"], tuple[RejectCode, str]]:
        return type(self), (self.code, self.detail)
