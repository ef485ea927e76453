"""The whole run on small data: what it leaves, which work it does not repeat, and what it refuses."""

import json

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image

import sas_jax
from configs import default
from sas_jax import plan
from sas_jax.errors import InputError
from sas_jax.export_encoder import export_encoder
from sas_jax.run import pipeline, stages
from sas_jax.run.state import Run
from sas_jax.training import loop
from sas_jax.workdir import Workdir

pytestmark = pytest.mark.usefixtures("one_stage")


def small_config(data_dir="", **overrides):
    """Digits at their own 8 pixels, the smallest network, one epoch."""
    config = default.get_config()
    config.data.name = "digits"
    config.data.dir = str(data_dir)
    config.data.image_size = 8
    for encoder in (config.proxy.encoder, config.encoder):
        encoder.depth, encoder.width, encoder.head_features = 10, 0.125, 16
    for train in (config.proxy.train, config.train):
        train.epochs, train.batch_size = 1, 64
    config.embedding.views = 2
    config.evaluation.probe_iterations = 50
    config.update_from_flattened_dict(overrides)
    return config


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture(scope="module")
def finished(one_stage, tmp_path_factory, data_dir):
    """Returns (workdir, results, messages) of a run to the report, read-only."""
    workdir = tmp_path_factory.mktemp("finished")
    said = []
    results = pipeline.run(small_config(data_dir), workdir, log=said.append)
    return workdir, results, said


@pytest.fixture
def copied(finished, tmp_path):
    """Copies the finished run, so that it can be changed."""
    import shutil

    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


def no_training(monkeypatch):
    monkeypatch.setattr(stages, "fit", lambda *a, stage, **k: pytest.fail(f"{stage} was trained again"))


def test_a_run_leaves_what_the_design_says(finished):
    workdir, results, said = finished
    for name in ("config.json", "environment.json", "metrics.jsonl", "report.html", "results.json"):
        assert (workdir / name).stat().st_size > 0
    embeddings = np.load(workdir / "embeddings.npy")
    assert (embeddings.dtype, embeddings.shape) == (np.float32, (1437, 16))
    assert np.linalg.norm(embeddings, axis=1).max() <= 1 + 1e-5
    ranking = sas_jax.Ranking.load(workdir / "ranking.parquet")
    assert len(ranking) == 1437
    assert (ranking.position >= 0).all()
    np.testing.assert_array_equal(ranking.classes, np.load(workdir / "latent_classes.npy"))
    subset = np.load(workdir / "subset-0.20.npy")
    assert len(subset) == round(0.2 * 1437)
    np.testing.assert_array_equal(subset, ranking.subset(fraction=0.2))
    assert set(np.unique(ranking.classes[subset])) == set(range(10))
    assert [arm["name"] for arm in results["arms"]] == ["untrained", "sas-0.20-s0", "random-0.20-s0", "full-1.00-s0"]
    assert [arm["size"] for arm in results["arms"]] == [0, 287, 287, 1437]
    for arm in results["arms"]:
        assert 0 < arm["probe"]["low"] < arm["probe"]["value"] < arm["probe"]["high"] <= 1
        assert arm["knn"]["n"] == 360
    assert json.loads((workdir / "results.json").read_text())["arms"] == results["arms"]
    stages = {json.loads(line)["stage"] for line in (workdir / "metrics.jsonl").read_text().splitlines()}
    assert stages == {"proxy", "arms/sas-0.20-s0", "arms/random-0.20-s0", "arms/full-1.00-s0"}
    assert any("the training that this call still has to do takes about" in text for text in said)
    assert not list(workdir.rglob(".part-*"))
    assert list((workdir / "tensorboard").rglob("events.*"))


def test_a_second_run_does_nothing_and_says_so(finished, monkeypatch, data_dir):
    workdir, results, _ = finished
    no_training(monkeypatch)
    monkeypatch.setattr(sas_jax.data, "load", lambda *a: pytest.fail("the data was read again"))
    report = (workdir / "report.html").stat().st_mtime_ns
    said = []
    assert pipeline.run(small_config(data_dir), workdir, log=said.append)["arms"] == results["arms"]
    assert said[-1].startswith("already done: data, proxy, embed")
    assert (workdir / "report.html").stat().st_mtime_ns == report


def test_runtime_fields_may_differ(finished, monkeypatch, data_dir):
    no_training(monkeypatch)
    config = small_config(data_dir, **{"runtime.keep_checkpoints": 1, "evaluation.batch_size": 7})
    pipeline.run(config, finished[0], log=lambda _: None)


