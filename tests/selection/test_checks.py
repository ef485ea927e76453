"""The arguments of `rank`: valid values are understood, and each invalid one is refused with one sentence."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax import arrays, devices
from sas_jax.errors import InputError
from sas_jax.selection import checks

NAN, INF = float("nan"), float("inf")


class Elsewhere:
    """An array of another library in another memory, such as PyTorch's on a GPU."""

    def __array__(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy.\nUse Tensor.cpu()")


def refused(function, *arguments, message, **options):
    with pytest.raises(InputError, match=message) as found:
        function(*arguments, **options)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1.0, 1e200, 1e307])
@pytest.mark.parametrize("shape", [(7, 5), (7, 3, 5)])
def test_rows_of_any_norm_become_unit_vectors(shape, scale):
    z = np.random.default_rng(0).integers(1, 9, shape).astype(np.float64)
    unit = z / np.sqrt((z**2).sum(-1, keepdims=True))
    found = checks.embeddings(z * scale, normalize=True)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, unit, rtol=1e-6)
    if scale == 1:
        np.testing.assert_array_equal(found, unit.astype(np.float32))


@pytest.mark.parametrize(
    "convert", [lambda z: z.astype(">f4"), np.asfortranarray, np.float16, jnp.asarray, np.longdouble]
)
def test_embeddings_of_any_layout(convert):
    z = np.random.default_rng(1).integers(-8, 9, (9, 4)).astype(np.float32) + 0.5
    expected = checks.embeddings(z, normalize=True)
    np.testing.assert_array_equal(checks.embeddings(convert(z), normalize=True), expected)


@pytest.mark.parametrize(
    ("values", "normalize", "message"),
    [
        ([[1.0, 2.0], [3.0]], True, "Embeddings must be an array, got a list .* Give an array in host memory"),
        (
            Elsewhere(),
            True,
            "got a Elsewhere that NumPy cannot convert .can't convert cuda:0 device type tensor to numpy.. Give",
        ),
        ([1.0, 2.0], True, r"`embeddings` must be \[n, d\].*\[2\]"),
        (np.ones((3, 0)), True, r"`embeddings` must be \[n, d\].*\[3, 0\]"),
        (np.ones((1, 2, 3, 4)), True, r"`embeddings` must be \[n, d\].*\[1, 2, 3, 4\]"),
        (np.ones((2, 2), complex), True, "must be floating point, got complex128"),
        (np.ones((2, 2), object), True, "must be floating point, got object"),
        (np.ones((2, 2), bool), True, "must be floating point, got bool"),
        ([[1.0, 2.0], [NAN, 1.0], [-INF, 1.0]], True, "NaN or infinity in rows 1, 2"),
        ([[1.0, 2.0], [0.0, 0.0]], True, "got a norm of 0 in row 1"),
        ([[0.6, 0.8], [1e200, 0.0]], False, "with normalize=False, got larger ones in row 1"),
        ([[0.6, 0.8], [1e300, 1e308]], False, "with normalize=False, got larger ones in row 1"),
        ([[0.6, 0.8], [NAN, 0.0]], False, "NaN or infinity in row 1"),
    ],
)
def test_embeddings_that_cannot_be_used(values, normalize, message):
    refused(checks.embeddings, values, normalize=normalize, message=message)


def test_rows_in_all_blocks_are_looked_at(monkeypatch):
    monkeypatch.setattr(arrays, "BLOCK_ROWS", 4)
    z = np.ones((11, 2))
    z[[1, 9]], z[10, 0] = NAN, INF
    refused(checks.embeddings, z, normalize=True, message="rows 1, 9, 10")
    np.testing.assert_allclose(checks.embeddings(np.ones((11, 2)), normalize=True), 0.5**0.5)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[1.0, 0.5], [0.5]], "A similarity matrix must be an array"),
        (np.ones((2, 2, 2)), r"`similarity` must be .*\[2, 2, 2\]. Give"),
        (np.ones((0, 0)), r"`similarity` must be .*\[0, 0\]. Give"),
        ([[1.0, 1e300], [1e300, 1.0]], "from 0 to 1, got inf at row 0, column 1"),
    ],
)
def test_a_matrix_that_cannot_be_used(matrix, message):
    refused(checks.similarity, matrix, message=message)


