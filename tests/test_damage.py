"""Damage to the files of a finished run: every reader gives the same numbers, or one sentence."""

import json
import shutil
import types
from pathlib import Path

import numpy as np
import pytest
from etils import epath

import sas_jax
from sas_jax.errors import InputError
from sas_jax.export_subset import export_subset
from sas_jax.report import rebuild, runs
from sas_jax.run import claim, pipeline, stages
from sas_jax.training import FitResult
from tests.run.test_pipeline import small_config
from tests.test_main import untimed

pytestmark = pytest.mark.usefixtures("one_stage")

ARM = "sas-0.20-s0"
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def finished(one_stage, tmp_path_factory):
    """Returns (config, workdir, results, features of IMAGES, the data set) of a run to the report, read-only."""
    config = small_config(
        tmp_path_factory.mktemp("tfds"), **{"arms": (("selected", 0.2, 0),), "evaluation.geometry": False}
    )
    workdir = tmp_path_factory.mktemp("finished")
    results = untimed(pipeline.run(config, workdir, log=lambda _: None))
    features = sas_jax.load_encoder(workdir).apply(IMAGES)
    return types.SimpleNamespace(
        config=config, workdir=workdir, results=results, features=features, dataset=sas_jax.data.load(config.data)
    )


@pytest.fixture
def replayed(finished, monkeypatch):
    """Slow work returns the finished run's results; reading, checking and writing are real."""

    def stamp(stage):
        return json.loads((finished.workdir / "stamps" / f"{stage.replace('/', '.')}.json").read_text())

    def fit(*_, stage, **__):
        facts = stamp(stage.replace("arms/", "train/"))
        state = types.SimpleNamespace(params={}, batch_stats={})
        numbers = {name: facts[name] for name in ("steps", "loss", "spread", "train_seconds", "views_per_second")}
        return FitResult(state=state, **numbers)

    def make(*_):
        facts = {name: stamp("classes")[name] for name in ("num_classes", "sizes", "agreement", "few_labels", "chosen")}
        return np.load(finished.workdir / "latent_classes.npy"), facts

    def rank(*_, resume, **__):
        Path(resume).touch()
        return sas_jax.Ranking.load(str(finished.workdir / "ranking.parquet"))

    def measured(_, arm):
        facts = stamp(f"evaluate/{arm.name if arm else 'untrained'}")
        return {name: facts[name] for name in ("probe", "knn", "probe_few", "probe_coarse", "geometry")}

    monkeypatch.setattr(stages, "fit", fit)
    trained = types.SimpleNamespace(params={}, batch_stats={})
    monkeypatch.setattr(stages, "load_trained", lambda *_, **__: trained)
    monkeypatch.setattr(stages, "embed", lambda *_, **__: np.load(finished.workdir / "embeddings.npy"))
    monkeypatch.setattr(stages.latent_classes, "make", make)
    monkeypatch.setattr(stages, "rank_embeddings", rank)
    monkeypatch.setattr(stages, "_measured", measured)
    monkeypatch.setattr(stages.report, "html", lambda **_: "<html>")
    monkeypatch.setattr(stages.environment, "describe", lambda: {"python": "3"})
    monkeypatch.setattr(rebuild.build, "html", lambda **_: "<html>")
    monkeypatch.setattr(sas_jax.data, "load", lambda _: finished.dataset)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def become_a_folder(path):
    path.unlink()
    path.mkdir()


DAMAGE = {
    "one bit flipped": flip,
    "cut to half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "[]": lambda path: path.write_text("[]"),
    "{}": lambda path: path.write_text("{}"),
    "a folder": become_a_folder,
    "deleted": Path.unlink,
}
FILES = (
    "config.json", "environment.json", "metrics.jsonl", "results.json", "report.html", "embeddings.npy",
    "latent_classes.npy", "ranking.parquet", "subset-0.20.npy", "proxy/inputs.json", f"arms/{ARM}/inputs.json",
)  # fmt: skip
STAMPS = ("run", "data", "proxy", "embed", "classes", "rank", f"train.{ARM}", "evaluate.untrained", f"evaluate.{ARM}")
STAMPS += ("report", "file.config.json", "file.embeddings.npy", "file.results.json")


