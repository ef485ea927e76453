"""Files that appear whole, stamps, metrics without gaps or doubles."""

import json

import numpy as np
import pytest

from sas_jax import files
from sas_jax.files import write_whole
from sas_jax.workdir import Metrics, Workdir, fingerprint, flatten, write_array, write_json


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path):
    workdir = Workdir(tmp_path)
    write_json(workdir / "a.json", {"x": 1})

    def half(aside):
        aside.write_text('{"x": ')
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(workdir / "a.json", half)
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_arrays_round_trip(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_array(Workdir(tmp_path) / "a.npy", array)
    np.testing.assert_array_equal(files.array(Workdir(tmp_path) / "a.npy"), array)


def test_a_pickle_is_never_read(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], object))
    with pytest.raises(ValueError, match="allow_pickle"):
        files.array(Workdir(tmp_path) / "a.npy")


def test_a_stage_is_done_when_its_block_ends_well_with_these_inputs(tmp_path):
    workdir = Workdir(tmp_path)
    assert not workdir.is_done("train/a", "x")
    with workdir.doing("train/a", "x") as facts:
        facts["loss"] = 1.5
        assert not workdir.is_done("train/a", "x")
    assert workdir.is_done("train/a", "x")
    assert not workdir.is_done("train/a", "y")
    assert workdir.stamp("train/a")["loss"] == 1.5
    with pytest.raises(RuntimeError, match="stop"), workdir.doing("train/a", "x"):
        raise RuntimeError("stop")
    assert not workdir.is_done("train/a", "x")


def test_a_damaged_stamp_vouches_for_nothing(tmp_path):
    workdir = Workdir(tmp_path)
    with workdir.doing("rank", "x"):
        pass
    (tmp_path / "stamps" / "rank.json").write_text('{"inputs": "x"')
    assert not workdir.is_done("rank", "x")


@pytest.mark.parametrize("text", ["[1]", "{}", '{"inputs": 3}', "\x00"])
def test_a_stamp_of_another_kind_vouches_for_nothing(tmp_path, text):
    workdir = Workdir(tmp_path)
    workdir.mark()
    (tmp_path / "stamps" / "rank.json").write_text(text)
    assert workdir.stamp("rank") is None


def test_metrics_of_another_kind_are_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'[1]\n"x"\n\xff\n{"stage": "proxy"}\n{"stage": "proxy", "step": 1}\n')
    assert Metrics(Workdir(tmp_path)).lines() == [{"stage": "proxy", "step": 1}]


def line(stage, step):
    return {"stage": stage, "step": step, "loss": 1.0 / step, "views_per_second": 10.0}


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path):
    workdir = Workdir(tmp_path)
    metrics = Metrics(workdir)
    for step in (1, 2, 3):
        metrics.write(line("proxy", step))
    metrics.write(line("arms/a", 5))
    metrics.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "arms/a", "st')  # cut short by a kill
    again = Metrics(workdir)
    assert again.resume("proxy", 2) == line("proxy", 2)
    again.write(line("proxy", 3))
    again.close()
    assert again.lines() == [line("proxy", 1), line("proxy", 2), line("arms/a", 5), line("proxy", 3)]
    assert Metrics(workdir).resume("arms/b", 9) is None


def test_fingerprints_and_flattening():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert flatten({"a": {"b": {"c": 1}}, "d": 2}) == {"a.b.c": 1, "d": 2}