def test_a_matrix_is_looked_at_in_blocks(monkeypatch):
    monkeypatch.setattr(arrays, "BLOCK_ROWS", 0)  # one row at a time
    matrix = np.full((5, 5), 0.5)
    assert checks.similarity(matrix) is matrix
    matrix[4, 1] = NAN
    refused(checks.similarity, matrix, message="from 0 to 1, got nan at row 4, column 1")
    matrix[4, 1] = 0.25
    refused(checks.similarity, matrix, message="got 0.5 at row 1, column 4 and 0.25 at row 4, column 1")


@pytest.mark.parametrize("convert", [list, np.float16, np.float64, jnp.asarray, lambda x: np.array(x, np.uint8)])
def test_weights_of_any_real_type(convert):
    found = checks.weights(convert([0, 2, 1]), 3)
    assert found.dtype == np.float64
    assert found.tolist() == [0, 2, 1]
    assert checks.weights(None, 3) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, 2.0], r"Weights must have one entry for each example, shape \[3\], got \[2\]"),
        ([[1.0, 2.0, 3.0]], r"shape \[3\], got \[1, 3\]"),
        (2.0, r"shape \[3\], got \[\]"),
        ([1.0, [2.0], 3.0], "Weights must be an array"),
        ([True, False, True], "Weights must be floating point, got bool"),
        (["1", "2", "3"], "Weights must be floating point, got <U1"),
        ([1.0, NAN, 1.0], "from 0 to 3.4e.38, got nan as entry 1"),
        ([1.0, 1.0, INF], "from 0 to 3.4e.38, got inf as entry 2"),
        ([1.0, 1.0, 1e39], "from 0 to 3.4e.38, got 1e.39 as entry 2"),
        ([-1.0, 1.0, 1.0], "from 0 to 3.4e.38, got -1.0 as entry 0"),
        ([0.0, 0.0, 0.0], "must have at least one entry above 0"),
    ],
)
def test_weights_that_cannot_be_used(values, message):
    refused(checks.weights, values, 3, message=message)


@pytest.mark.parametrize(
    ("values", "expected"),
    [(None, []), ([], []), ([4, 0], [4, 0]), (np.array([3], np.uint8), [3]), (jnp.array([1, 2]), [1, 2])],
)
def test_initial_keeps_its_order(values, expected):
    found = checks.initial(values, 5)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([True, False, True, False, False], r"integers \[k\], .* got bool \[5\]. For a mask, give"),
        ([1.0, 2.0], r"got float64 \[2\]"),
        ([[1, 2]], r"got int64 \[1, 2\]"),
        (3, r"got int64 \[\]"),
        ([1, [2]], "`initial` must be an array"),
        ([0, 5], "indices from 0 to 4, got 5 as entry 1"),
        ([-1], "got -1 as entry 0"),
        (np.array([2**63], np.uint64), "got 9223372036854775808 as entry 0"),
        ([3, 1, 3], "each index once, got 3 more than once"),
    ],
)
def test_initial_that_cannot_be_used(values, message):
    refused(checks.initial, values, 5, message=message)


def test_classes_and_candidates_that_are_no_arrays():
    refused(checks.classes, [0, [1]], 2, message="Classes must be an array")
    refused(checks.candidates, [True, [False]], 2, message="`where` must be an array")


@pytest.mark.parametrize("value", [3, np.int8(3), np.array(3), jnp.asarray(3)])
def test_budgets_of_any_integer_type(value):
    assert checks.budget(value, 3) == 3


@pytest.mark.parametrize("value", [0, 4, 2.5, 2.0, "2", True, np.True_, [2], np.array([2]), 1e400])
def test_budgets_that_cannot_be_used(value):
    refused(checks.budget, value, 3, message="a whole number from 1 to the 3 candidates, got .* Correct it, or omit it")


def test_no_candidate_is_left():
    refused(checks.budget, None, 0, message="must mark at least one candidate that is not in `initial`, got none")


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.array(0.5), jnp.asarray(0.5, jnp.bfloat16), Fraction(1, 2)])
def test_numbers_of_any_real_type(value):
    assert checks.number("tau", value) == 0.5
    assert isinstance(checks.positive("tau", value), float)