def test_another_config_is_refused_with_the_fields_and_the_ways_out(finished, data_dir):
    config = small_config(data_dir, **{"embedding.views": 3})
    with pytest.raises(InputError) as refused:
        pipeline.run(config, finished[0], log=lambda _: None)
    text = str(refused.value)
    assert "config.embedding.views was 2, is now 3" in text
    assert "--rerun to redo embed, classes, rank, train/sas-0.20-s0, evaluate/sas-0.20-s0 and keep" in text
    assert "--restart" in text
    assert "--workdir" in text
    assert json.loads((finished[0] / "config.json").read_text())["embedding"]["views"] == 2


def test_another_fraction_trains_only_the_new_arms(copied, monkeypatch, data_dir):
    trained = []
    real = stages.fit

    def counted(*args, stage, **kwargs):
        result = real(*args, stage=stage, **kwargs)
        trained.append(stage)
        return result

    monkeypatch.setattr(stages, "fit", counted)
    arms = (("selected", 0.3, 0), ("random", 0.2, 0), ("full", 1.0, 0))
    results = pipeline.run(small_config(data_dir, arms=arms), copied, rerun=True, log=lambda _: None)
    assert set(trained) == {"arms/sas-0.30-s0"}
    assert [arm["name"] for arm in results["arms"]] == ["untrained", "sas-0.30-s0", "random-0.20-s0", "full-1.00-s0"]
    assert len(np.load(copied / "subset-0.30.npy")) == 431


def test_restart_begins_from_nothing_and_keeps_what_is_not_its_own(copied, data_dir):
    (copied / "my-notes.txt").write_text("keep")
    results = pipeline.run(small_config(data_dir, seed=1), copied, restart=True, stop_after="data", log=lambda _: None)
    assert results["arms"] == []
    assert not (copied / "proxy").exists()
    assert not (copied / "ranking.parquet").exists()
    assert (copied / "my-notes.txt").read_text() == "keep"


def test_a_deleted_file_is_made_again(finished, copied, monkeypatch, data_dir):
    (copied / "ranking.parquet").unlink()
    no_training(monkeypatch)
    pipeline.run(small_config(data_dir), copied, log=lambda _: None)
    again, before = (sas_jax.Ranking.load(path / "ranking.parquet") for path in (copied, finished[0]))
    np.testing.assert_array_equal(again.position, before.position)


def test_files_that_no_run_made_are_never_removed(tmp_path, data_dir):
    """A user's project may well have a folder named proxy."""
    for i, name in enumerate(("proxy/server.py", "stamps/penny-black.jpg", "subset-1.npy")):
        workdir = tmp_path / str(i)
        (workdir / name).parent.mkdir(parents=True)
        (workdir / name).write_text("mine")
        for restart in (False, True):
            with pytest.raises(
                InputError, match=r"with (proxy|stamps|subset-1\.npy), which no run made. Choose another"
            ):
                pipeline.run(small_config(data_dir), workdir, restart=restart, log=lambda _: None)
        assert (workdir / name).read_text() == "mine"


def test_a_mistake_removes_nothing(copied, data_dir):
    """--restart and --rerun remove the old run only after the new one was found to be possible."""
    before = sorted(path.relative_to(copied) for path in copied.rglob("*"))
    config = (copied / "config.json").read_text()
    for flags in ({"restart": True}, {"rerun": True}):
        for overrides in (
            {"train.batch_size": 512},
            {"data.dir": str(copied / "nowhere"), "data.name": "mnist"},
            {"proxy.embeddings": str(copied / "none.npy")},
            {"proxy.embeddings": str(copied / "embeddings.npy"), "selection.similarity": "gaussian"},
        ):
            with pytest.raises(InputError):
                pipeline.run(small_config(data_dir, **overrides), copied, log=lambda _: None, **flags)
    assert sorted(path.relative_to(copied) for path in copied.rglob("*")) == before
    assert (copied / "config.json").read_text() == config


def test_a_first_mistake_leaves_no_run_behind(tmp_path, data_dir):
    with pytest.raises(InputError, match=r"must name a folder if config.data.name is 'folder', got ''"):
        pipeline.run(small_config(**{"data.name": "folder"}), tmp_path / "run", log=lambda _: None)
    pipeline.run(small_config(data_dir), tmp_path / "run", stop_after="data", log=lambda _: None)


def test_embeddings_that_changed_under_the_run_are_noticed(finished, tmp_path, data_dir):
    vectors = np.load(finished[0] / "embeddings.npy")
    np.save(tmp_path / "e.npy", vectors)
    config = small_config(data_dir, **{"proxy.embeddings": str(tmp_path / "e.npy")})
    pipeline.run(config, tmp_path / "run", stop_after="rank", log=lambda _: None)
    np.save(tmp_path / "e.npy", vectors[:, ::-1].copy())
    with pytest.raises(
        InputError, match=r"its input files or the devices have changed\). Give --rerun to redo embed, classes"
    ):
        pipeline.run(config, tmp_path / "run", stop_after="rank", log=lambda _: None)
    pipeline.run(config, tmp_path / "run", stop_after="rank", rerun=True, log=lambda _: None)


