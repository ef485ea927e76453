"""A run with its directory in a bucket, against a local stand-in for Google Cloud Storage."""

import importlib
import json
import socket

import numpy as np
import pytest
from etils import epath

import sas_jax
from sas_jax import files
from sas_jax.errors import InputError
from sas_jax.run import pipeline, stages
from sas_jax.workdir import Metrics, Workdir, check_writable
from tests.run.test_pipeline import small_config
from tests.test_main import untimed

pytestmark = pytest.mark.usefixtures("one_stage")


@pytest.fixture(scope="module")
def bucket():
    """gs:// as gcsfs (for all files) and tensorstore (for the arrays of checkpoints) see it."""
    server_of = pytest.importorskip("gcp_storage_emulator.server")
    with socket.socket() as free, pytest.MonkeyPatch.context() as patch:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
        free.close()
        for name, value in {
            "STORAGE_EMULATOR_HOST": f"http://localhost:{port}",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "TENSORSTORE_GCS_HTTP_URL": f"http://localhost:{port}",
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
        }.items():
            patch.setenv(name, value)
        objects = importlib.import_module("gcp_storage_emulator.handlers.objects")
        download = objects.download

        def numbered(request, response, storage):
            """Downloads name their generation, as Cloud Storage's do and as tensorstore's writes require."""
            download(request, response, storage)
            if response.status.value < 300:
                found = storage.get_file_obj(request.params["bucket_name"], request.params["object_id"])
                response["x-goog-generation"] = found["generation"]

        patch.setattr(objects, "download", numbered)
        server = server_of.create_server("localhost", port, in_memory=True, default_bucket="bucket")
        server.start()
        check_writable(epath.Path("gs://bucket"))  # every run begins with it, before etils has a cached file system
        yield epath.Path("gs://bucket")
        server.stop()


def test_a_file_is_there_whole_or_not_at_all(bucket):
    path = bucket / "whole" / "a.txt"

    def half(aside):
        aside.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_whole(path, half)
    assert not path.exists()
    files.write_whole(path, lambda aside: aside.write_text("first"))
    with pytest.raises(KeyboardInterrupt):
        files.write_whole(path, half)
    assert path.read_text() == "first"
    assert [found.name for found in path.parent.iterdir()] == ["a.txt"]


def test_metrics_are_sent_before_a_checkpoint_and_at_the_end(bucket):
    workdir = Workdir(bucket / "metrics")
    check_writable(workdir.path)
    line = {"stage": "proxy", "step": 1, "loss": 4.0, "views_per_second": 10.0}
    metrics = Metrics(workdir)
    assert metrics.resume("proxy", 0) is None
    metrics.write(line)
    metrics.sync()
    killed = Metrics(workdir)
    assert killed.lines() == [line]
    metrics.write(line | {"step": 2})
    metrics.close()
    assert killed.resume("proxy", 1) == line
    killed.write(line | {"step": 3})
    killed.close()
    assert [found["step"] for found in Metrics(workdir).lines()] == [1, 3]
    assert list((workdir / "tensorboard" / "proxy").glob("events*"))


def test_a_run_in_a_bucket_is_the_run_on_a_disk(bucket, tmp_path, monkeypatch):
    """Interrupted after a checkpoint and resumed; equal in everything except times."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "E.npy", rng.normal(size=(1437, 8)).astype(np.float32))
    config = small_config(
        tmp_path / "tfds",
        **{
            "proxy.embeddings": str(tmp_path / "E.npy"),
            "arms": (("selected", 0.2, 0),),
            "train.epochs": 3,
            "runtime.checkpoint_epochs": 1,
            "evaluation.geometry": False,
        },
    )
    whole = pipeline.run(config, tmp_path / "run", log=lambda _: None)

    fit, workdir = stages.fit, bucket / "run"
    spoken = []

    def interrupted(*given, **more):
        fit(*given, **(more | {"steps": more["steps"] // 3}))  # up to the first checkpoint
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(config, workdir, log=lambda _: None)
    monkeypatch.setattr(stages, "fit", fit)
    found = pipeline.run(config, workdir, log=spoken.append)
    assert any("resumes at step 4 of 12" in text for text in spoken)
    assert untimed(found) == untimed(whole)
    for name in ("results.json", "config.json"):
        assert untimed(json.loads((workdir / name).read_text())) == untimed(
            json.loads((tmp_path / "run" / name).read_text())
        )
    lines = [Metrics(Workdir(path)).lines() for path in (workdir, tmp_path / "run")]
    assert untimed(lines[0]) == untimed(lines[1])
    assert (workdir / "report.html").read_text().startswith("<!")
    rankings = [sas_jax.Ranking.load(str(path / "ranking.parquet")) for path in (workdir, tmp_path / "run")]
    np.testing.assert_array_equal(rankings[0].position, rankings[1].position)
    assert not [path.name for path in workdir.iterdir() if path.name.startswith(".")]

    said = []
    pipeline.run(config, workdir, log=said.append)
    assert any("already done: " in text for text in said)
    with pytest.raises(InputError, match="must hold a run of this config, got a different one"):
        pipeline.run(small_config(tmp_path / "tfds"), workdir, log=lambda _: None)


def test_a_bucket_that_is_not_there(bucket):
    with pytest.raises(InputError, match="must be writable, got gs://no-such-bucket/run"):
        pipeline.run(small_config(), "gs://no-such-bucket/run", log=lambda _: None)
