"""The saved state of a long ranking, and how it resumes."""

import json

import numpy as np
import pytest
from etils import epath

import sas_jax
from sas_jax.errors import InputError
from sas_jax.selection import classwise, work
from sas_jax.selection.work import Work


@pytest.fixture
def path(tmp_path):
    return epath.Path(tmp_path / "r.partial")


def test_a_class_and_a_state_come_back(path):
    members, state = np.array([1, 3, 4]), [np.arange(5), np.float32(2.5)]
    with Work(6, 5, None, path, "this") as first:
        first.add(np.array([2, 0]), np.array([7.0, 5.0]))
        first.within(members, state, 2)
    with Work(6, 5, None, path, "this") as again:
        assert again.position.tolist() == [1, -1, 0, -1, -1, -1]
        np.testing.assert_array_equal(again.gain, np.float32([5, np.nan, 7, np.nan, np.nan, np.nan]))
        assert again.has(np.array([0, 2]), 2)
        assert not again.has(members, 3)
        assert again.unfinished(np.array([0, 2])) is None
        for found, kept in zip(again.unfinished(members), state, strict=True):
            np.testing.assert_array_equal(found, kept)
        again.add(np.array([1, 4, 3]), np.zeros(3))
        assert again.unfinished(members) is None


def test_it_is_saved_when_something_is_raised(path):
    def interrupted():
        with Work(3, 3, None, path, "this") as begun:
            begun.add(np.array([1]), np.ones(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with Work(3, 3, None, path, "this") as again:
        assert again.position.tolist() == [-1, 0, -1]


def test_it_is_saved_each_minute(path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(work.time, "monotonic", lambda: now[0])
    with Work(3, 3, None, path, "this") as kept:
        kept.add(np.array([1]), np.ones(1))
        assert not path.exists()
        now[0] = 61
        kept.add(np.array([0]), np.ones(1))
        assert path.exists()


def test_another_run_begins_anew(path):
    with Work(3, 3, None, path, "this") as first:
        first.add(np.array([1]), np.ones(1))
    with Work(3, 3, None, path, "that") as other:
        assert other.position.tolist() == [-1, -1, -1]


def test_a_state_of_no_known_run_begins_anew(path):
    with path.open("wb") as file:
        np.savez(file, format=np.array(work._FORMAT))
    with Work(3, 3, None, path, "this") as begun:
        assert begun.position.tolist() == [-1, -1, -1]


@pytest.mark.parametrize("content", [b"", b"my notes", b"PK\x03\x04 cut short", None])
def test_what_is_something_else_is_refused_and_kept(path, content):
    if content is None:
        with path.open("wb") as file:
            np.savez(file, format=np.array("photos"))
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"must be the saved state of an interrupted ranking, got.*Move it away"):
        Work(3, 3, None, path, "this")
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written(tmp_path):
    with (
        pytest.raises(InputError, match=r"cannot be written to .*No such file or directory"),
        Work(3, 3, None, epath.Path(tmp_path / "none" / "r.partial"), "this"),
    ):
        pass


class _Stop(Exception):
    pass


@pytest.mark.parametrize("objective", ["facility_location", "sas"])
@pytest.mark.parametrize("largest", [32, 8192])
def test_rank_goes_on_where_it_was_stopped(objective, largest, tmp_path, monkeypatch):
    """Within a class that is ranked step by step, and between classes that are ranked several per call."""
    rng = np.random.default_rng(0)
    z, classes = rng.normal(size=(150, 8)).astype(np.float32), np.repeat([0, 1, 2], [60, 50, 40])
    monkeypatch.setattr(classwise, "_LARGEST_MATRIX", largest)
    monkeypatch.setattr(classwise, "_AT_ONCE", 1)
    path = tmp_path / "state"
    expected = sas_jax.rank(z, classes, objective=objective)
    stopped, reports = 0, []

    def stop(done, total):
        assert total == 150
        reports.append(done)
        if done > stopped + 20:
            raise _Stop

    for _ in range(20):
        try:
            found = sas_jax.rank(z, classes, objective=objective, progress=stop, resume=str(path))
            break
        except _Stop:
            assert path.exists()
            stopped = reports[-1]
    assert len(reports) > 2
    assert reports == sorted(reports)
    assert found.position.tolist() == expected.position.tolist()
    np.testing.assert_array_equal(found.gain, expected.gain)
    # A complete ranking is returned at once.
    reports.clear()
    again = sas_jax.rank(z, classes, objective=objective, progress=lambda *_: reports.append(0), resume=str(path))
    assert again.position.tolist() == expected.position.tolist()
    assert not reports


def test_other_inputs_are_another_run(tmp_path):
    rng = np.random.default_rng(1)
    z, path = rng.normal(size=(40, 8)).astype(np.float32), str(tmp_path / "state")
    classes, where, weights = np.arange(40) % 2, np.arange(40) < 30, rng.random(40).astype(np.float32)
    given = {"objective": "facility_location", "budget": 10}
    for changes in (
        {},
        {"classes": classes},
        {"where": where},
        {"where": ~where},
        {"weights": weights},
        {"weights": weights[::-1]},
        {"initial": [3]},
        {"initial": [4]},
        {"budget": 11},
        {"objective": "sas"},
        {"self_similarity": 0.0},
        {"embeddings": -z},
    ):
        arguments = {"embeddings": z} | given | changes
        found, expected = sas_jax.rank(**arguments, resume=path), sas_jax.rank(**arguments)
        assert found.position.tolist() == expected.position.tolist(), changes
        assert json.dumps(found.metadata) == json.dumps(expected.metadata)