def test_results_that_no_longer_hold_are_removed(copied, data_dir):
    config = small_config(data_dir, **{"latent_classes.num_classes": 9})
    pipeline.run(config, copied, rerun=True, stop_after="subset", log=lambda _: None)
    assert not (copied / "results.json").exists()
    assert not (copied / "report.html").exists()
    with pytest.raises(InputError, match=r"sas-0\.20-s0, got .* where its training is unfinished"):
        sas_jax.load_encoder(copied)
    sas_jax.load_encoder(copied, arm="full-1.00-s0")


def test_to_stop_early_arms_need_not_fit(tmp_path):
    """A folder too small to train on 20 % of it can still be ranked."""
    draw_folder(tmp_path / "images", 30)
    config = small_config(**FOLDER | {"train.batch_size": 256}, **{"data.folder": str(tmp_path / "images")})
    pipeline.run(config, tmp_path / "run", stop_after="subset", log=lambda _: None)
    assert len(np.load(tmp_path / "run" / "subset-0.20.npy")) == 6


def test_the_encoder_of_an_arm_is_found_again(finished, tmp_path):
    workdir, _, _ = finished
    encoder = sas_jax.load_encoder(workdir)
    assert encoder.arm == "sas-0.20-s0"
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    features = encoder.apply(images)
    assert (features.shape, features.dtype) == ((5, 8), np.float32)
    np.testing.assert_allclose(encoder.apply(images / 255.0), features, atol=1e-5)
    path = str(tmp_path / "encoder.safetensors")
    said = export_encoder(str(workdir), path)
    assert said.startswith(
        f"{path}: ResNet-10 of sas-0.20-s0 with torchvision's parameter names; width 0.125, stem 3x3"
    )
    loaded = sas_jax.load_encoder(path)
    assert (loaded.arm, loaded.steps, loaded.views.mean) == ("sas-0.20-s0", encoder.steps, encoder.views.mean)
    np.testing.assert_array_equal(loaded.apply(images), features)
    other = sas_jax.load_encoder(workdir, arm="full-1.00-s0").apply(images)
    assert np.abs(other - features).max() > 1e-3
    with pytest.raises(InputError, match=r"one of sas-0\.20-s0, random-0\.20-s0, full-1\.00-s0, got 'nope'"):
        sas_jax.load_encoder(workdir, arm="nope")
    with pytest.raises(InputError, match=r"which has no config\.json"):
        sas_jax.load_encoder(workdir / "proxy")
    with pytest.raises(InputError, match="Divide by 255"):
        encoder.apply(images.astype(np.float32))
    with pytest.raises(InputError, match=r"\[n, h, w, 3\]"):
        encoder.apply(images[0])


def test_given_embeddings_take_the_place_of_the_proxy(finished, tmp_path, data_dir):
    """A run's own embeddings give its own ranking, without training a proxy."""
    overrides = {"proxy.embeddings": str(finished[0] / "embeddings.npy")}
    pipeline.run(small_config(data_dir, **overrides), tmp_path / "run", stop_after="rank", log=lambda _: None)
    assert not (tmp_path / "run" / "proxy").exists()
    one, two = (sas_jax.Ranking.load(path / "ranking.parquet") for path in (finished[0], tmp_path / "run"))
    np.testing.assert_array_equal(one.position, two.position)


@pytest.mark.parametrize("kind", ["clipped_cosine", "gaussian"])
def test_kinds_that_need_every_view(copied, data_dir, kind):
    config = small_config(data_dir, **{"selection.similarity": kind})
    pipeline.run(config, copied, rerun=True, stop_after="rank", log=lambda _: None)
    views = np.load(copied / "view_embeddings.npy")
    assert views.shape == (1437, 2, 16)
    np.testing.assert_allclose(views.mean(1), np.load(copied / "embeddings.npy"), atol=1e-6)
    expected = sas_jax.rank(
        views, np.load(copied / "latent_classes.npy"), objective="sas", kind=kind, tau=0.5, normalize=False
    )
    np.testing.assert_array_equal(sas_jax.Ranking.load(copied / "ranking.parquet").position, expected.position)


def draw_folder(path, n, *, classes=0):
    rng = np.random.default_rng(0)
    for i in range(n):
        folder = path / f"class{i % classes}" if classes else path
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 10, 3), np.uint8)).save(folder / f"{i:03}.png")


FOLDER = {"data.name": "folder", "latent_classes.num_classes": 2, "proxy.train.batch_size": 8, "train.batch_size": 8}


