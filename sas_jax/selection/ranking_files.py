"""Rankings as files: .parquet, .csv and .npz, which appear whole, and say what they came from."""

import contextlib
import io
import json
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from etils import epath

from sas_jax.errors import InputError

KEY = b"sas_jax"
"""Of the metadata, as JSON, in a Parquet file's schema."""

_SCHEMA = pa.schema(
    {"index": pa.int64(), "id": pa.string(), "class": pa.int32(), "position": pa.int32(), "gain": pa.float32()}
)

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, dict[str, Any]]


def save(
    path: str,
    position: np.ndarray,
    gain: np.ndarray,
    classes: np.ndarray,
    ids: np.ndarray | None,
    metadata: Mapping[str, Any],
) -> None:
    """Writes the file that the suffix names; see `Ranking.save`."""
    suffix = check_suffix(path)
    names = pa.nulls(len(position), pa.string()) if ids is None else pa.array(ids.tolist(), pa.string())
    columns = [np.arange(len(position)), names, classes, position, gain]
    table = pa.table(columns, schema=_SCHEMA)
    buffer = io.BytesIO()
    if suffix == ".parquet":
        table = table.replace_schema_metadata({KEY: json.dumps(metadata)})
        pyarrow.parquet.write_table(table, buffer)
    elif suffix == ".csv":
        buffer.write(f"# {json.dumps(metadata)}\n".encode())
        pyarrow.csv.write_csv(table, buffer)
    else:
        arrays = {name: np.asarray(column) for name, column in zip(table.column_names, columns, strict=True)}
        if ids is None:
            del arrays["id"]
        else:
            arrays["id"] = ids
        np.savez_compressed(buffer, metadata=json.dumps(metadata), **arrays)  # type: ignore[arg-type]
    _write_whole(path, buffer.getvalue())


def load(path: str) -> Columns:
    """Reads position, gain, classes, ids and metadata; see `Ranking.load`."""
    suffix = check_suffix(path)
    try:
        data = epath.Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"The ranking {path} cannot be read ({_reason(error)}); check the path.") from error
    try:
        return _READERS[suffix](data)
    # Damage shows as whatever the three libraries raise where they meet it.
    except Exception as error:
        raise InputError(
            f"The ranking {path} is cut short, damaged or not a ranking ({_reason(error)}); write it again with "
            f"Ranking.save."
        ) from error


def _read_parquet(data: bytes) -> Columns:
    table = pyarrow.parquet.read_table(pa.BufferReader(data))
    return _from_table(table, json.loads(table.schema.metadata[KEY]))


def _read_csv(data: bytes) -> Columns:
    first, rest = data.split(b"\n", 1)
    options = pyarrow.csv.ConvertOptions(
        column_types=_SCHEMA, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
    )
    if not rest.endswith(b"\n"):
        raise ValueError("the last line has no end")
    return _from_table(pyarrow.csv.read_csv(pa.BufferReader(rest), convert_options=options), json.loads(first[1:]))


def _read_npz(data: bytes) -> Columns:
    with np.load(io.BytesIO(data)) as arrays:
        columns = {name: arrays[name] for name in arrays.files}
    _check_index(columns["index"])
    metadata = json.loads(str(columns["metadata"]))
    return columns["position"], columns["gain"], columns["class"], columns.get("id"), metadata


_READERS = {".parquet": _read_parquet, ".csv": _read_csv, ".npz": _read_npz}


def _from_table(table: pa.Table, metadata: dict[str, Any]) -> Columns:
    columns = {name: table[name] for name in _SCHEMA.names}
    _check_index(columns["index"].to_numpy())
    ids = None if columns["id"].null_count else np.asarray(columns["id"].to_pylist(), str)
    return (*(columns[name].to_numpy() for name in ("position", "gain", "class")), ids, metadata)  # type: ignore


def _check_index(index: np.ndarray) -> None:
    if not np.array_equal(index, np.arange(len(index))):
        raise ValueError("its index column is not 0, 1, 2, ...")


def check_suffix(path: str) -> str:
    """The suffix, if it is that of a ranking."""
    suffix = epath.Path(path).suffix
    if suffix not in _READERS:
        raise InputError(f"A ranking is a .parquet, .csv or .npz file, and {path} has another suffix; choose one.")
    return suffix


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error).strip().split("\n")[0] or type(error).__name__
    return text.rstrip(".")


def _write_whole(path: str, data: bytes) -> None:
    """Writes aside and renames, so that no one ever meets half a file."""
    target = epath.Path(path)
    aside = target.parent / f".{target.name}.{uuid.uuid4().hex}"
    try:
        aside.write_bytes(data)
        aside.replace(target)
    except OSError as error:
        raise InputError(
            f"The ranking cannot be written to {path} ({_reason(error)}); choose a place that exists and can be "
            f"written."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