TOLD = ("config.json", "embeddings.npy", "latent_classes.npy", "ranking.parquet")
TOLD += tuple(f"stamps/{stamp}.json" for stamp in STAMPS[1:9])


def said(function):
    """Returns the result and None, or None and the error's sentence."""
    try:
        return function(), None
    except InputError as error:
        sentence = str(error)
    assert "\n" not in sentence
    return None, sentence


def report(workdir):
    return rebuild.rebuild([str(workdir)], load_dataset=sas_jax.data.load, load_ranking=sas_jax.Ranking.load)


@pytest.mark.parametrize("name", [*FILES, *(f"stamps/{stamp}.json" for stamp in STAMPS)])
def test_a_damaged_file_gives_the_same_numbers_or_a_sentence(finished, replayed, tmp_path, name):
    for how, damage in DAMAGE.items():
        workdir = tmp_path / "run"
        shutil.copytree(finished.workdir, workdir)
        damage(workdir / name)
        before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
        text, why = said(lambda workdir=workdir: report(workdir))
        assert why or "report: " in text, how
        if why is None:
            assert untimed(runs.read(str(workdir)).results) == finished.results, how
        assert {path: path.read_bytes() for path in before if path.name != "report.html"}.items() <= before.items()
        told = []
        results, why = said(lambda workdir=workdir, told=told: pipeline.run(finished.config, workdir, log=told.append))
        assert not any("\n" in line for line in told)
        if why is None:
            if name in TOLD and how != "deleted":
                assert any(name in line and "damaged" in line for line in told), how
            assert untimed(results) == finished.results, how
            assert untimed(json.loads((workdir / "results.json").read_text())) == finished.results, how
            text, why = said(lambda workdir=workdir: report(workdir))
            assert why is None, (how, why)
        else:
            assert str(workdir / name) in why, how
        shutil.rmtree(workdir)


CHECKPOINT = f"arms/{ARM}/checkpoints/4"


def of_a_checkpoint(workdir):
    """Returns one file of each kind of a checkpoint."""
    found = {}
    for path in sorted(path for path in (workdir / CHECKPOINT).rglob("*") if path.is_file()):
        found[path.parent if path.parent.name == "d" else path] = path
    return [*found.values(), workdir / CHECKPOINT / ".." / "manifest-4.json"]


def encoded(workdir, **options):
    return said(lambda: sas_jax.load_encoder(workdir, **options))


def test_an_encoder_is_the_finished_one_or_refused(finished, tmp_path):
    """Its features are the measured ones, or the error names the damage and the fix."""
    workdir, ways = tmp_path / "run", list(DAMAGE.items())
    files = [path.relative_to(finished.workdir) for path in of_a_checkpoint(finished.workdir)]
    for number, name in enumerate(files):
        for how, damage in (ways[number % 8], ways[(number + 3) % 8]):
            shutil.copytree(finished.workdir, workdir)
            damage(workdir / name)
            encoder, why = encoded(workdir)
            assert encoder is None, (name, how)
            assert f"{ARM}/checkpoints must be intact, got a damaged or missing one (" in why
            assert "Run python -m sas_jax.main on this workdir again" in why
            shutil.rmtree(workdir)