def test_a_folder_without_labels_goes_to_the_report(tmp_path):
    draw_folder(tmp_path / "images", 40)
    said = []
    config = small_config(**FOLDER, **{"data.folder": str(tmp_path / "images")})
    results = pipeline.run(config, tmp_path / "run", log=said.append)
    assert any("the training images have no labels, so there is no linear probe" in text for text in said)
    assert [arm["probe"] for arm in results["arms"]] == [None] * 4
    assert (tmp_path / "run" / "report.html").exists()
    ids = sas_jax.Ranking.load(tmp_path / "run" / "ranking.parquet").ids
    assert ids.tolist() == [f"{i:03}.png" for i in range(40)]


def test_other_images_in_the_same_place_are_noticed(tmp_path):
    """Changed names and sizes are found at once, changed pixels when they are read."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(20):
        Image.new("RGB", (9, 9), (i, 0, 0)).save(folder / f"{i:02}.bmp")
    config = small_config(**FOLDER, **{"data.folder": str(folder), "arms": (("full", 1.0, 0),)})
    pipeline.run(config, tmp_path / "run", stop_after="data", log=lambda _: None)
    Image.new("RGB", (9, 9), (99, 0, 0)).save(folder / "03.bmp")  # as many bytes as before
    with pytest.raises(
        InputError, match=r"must be those that the run .* started with, got 20 images with different content"
    ):
        pipeline.run(config, tmp_path / "run", stop_after="proxy", log=lambda _: None)
    Image.new("RGB", (9, 9)).save(folder / "20.bmp")
    with pytest.raises(InputError, match="its input files or the devices have changed"):
        pipeline.run(config, tmp_path / "run", stop_after="data", log=lambda _: None)


def test_subsets_of_random_arms_nest_and_differ_by_seed(finished, data_dir):
    run = Run(small_config(data_dir), Workdir(finished[0]), lambda _: None).chosen
    small, large = (run.subset(plan.Arm("random", f, 0)) for f in (0.2, 0.4))
    assert set(small) < set(large)
    assert set(small) != set(run.subset(plan.Arm("random", 0.2, 1)))
    balanced = run.subset(plan.Arm("random_balanced", 0.2, 0))
    share = np.bincount(run.classes("")[balanced]) / np.bincount(run.classes(""))
    np.testing.assert_allclose(share, 0.2, atol=0.02)


def bad(tmp_path, **overrides):
    with pytest.raises(InputError) as error:
        pipeline.run(small_config(**overrides), tmp_path / "run", log=lambda _: None)
    assert "\n" not in str(error.value)
    return str(error.value)


def listed(tmp_path, data_dir, indices, **overrides):
    np.save(tmp_path / "listed.npy", np.asarray(indices))
    fields = {"arms": (("file", 1.0, 0), ("random", 0.2, 0)), "selection.file": str(tmp_path / "listed.npy")}
    return small_config(data_dir, **fields, **overrides)


def test_an_arm_trains_on_a_subset_made_elsewhere(copied, tmp_path, data_dir):
    indices = np.random.default_rng(0).permutation(1437)[:100]
    config = listed(tmp_path, data_dir, indices, **{"selection.file_order": "positions"})
    results = pipeline.run(config, copied, rerun=True, log=lambda _: None)
    arm = next(arm for arm in results["arms"] if arm["selector"] == "file")
    assert (arm["name"], arm["size"], arm["fraction"]) == ("file-1.00-s0", 100, 1.0)
    assert arm["geometry"]["subset"]["n"] == 100
    # The same images as a subset by ids train the same encoder.
    ids = sas_jax.data.load(config.data).train.ids[np.sort(indices)]
    (tmp_path / "listed.txt").write_text("\n".join(ids))
    config.selection.file, config.selection.file_order = str(tmp_path / "listed.txt"), "auto"
    again = pipeline.run(config, copied, rerun=True, log=lambda _: None)
    assert next(other for other in again["arms"] if other["selector"] == "file")["loss"] == arm["loss"]


def test_a_listed_subset_is_checked_before_the_proxy_is_trained(tmp_path, data_dir, monkeypatch):
    no_training(monkeypatch)
    options = {"selection.file_order": "positions"}
    for stop_after in ("report", "subset"):
        with pytest.raises(InputError, match=r"listed\.npy"):
            pipeline.run(listed(tmp_path, data_dir, [0, 1437], **options), tmp_path / "run", stop_after=stop_after)
    with pytest.raises(InputError, match=r"file-1\.00-s0"):
        pipeline.run(listed(tmp_path, data_dir, range(8), **options), tmp_path / "run")
    said = []
    dropping = listed(tmp_path, data_dir, [0, 0, 1437, *range(1, 90)], **options, **{"selection.file_drop": True})
    pipeline.run(dropping, tmp_path / "run", stop_after="data", log=said.append)
    assert any("2" in line and "listed.npy" in line for line in said)


def test_geometry_is_measured_or_left_out(finished, copied, data_dir):
    arms = {arm["name"]: arm["geometry"] for arm in finished[1]["arms"]}
    assert arms["untrained"]["subset"] is None
    assert arms["sas-0.20-s0"]["whole"]["n"] == arms["full-1.00-s0"]["subset"]["n"] == 1437
    assert arms["full-1.00-s0"]["largest_distance"] == 0
    assert arms["sas-0.20-s0"]["subset"]["n"] == 287
    assert 0 < arms["sas-0.20-s0"]["largest_distance"] <= 2
    without = small_config(data_dir, **{"evaluation.geometry": False})
    assert {arm["geometry"] for arm in pipeline.run(without, copied, rerun=True)["arms"]} == {None}


def test_each_subset_is_trained_on_with_labels_where_that_is_asked(finished, copied, data_dir):
    assert {arm["supervised"] for arm in finished[1]["arms"]} == {None}
    overrides = {"evaluation.supervised_fractions": (0.2, 1.0), "arms": (("selected", 0.2, 0), ("full", 1.0, 0))}
    said = []
    results = pipeline.run(small_config(data_dir, **overrides), copied, rerun=True, log=said.append)
    arms = {arm["name"]: arm for arm in results["arms"]}
    assert arms["untrained"]["supervised"] is None
    for name, size in (("sas-0.20-s0", 287), ("full-1.00-s0", 1437)):
        supervised = arms[name]["supervised"]
        assert supervised["n"] == 360
        stamp = json.loads((copied / "stamps" / f"supervised.{name}.json").read_text())
        assert (stamp["size"], stamp["steps"]) == (size, size // 64)
        # nothing else was run again
        assert arms[name]["probe"] == next(arm for arm in finished[1]["arms"] if arm["name"] == name)["probe"]
    assert arms["full-1.00-s0"]["supervised"]["low"] > 0.1
    stages = {json.loads(line)["stage"] for line in (copied / "metrics.jsonl").read_text().splitlines()}
    assert {"supervised/sas-0.20-s0", "supervised/full-1.00-s0"} <= stages
    assert "supervised" in results["arms"][1]


def test_a_stopped_comparison_has_the_numbers_of_its_arms(copied, data_dir, monkeypatch):
    arms = (("sas", 0.2, 0), ("random", 0.2, 0), ("random", 0.2, 1), ("full", 1.0, 1))
    fit = stages.fit

    def fit_until(*given, stage, **more):
        if stage == "arms/full-1.00-s1":
            raise KeyboardInterrupt
        return fit(*given, stage=stage, **more)

    monkeypatch.setattr(stages, "fit", fit_until)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(small_config(data_dir, arms=arms), copied, rerun=True, log=lambda _: None)
    found = json.loads((copied / "results.json").read_text())
    assert [arm["name"] for arm in found["arms"]] == ["untrained", "sas-0.20-s0", "random-0.20-s0", "random-0.20-s1"]
    assert all(0 < arm["probe"]["value"] <= 1 for arm in found["arms"])


def test_methods_step_rules_and_selectors_are_arms_of_one_comparison(copied, data_dir, monkeypatch):
    arms = (
        *(("random", 0.2, 0, method) for method in ("byol", "simsiam", "moco")),
        ("facility_location_self0", 0.2, 0, "simclr", "steps"),
        *((selector, 0.2, 0) for selector in ("facility_location", "prototypes_easy", "prototypes_hard", "k_center")),
    )
    small = {f"methods.{method}.head_features": 16 for method in ("byol", "simsiam", "moco")}
    small |= {"methods.moco.queue_size": 128, "arms": arms, "evaluation.geometry": False}
    config = small_config(data_dir, **small)
    results = pipeline.run(config, copied, rerun=True)
    found = {arm["name"]: arm for arm in results["arms"]}
    for method in ("byol", "simsiam", "moco"):
        arm = found[f"random-0.20-s0-{method}"]
        assert (arm["method"], arm["step_rule"], arm["epochs"], arm["steps"]) == (method, "epochs", 1, 287 // 64)
        assert arm["spread"] > 0.1
        assert not arm["collapsed"]
        assert arm["knn"]["n"] == 360
        features = sas_jax.load_encoder(copied, arm=arm["name"]).apply(np.zeros((3, 8, 8, 3), np.uint8))
        assert features.shape == (3, 8)
    equal = found["facility_location_self0-0.20-s0-steps"]
    assert (equal["steps"], equal["epochs"]) == (1437 // 64, 5.5)  # 22 steps, 4 per epoch
    rankings = {
        selector: sas_jax.Ranking.load(copied / f"ranking-{selector}.parquet")
        for selector in (
            "facility_location",
            "facility_location_self0",
            "prototypes_easy",
            "prototypes_hard",
            "k_center",
        )
    }
    subsets = {selector: ranking.subset(fraction=0.2).tolist() for selector, ranking in rankings.items()}
    assert len({tuple(subset) for subset in subsets.values()}) == 5
    embeddings, classes = np.load(copied / "embeddings.npy"), np.load(copied / "latent_classes.npy")
    alone = sas_jax.rank(
        embeddings, classes, objective="facility_location", self_similarity=0.0, normalize=False
    ).subset(fraction=0.2)
    assert subsets["facility_location_self0"] == alone.tolist()
    assert "SimSiam" in (copied / "report.html").read_text()
    no_training(monkeypatch)
    assert pipeline.run(config, copied) == results


def test_partitions_are_compared_in_one_run(copied, tmp_path, data_dir, monkeypatch):
    outside = np.random.default_rng(0).normal(size=(1437, 5)).astype(np.float32)
    np.save(tmp_path / "E.npy", outside)
    partitions = {
        "truth": {"method": "labels"},
        "outside": {"embeddings": str(tmp_path / "E.npy"), "similarity_embeddings": str(tmp_path / "E.npy")},
        "balanced": {"num_classes": 4, "budgets": "balanced"},
    }
    config = small_config(data_dir, arms=tuple((f"sas@{name}", 0.2, 0) for name in partitions), partitions=partitions)
    config.arms = (*config.arms, ("random_balanced@truth", 0.2, 0))
    no_training(monkeypatch)
    results = pipeline.run(config, copied, stop_after="rank", rerun=True)
    assert results["partitions"]["truth"]["agreement"]["accuracy"] == 1
    assert results["partitions"]["balanced"]["num_classes"] == 4
    rankings = {name: sas_jax.Ranking.load(copied / f"ranking-sas@{name}.parquet") for name in partitions}
    labels = sas_jax.data.load(config.data).train.labels
    np.testing.assert_array_equal(rankings["truth"].classes, labels)
    own = sas_jax.rank(np.load(copied / "embeddings.npy"), labels, normalize=False)
    np.testing.assert_array_equal(rankings["truth"].position, own.position)
    unit = outside / np.linalg.norm(outside, axis=1, keepdims=True)
    theirs = sas_jax.rank(unit, rankings["outside"].classes, normalize=False)
    np.testing.assert_array_equal(rankings["outside"].position, theirs.position)
    run = Run(config, Workdir(copied), print)
    subsets = {arm.name: run.chosen.subset(arm) for arm in run.arms}
    assert np.bincount(rankings["balanced"].classes[subsets["sas@balanced-0.20-s0"]]).tolist() == [72, 72, 72, 71]
    drawn = np.bincount(labels[subsets["random_balanced@truth-0.20-s0"]])
    assert np.abs(drawn - 0.2 * np.bincount(labels)).max() < 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"arms": (("random", 0.2, 0, "swav"),)}, "A method in config.arms must be one of 'simclr', 'byol'"),
        (
            {"arms": (("random", 0.2, 0, "simclr", "time"),)},
            "A step rule in config.arms must be one of 'epochs', 'st",
        ),
        (
            {"arms": (("random", 0.2, 0, "simclr", "steps", 1),)},
            r"optionally followed by a method and a step rule, got",
        ),
        ({"method": "swav"}, "config.method must be one of"),
        (
            {"method": "moco", "methods.moco.queue_size": 100},
            r"multiple of two batches \(128 keys\), got 100. Choose 128",
        ),
        (
            {"method": "moco", "methods.moco.batch_norm_groups": 6},
            "must be a multiple of MoCo's 6 BatchNorm groups and at least 12",
        ),
        (
            {"method": "moco", "methods.moco.batch_norm_groups": 64},
            "must be a multiple of MoCo's 64 BatchNorm groups and at least 128",
        ),
        ({"methods.byol.momentum": 1.5}, "config.methods.byol.momentum must be a number from 0 to 1"),
        ({"methods.simsiam.learning_rate": 0.0}, "config.methods.simsiam.learning_rate must be a number from 1e-12"),
        ({"methods.byol.optimizer": "rms"}, "config.methods.byol.optimizer must be one of 'adam'"),
    ],
)
def test_methods_that_cannot_be_used(tmp_path, overrides, message):
    with pytest.raises(InputError, match=message):
        pipeline.run(small_config(**overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_fractions_out_of_range(tmp_path):
    for fraction in (0, 1.5, -0.1, True, "0.2"):
        text = bad(tmp_path, arms=(("random", fraction, 0),))
        assert "more than 0 and at most 1" in text
        assert repr(fraction) in text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"arms": (("best", 0.2, 0),)}, "A selector in config.arms must be one of 'selected', 'sas'"),
        ({"arms": (("full", 0.5, 0),)}, "'full' in config.arms must be 1.0"),
        ({"arms": (("random", 0.5, -1),)}, "a whole number from 0 to"),
        ({"arms": (("random", 0.5),)}, "(selector, fraction, seed)"),
        ({"arms": (("sas", 0.5, 0), ("selected", 0.5, 0))}, "got sas-0.50-s0 twice"),
        ({"selection.objective": "best"}, "config.selection.objective must be one of 'sas'"),
        ({"encoder.depth": 19}, "config.encoder.depth must be one of 10, 18, 34, 50, got 19"),
        ({"train.epochs": 0}, "config.train.epochs must be a whole number from 1 to 1,000,000, got 0"),
        (
            {"train.learning_rate": float("nan")},
            "config.train.learning_rate must be a number from 1e-12 to 1e+06",
        ),
        ({"arms": (("random", 0.5, 2**31),)}, "a whole number from 0 to 2147483647"),
        ({"seed": 10**20}, "config.seed must be a whole number from 0 to 2,147,483,647"),
        ({"train.weight_decay": float("inf")}, "config.train.weight_decay must be a number from 0 to 1,000, got inf"),
        ({"data.image_size": 10**6}, "config.data.image_size must be a whole number from 1 to 4,096"),
        ({"encoder.width": 1e9}, "config.encoder.width must be a number from 0.01 to 64"),
        ({"views.flip": 1.5}, "config.views.flip must be a number from 0 to 1, got 1.5"),
        ({"views.crop_scale": (0.5, 0.1)}, "config.views.crop_scale must be (lowest, highest)"),
        ({"data.std": (0.0, 0.1, 0.1)}, "config.data.std must be a tuple of 3 entries, each a number from 0.001"),
        ({"data.mean": ("a", 0.1, 0.1)}, "config.data.mean must be a tuple of 3 entries, each a number"),
        ({"views.crop_ratio": (0.5,)}, "config.views.crop_ratio must be a tuple of 2 entries, each a number"),
        ({"data.test_folder": "x"}, "config.data.test_folder must be empty if config.data.name is 'digits'"),
        ({"latent_classes.file": "x.npy"}, "config.latent_classes.file must be empty if"),
        (
            {"latent_classes.method": "file"},
            "config.latent_classes.file must not be empty",
        ),
        ({"arms": (("file", 1.0, 0),)}, "config.selection.file must name a list"),
        ({"arms": (("file", 0.5, 0),)}, "'file' in config.arms must be 1.0"),
        ({"selection.file": "x.npy"}, "must be empty if no arm trains on it"),
        ({"selection.file_order": "alphabetical"}, "config.selection.file_order must be one of"),
    ],
)
def test_values_no_run_could_use(tmp_path, overrides, message):
    assert message in bad(tmp_path, **overrides)
    assert not (tmp_path / "run").exists()


def test_unknown_data_set(tmp_path):
    text = bad(tmp_path, **{"data.name": "cifar1000", "data.dir": str(tmp_path)})
    assert "cifar1000" in text
    assert "cifar100" in text.replace("cifar1000", "")


def test_empty_folder(tmp_path):
    (tmp_path / "images").mkdir()
    assert "got none in " in bad(tmp_path, **FOLDER, **{"data.folder": str(tmp_path / "images")})


def test_what_only_later_stages_need_is_checked_for_these(tmp_path):
    draw_folder(tmp_path / "images", 6)  # fewer than a batch, and than the wanted classes
    config = small_config(**FOLDER | {"data.folder": str(tmp_path / "images"), "latent_classes.num_classes": 20})
    results = pipeline.run(config, tmp_path / "run", stop_after="data", log=lambda _: None)
    assert results["dataset"]["train_size"] == 6
    for stage, message in (("proxy", "config.proxy.train.batch_size"), ("classes", "config.proxy.train.batch_size")):
        with pytest.raises(InputError, match=message):
            pipeline.run(config, tmp_path / "run", stop_after=stage, log=lambda _: None)
    np.save(tmp_path / "e.npy", np.eye(6, dtype=np.float32))
    config.proxy.embeddings = str(tmp_path / "e.npy")
    with pytest.raises(InputError, match="at most the 6 images"):
        pipeline.run(config, tmp_path / "run", stop_after="classes", rerun=True, log=lambda _: None)


def test_a_broken_image_is_named_and_skipped(tmp_path):
    draw_folder(tmp_path / "images", 120)
    (tmp_path / "images" / "007.png").write_bytes(b"not an image")
    said = []
    config = small_config(**FOLDER, **{"data.folder": str(tmp_path / "images")})
    results = pipeline.run(config, tmp_path / "run", stop_after="data", log=said.append)
    assert results["dataset"]["train_size"] == 119
    assert len(results["dataset"]["skipped"]) == 1
    assert "007.png" in results["dataset"]["skipped"][0]
    assert any("007.png" in text for text in said)


def test_a_class_file_of_the_wrong_length(tmp_path, data_dir):
    np.save(tmp_path / "classes.npy", np.zeros(1000, np.int64))
    overrides = {"latent_classes.method": "file", "latent_classes.file": str(tmp_path / "classes.npy")}
    text = bad(tmp_path, **overrides, **{"data.dir": str(data_dir)})
    assert "1437" in text.replace(",", "")
    assert "1000" in text.replace(",", "")
    assert not (tmp_path / "run" / "proxy").exists()  # found before the proxy is trained


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((1437, 4), np.nan), "got NaN, infinity or zero vectors in 1437 of 1437 rows, the first in row 0"),
        (np.zeros((1437, 4)), "finite, nonzero vectors"),
        (np.ones((1436, 4)), "floats [1437, d] or [1437, m, d], one row per image, got float64 [1436, 4]"),
        (np.ones((1437, 4), int), "got int64"),
        (None, "cannot be read"),
    ],
)
def test_embeddings_that_cannot_be_used(tmp_path, data_dir, array, message):
    if array is None:
        (tmp_path / "e.npy").write_bytes(b"\x93NUMPY")
    else:
        np.save(tmp_path / "e.npy", array)
    assert message in bad(tmp_path, **{"proxy.embeddings": str(tmp_path / "e.npy"), "data.dir": str(data_dir)})


def test_a_workdir_that_cannot_be_written(tmp_path):
    (tmp_path / "run").write_text("a file stands here")
    assert "The output directory must be writable" in bad(tmp_path)


def test_a_directory_without_the_right_to_write(tmp_path, monkeypatch):
    """root can write to every directory, so the refusal is simulated."""

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "run").mkdir()
    monkeypatch.setattr(type(epath.Path(tmp_path)), "write_text", refused)
    assert "(Permission denied). Choose another" in bad(tmp_path)


def test_a_run_whose_config_is_missing_is_not_redone_unasked(copied, data_dir):
    (copied / "config.json").unlink()
    with pytest.raises(InputError, match="its input files or the devices have changed"):
        pipeline.run(small_config(data_dir, seed=3), copied, stop_after="data", log=lambda _: None)
    assert (copied / "report.html").exists()


def test_two_processes_in_one_workdir(tmp_path):
    with Workdir(tmp_path / "run").held():
        assert "must not be in use by another process" in bad(tmp_path)


def test_a_damaged_config_in_the_workdir(tmp_path, data_dir):
    """The config is only a record: the stamps determine what is left to do."""
    workdir, config, told = tmp_path / "run", small_config(data_dir), []
    pipeline.run(config, workdir, stop_after="data", log=lambda _: None)
    whole = (workdir / "config.json").read_text()
    (workdir / "config.json").write_text('{"seed": ')
    pipeline.run(config, workdir, stop_after="data", log=told.append)
    assert told[0] == f"{workdir}/config.json is damaged (it has changed since it was written) and will be rewritten"
    assert (workdir / "config.json").read_text() == whole
    (workdir / "config.json").write_text('{"seed": ')
    with pytest.raises(InputError, match="its input files or the devices have changed"):
        pipeline.run(small_config(data_dir, **{"data.classes": ("0", "1")}), workdir, stop_after="data")


def test_a_subset_below_a_batch_is_found_before_the_proxy_is_trained(tmp_path, data_dir):
    text = bad(tmp_path, **{"data.dir": str(data_dir), "train.batch_size": 512, "proxy.train.batch_size": 64})
    assert "config.train.batch_size must be at most the 287 images of sas-0.20-s0, got 512" in text
    assert not (tmp_path / "run" / "proxy").exists()


def test_more_steps_than_can_be_counted_are_found_before_the_proxy_is_trained(tmp_path, data_dir, monkeypatch):
    monkeypatch.setattr(loop, "MOST_STEPS", 30)
    text = bad(tmp_path, **{"data.dir": str(data_dir), "train.epochs": 8})  # of 4 steps, on a fifth of 1,437 images
    assert "config.train.epochs must make at most 30 steps, got 32 for sas-0.20-s0. Lower it" in text
    assert not (tmp_path / "run" / "proxy").exists()


def test_a_batch_that_does_not_divide_by_the_devices(tmp_path, data_dir):
    text = bad(tmp_path, **{"data.dir": str(data_dir), "train.batch_size": 60})
    assert f"divisible by the {jax.device_count()} devices, got 60. Choose 64" in text


def test_labels_where_there_are_none(tmp_path):
    draw_folder(tmp_path / "images", 40)
    text = bad(tmp_path, **FOLDER, **{"data.folder": str(tmp_path / "images"), "latent_classes.method": "labels"})
    assert "config.latent_classes.method must not be 'labels' for images without labels, got 'labels' for" in text
