"""Reads and writes files that list examples by index, id or both, including lists published elsewhere.

| suffix | contents |
|---|---|
| .npy | int64 [k], the indices, as for torch.utils.data.Subset; or text [k], the ids |
| .npz | the arrays `index` and `id`, or a single array |
| .csv, .parquet | the columns `index` and `id`, or a single column |
| .txt | one example per line: its id, its index or its path |
| .pkl, .pickle | read only: a pickled list or array of integers, see pickled_indices.py |

Indices suffice if the data set has the same images in the same order. Ids identify the same images in any order.
`subsets.py` resolves a list against a data set.
"""

import csv
import dataclasses
import io
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from sas_jax import files
from sas_jax.data import pickled_indices
from sas_jax.errors import InputError, shown

LARGEST = 1 << 31  # bytes of a file, packed and unpacked
MOST = 100_000_000  # entries
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")


@dataclasses.dataclass(frozen=True, eq=False)
class IndexList:
    """The contents of a list file.

    Attributes:
        path: the file's path.
        indices: int64 [k] in the file's order, not checked against any data set; None if the file has only ids.
        ids: [k] names or paths; None if the file has only indices.
    """

    path: str
    indices: np.ndarray | None
    ids: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.ids if self.indices is None else self.indices)  # type: ignore[arg-type]


def read(path: str) -> IndexList:
    """Reads a list of examples.

    Args:
        path: a .npy, .npz, .csv, .parquet, .txt, .pkl or .pickle.

    Returns:
        The list. If all lines of a .txt are integers, they are both its indices and its ids.

    Raises:
        InputError: the file is missing, empty, truncated, damaged, too large or not such a list, or has another suffix.
    """
    suffix = _suffix(path, _READERS)
    data = _bytes(path)
    try:
        indices, ids = _READERS[suffix](data)
        indices, ids = _indices(indices), _ids(ids)
        if indices is not None and ids is not None and len(indices) != len(ids):
            raise ValueError(f"it has {len(indices)} indices but {len(ids)} ids")
        if not len(ids if indices is None else indices):  # type: ignore[arg-type]
            raise ValueError("it lists no examples")
    except Exception as error:  # damaged files can raise any exception
        raise InputError(
            f"{path} must be a list of examples, got another kind of file or a damaged one ({files.reason(error)}). "
            f"Write it again, as integers or as ids."
        ) from error
    return IndexList(str(path), indices, ids)


def write(path: str, indices: np.ndarray, ids: Sequence[str] | None = None) -> None:
    """Writes a list of examples, which `read` returns unchanged. The write is atomic.

    Args:
        path: a .npy (indices), .npz, .csv, .parquet (indices and ids) or .txt (ids, or indices if `ids` is None).
        indices: int [k], >= 0.
        ids: [k] names, or paths for a .txt.

    Raises:
        InputError: the suffix is unknown, the path cannot be written, or the format cannot represent the ids.
    """
    suffix = check_writable_suffix(path)
    indices = np.asarray(indices, np.int64)
    names = None if ids is None else [str(name) for name in ids]
    try:
        data = _WRITERS[suffix](indices, names)
        found, found_names = _READERS[suffix](data)
        same = (suffix == ".txt" and names is not None) or np.array_equal(found, indices)
        if not same or (suffix != ".npy" and names is not None and list(found_names) != names):
            raise ValueError("they would be read back differently")
    except (ValueError, csv.Error) as error:
        raise InputError(
            f"The ids in {path} must be representable in a {suffix} file, got ids that are not "
            f"({files.reason(error)}). Choose another file format, or rename them."
        ) from error
    try:
        files.write_whole(files.expanded(path), lambda aside: aside.write_bytes(data))
    except OSError as error:
        raise InputError(
            f"{path} must be a writable path, got one that is not ({files.reason(error)}). Choose another path."
        ) from error


def check_writable_suffix(path: str) -> str:
    """Returns the path's suffix; raises InputError unless `write` supports it."""
    return _suffix(path, _WRITERS)


_Found = tuple[Any, Any]
"""Indices and ids, each None if absent."""


def _read_npy(data: bytes) -> _Found:
    return _by_type(np.load(io.BytesIO(data), allow_pickle=False))


def _read_npz(data: bytes) -> _Found:
    files.check_unpacked(data, largest=LARGEST)
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return _columns(arrays.files, lambda name: arrays[name])


def _read_csv(data: bytes) -> _Found:
    text = data.decode("utf-8-sig")
    if text.startswith("# "):  # a ranking's provenance, or another comment
        text = text.partition("\n")[2]
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    if rows and len(rows[0]) == 1 and _INTEGER.fullmatch(rows[0][0].strip()):
        rows = [["index"], *rows]
    header, *rows = rows or [[]]
    ragged = next((k for k, row in enumerate(rows) if len(row) != len(header)), None)
    if ragged is not None:
        raise ValueError(f"row {ragged + 1} has {len(rows[ragged])} entries but the first row has {len(header)}")
    at = {name: k for k, name in enumerate(header)}
    found = _columns(header, lambda name: [row[at[name]] for row in rows])
    if found[1] is not None and "id" not in header:
        raise ValueError("its only column is not named id and does not hold integers")
    return found


def _read_parquet(data: bytes) -> _Found:
    file = pyarrow.parquet.ParquetFile(pa.BufferReader(data))
    if file.metadata.num_rows > MOST:
        raise ValueError(f"it has more than {MOST:,} rows")

    def column(name: str) -> Any:
        values = file.read(columns=[name], use_threads=False)[name]
        if values.null_count:
            raise ValueError(f"{values.null_count} entries of its column {name[:40]!r} are empty")
        return values.to_numpy() if pa.types.is_primitive(values.type) else values.to_pylist()

    return _columns(file.schema_arrow.names, column)


