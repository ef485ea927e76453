"""Ranking files: .parquet, .csv and .npz, written atomically and with their origin.

The metadata are JSON: in a Parquet file's schema, in a .csv's first line after "# ", in a .npz's array "metadata". They
include a checksum of everything, so that truncated, damaged or edited files are detected. A file without one, such as
one rewritten by pandas, polars or DuckDB, is accepted if its columns are those of a ranking. Integers of any width,
text as categories, missing metadata and a byte order mark are allowed.
"""

import codecs
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from sas_jax import files
from sas_jax.errors import InputError
from sas_jax.selection import columns
from sas_jax.selection.columns import Columns

KEY = b"sas_jax"
"""Key of the JSON metadata in a Parquet file's schema."""

MOST = 100_000_000
"""The most rows of a file; a small file can unpack to any number."""

_CHECKSUM = "checksum"

_SCHEMA = pa.schema(
    {"index": pa.int64(), "id": pa.string(), "class": pa.int32(), "position": pa.int32(), "gain": pa.float32()}
)

_CSV_TYPES = {"id": pa.string(), "gain": pa.float32()}  # ids can look like numbers; other types are inferred


def save(path: str, of: Columns, metadata: Mapping[str, Any]) -> None:
    """Writes a ranking in the format of the suffix; see `Ranking.save`."""
    suffix = check_suffix(path)
    try:
        known = json.loads(json.dumps(dict(metadata)))  # as it will be read back: tuples become lists, keys text
    except (TypeError, ValueError) as error:
        raise InputError(
            f"`metadata` must hold values of JSON's types only, got others ({files.reason(error)}). Convert them."
        ) from error
    text = json.dumps(known | {_CHECKSUM: _checksum(of, known)})
    position, gain, classes, ids = of
    names = pa.nulls(len(position), pa.string()) if ids is None else pa.array(ids.tolist(), pa.string())
    arrays = [np.arange(len(position)), names, classes, position, gain]
    table = pa.table(arrays, schema=_SCHEMA)
    buffer = io.BytesIO()
    if suffix == ".parquet":
        # Ids and indices are unique: dictionary encoding them would double the file.
        table = table.replace_schema_metadata({KEY: text})
        pyarrow.parquet.write_table(table, buffer, compression="zstd", use_dictionary=["class"])
    elif suffix == ".csv":
        buffer.write(f"# {text}\n".encode())
        pyarrow.csv.write_csv(table, buffer)
    else:
        named = {name: np.asarray(values) for name, values in zip(table.column_names, arrays, strict=True)}
        if ids is None:
            del named["id"]
        else:
            named["id"] = ids
        np.savez_compressed(buffer, metadata=text, **named)  # type: ignore[arg-type]
    _write_whole(path, buffer.getvalue())


def load(path: str) -> tuple[Columns, dict[str, Any]]:
    """Reads the columns and the metadata; see `Ranking.load`."""
    suffix = check_suffix(path)
    try:
        data = files.whole(path)
    except (OSError, ValueError) as error:  # a path with a null character raises ValueError
        raise InputError(f"The ranking {path} cannot be read ({files.reason(error)}). Check the path.") from error
    try:
        found, text = _READERS[suffix](data)
        metadata = {} if text is None else json.loads(text)
        checksum = metadata.pop(_CHECKSUM, None)
    except InputError as error:  # readable, but not a ranking
        raise InputError(f"The ranking {path} cannot be used: {error}") from error
    # On damaged files, the three libraries raise all kinds of exceptions.
    except Exception as error:
        raise InputError(
            f"The ranking {path} is truncated, damaged or not a ranking ({files.reason(error)}). Write it again with "
            f"Ranking.save."
        ) from error
    try:
        if not np.array_equal(found["index"], np.arange(np.size(found["index"]))):
            raise InputError("its index column must be 0, 1, 2, ... in this order. Sort the rows by it.")
        of, names = columns.check(found["position"], found["gain"], found["class"], found["id"])
    except InputError as error:
        edited = "cannot be used" if checksum is None else "is damaged or was edited"
        raise InputError(f"The ranking {path} {edited}: {error}") from error
    if checksum is not None and checksum != _checksum(of, metadata):
        raise InputError(
            f"The ranking {path} does not match its checksum: it was damaged or edited. Write it again with "
            f"Ranking.save."
        )
    return of, metadata | ({} if names is None else {columns.CLASS_NAMES: names})


