"""Pickled integers are read, and no code in a pickle is ever run."""

import builtins
import io
import itertools
import os
import pickle
import pickletools
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_jax import pickles
from sas_jax.data import pickled_indices

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def by_numpy_1(data):
    """Returns the same pickle as NumPy 1 writes it."""
    out, numpy_2, numpy_1 = io.BytesIO(), b"numpy._core", b"numpy.core"
    steps = [*pickletools.genops(data), (None, None, len(data))]
    for (opcode, argument, begin), (_, _, end) in itertools.pairwise(steps):
        piece = data[begin:end]
        if opcode.name == "FRAME":
            continue  # the name's length would differ
        if isinstance(argument, str) and argument.startswith("numpy._core"):
            if opcode.name == "SHORT_BINUNICODE":
                text = piece[2:].replace(numpy_2, numpy_1)
                piece = piece[:1] + bytes([len(text)]) + text
            else:
                assert opcode.name == "GLOBAL"
                piece = piece.replace(numpy_2, numpy_1)
        out.write(piece)
    return out.getvalue()


LISTS = [
    [3, 1, 2**40, -5, 0],
    (7,),
    [],
    list(range(3000)),
    np.arange(5),
    np.arange(5, dtype=np.uint8),
    np.arange(5).astype(">i4"),
    np.arange(10)[::2],
    np.zeros(0, np.int64),
    [*np.arange(4)],
    [np.int32(3), 4, np.uint16(5)],
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", LISTS, ids=repr)
def test_integers_come_back(value, protocol):
    for data in (pickle.dumps(value, protocol), by_numpy_1(pickle.dumps(value, protocol))):
        np.testing.assert_array_equal(pickled_indices.loads(data), np.asarray(value, np.int64))
    assert pickled_indices.loads(pickle.dumps(value, protocol)).dtype.kind in "iu"


def test_numpy_1_is_tried_as_well():
    data = by_numpy_1(pickle.dumps(np.arange(5), 4))
    assert b"numpy.core.multiarray" in data
    assert b"_core" not in data


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_arrays_shape_and_order_come_back(protocol, order):
    value = np.asarray(np.arange(6).reshape(2, 3), order=order)
    np.testing.assert_array_equal(pickled_indices.loads(pickle.dumps(value, protocol)), value)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"(lp0\nI3\naI1\naL5L\na.", [3, 1, 5]),
        (
            b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85q\x03U\x01bq\x04\x87q\x05R"
            b"q\x06(K\x01K\x02\x85q\x07cnumpy\ndtype\nq\x08U\x02i8q\tK\x00K\x01\x87q\nRq\x0b(K\x03U\x01<q\x0cNNNJ\xff"
            b"\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\rb\x89U\x10\x07\x00\x00\x00\x00\x00\x00\x00\xff\x00\x00\x00\x00\x00"
            b"\x00\x00q\x0etb.",
            [7, 255],
        ),
    ],
    ids=["list", "array"],
)
def test_pickles_of_python_2_are_read(data, expected):
    assert pickle.loads(data, encoding="latin1") is not None  # they are valid pickles
    assert pickled_indices.loads(data).tolist() == expected


