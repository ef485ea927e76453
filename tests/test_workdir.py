"""Files that are written atomically, stamps, and metrics without gaps or duplicates."""

import json

import numpy as np
import pytest

from sas_jax import files
from sas_jax.errors import InputError
from sas_jax.files import write_whole
from sas_jax.typed import Anything
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
    assert not workdir.is_done("rank/a", "x")
    with workdir.doing("rank/a", "x") as facts:
        facts["turning_fraction"] = 0.5
        assert not workdir.is_done("rank/a", "x")
    assert workdir.is_done("rank/a", "x")
    assert not workdir.is_done("rank/a", "y")
    assert workdir.stamp("rank/a")["turning_fraction"] == 0.5
    with pytest.raises(RuntimeError, match="stop"), workdir.doing("rank/a", "x"):
        raise RuntimeError("stop")
    assert not workdir.is_done("rank/a", "x")


FACTS = {"turning_fraction": 0.5, "tried": (1, 2), "of": {0.1: None, 1e-05: float("nan")}}


def stamped(path):
    workdir = Workdir(path)
    with workdir.doing("rank", "x") as facts:
        facts |= FACTS
    return workdir, path / "stamps" / "rank.json"


def test_any_flipped_bit_of_a_stamp_is_found(tmp_path):
    """A flip in the word "checksum" itself counts as well: all other content is then unchanged."""
    workdir, path = stamped(tmp_path)
    whole, before = path.read_bytes(), workdir.stamp("rank")
    assert (before["inputs"], before["turning_fraction"]) == ("x", 0.5)
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        found = workdir.stamp("rank")
        if found is not None:
            assert json.dumps({name: found[name] for name in before}) == json.dumps(before)
        else:
            assert str(path) in workdir.stamp_damage("rank")


@pytest.mark.parametrize("text", ["[1]", "{}", '{"inputs": 3}', "\x00", "", '{"inputs": "x"', "[" * 100_000])
def test_a_stamp_of_another_kind_vouches_for_nothing(tmp_path, text):
    workdir, path = stamped(tmp_path)
    assert workdir.stamp_damage("rank") is None
    path.write_text(text)
    assert workdir.stamp("rank") is None
    assert not workdir.is_done("rank", "x")
    assert f"{path} is damaged (" in workdir.stamp_damage("rank")


@pytest.mark.parametrize("name", ["inputs", "wall_seconds", "turning_fraction"])
def test_a_stamp_of_an_earlier_version_is_believed_where_it_is_whole(tmp_path, name):
    workdir, path = stamped(tmp_path)
    stamp = json.loads(path.read_text())
    del stamp["checksum"]
    path.write_text(json.dumps(stamp))
    assert workdir.is_done("rank", "x")
    del stamp[name]
    path.write_text(json.dumps(stamp))
    assert f"({name} is missing)" in workdir.stamp_damage("rank")


