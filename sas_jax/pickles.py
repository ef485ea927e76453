"""Reads pickles of plain data and arrays without executing them.

A pickle is a program, which Python's own reader executes: it imports and calls what the file names. This reader imports
nothing. It supports the opcodes of lists, tuples, dicts, texts, numbers and arrays, in all protocols, as written by
Python 2 and 3. The few names in such pickles are replaced by objects of the caller; any other opcode or name is an
error. Sizes that the file claims cause no allocation.
"""

import io
import math
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Names = Mapping[tuple[str, str], Any]
"""Replacements by (module, name); callable ones may be called."""


def read(
    data: bytes, names: Names, *, kind: str, start: int = 0, persistent: Callable[[Any], Any] | None = None
) -> tuple[Any, int]:
    """Reads one pickle.

    Args:
        data: the bytes that contain the pickle.
        names: the names that the pickle may use.
        kind: the expected content, for messages: "list of integers".
        start: the offset of the pickle in the data.
        persistent: converts a persistent id to a value; None if there may be none.

    Returns:
        The value, and the offset of the pickle's end.

    Raises:
        ValueError: the pickle has other contents or is truncated.
        Exception: any other error of the reader for a damaged pickle.
    """
    try:
        return _Reader(names, kind, persistent).read(data, start)
    except (IndexError, KeyError) as error:
        raise ValueError("a value is missing") from error


def kind_of(value: Any) -> str:
    """Describes a value by its type for messages, because its repr may be endless."""
    return f"a value of type {type(value).__name__.lstrip('_')}"


_TYPES = frozenset(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8))
_LARGEST_SIZE = 1 << 40


class _Type:
    """A NumPy integer dtype."""

    def __init__(self, name: Any, *_: Any):
        # Looks up and shows only text: for deeply nested tuples, Python's hash overflows the stack and its repr runs
        # out of memory.
        if not isinstance(name, str) or name not in _TYPES:
            shown = repr(name[:40]) if isinstance(name, str) else kind_of(name)
            raise ValueError(f"the dtype of an array is {shown}, expected an integer dtype")
        self.value = np.dtype(name)

    def set(self, state: Any) -> None:
        """Sets the pickled state of a dtype: (version, byte order, ...)."""
        if not isinstance(state, tuple) or state[1] not in ("<", ">", "=", "|"):
            raise ValueError("the byte order of a dtype is invalid")
        self.value = self.value.newbyteorder(state[1])


class Array:
    """A NumPy array of integers, created first and filled afterwards.

    Values are created on demand: a small file may define a thousand arrays with the same bytes, but only those that are
    used take memory.
    """

    def __init__(self) -> None:
        self._parts: tuple[Any, ...] | None = None

    def set(self, state: Any) -> None:
        """Sets the pickled state of an array: (version, shape, dtype, whether in Fortran order, bytes)."""
        if not isinstance(state, tuple):
            raise ValueError("the state of an array is not a tuple")
        _, shape, kind, is_fortran, data = state
        self._parts = (data, kind, shape, "F" if is_fortran else "C")

    def values(self) -> np.ndarray:
        """Returns the array, integers of any shape."""
        if self._parts is None:
            raise ValueError("an array has no values")
        return _filled(*self._parts)

    @classmethod
    def of(cls, *parts: Any) -> "Array":
        """Creates an array from its bytes, dtype, shape and order."""
        if len(parts) != 4:
            raise ValueError("an array lacks its bytes, dtype, shape or order")
        array = cls()
        array._parts = parts
        return array


