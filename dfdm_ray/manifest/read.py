"""Read a manifest: a Parquet file of `dfdm-ray manifest`, or a CSV file that a person wrote."""

import io
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from pyarrow import csv

from dfdm_ray.errors import UserError
from dfdm_ray.io import listing, storage
from dfdm_ray.manifest.sources import NUM_STAT_THREADS, located
from dfdm_ray.schemas import MANIFEST, check_manifest

_TYPES = {field.name: field.type for field in MANIFEST}


def is_csv(uri: str) -> bool:
    """Return whether the name of the file at ``uri`` ends in ``.csv``."""
    return listing.extension(storage.path_of(uri)) == "csv"


def load_manifest(uri: str) -> pa.Table:
    """Return the manifest at ``uri``, checked by :func:`dfdm_ray.schemas.check_manifest`.

    A CSV file has a header with names of :data:`dfdm_ray.schemas.MANIFEST`. Only ``uri`` is needed: a path or
    URI, relative to the folder of the CSV file. ``video_id`` is the same text if it is missing. Size and time
    of change are those of the files; a file that is missing has size 0, so that ``score`` rejects it.

    Raises:
        UserError: If it cannot be read, lacks a needed column, or is no manifest.
    """
    table = _from_csv(uri) if is_csv(uri) else storage.read_parquet(uri, what="manifest")
    return check_manifest(table, origin=uri)


def _from_csv(uri: str) -> pa.Table:
    options = csv.ConvertOptions(column_types=_TYPES, null_values=[""], strings_can_be_null=True)
    try:
        table = csv.read_csv(io.BytesIO(storage.read_bytes(uri, what="manifest")), convert_options=options)
    except pa.ArrowInvalid as error:
        raise UserError(f"the manifest {uri} is no CSV file of this kind: {error}") from error
    if "uri" not in table.column_names or table["uri"].null_count:
        there = ", ".join(table.column_names)
        raise UserError(f"the manifest {uri} needs the path of each video in a column uri; it has {there}")
    texts, folder = table["uri"].to_pylist(), storage.split(storage.absolute(uri))[0]
    uris = [located(text, folder) for text in texts]
    with ThreadPoolExecutor(NUM_STAT_THREADS) as pool:
        sizes, changes = zip(*pool.map(_size_and_change, uris), strict=True) if uris else ((), ())
    known = {name: table[name] for name in table.column_names if name in _TYPES}
    columns = {"video_id": texts, **known, "uri": uris, "size_bytes": sizes, "modified_ns": changes}
    nulls = pa.nulls(len(uris))
    return pa.table({name: columns.get(name, nulls) for name in MANIFEST.names}, schema=MANIFEST)


def _size_and_change(uri: str) -> tuple[int, int | None]:
    try:
        info = storage.file_info(uri)
    except OSError:
        return 0, None
    return int(info.size), int(info.mtime_ns)