def test_a_file_is_known_by_its_digest_and_one_that_is_half_written_is_not_called_damaged(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.mark()
    with workdir.writing("results.json") as path:
        write_json(path, {"a": 1})
    assert workdir.damage("results.json") is None
    assert workdir.read("results.json", dict[str, Anything]) == {"a": 1}
    path.write_text('{"a": 2}')
    assert workdir.damage("results.json") == "it has changed since it was written"
    with pytest.raises(InputError, match=r"results\.json must be intact, got a damaged file"):
        workdir.read("results.json", dict[str, Anything])
    killed = workdir.writing("results.json")
    write_json(killed.__enter__(), {"a": 3})  # and no digest
    assert workdir.read("results.json", dict[str, Anything]) == {"a": 3}
    path.unlink()
    assert workdir.damage("results.json") == "it is missing"
    assert workdir.read("results.json", dict[str, Anything]) is None


@pytest.mark.parametrize("name", ["exp*", "run [1]", "run?", "[!a]", "a**", "100%", "#1", "{a,b}"])
def test_a_workdirs_own_name_is_no_pattern(tmp_path, name):
    """Files of other runs are not found in it, and its own are found."""
    for other in ("exp1", "run 1", "run1", "b", "a", "ab"):
        (tmp_path / other).mkdir()
        for file in ("subset-0.20.npy", "ranking-sas.parquet", "config.json"):
            (tmp_path / other / file).write_text("precious")
    others = sorted(tmp_path.rglob("*.*"))
    workdir = Workdir(tmp_path / name)
    workdir.mark()
    for file in ("subset-0.20.npy", "ranking-sas.parquet", "ranking.parquet.partial", "notes.txt"):
        (workdir / file).write_text("")
    assert [path.name for path in workdir.own()] == [
        "ranking-sas.parquet", "ranking.parquet.partial", "stamps", "subset-0.20.npy",
    ]  # fmt: skip
    workdir.clear()
    assert [path.name for path in workdir.path.iterdir()] == ["notes.txt"]
    assert sorted(path for path in tmp_path.rglob("*.*") if path.parent.name != name) == others


def test_to_clear_a_workdir_removes_links_and_not_what_they_lead_to(tmp_path):
    (tmp_path / "big disk").mkdir()
    (tmp_path / "big disk" / "mine").write_text("precious")
    workdir = Workdir(tmp_path / "run")
    workdir.mark()
    for name in ("proxy", "tensorboard"):
        (tmp_path / "run" / name).symlink_to(tmp_path / "big disk")
    (tmp_path / "run" / "embeddings.npy").symlink_to(tmp_path / "big disk" / "mine")
    (tmp_path / "run" / "config.json").symlink_to(tmp_path / "nowhere")
    workdir.clear()
    assert list((tmp_path / "run").iterdir()) == []
    assert (tmp_path / "big disk" / "mine").read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "is_folder"),
    [("embeddings.npy", True), ("stamps/rank.json", True), ("arms/a/inputs.json", True), ("arms", False),
     ("tensorboard", False), ("ranking-sas.parquet", True), ("arms/a", False), ("proxy/checkpoints", False),
     ("supervised/a/inputs.json", True)],
)  # fmt: skip
def test_a_folder_in_the_place_of_a_file_is_refused_and_never_removed(tmp_path, name, is_folder):
    workdir = Workdir(tmp_path)
    workdir.mark()
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    if is_folder:
        (tmp_path / name / "mine").mkdir(parents=True)
    else:
        (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name} must be a {'file' if is_folder else 'folder'}, got a"):
        workdir.check_kinds()


def test_a_folder_in_the_place_of_the_lock_is_refused(tmp_path):
    (tmp_path / ".lock").mkdir()
    with (
        pytest.raises(InputError, match=r"Cannot open the lock file .*\.lock"),
        Workdir(tmp_path).held(),
    ):
        pass


def test_metrics_of_another_kind_are_left_out(tmp_path):
    lines = b'[1]\n"x"\n\xff\n{"stage": "proxy"}\n{"stage": "proxy", "step": 1}\n{"stage": "pr'
    (tmp_path / "metrics.jsonl").write_bytes(lines)
    metrics = Metrics(Workdir(tmp_path))
    assert metrics.lines() == [{"stage": "proxy", "step": 1}]
    assert metrics.damaged() == 4  # and the last line was truncated by a kill


def line(stage, step):
    return {"stage": stage, "step": step, "loss": 1.0 / step, "views_per_second": 10.0}


def test_a_changed_digit_of_metrics_is_found_and_the_line_left_out(tmp_path):
    metrics = Metrics(Workdir(tmp_path))
    for step in (4, 8, 16):
        metrics.write(line("proxy", step))
    metrics.close()
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text().replace("0.125", "0.135"))
    assert metrics.lines() == [line("proxy", 4), line("proxy", 16)]
    assert metrics.damaged() == 1
    assert metrics.resume("proxy", 16) == line("proxy", 16)  # writes the remaining lines
    assert metrics.lines() == [line("proxy", 4), line("proxy", 16)]
    assert metrics.damaged() == 0


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path):
    workdir = Workdir(tmp_path)
    metrics = Metrics(workdir)
    for step in (1, 2, 3):
        metrics.write(line("proxy", step))
    metrics.write(line("arms/a", 5))
    metrics.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "arms/a", "st')  # truncated by a kill
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
