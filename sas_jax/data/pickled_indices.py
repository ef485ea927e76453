"""Pickled lists of integers, read without running anything that is in them.

A pickle is a program, and Python's own reader runs it: it imports and calls what the file names. Here nothing is
imported and nothing called. The opcodes are those that lists and tuples of integers and NumPy's integer arrays are made
of, in every protocol, by Python 2 and 3 and NumPy 1 and 2; the few names that such a pickle has are stood in for by the
functions below, and any other opcode or name ends the reading. Nothing is allocated because the file claims a size.
"""

import math
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np


def loads(data: bytes) -> np.ndarray:
    """The integers of a pickle.

    Args:
        data: a list or tuple of Python's or NumPy's integers, or a NumPy array of integers, pickled.

    Returns:
        An array of integers of any shape; int64 [k] of a list.

    Raises:
        ValueError: it is something else, is cut short, or holds an integer of more than 64 bits.
        Exception: whatever else a damaged pickle leads the reader into.
    """
    try:
        value = _Reader().read(data)
    except (IndexError, KeyError) as error:
        raise ValueError("a value is missing in it") from error
    if isinstance(value, _Array):
        return value.values()
    if not isinstance(value, list | tuple):
        raise ValueError(f"it holds {_kind(value)}, and should hold a list")
    for entry in value:
        if type(entry) is not int:
            raise ValueError(f"its list holds {_kind(entry)}, and should hold integers")
        if entry.bit_length() > 63:
            raise ValueError("an integer in it has more than 64 bits")
    return np.fromiter(value, np.int64, len(value))


_TYPES = frozenset(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8))
_LARGEST_SIZE = 1 << 40


class _Type:
    """A NumPy type of integers."""

    def __init__(self, name: Any, *_: Any):
        # Only text is looked up and only text is shown: for a tuple of tuples of tuples, Python's hash runs out of
        # stack and its repr out of memory.
        if not isinstance(name, str) or name not in _TYPES:
            shown = repr(name[:40]) if isinstance(name, str) else _kind(name)
            raise ValueError(f"an array in it is of {shown}, and should be of integers")
        self.value = np.dtype(name)

    def set(self, state: Any) -> None:
        """Takes the state that a pickled type has: (version, byte order, ...)."""
        if state[1] not in ("<", ">", "=", "|"):
            raise ValueError("a type in it has no byte order")
        self.value = self.value.newbyteorder(state[1])


class _Array:
    """A NumPy array, made first and filled afterwards.

    Its values are made when all is read: of a thousand arrays of the same bytes, which take no room in a file, one.
    """

    def __init__(self) -> None:
        self._parts: tuple[Any, ...] | None = None

    def set(self, state: Any) -> None:
        """Takes the state that a pickled array has: (version, shape, type, whether columns go first, bytes)."""
        _, shape, kind, is_fortran, data = state
        self._parts = (data, kind, shape, "F" if is_fortran else "C")

    def values(self) -> np.ndarray:
        """Integers of the array's shape."""
        if self._parts is None:
            raise ValueError("an array in it has no values")
        return _filled(*self._parts)

    @classmethod
    def of(cls, *parts: Any) -> "_Array":
        """From its bytes, type, shape and order."""
        if len(parts) != 4:
            raise ValueError("an array in it has no bytes, type, shape and order")
        array = cls()
        array._parts = parts
        return array


def _filled(data: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(kind, _Type) or not isinstance(shape, tuple) or len(shape) > 4:
        raise ValueError("an array in it has no type or shape")
    if any(type(size) is not int or not 0 <= size < _LARGEST_SIZE for size in shape):
        raise ValueError("an array in it has a shape that none can have")
    if not isinstance(data, str | bytes | bytearray) or math.prod(shape) * kind.value.itemsize != len(data):
        raise ValueError("an array in it has not the bytes that its shape takes")
    # Python 2 has bytes as text of one byte a character, and so has _encode.
    values = np.frombuffer(data.encode("latin-1") if isinstance(data, str) else data, kind.value)
    return values.reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _scalar(kind: Any, data: Any) -> int:
    return int(_filled(data, kind, (), "C"))


def _encode(text: Any, encoding: Any) -> str:
    """Bytes, as protocols before 3 write them: text that is to be encoded, which it is where it is used."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("a text in it is encoded in a way that NumPy does not use")
    return text


def _no_bytes() -> bytes:
    return b""


class _NdArray:
    """Stands for numpy.ndarray, which is named in a pickle and not called."""


_NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NdArray,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
}
for _core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
    _NAMES |= {
        (f"{_core}.multiarray", "_reconstruct"): _reconstruct,
        (f"{_core}.multiarray", "scalar"): _scalar,
        (f"{_core}.numeric", "_frombuffer"): _Array.of,
    }
_CALLABLE = (_Type, _reconstruct, _scalar, _Array.of, _encode, _no_bytes)

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
    """The machine whose program a pickle is: a stack, the stacks below the marks, and a memo."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._steps: dict[str, Callable[[Any], None]] = {
            "PROTO": self._skip,
            "FRAME": self._skip,
            "MARK": self._mark,
            "EMPTY_LIST": lambda _: self._push([]),
            "LIST": lambda _: self._push(self._since_mark()),
            "TUPLE": lambda _: self._push(tuple(self._since_mark())),
            "APPEND": lambda _: self._extend([self._stack.pop()]),
            "APPENDS": lambda _: self._extend(self._since_mark()),
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

    def read(self, data: bytes) -> Any:
        """Goes through the opcodes as far as the end, which has to be that of the file."""
        for opcode, argument, place in pickletools.genops(data):
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
                raise ValueError(f"it has a {name}, which no list of integers has")
            elif place is not None and place + 1 != len(data):
                raise ValueError("something stands behind its end")
        return self._stack.pop()

    def _skip(self, _: Any) -> None:
        """A protocol's number and the length of a frame: the opcodes themselves say as much."""

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
            raise ValueError("a value is missing in it")
        taken = self._stack[len(self._stack) - number :]
        del self._stack[len(self._stack) - number :]
        return taken

    def _extend(self, values: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise ValueError("something is appended to what is no list")
        self._stack[-1].extend(values)

    def _put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def _get(self, place: int) -> None:
        self._push(self._memo[place])

    def _name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name in it is not text")
        if (module, name) not in _NAMES:
            raise ValueError(f"it asks for {f'{module}.{name}'[:60]!r}, which no list of integers needs")
        self._push(_NAMES[module, name])

    def _call(self, _: Any) -> None:
        function, arguments = self._take(2)
        if function not in _CALLABLE or not isinstance(arguments, tuple):
            raise ValueError("it calls what no list of integers calls")
        self._push(function(*arguments))

    def _build(self, _: Any) -> None:
        state, value = self._stack.pop(), self._stack[-1]
        if not isinstance(value, _Type | _Array) or not isinstance(state, tuple):
            raise ValueError("it fills in what is no array")
        value.set(state)


def _kind(value: Any) -> str:
    """What something is, for a sentence; never its value, which can be endless."""
    return f"something of the kind {type(value).__name__.lstrip('_')}"