def _read_txt(data: bytes) -> _Found:
    lines = [line.removesuffix("\r") for line in data.decode("utf-8-sig").split("\n")]
    lines = [line for line in lines if line]
    return _integers(lines), lines


def _read_pickle(data: bytes) -> _Found:
    return pickled_indices.loads(data), None


def _columns(names: Sequence[str], column: Callable[[str], Any]) -> _Found:
    """Returns the indices and ids among several columns or arrays."""
    if "position" in names:
        raise ValueError("it is a ranking; write a subset of it with `python -m sas_jax.export`")
    for name in ("index", "id"):
        if list(names).count(name) > 1:
            raise ValueError(f"it has {list(names).count(name)} columns {name!r}")
    if "index" not in names and "id" not in names:
        if len(names) != 1:
            raise ValueError(f"none of its {len(names)} columns is named index or id")
        return _by_type(column(names[0]))
    indices = column("index") if "index" in names else None
    if isinstance(indices, list) and all(isinstance(value, str) for value in indices):
        indices = _integers(indices)
        if indices is None:
            raise ValueError("its column 'index' does not hold integers")
    return indices, column("id") if "id" in names else None


def _by_type(values: Any) -> _Found:
    """Interprets arrays of text and lists that are not of integers as ids, and other values as indices."""
    if isinstance(values, list):
        integers = _integers(values) if all(isinstance(value, str) for value in values) else None
        return (None, values) if integers is None else (integers, None)
    return (None, values) if values.dtype.kind in "UT" else (values, None)


def _integers(texts: Iterable[str]) -> np.ndarray | None:
    """Parses texts as int64; returns None if one of them is not a 64-bit integer."""
    stripped = [text.strip() for text in texts]
    if not all(_INTEGER.fullmatch(text) for text in stripped):
        return None
    values = [int(text) for text in stripped]
    return None if any(value.bit_length() > 63 for value in values) else np.array(values, np.int64)


def _indices(values: Any) -> np.ndarray | None:
    """Converts indices to int64 [k]; raises ValueError if that is impossible."""
    if values is None:
        return None
    array = np.asarray(values)
    if array.dtype == bool:
        raise ValueError("it is a mask; convert it to indices with numpy.flatnonzero")
    if array.ndim != 1 or array.dtype.kind not in "iu" or len(array) > MOST:
        raise ValueError(
            f"it is {array.dtype} {list(array.shape)}, expected a one-dimensional array of up to {MOST:,} integers"
        )
    if len(array) and int(array.max()) > np.iinfo(np.int64).max:
        raise ValueError("an integer in it is 2^63 or more")
    return array.astype(np.int64)


def _ids(values: Any) -> tuple[str, ...] | None:
    """Converts ids to text; raises ValueError if that is impossible."""
    if values is None:
        return None
    if isinstance(values, np.ndarray):
        if values.ndim != 1 or values.dtype.kind not in "UT" or not values.dtype.itemsize or len(values) > MOST:
            raise ValueError(
                f"its ids are {values.dtype} {list(values.shape)}, expected a one-dimensional array of text"
            )
        values = values.tolist()
    if not all(isinstance(value, str) for value in values):
        raise ValueError("its ids are not text")
    return tuple(values)


def _write_npy(indices: np.ndarray, _: list[str] | None) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, indices)
    return buffer.getvalue()


def _write_npz(indices: np.ndarray, ids: list[str] | None) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, index=indices, **({} if ids is None else {"id": np.array(ids, str)}))  # type: ignore
    return buffer.getvalue()


def _write_csv(indices: np.ndarray, ids: list[str] | None) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)  # else \r is unquoted
    rows: Iterable[Any] = ((i,) for i in indices.tolist()) if ids is None else zip(indices.tolist(), ids, strict=True)
    writer.writerow(["index"] if ids is None else ["index", "id"])
    writer.writerows(rows)
    return buffer.getvalue().encode()


def _write_parquet(indices: np.ndarray, ids: list[str] | None) -> bytes:
    buffer = io.BytesIO()
    names = {} if ids is None else {"id": pa.array(ids, pa.string())}
    pyarrow.parquet.write_table(pa.table({"index": pa.array(indices, pa.int64())} | names), buffer)
    return buffer.getvalue()


def _write_txt(indices: np.ndarray, ids: list[str] | None) -> bytes:
    return "".join(f"{line}\n" for line in (indices.tolist() if ids is None else ids)).encode()


_READERS: dict[str, Callable[[bytes], _Found]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".txt": _read_txt,
    ".pkl": _read_pickle,
    ".pickle": _read_pickle,
}
_WRITERS: dict[str, Callable[[np.ndarray, list[str] | None], bytes]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".txt": _write_txt,
}


def _suffix(path: str, known: Iterable[str]) -> str:
    suffix = files.expanded(path).suffix
    if suffix not in known:
        raise InputError(
            f"The name of a list of examples must end in one of {', '.join(known)}, got {shown(str(path))}. Choose one."
        )
    return suffix


def _bytes(path: str) -> bytes:
    """Reads a whole file; refuses pipes, which might never end."""
    try:
        return files.whole(path, largest=LARGEST)
    except (OSError, ValueError) as error:  # a NUL in the name is a ValueError
        raise InputError(
            f"{path} must be a list of examples, got one that cannot be read ({files.reason(error)}). Check the path."
        ) from error
