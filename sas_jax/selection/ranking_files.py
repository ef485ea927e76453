"""Rankings as files: .parquet, .csv and .npz, which appear whole, and say what they came from.

The metadata are JSON: in a Parquet file's schema, in a .csv's first line behind "# ", in a .npz's array "metadata".
With them goes a checksum of everything, so that a file that was cut, damaged or edited is known. A file without one, as
pandas, polars or DuckDB write it again, is taken if its columns are those of a ranking: integers of any width, text as
categories, no metadata, a byte order mark.
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
"""Of the metadata, as JSON, in a Parquet file's schema."""

MOST = 100_000_000
"""Rows of a file; a small one can unpack to any number."""

_CHECKSUM = "checksum"

_SCHEMA = pa.schema(
    {"index": pa.int64(), "id": pa.string(), "class": pa.int32(), "position": pa.int32(), "gain": pa.float32()}
)

_CSV_TYPES = {"id": pa.string(), "gain": pa.float32()}  # numbers can be names; the others' types show


def save(path: str, of: Columns, metadata: Mapping[str, Any]) -> None:
    """Writes the file that the suffix names; see `Ranking.save`."""
    suffix = check_suffix(path)
    try:
        known = json.loads(json.dumps(dict(metadata)))  # as it will be read: tuples are lists, keys are text
    except (TypeError, ValueError) as error:
        raise InputError(
            f"A ranking's metadata are of JSON's types, and these are not ({files.reason(error)}); convert them."
        ) from error
    text = json.dumps(known | {_CHECKSUM: _checksum(of, known)})
    position, gain, classes, ids = of
    names = pa.nulls(len(position), pa.string()) if ids is None else pa.array(ids.tolist(), pa.string())
    arrays = [np.arange(len(position)), names, classes, position, gain]
    table = pa.table(arrays, schema=_SCHEMA)
    buffer = io.BytesIO()
    if suffix == ".parquet":
        # All ids and indices are different: a dictionary of them would double the file.
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
    except (OSError, ValueError) as error:  # a name with a null in it is a ValueError
        raise InputError(f"The ranking {path} cannot be read ({files.reason(error)}); check the path.") from error
    try:
        found, text = _READERS[suffix](data)
        metadata = {} if text is None else json.loads(text)
        checksum = metadata.pop(_CHECKSUM, None)
    except InputError as error:  # it could be read, and is something else
        raise InputError(f"The ranking {path} cannot be used: {error}") from error
    # Damage shows as whatever the three libraries raise where they meet it.
    except Exception as error:
        raise InputError(
            f"The ranking {path} is cut short, damaged or not a ranking ({files.reason(error)}); write it again with "
            f"Ranking.save."
        ) from error
    try:
        if not np.array_equal(found["index"], np.arange(np.size(found["index"]))):
            raise InputError("its index column must be 0, 1, 2, ... in this order; sort the rows by it.")
        of, names = columns.check(found["position"], found["gain"], found["class"], found["id"])
    except InputError as error:
        edited = "cannot be used" if checksum is None else "is damaged or was edited"
        raise InputError(f"The ranking {path} {edited}: {error}") from error
    if checksum is not None and checksum != _checksum(of, metadata):
        raise InputError(
            f"The ranking {path} is not what Ranking.save wrote, by its checksum: it was damaged or edited; write it "
            f"again with Ranking.save."
        )
    return of, metadata | ({} if names is None else {columns.CLASS_NAMES: names})


_Found = tuple[dict[str, Any], str | None]
"""The columns by name, "id" None where there are none, and the metadata's JSON, None where there are none."""


def _read_parquet(data: bytes) -> _Found:
    # On this thread: one of pyarrow's own may still hold the bytes when the interpreter ends, and abort the process.
    file = pyarrow.parquet.ParquetFile(pa.BufferReader(data))
    if file.metadata.num_rows > MOST:
        raise ValueError(f"it has {file.metadata.num_rows:,} rows, and may have {MOST:,}")
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
            raise ValueError("the last line has no end")
    table = pyarrow.csv.read_csv(
        pa.BufferReader(data),
        read_options=pyarrow.csv.ReadOptions(use_threads=False),  # for the reason above
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
        raise InputError(f"it has no array {missing[0]!r}, which a ranking has; give a file that Ranking.save wrote.")
    return {"id": None} | found, str(found["metadata"]) if "metadata" in found else None


_READERS: dict[str, Callable[[bytes], _Found]] = {".parquet": _read_parquet, ".csv": _read_csv, ".npz": _read_npz}


def _from_table(table: pa.Table) -> dict[str, Any]:
    found: dict[str, Any] = {"id": None}
    for name in _SCHEMA.names:
        if (number := table.column_names.count(name)) != 1 and not (name == "id" and number == 0):
            raise InputError(
                f"it has {number} columns {name!r}, and a ranking has one; its columns are {', '.join(_SCHEMA.names)}."
            )
        if not number:
            continue
        column = table[name]
        if pa.types.is_dictionary(column.type):  # pandas' and polars' categories
            column = column.cast(column.type.value_type)
        if empty := column.null_count:
            if name == "id" and empty == len(table):
                continue
            if name not in ("id", "gain"):  # other programs write nan, where nothing was gained, as an empty entry
                raise InputError(f"{empty} entries of its column {name!r} are empty; fill them.")
        found[name] = np.array(column.to_pylist(), object) if name == "id" else column.to_numpy()
    return found


def _checksum(of: Columns, metadata: Mapping[str, Any]) -> str:
    """The first 16 hex digits of a SHA-256 of the metadata and all columns."""
    position, gain, classes, ids = of
    names = None if ids is None else ids.tolist()
    digest = hashlib.sha256(json.dumps([metadata, names]).encode())
    same_nan = np.where(np.isnan(gain), np.float32(np.nan), gain)  # there are many in bits, and a text file has one
    for values, kind in ((position, "<i4"), (same_nan, "<f4"), (classes, "<i4")):
        digest.update(np.ascontiguousarray(values, kind).data)
    return digest.hexdigest()[:16]


def check_suffix(path: str) -> str:
    """The suffix, if it is that of a ranking."""
    suffix = files.expanded(path).suffix
    if suffix not in _READERS:
        raise InputError(f"A ranking must be a .parquet, .csv or .npz file, got {path}. Choose one of these suffixes.")
    return suffix


def check_writable(path: str) -> None:
    """Finds out, before the work of ranking, whether its file can be written.

    Raises:
        InputError: another suffix, or a place that cannot be written.
    """
    check_suffix(path)
    try:
        files.check_place(path)
    except OSError as error:
        raise _cannot_be_written(path, files.reason(error)) from error


def _write_whole(path: str, data: bytes) -> None:
    """Writes a file that no one ever meets half of."""
    try:
        files.write_whole(files.expanded(path), lambda aside: aside.write_bytes(data))
    except OSError as error:
        raise _cannot_be_written(path, files.reason(error)) from error


def _cannot_be_written(path: str, reason: str) -> InputError:
    return InputError(
        f"{path} must be a file that can be written, got one that cannot ({reason}). Choose another place."
    )