@pytest.mark.parametrize("how", DAMAGE)
def test_the_subset_of_a_damaged_ranking_is_the_same_or_refused(finished, tmp_path, how):
    """With `export`, which reads only this file."""
    path, subset = tmp_path / "ranking.parquet", np.load(finished.workdir / "subset-0.20.npy")
    output = tmp_path / "subset.npz"
    for place in range(1 if how != "one bit flipped" else 40):
        shutil.copy(finished.workdir / "ranking.parquet", path)
        if how == "one bit flipped":
            data = bytearray(path.read_bytes())
            data[len(data) * place // 40] ^= 1 << place % 8
            path.write_bytes(data)
        else:
            DAMAGE[how](path)
        _, why = said(lambda: export_subset(str(path), output=str(output), fraction=0.2))
        assert (how == "one bit flipped") or why
        if why:
            assert why.startswith(f"The ranking {path} ")
            assert not output.exists()
        else:
            with np.load(output) as found:
                np.testing.assert_array_equal(found["index"], subset)
                np.testing.assert_array_equal(found["id"], finished.dataset.train.ids[subset])
            output.unlink()
        if how == "a folder":
            path.rmdir()


@pytest.mark.parametrize(
    "name", ["config.json", f"stamps/train.{ARM}.json", f"arms/{ARM}/inputs.json", "stamps/file.config.json.json"]
)
def test_an_encoder_whose_other_files_are_damaged(finished, tmp_path, name):
    refused = name.startswith("stamps/train") or name == "config.json"
    for how in DAMAGE if refused else ("one bit flipped", "{}", "deleted"):
        shutil.copytree(finished.workdir, tmp_path / "run")
        DAMAGE[how](tmp_path / "run" / name)
        encoder, _ = encoded(tmp_path / "run")
        assert (encoder is None) == refused, how
        if how == "one bit flipped" and not refused:
            np.testing.assert_array_equal(encoder.apply(IMAGES), finished.features)
        shutil.rmtree(tmp_path / "run")


def test_a_part_of_an_old_config_is_refused(finished, tmp_path):
    """If no digest of it is stored."""
    shutil.copytree(finished.workdir, tmp_path / "run")
    (tmp_path / "run" / "stamps" / "file.config.json.json").unlink()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    for field in ("arms", "views", "train", "encoder", "compute_dtype"):
        (tmp_path / "run" / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != field}))
        assert "config.json must be a complete config of this version" in encoded(tmp_path / "run")[1]


def test_all_that_is_damaged_is_made_again_with_the_same_bits(finished, tmp_path, monkeypatch):
    """Without fakes: the proxy's embeddings, the rest of the arm's training, and its evaluation are done again."""
    workdir = tmp_path / "run"
    shutil.copytree(finished.workdir, workdir)
    names = ("embeddings.npy", f"stamps/evaluate.{ARM}.json", "stamps/proxy.json", "metrics.jsonl", "results.json")
    for name in names:
        flip(workdir / name)
    flip(of_a_checkpoint(workdir)[-3])
    of_a_checkpoint(workdir)[-1].unlink()  # the manifest, which would reveal the damage
    assert encoded(workdir)[0] is None
    told = []
    results = pipeline.run(finished.config, workdir, log=told.append)
    assert untimed(results) == finished.results
    assert (workdir / "embeddings.npy").read_bytes() == (finished.workdir / "embeddings.npy").read_bytes()
    np.testing.assert_array_equal(sas_jax.load_encoder(workdir).apply(IMAGES), finished.features)
    for words in ("redoing embed", f"redoing train/{ARM}", f"redoing evaluate/{ARM}"):
        assert sum(words in line for line in told) == 1
    monkeypatch.setattr(stages, "fit", lambda *_, stage, **__: pytest.fail(f"{stage} is trained again"))
    again = []
    assert pipeline.run(finished.config, workdir, log=again.append) == results
    assert again[-1].startswith("already done: data, proxy, embed")