def _filled(data: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(kind, _Type) or not isinstance(shape, tuple) or len(shape) > 4:
        raise ValueError("an array has no valid dtype or shape")
    if any(type(size) is not int or not 0 <= size < _LARGEST_SIZE for size in shape):
        raise ValueError("an array has an invalid shape")
    if not isinstance(data, str | bytes | bytearray) or math.prod(shape) * kind.value.itemsize != len(data):
        raise ValueError("the size of an array does not match its shape")
    # Bytes from Python 2 and from _encode are text with one byte per character.
    values = np.frombuffer(data.encode("latin-1") if isinstance(data, str) else data, kind.value)
    return values.reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(*_: Any) -> Array:
    return Array()


def _scalar(kind: Any, data: Any) -> int:
    return int(_filled(data, kind, (), "C"))


def _encode(text: Any, encoding: Any) -> str:
    """Returns bytes, which protocols before 3 write as text to encode, unchanged; `_filled` encodes them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("a text has an encoding that NumPy does not use")
    return text


def _no_bytes() -> bytes:
    return b""


ARRAYS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): "numpy.ndarray, which is named in a pickle and not called",
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
}
"""The names in pickles of NumPy arrays of integers, by NumPy 1 and 2."""
for _core in ("numpy.core", "numpy._core"):
    ARRAYS |= {
        (f"{_core}.multiarray", "_reconstruct"): _reconstruct,
        (f"{_core}.multiarray", "scalar"): _scalar,
        (f"{_core}.numeric", "_frombuffer"): Array.of,
    }

_VALUES = frozenset(
    [
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
    ]
)
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Reader:
    """The pickle machine: a stack, the stacks below the marks, and a memo."""

    def __init__(self, names: Names, kind: str, persistent: Callable[[Any], Any] | None) -> None:
        self._names = names
        self._callable = tuple(value for value in names.values() if callable(value))
        self._kind = kind
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._steps: dict[str, Callable[[Any], None]] = {
            "PROTO": self._skip,
            "FRAME": self._skip,
            "MARK": self._mark,
            "EMPTY_LIST": lambda _: self._push([]),
            "LIST": lambda _: self._push(self._since_mark()),
            "EMPTY_DICT": lambda _: self._push({}),
            "TUPLE": lambda _: self._push(tuple(self._since_mark())),
            "APPEND": lambda _: self._extend([self._stack.pop()]),
            "APPENDS": lambda _: self._extend(self._since_mark()),
            "SETITEM": lambda _: self._update(self._take(2)),
            "SETITEMS": lambda _: self._update(self._since_mark()),
            "PUT": self._put,
            "BINPUT": self._put,
            "LONG_BINPUT": self._put,
            "MEMOIZE": lambda _: self._put(len(self._memo)),
            "GET": self._get,
            "BINGET": self._get,
            "LONG_BINGET": self._get,
            "GLOBAL": lambda name: self._name(*name.partition(" ")[::2]),
            "STACK_GLOBAL": lambda _: self._name(*self._take(2)),
            "REDUCE": self._call,
            "BUILD": self._build,
        }
        if persistent is not None:
            self._steps["BINPERSID"] = lambda _: self._push(persistent(self._stack.pop()))

    def read(self, data: bytes, start: int) -> tuple[Any, int]:
        """Interprets the opcodes up to STOP."""
        file = io.BytesIO(data)
        file.seek(start)
        for opcode, argument, _ in pickletools.genops(file):
            name = opcode.name
            if name in _VALUES:
                self._push(argument)
            elif name in self._steps:
                self._steps[name](argument)
            elif name in _CONSTANTS:
                self._push(_CONSTANTS[name])
            elif name in _TUPLES:
                self._push(tuple(self._take(_TUPLES[name])))
            elif name != "STOP":
                raise ValueError(f"it has the opcode {name}, which a {self._kind} does not use")
        return self._stack.pop(), file.tell()

    def _skip(self, _: Any) -> None:
        """Ignores protocol numbers and frame lengths, which are redundant."""

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _mark(self, _: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        above, self._stack = self._stack, self._below.pop()
        return above

    def _take(self, number: int) -> list[Any]:
        if len(self._stack) < number:
            raise ValueError("a value is missing")
        taken = self._stack[len(self._stack) - number :]
        del self._stack[len(self._stack) - number :]
        return taken

    def _extend(self, values: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise ValueError("it appends to something that is not a list")
        self._stack[-1].extend(values)

    def _update(self, values: list[Any]) -> None:
        keys = values[::2]
        if not isinstance(self._stack[-1], dict) or any(not isinstance(key, str | bytes | int) for key in keys):
            raise ValueError("it sets an item of something that is not a dict, or with an invalid key")
        self._stack[-1].update(zip(keys, values[1::2], strict=True))

    def _put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def _get(self, place: int) -> None:
        self._push(self._memo[place])

    def _name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("it imports a name that is not text")
        if (module, name) not in self._names:
            raise ValueError(f"it imports {f'{module}.{name}'[:60]!r}, which a {self._kind} does not need")
        self._push(self._names[module, name])

    def _call(self, _: Any) -> None:
        function, arguments = self._take(2)
        if not any(function is each for each in self._callable) or not isinstance(arguments, tuple):
            raise ValueError(f"it calls a function that a {self._kind} does not need")
        self._push(function(*arguments))

    def _build(self, _: Any) -> None:
        state, value = self._stack.pop(), self._stack[-1]
        if not hasattr(value, "set") or not isinstance(state, tuple | dict):
            raise ValueError("it sets the state of something that is not an array, or an invalid state")
        value.set(state)
