"""Arrow schemas of all files and of the rows between stages, and the check of a manifest."""

from collections.abc import Sequence

import pyarrow as pa

from dfdm_ray.errors import UserError, refuse_keys
from dfdm_ray.labels import class_name


def _column(name: str, kind: pa.DataType, meaning: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"meaning": meaning})


def _optional(name: str, kind: pa.DataType, meaning: str) -> pa.Field:
    return _column(name, kind, meaning, nullable=True)


MANIFEST = pa.schema(
    [
        _column("video_id", pa.string(), "Path below the given root; unique, the same in every run."),
        _column("uri", pa.string(), "Location of the video: a local path or any pyarrow.fs URI."),
        _column("size_bytes", pa.int64(), "Size of the file, bytes."),
        _optional(
            "modified_ns",
            pa.int64(),
            "Last change of the file by the clock of its storage, ns since 1970; null if unknown.",
        ),
        _optional("generator", pa.string(), "True generator, or real; null if unknown."),
        _optional("crf", pa.int32(), "H.264 constant rate factor 0, 10 or 23."),
        _optional("target_identity", pa.string(), "The person in the video."),
        _optional("source_identity", pa.string(), "The person whose face was put in."),
        _optional("scene", pa.string(), "Scene of the target, a recording or a part of one."),
        _optional("split", pa.string(), "train, val or test."),
    ]
)

SCORED = "scored"
REJECTED = "rejected"

_STATUS = [
    _column("status", pa.string(), "scored or rejected."),
    _optional("reject_code", pa.string(), "One of errors.RejectCode."),
    _optional("reject_detail", pa.string(), "Details of the fault."),
]

_FACE = [
    _column("num_frames_scored", pa.int32(), "Frames cropped and passed to the model."),
    _column("pts_s", pa.list_(pa.float64()), "Time of each scored frame from the stream's start, s."),
    _column(
        "boxes_xyxy",
        pa.list_(pa.list_(pa.float32(), 4)),
        "Box of the face in each scored frame, pixels of the upright picture with square pixels.",
    ),
    _column(
        "landmarks",
        pa.list_(pa.list_(pa.list_(pa.float32(), 2), 5)),
        "Five points (x, y) in each scored frame, pixels as in boxes_xyxy: image-left eye, image-right eye, "
        "nose, image-left and image-right mouth corner.",
    ),
    _optional("face_score", pa.float32(), "Mean detection score of the face, 0..1."),
]
"""Where a face is; in a row, that of the face that decides."""

_CLIP_FACTS = [
    _optional(
        "fingerprint",
        pa.string(),
        "SHA-256 of the size and of the first and last 64 KiB of the file; null if it could not be opened.",
    ),
    _column(
        "num_frames_in_video", pa.int32(), "Frames in the index of the container; 0 if it could not be read."
    ),
    _column("num_frames_missing", pa.int32(), "Frames in the index that are beyond the end of the file."),
    _column("num_frames_decoded", pa.int32(), "Frames that the run decoded for this video."),
    _FACE[0],
    _column("num_faces", pa.int32(), "Face tracks in the searched frames."),
    _optional(
        "corrections",
        pa.list_(pa.string()),
        "Changes to decoded frames before detection: deinterlaced (one field, at full height), "
        "square_pixels, bt709_from_pq, bt709_from_hlg, bt709_from_bt2020, bt709_from_p3; most often none. "
        "Null in rows of earlier versions, which changed nothing.",
    ),
    *_FACE[1:],
    _column("detector", pa.string(), "Name of the face detector."),
    _column("seconds_decode", pa.float32(), "Wall seconds of opening, demuxing and decoding."),
    _column("seconds_detect", pa.float32(), "Wall seconds of detecting, tracking and cropping."),
    _column(
        "faults",
        pa.list_(pa.string()),
        "Faults after which a step was repeated, each 'code: detail': a decoding process that died, a "
        "storage request that failed.",
    ),
    _column("prepared_by", pa.string(), "Worker that made or read the crops: host and process number."),
    _optional(
        "sandbox",
        pa.list_(pa.string()),
        "Layers that confined the decoding process: no_new_privs, limits, capabilities, landlock, seccomp; "
        "null in rows of earlier versions.",
    ),
]

CLIPS = pa.schema(
    [
        *MANIFEST,
        *_STATUS,
        *_CLIP_FACTS,
        _column(
            "faces",
            pa.list_(pa.struct(_FACE)),
            "Faces with crops, the most prominent first; the row has the columns of that one.",
        ),
        _column(
            "crops",
            pa.large_binary(),
            "Face crops, uint8 RGB: (C, T, S, S, 3) in C order for each of the faces; empty if rejected.",
        ),
    ]
)
"""One row per video between the decode/crop workers and the model workers."""

_BY_WORKER = ("detector", "prepared_by", "sandbox")
CLIP_COLUMNS = pa.schema([field for field in CLIPS if field.name not in (*MANIFEST.names, *_BY_WORKER)])
"""Columns that a decoding process returns for one video."""

CROPS = pa.schema(
    [
        *MANIFEST,
        *_STATUS,
        *_CLIP_FACTS,
        _column("num_clips", pa.int32(), "Clips of the video (C); 0 if rejected."),
        _column(
            "crops",
            pa.list_(pa.binary()),
            "C*T face crops in clip order, each an RGB PNG of S x S pixels; empty if rejected.",
        ),
    ]
)
"""One row per video of the crops dataset, which training reads."""

CROPS_INDEX = pa.schema(
    [
        *(field for field in CROPS if field.name != "crops"),
        _optional("file", pa.string(), "Path of the crops file of the video, below the dataset."),
    ]
)
"""One row per video of the crops dataset, scored (it has crops) or rejected."""