_Found = tuple[dict[str, Any], str | None]
"""The columns by name ("id" is None if there are no ids), and the JSON metadata, None if there are none."""


def _read_parquet(data: bytes) -> _Found:
    # Read on this thread: one of pyarrow's may still hold the bytes at interpreter exit, and abort the process.
    file = pyarrow.parquet.ParquetFile(pa.BufferReader(data))
    if file.metadata.num_rows > MOST:
        raise ValueError(f"it has {file.metadata.num_rows:,} rows, more than the limit of {MOST:,}")
    table = file.read(use_threads=False)
    text = (table.schema.metadata or {}).get(KEY)
    return _from_table(table), None if text is None else text.decode()


def _read_csv(data: bytes) -> _Found:
    data = data.removeprefix(codecs.BOM_UTF8)
    text = None
    if data.startswith(b"# "):
        first, data = data.split(b"\n", 1)
        text = first.removeprefix(b"# ").decode()
        if not data.endswith(b"\n"):
            raise ValueError("its last line has no line break at the end")
    table = pyarrow.csv.read_csv(
        pa.BufferReader(data),
        read_options=pyarrow.csv.ReadOptions(use_threads=False),  # see _read_parquet
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=_CSV_TYPES, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
        ),
    )
    return _from_table(table), text


def _read_npz(data: bytes) -> _Found:
    files.check_unpacked(data, largest=files.LARGEST)
    with np.load(io.BytesIO(data)) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    if missing := [name for name in ("index", "class", "position", "gain") if name not in found]:
        raise InputError(f"it has no array {missing[0]!r}. Give a file that Ranking.save wrote.")
    return {"id": None} | found, str(found["metadata"]) if "metadata" in found else None


_READERS: dict[str, Callable[[bytes], _Found]] = {".parquet": _read_parquet, ".csv": _read_csv, ".npz": _read_npz}


def _from_table(table: pa.Table) -> dict[str, Any]:
    found: dict[str, Any] = {"id": None}
    for name in _SCHEMA.names:
        if (number := table.column_names.count(name)) != 1 and not (name == "id" and number == 0):
            raise InputError(
                f"it has {number} columns named {name!r}, expected one of each of {', '.join(_SCHEMA.names)}."
            )
        if not number:
            continue
        column = table[name]
        if pa.types.is_dictionary(column.type):  # pandas' and polars' categories
            column = column.cast(column.type.value_type)
        if empty := column.null_count:
            if name == "id" and empty == len(table):
                continue
            if name not in ("id", "gain"):  # other programs write gains of nan as empty entries
                raise InputError(f"{empty} entries of its column {name!r} are empty. Fill them.")
        found[name] = np.array(column.to_pylist(), object) if name == "id" else column.to_numpy()
    return found


def _checksum(of: Columns, metadata: Mapping[str, Any]) -> str:
    """Returns the first 16 hex digits of a SHA-256 of the metadata and all columns."""
    position, gain, classes, ids = of
    names = None if ids is None else ids.tolist()
    digest = hashlib.sha256(json.dumps([metadata, names]).encode())
    same_nan = np.where(np.isnan(gain), np.float32(np.nan), gain)  # nan has many bit patterns, and a text file one
    for values, kind in ((position, "<i4"), (same_nan, "<f4"), (classes, "<i4")):
        digest.update(np.ascontiguousarray(values, kind).data)
    return digest.hexdigest()[:16]


def check_suffix(path: str) -> str:
    """Returns the suffix, if it is .parquet, .csv or .npz."""
    suffix = files.expanded(path).suffix
    if suffix not in _READERS:
        raise InputError(f"A ranking must be a .parquet, .csv or .npz file, got {path}. Choose one of these suffixes.")
    return suffix


def check_writable(path: str) -> None:
    """Checks, before the work of ranking, that the file can be written.

    Raises:
        InputError: the suffix is unsupported, or the path cannot be written.
    """
    check_suffix(path)
    try:
        files.check_place(path)
    except OSError as error:
        raise _cannot_be_written(path, files.reason(error)) from error


def _write_whole(path: str, data: bytes) -> None:
    """Writes a file atomically."""
    try:
        files.write_whole(files.expanded(path), lambda aside: aside.write_bytes(data))
    except OSError as error:
        raise _cannot_be_written(path, files.reason(error)) from error


def _cannot_be_written(path: str, reason: str) -> InputError:
    return InputError(
        f"{path} must be a writable file, got one that cannot be written ({reason}). Choose another path."
    )