@pytest.mark.parametrize("value", ["a", "0.5", None, True, np.True_, [0.5], np.array([0.5]), 1j])
def test_what_is_no_number(value):
    for check in (checks.positive, checks.unit_interval):
        refused(check, "tau", value, message="tau must be a number, got .* Give a number")


@pytest.mark.parametrize("value", [0, -1, INF, NAN])
def test_numbers_out_of_range(value):
    refused(checks.positive, "tau", value, message=f"tau must be more than 0, got {value}. Give a finite")
    if value != 0:
        refused(checks.unit_interval, "x", value, message=f"x must be from 0 to 1, got {value}. Give a number in")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        ([7, 8], ["7", "8"]),
        (np.array(["ä/é.png", ""], object), ["ä/é.png", ""]),
        (np.array(["a", "bcd"], np.dtypes.StringDType()), ["a", "bcd"]),
    ],
)
def test_ids_are_text(values, expected):
    found = checks.ids(values, 2)
    assert found.dtype.kind == "U"
    assert found.tolist() == expected
    assert checks.ids(None, 2) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a"], r"shape \[2\], got \[1\]"),
        (["a", ["b"]], "Ids must be an array"),
        (np.array(["a", None], object), "`ids` must be text, got None as entry 1"),
        (np.array([b"a", b"b"]), "`ids` must be text, got .S1. Convert"),
        ([0.5, 1.5], "`ids` must be text, got float64. Convert"),
        (
            ["a", "caf\udce9.png"],
            r"UTF-8 can encode, got one with the character '\\udce9'. Rename",
        ),
        (["a", "a"], "must be unique, got 'a' as entry 1"),
    ],
)
def test_ids_that_cannot_be_used(values, message):
    refused(checks.ids, values, 2, message=message)


def test_a_mesh_has_one_axis():
    mesh = devices.mesh(2)
    assert checks.mesh(mesh) is mesh
    assert checks.mesh(None) is None
    two = jax.make_mesh((2, 1), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    refused(checks.mesh, two, message="Mesh of one axis, got one with the axes a, b. Make one with")
    refused(checks.mesh, 2, message="Mesh of one axis, got 2.")
    refused(checks.mesh, jax.devices(), message="Mesh of one axis, got a list.")


class Elsewhere:
    """A device of another process."""

    def __init__(self, process_index):
        self.process_index = process_index


def test_a_mesh_of_some_processes_is_refused(monkeypatch):
    """The other processes would not run its programs, and these would wait for them."""
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    own, other, both, whole = (
        jax.sharding.Mesh(np.array([Elsewhere(i) for i in places]), ("x",)) for places in ([0], [1], [0, 1], [0, 1, 2])
    )
    refused(
        checks.mesh,
        both,
        message=r"devices of process 0 only, or of all 3 processes, got devices of the processes \[0, 1\]\.",
    )
    refused(
        checks.mesh,
        other,
        message=r"must hold devices of process 0 only, or of all 3 processes, got devices of the processes \[1\]\.",
    )
    assert checks.mesh(own) is own
    assert checks.mesh(whole) is whole


def test_flags_are_bools():
    assert checks.flag("normalize", np.True_) is True
    refused(checks.flag, "normalize", "no", message="normalize must be True or False, got 'no'.")


def test_a_choice_of_any_type_is_answered():
    assert checks.choice("objective", "sas", ("sas", "other")) == "sas"
    refused(checks.choice, "objective", "saz", ("sas", "other"), message="got 'saz'. Did you mean 'sas'?")
    for value in (None, 3, ["sas"], np.array(["sas", "other"])):
        refused(
            checks.choice, "objective", value, ("sas", "other"), message="The objective must be one of sas, other, got"
        )


def test_what_does_not_fit_a_sentence_is_named_by_its_type():
    assert checks.shown(np.zeros((50, 2))) == "a ndarray"
    assert checks.shown("x" * 58) == repr("x" * 58)
    assert checks.shown("x" * 60) == "a str"