_VERDICT = [
    _optional("verdict", pa.string(), "attributed, one_of, real, unknown or inconclusive; null if rejected."),
    _optional("verdict_reason", pa.string(), "Why, in one clause."),
    _optional(
        "prediction_set", pa.list_(pa.string()), "Classes whose p-value is at least 0.05, in class order."
    ),
    _optional(
        "p_values", pa.list_(pa.float32()), "(K,) conformal p-values, in class order; empty without a set."
    ),
    _optional("unknown_score", pa.float32(), "High for what is no class."),
    _optional("unknown_threshold", pa.float32(), "5% of the reference videos have a score above it."),
    _optional("family", pa.string(), "Size of the faces that all generators of the prediction set draw."),
    _optional(
        "log10_lr", pa.float32(), "log10 likelihood ratio of the attribution, limited by the reference set."
    ),
    _optional("reference_set", pa.string(), "Name of the reference set of the checkpoint."),
]

_ANSWER = [
    _optional("generator", pa.string(), "Attribution: the class with the highest probability."),
    _optional("probability", pa.float32(), "Probability of that generator, 0..1."),
    _column("probabilities", pa.list_(pa.float32()), "(K,) softmax of the logits, in class order."),
    _column("logits", pa.list_(pa.float32()), "(K,) mean over the clips, in class order."),
    _column("temporal_attention", pa.list_(pa.float32()), "(C*T,) weight of each scored frame, 0..1."),
    *_VERDICT,
]
"""Attribution and verdict of a face; in a row, those of the face that decides."""

_BY_FACE = [
    _optional(
        "features",
        pa.list_(pa.float32()),
        "(C,) penultimate features, mean over clips; empty unless --features.",
    ),
    _optional(
        "faces",
        pa.list_(pa.struct([*_FACE, *_ANSWER])),
        "Attributed faces, the most prominent first; null in rows of earlier versions.",
    ),
    _optional(
        "deciding_face", pa.int32(), "Position in faces of the least innocent one; the row has its columns."
    ),
]

ADDED = (
    *("modified_ns", "fingerprint", "corrections", "sandbox"),
    *(field.name for field in (*_VERDICT, *_BY_FACE)),
)
"""Nullable columns that files of earlier versions lack."""

_IDS = [
    MANIFEST.field(name) for name in ("video_id", "uri", "crf", "target_identity", "source_identity", "scene")
]

PREDICTIONS_FOLDER = "predictions"
"""Folder of the parts, in the output folder of a score run."""

PREDICTIONS = pa.schema(
    [
        *_IDS,
        _optional("true_generator", pa.string(), "Generator in the manifest, null if unknown."),
        _optional("split", pa.string(), "Split in the manifest."),
        *_ANSWER,
        *_BY_FACE,
        *_STATUS,
        *_CLIP_FACTS,
        _column("seconds_model", pa.float32(), "Wall seconds of the model: a share of its batch, by clips."),
        _column("scored_by", pa.string(), "Worker that ran the model: host and process number."),
    ]
)
"""One row per video, scored or rejected."""

_OF_THUMBNAILS = (
    "fingerprint",
    "num_frames_decoded",
    "num_frames_scored",
    "faults",
    "prepared_by",
    "sandbox",
)
THUMBNAILS = pa.schema(
    [
        MANIFEST.field("video_id"),
        *_STATUS,
        *(field for field in _CLIP_FACTS if field.name in _OF_THUMBNAILS),
        _optional("thumbnail", pa.binary(), "JPEG of the face, or of the first frame."),
    ]
)
"""One row per video of the index that `dfdm-ray report` makes."""


def of_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return ``table`` cast to ``schema``; columns of :data:`ADDED` that it lacks are null.

    Raises:
        ValueError: If it has other columns or types.
    """
    for field in schema:
        if field.name in ADDED and field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    known = [name for name in schema.names if name in table.column_names]
    return table.select(known + [name for name in table.column_names if name not in known]).cast(schema)


def check_manifest(table: pa.Table, *, origin: str) -> pa.Table:
    """Return ``table`` cast to :data:`MANIFEST`, without other columns and with its metadata.

    Generators get the names of their classes, see :func:`class_names`. A manifest without
    ``modified_ns``, as earlier versions made it, gets the column with nulls.

    Raises:
        UserError: If columns are missing or have another type, ids repeat, required values are null, or URIs
            contain keys.
    """
    missing = [name for name in MANIFEST.names if name not in (*table.column_names, *ADDED)]
    if missing:
        raise UserError(
            f"{origin} is no manifest: it lacks the columns {missing}; make one with `dfdm-ray manifest`"
        )
    try:
        known = table.select([name for name in MANIFEST.names if name in table.column_names])
        table = of_schema(known, MANIFEST).replace_schema_metadata(table.schema.metadata)
        table.validate(full=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise UserError(f"{origin} does not fit the manifest schema: {error}") from error
    refuse_keys(table["uri"].to_pylist(), origin=origin)
    num_ids = len(table["video_id"].unique())
    if num_ids != table.num_rows:
        raise UserError(f"{origin} has {table.num_rows} rows but only {num_ids} different video_id")
    return class_names(table, "generator")


def class_names(table: pa.Table, column: str) -> pa.Table:
    """Return ``table`` with the names of classes in ``column``, see :func:`dfdm_ray.labels.class_name`."""
    known = {name: class_name(name) for name in table[column].drop_null().unique().to_pylist()}
    return with_values(table, column, [known.get(name) for name in table[column].to_pylist()])


def with_values(table: pa.Table, column: str, values: Sequence[object]) -> pa.Table:
    """Return ``table`` with other ``values`` in ``column``, of the same type."""
    at = table.schema.get_field_index(column)
    field = table.schema.field(at)
    return table.set_column(at, field, pa.array(values, field.type))