class Runs:
    """Calls a function when Python unpickles it."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts


def malicious(path):
    command = f"touch {path}"
    write = f"open({str(path)!r}, 'w').close()"
    return {
        "os.system": Runs(os.system, command),
        "eval": Runs(builtins.eval, write),
        "exec": Runs(builtins.exec, write),
        "open": Runs(builtins.open, str(path), "w"),
        "getattr": Runs(builtins.getattr, Runs(builtins.__import__, "os"), "system"),
        "in a list": [1, 2, Runs(os.system, command), 3],
        "nested": Runs(builtins.getattr, Runs(builtins.eval, write), "x"),
        "in the arguments": Runs(np.dtype, Runs(os.system, command)),
        "in the state": Runs(np.dtype, "i8", state=(3, Runs(os.system, command))),
        "as a shape": [Runs(np.ndarray, (Runs(builtins.eval, write),))],
        "a function itself": [os.system],
        "a submodule": Runs(os.path.join, "a", "b"),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", malicious(""))
def test_a_malicious_pickle_is_refused_and_harms_nothing(tmp_path, name, protocol):
    path = tmp_path / "harm"
    data = pickle.dumps(malicious(path)[name], protocol)
    with pytest.raises(ValueError, match=r"it imports '.*', which a list of integers does not need") as found:
        pickled_indices.loads(data)
    assert "\n" not in str(found.value)
    assert not path.exists()


def test_the_pickles_would_do_harm(tmp_path):
    """Python's own reader runs the code, so that the test above is not vacuous."""
    for name in ("os.system", "eval", "in a list", "in the arguments"):
        path = tmp_path / name.replace(" ", "-")
        try:
            pickle.loads(pickle.dumps(malicious(path)[name]))
        except TypeError:  # raised after the code ran
            assert name == "in the arguments"
        assert path.exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": 1}, "it has the opcode DICT|it holds a value of type dict"),
        ({1, 2}, "it has the opcode EMPTY_SET|it imports '(__builtin__|builtins).set'"),
        ([1.5], "it has the opcode (BIN)?FLOAT"),
        ([True], "its list holds a value of type bool"),
        (["1"], "its list holds a value of type str"),
        ([[1]], "its list holds a value of type list"),
        ([np.arange(3)], "its list holds a value of type Array"),
        (3, "it holds a value of type int, expected a list"),
        ("123", "it holds a value of type str"),
        (None, "it holds a value of type NoneType"),
        ([2**64], "an integer in it has more than 64 bits"),
        ([-(2**64)], "an integer in it has more than 64 bits"),
        (np.arange(3.0), "the dtype of an array is 'f8', expected an integer dtype"),
        (np.array([True]), "the dtype of an array is 'b1', expected an integer dtype"),
        (np.array(["a"]), "the dtype of an array is 'U1', expected an integer dtype"),
        (np.array([{}, 1], object), "the dtype of an array is 'O8', expected an integer dtype"),
        (np.ma.array([1, 2]), "it imports 'numpy.ma"),
        (range(3), "it imports '(__builtin__.xrange|builtins.range)'"),
    ],
    ids=repr,
)
def test_other_things_are_refused(value, message, protocol):
    with pytest.raises(ValueError, match=message):
        pickled_indices.loads(pickle.dumps(value, protocol))


DEPTH = 200_000  # at this depth, Python's hash of nested tuples crashes the process


def deep(depth):
    """Returns a tuple of a tuple of a tuple ..., which crashes Python's hash and repr."""
    return b"\x80\x02)" + b"\x85" * depth


def laughs(depth):
    """Returns a list of ten lists of ten lists ...: small as a pickle, huge as text."""
    return b"\x80\x02]q\x00" + b"".join(
        b"](" + b"h" + bytes([k]) + (b"h" + bytes([k])) * 9 + b"eq" + bytes([k + 1]) for k in range(depth)
    )


