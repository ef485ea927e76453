"""`python -m sas_jax.report`: what it reads from a workdir and writes, and its errors for unusable files."""

import copy
import json
import os
import random
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from sas_jax import Ranking
from sas_jax.errors import InputError
from sas_jax.report import rebuild, runs

ROOT = Path(__file__).parent.parent.parent
DATA = {"name": "digits", "dir": "", "train_split": "train", "test_split": "test", "folder": "", "test_folder": "",
        "classes": (), "image_size": 8, "placement": "device"}  # fmt: skip


class Split:
    """The training split that `sas_jax.data.load` returns."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def fingerprint(self):
        return "the run's"


@pytest.fixture
def load_dataset(digits_run):
    """Replaces `sas_jax.data.load`."""
    train = Split(digits_run["images"], digits_run["labels"])

    def load(config):
        assert config.placement == "stream", "the report shows a few images, and need not decode all"
        return types.SimpleNamespace(name=config.name, train=train, class_names=digits_run["class_names"])

    return load


@pytest.fixture
def report(load_dataset):
    """Returns `report(*workdirs, output="")`."""
    return lambda *workdirs, output="": rebuild.rebuild(
        [str(each) for each in workdirs], output=output, load_dataset=load_dataset, load_ranking=Ranking.load
    )


@pytest.fixture
def workdir(tmp_path, make_workdir):
    return make_workdir(tmp_path / "run")


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_it_makes_the_same_page_as_the_run(workdir, report, read_page, digits_run):
    said = report(workdir)
    assert said == f"report: {workdir}/report.html"
    page = read_page((workdir / "report.html").read_text())
    assert "+1.1 " in page.part("answer")
    assert len(page.attributes("img")) == 96
    assert len(page.attributes("svg")) == 7
    assert ["data.image_size", "8"] in page.rows
    assert "0123abc" in page.text


def test_the_page_goes_where_it_is_asked_to(workdir, report, tmp_path):
    report(workdir, output=str(tmp_path / "other.html"))
    assert (tmp_path / "other.html").read_text().startswith("<!doctype html>")
    assert not (workdir / "report.html").exists()


def test_nothing_else_in_the_workdir_changes(workdir, report):
    def content():
        return {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}

    before = content()
    report(workdir)
    after = content()
    assert after.pop(workdir / "report.html")
    assert after == before


def test_losses_of_arms_that_are_no_longer_there_are_left_out(workdir, report):
    with open(workdir / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"stage": "arms/old-0.50-s0", "step": 1, "epoch": 1.0, "loss": 1.0}) + "\n")
        file.write('{"stage": "cut sho')
    report(workdir)
    text = (workdir / "report.html").read_text()
    assert "old-0.50-s0" not in text
    assert "Training of the arms" in text


def test_of_a_proxy_that_was_given_no_loss_is_shown(workdir, report):
    change(workdir / "config.json", proxy={"embeddings": "E.npy"})
    report(workdir)
    assert "Training of the proxy" not in (workdir / "report.html").read_text()


def failing(error):
    def load(*_):
        raise error

    return load


@pytest.mark.parametrize("error", [InputError("the folder <x> is gone."), OSError("the disk is gone"),
                                   AttributeError("no field size")])  # fmt: skip
def test_without_images_the_report_says_so(workdir, read_page, error):
    said = rebuild.rebuild([str(workdir)], load_dataset=failing(error), load_ranking=Ranking.load)
    reason = str(error).rstrip(".")
    assert "without pictures: " in said
    assert reason in said
    page = read_page((workdir / "report.html").read_text())
    assert not page.attributes("img")
    assert reason in page.text


def test_other_images_are_not_shown_as_the_runs(workdir, report, load_dataset):
    (workdir / "stamps").mkdir()
    counts = dict.fromkeys(("train_size", "test_size", "num_classes", "num_labelled", "wall_seconds"), 1)
    texts = dict.fromkeys(("stage", "inputs", "name", "train_images"), "data")
    stamp = counts | texts | {"skipped": [], "not_evaluated": None, "train_content": "the run's"}
    (workdir / "stamps" / "data.json").write_text(json.dumps(stamp))
    assert "without" not in report(workdir)
    (workdir / "stamps" / "data.json").write_text(json.dumps(stamp | {"train_content": "others"}))
    assert "the images of digits are no longer those of the run" in report(workdir)
    (workdir / "stamps" / "data.json").unlink()
    dataset = load_dataset(types.SimpleNamespace(name="digits", placement="stream"))
    dataset.train.images = dataset.train.images[:100]
    assert "no longer those of the run" in report(workdir)


def test_a_file_that_cannot_be_decoded_any_more_leaves_the_rest(workdir, digits_run, read_page):
    class Damaged:
        shape = digits_run["images"].shape

        def __len__(self):
            return self.shape[0]

        def __getitem__(self, index):
            raise InputError("7.png is damaged")

    dataset = types.SimpleNamespace(name="digits", train=Split(Damaged(), None), class_names=None)
    said = rebuild.rebuild([str(workdir)], load_dataset=lambda _: dataset, load_ranking=Ranking.load)
    assert "without pictures: 7.png is damaged" in said
    assert len(read_page((workdir / "report.html").read_text()).attributes("svg")) == 7


@pytest.mark.parametrize("damage", ["gone", "cut short", "a pickle"])
def test_without_embeddings_there_is_no_similarity(workdir, report, read_page, damage):
    path = workdir / "embeddings.npy"
    if damage == "gone":
        path.unlink()
    elif damage == "cut short":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        np.save(path, np.array([{}], object))
    said = report(workdir)
    assert (f"left out: {path} is damaged (" in said) == (damage != "gone")
    assert "the embeddings are not available" in read_page((workdir / "report.html").read_text()).text


def test_an_environment_that_is_damaged_is_left_out(workdir, report):
    (workdir / "environment.json").write_text("{")
    with open(workdir / "metrics.jsonl", "a") as file:
        file.write('{"stage": "pro\n{"stage": 3}\n{"stage": "cut sho')
    said = report(workdir)
    assert f"left out: {workdir}/environment.json must be intact, got a damaged file (it is not JS" in said
    assert f"left out: {workdir}/metrics.jsonl has 2 damaged lines" in said
    assert "0123abc" not in (workdir / "report.html").read_text()


def remove(name):
    return lambda workdir: (workdir / name).unlink()


def write(name, text):
    return lambda workdir: (workdir / name).write_text(text)


def alter(name, **fields):
    return lambda workdir: change(workdir / name, **fields)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("config.json"), "which has no config.json. Give the --workdir of one"),
        (remove("results.json"), "which has no results.json yet. Resume it"),
        (remove("ranking.parquet"), "ranking.parquet"),
        (write("results.json", '{"arms": ['), "got a damaged file (it is not JSON)"),
        (write("results.json", "[" * 100_000), "got a damaged file (it is not JSON)"),
        (write("results.json", "[]"), "got a damaged file (it is not a JSON object)"),
        (write("results.json", "{}"), "got a damaged file (dataset is missing)"),
        (write("config.json", "no"), "got a damaged file (it is not JSON)"),
        (alter("config.json", data=3), "got a damaged file (data is not an object)"),
        (alter("results.json", stages={"rank": {"wall_seconds": 1.0}}), "which has no evaluation yet. Resume it"),
        (alter("results.json", stages={"rank": 1.0}), "stages.rank is not an object"),
        (alter("results.json", stages=None), "stages is missing"),
        (alter("results.json", dataset={"train_size": "many"}), "dataset.train_size is not a non-negative integer"),
        (alter("results.json", selection={"turning_fraction": "x"}), "selection.turning_fraction is not a number"),
        (alter("results.json", arms={}), "arms is not a list"),
        (alter("results.json", arms=[{"name": "a", "probe": {"value": 1}}]), "arms[0].probe.low is missing"),
        (alter("results.json", arms=[{"name": "a", "probe_few": {"x": 1}}]), "[0].probe_few must have numbers as keys"),
        (alter("results.json", arms=[{"name": "a", "probe_few": {"0.1": 1}}]), "[0].probe_few.0.1 is not an object"),
        (alter("results.json", arms=[{"name": "a", "size": "5"}]), "arms[0].size is not a non-negative integer"),
        (alter("results.json", arms=[{"name": "a", "geometry": 5}]), "arms[0].geometry is not an object"),
    ],
)  # fmt: skip
def test_what_is_no_finished_run_is_one_sentence(workdir, report, spoil, message):
    spoil(workdir)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        report(workdir)
    assert "\n" not in str(caught.value)
    assert str(workdir) in str(caught.value)
    assert not (workdir / "report.html").exists()


ODD = [None, True, 0, -1, 1e308, 10**30, float("nan"), float("inf"), "x", "", [], {}, [1], {"a": 1}, [None], [[1]]]


def places(value, path=()):
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def put(value, path, odd):
    if not path:
        return odd
    value = copy.copy(value)
    value[path[0]] = put(value[path[0]], path[1:], odd)
    return value


@pytest.mark.parametrize("name", ["results.json", "config.json", "environment.json", "metrics.jsonl"])
def test_whatever_stands_in_a_file_there_is_a_page_or_a_sentence(make_workdir, measured, tmp_path, name):
    """Replaces one value of the file by another one of any kind."""
    workdir, rng = make_workdir(tmp_path / "run"), random.Random(0)
    (workdir / "embeddings.npy").unlink()  # for speed
    change(workdir / "results.json", **measured, stages={"evaluate/untrained": {"wall_seconds": 1.0}})
    lines = name.endswith("l")
    text = (workdir / name).read_text()
    whole = [json.loads(line) for line in text.splitlines()[:9]] if lines else json.loads(text)
    few = np.arange(40)
    ranking = Ranking(few, 9.0 - few, np.zeros(40, int))
    pages, said = 0, []
    for path in rng.choices(list(places(whole))[1:], k=60):
        found = put(whole, path, rng.choice(ODD))
        (workdir / name).write_text("\n".join(map(json.dumps, found)) if lines else json.dumps(found))
        try:
            rebuild.rebuild([str(workdir)], load_dataset=failing(InputError("none")), load_ranking=lambda _: ranking)
            pages += 1
        except InputError as error:
            said.append(str(error))
    assert pages
    assert said or name in ("environment.json", "metrics.jsonl"), "a run's page needs its results and its config"
    assert all("damaged" in sentence for sentence in said)


def test_where_the_page_cannot_be(workdir, make_workdir, report, tmp_path, monkeypatch):
    for output, message in (
        (f"{workdir}/results.json", "--output must end in .html"),
        (str(tmp_path / "none" / "r.html"), "must be a file in an existing directory"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            report(workdir, output=output)
    with pytest.raises(InputError, match=r"which does not exist"):
        report(tmp_path / "none", output=str(tmp_path / "r.html"))
    with pytest.raises(InputError, match=r"which is a file"):
        report(workdir / "config.json", output=str(tmp_path / "r.html"))
    monkeypatch.setattr(rebuild, "write_whole", failing(PermissionError(13, "Permission denied")))
    for runs_ in ((workdir,), (workdir, make_workdir(tmp_path / "other"))):
        with pytest.raises(InputError, match=r"--output must be a writable file, got .* \(Permission denied\)"):
            report(*runs_, output=str(tmp_path / "r.html"))
    with pytest.raises(InputError, match="got none"):
        report()
    with pytest.raises(InputError, match="twice"):
        report(workdir, f"{workdir}/../run", output=str(tmp_path / "r.html"))


def test_runs_are_named_by_as_much_of_their_paths_as_it_takes():
    assert runs.names(["/a/x/run", "/a/y/other"]) == ["run", "other"]
    assert runs.names(["/a/x/run", "/a/y/run/"]) == ["x/run", "y/run"]
    assert runs.names(["gs://b/one/run", "gs://b/two/run"]) == ["one/run", "two/run"]


def command(*arguments, folder=ROOT):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "-m", "sas_jax.report", *map(str, arguments)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return process.returncode, process.stdout, process.stderr


def test_the_command_with_the_real_images(make_workdir, tmp_path, read_page):
    workdir = make_workdir(tmp_path / "run", config={"data": DATA})
    code, out, err = command(workdir)
    assert (code, err) == (0, "")
    assert out == f"report: {workdir}/report.html\n"
    page = read_page((workdir / "report.html").read_text())
    assert len(page.attributes("img")) == 96


def test_the_command_with_several_runs(make_workdir, tmp_path, read_page):
    one, two = (make_workdir(tmp_path / name) for name in ("one", "two"))
    code, out, err = command("one", "--workdir", "two", folder=tmp_path)
    assert (code, out, err) == (0, "report: compare.html, of 2 runs\n", "")
    assert "2 runs: one, two" in read_page((tmp_path / "compare.html").read_text()).text
    code, out, err = command("--output", tmp_path / "c.html", one, two)
    assert (code, err) == (0, "")
    assert (tmp_path / "c.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["none"], "got none, which does not exist"), ([], "got none"), (["--outptu=x.html"], "Did you mean: output")],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path, arguments, message):
    code, out, err = command(*arguments, folder=tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith("sas_jax.report: ")
    assert err.count("\n") == 1
    assert message in err