def test_an_older_checkpoint_is_used_only_where_that_is_allowed(finished, tmp_path):
    shutil.copytree(finished.workdir, tmp_path / "run")
    checkpoints = tmp_path / "run" / CHECKPOINT
    checkpoints = checkpoints.parent
    stamp = tmp_path / "run" / "stamps" / f"train.{ARM}.json"
    facts = json.loads(stamp.read_text())
    del facts["checksum"]
    stamp.write_text(json.dumps(facts | {"steps": 5}))  # as if another step had been taken and its checkpoint lost
    encoder, why = encoded(tmp_path / "run")
    assert encoder is None
    assert f"got a damaged or missing one (checkpoint 5 of {checkpoints} is missing)" in why
    assert why.endswith("or use checkpoint 4 with allow_older=True (--allow_older).")
    older, why = encoded(tmp_path / "run", allow_older=True)
    assert (older.steps, why) == (4, None)
    np.testing.assert_array_equal(older.apply(IMAGES), finished.features)
    shutil.rmtree(checkpoints / "4")
    encoder, why = encoded(tmp_path / "run", allow_older=True)
    assert encoder is None
    assert "allow_older" not in why


def as_an_earlier_version_left_it(workdir):
    """Stamps without checksums, no digests of files, plain fingerprints beside checkpoints."""
    for path in (workdir / "stamps").iterdir():
        stamp = json.loads(path.read_text())
        stamp.pop("checksum", None)
        path.write_text(json.dumps(stamp))
        if path.name.startswith("file."):
            path.unlink()
    for path in workdir.rglob("inputs.json"):
        path.write_text(claim._owner(path))


def test_a_run_of_an_earlier_version_is_read(finished, replayed, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished.workdir, workdir)
    as_an_earlier_version_left_it(workdir)
    assert report(workdir) == f"report: {workdir}/report.html"
    assert encoded(workdir)[1] is None
    told = []
    assert untimed(pipeline.run(finished.config, workdir, log=told.append)) == finished.results
    assert told == [line for line in told if line.startswith("already done: data, proxy, embed, classes")]


@pytest.mark.parametrize(
    ("name", "how", "redone"),
    [
        ("embeddings.npy", "cut to half", "rank"),
        ("embeddings.npy", "a folder", "rank"),
        ("latent_classes.npy", "[]", "rank"),
        ("ranking.parquet", "zeros", "report"),
    ],
)
def test_damage_to_a_run_of_an_earlier_version_shows_when_it_is_read(finished, replayed, tmp_path, name, how, redone):
    workdir = tmp_path / "run"
    shutil.copytree(finished.workdir, workdir)
    as_an_earlier_version_left_it(workdir)
    DAMAGE[how](workdir / name)
    (workdir / "stamps" / f"{redone}.json").unlink()
    _, why = said(lambda: pipeline.run(finished.config, workdir, log=lambda _: None))
    assert why.startswith(f"{workdir / name} must be ")
    if how != "a folder":
        assert "got a damaged file (" in why
        assert why.endswith("Remove the file and run the same command again to recreate it.")


def test_checkpoints_of_an_unknown_run_are_set_aside_and_not_lost(tmp_path):
    told = []
    folder, owner = epath.Path(tmp_path) / "proxy", tmp_path / "proxy" / "inputs.json"
    claim.take_checkpoints(folder, "0" * 16, vouched=False, log=told.append)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "7").write_text("precious")
    claim.take_checkpoints(folder, "0" * 16, vouched=False, log=told.append)
    assert told == []
    flip(owner)
    claim.take_checkpoints(folder, "0" * 16, vouched=True, log=told.append)
    assert (folder / "checkpoints" / "7").read_text() == "precious"
    assert json.loads(owner.read_text())["inputs"] == "0" * 16
    flip(owner)
    claim.take_checkpoints(folder, "0" * 16, vouched=False, log=told.append)
    assert (folder / "checkpoints-of-unknown-inputs" / "7").read_text() == "precious"
    assert "renamed to checkpoints-of-unknown-inputs, training starts over" in told[-1]
    claim.take_checkpoints(folder, "1" * 16, vouched=False, log=told.append)  # of another config, as after --rerun
    assert [path.name for path in folder.iterdir()] == ["inputs.json"]
    assert len(told) == 3