BOMBS = {
    "bytes of which there is nothing": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b".",
    "text of which there is nothing": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b".",
    "a byte array of which there is nothing": b"\x80\x05\x96" + struct.pack("<Q", 1 << 50) + b".",
    "an integer of which there is nothing": b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1) + b".",
    "a place in the memo": b"\x80\x02](K\x01er" + struct.pack("<I", (1 << 32) - 1) + b"0.",
    "a frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"K\x01.",
    "tuples in tuples": deep(DEPTH) + b".",
    "tuples in tuples as a type": b"\x80\x02cnumpy\ndtype\n" + deep(DEPTH)[2:] + b"\x85R.",
    "tuples in tuples as a name": b"\x80\x04" + deep(DEPTH)[2:] * 2 + b"\x93.",
    "lists in lists": b"\x80\x02" + b"(" * DEPTH + b"l" * DEPTH + b".",
    "a billion laughs": laughs(20) + b".",
    "a billion laughs as a type": b"\x80\x02cnumpy\ndtype\n" + laughs(20)[2:] + b"\x85R.",
    "a billion laughs as a name": b"\x80\x04" + laughs(20)[2:] + b"h\x00\x93.",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "an array of another size": pickle.dumps(np.arange(3), 2).replace(
        b"K\x03\x85", b"\x8a\x06" + b"\x7f" * 6 + b"\x85"
    ),
    "an array of no end of axes": b"\x80\x02cnumpy._core.numeric\n_frombuffer\n(U\x00cnumpy\ndtype\nU\x02i8\x85R("
    + b"K\x00" * 100_000
    + b"tU\x01Ct R.".replace(b" ", b""),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_claims_to_be_huge_is_refused_at_no_cost(name):
    data = BOMBS[name]
    if len(data) < DEPTH:  # tracing is slow, and a merely deep pickle has no calls to trace
        tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"."):
            pickled_indices.loads(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_many_arrays_of_the_same_bytes_take_their_room_once():
    array = b"(h\x01h\x02h\x03U\x01CtR"
    data = (
        b"\x80\x05cnumpy._core.numeric\n_frombuffer\nq\x00"
        + b"\x96"
        + struct.pack("<Q", 800_000)
        + bytes(800_000)
        + b"q\x01cnumpy\ndtype\nU\x02i8\x85Rq\x02J"
        + struct.pack("<i", 100_000)
        + b"\x85q\x03]("
        + (b"h\x00" + array) * 2000
        + b"e."
    )
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="its list holds a value of type Array"):
            pickled_indices.loads(data)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "pickle exhausted before seeing STOP"),
        (b"\x80\x02](K\x01e", "pickle exhausted before seeing STOP"),
        (b".", "a value is missing"),
        (b"\x80\x02e.", "a value is missing"),
        (b"\x80\x02h\x05.", "a value is missing"),
        (b"\x80\x02\x85.", "a value is missing"),
        (b"\x80\x02K\x01K\x02a.", "it appends to something that is not a list"),
        (b"\x80\x02]K\x01a..", "there is data after its end"),
        (b"\x80\x02]K\x01)R.", "it calls a function that a list of integers does not need"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "it calls a function that a list of integers does not need"),
        (b"\x80\x02cnumpy\ndtype\n]R.", "it calls a function that a list of integers does not need"),
        (b"\x80\x02K\x01)b.", "it sets the state of something that is not an array"),
        (b"\x80\x02cnumpy._core.multiarray\n_reconstruct\n)R.", "an array has no values"),
        (b"\x80\x02cnumpy._core.numeric\n_frombuffer\n)R.", "an array lacks its bytes, dtype, shape or order"),
        (b"\x80\x04K\x01K\x02\x93.", "it imports a name that is not text"),
        (b"\x80\x02c_codecs\nencode\nU\x01aU\x05utf-8\x86R.", "a text has an encoding that NumPy does not use"),
        (b"\x80\x02]P1\na.", "it has the opcode PERSID"),
        (b"\x80\x02]\x82\x01a.", "it has the opcode EXT1"),
        (b"\x80\x05\x97.", "it has the opcode NEXT_BUFFER"),
    ],
)
def test_what_is_damaged_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        pickled_indices.loads(data)


def test_every_cut_is_refused():
    for value in LISTS[:2] + LISTS[4:]:
        for protocol in PROTOCOLS:
            data = pickle.dumps(value, protocol)
            for stop in range(len(data)):
                with pytest.raises(Exception, match=r"."):
                    pickled_indices.loads(data[:stop])


OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
NAMES = [f"c{module}\n{name}\n".encode() for module, name in pickles.ARRAYS] + [b"cos\nsystem\n"]
PIECES = st.sampled_from(OPCODES + NAMES + [b"U\x02i8", b"K\x01", b"\x85R", b"U\x01<", b"q\x00", b"h\x00", b"]", b"("])


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES | st.binary(max_size=3), max_size=30).map(b"".join))
def test_any_program_gives_integers_or_an_error(program):
    for data in (program, b"\x80\x04" + program + b"."):
        try:
            found = pickled_indices.loads(data)
        except Exception as error:
            assert not isinstance(error, RecursionError | MemoryError)  # noqa: PT017
        else:
            assert found.dtype.kind in "iu"
