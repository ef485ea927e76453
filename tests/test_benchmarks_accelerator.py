"""The script for a session on an accelerator: it checks, measures and trains within its time limit, and resumes."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ml_collections
import numpy as np
import pytest
from PIL import Image

from benchmarks import accelerator, accelerator_check, stand_ins
from sas_jax.models import resnet

ROOT = Path(__file__).resolve().parent.parent
FIELDS = (
    "data.image_size=8",
    *(f"{section}.{name}" for section in ("proxy.encoder", "encoder") for name in ("depth=10", "width=0.125")),
    *(f"{section}.{name}" for section in ("proxy.train", "train") for name in ("batch_size=16", "epochs=100")),
    "embedding.views=2",
    "latent_classes.num_classes=2",
    "evaluation.supervised_fractions=()",
    "arms=(('sas', 0.5, 0),)",
)


@pytest.fixture(name="images")
def fixture_images(tmp_path):
    """Writes an .npz with 64 training and 16 test images of two classes."""
    rng, file = np.random.default_rng(0), tmp_path / "images.npz"
    np.savez(
        file,
        train_images=rng.integers(0, 256, (64, 8, 8, 3), np.uint8),
        train_labels=np.arange(64) % 2,
        test_images=rng.integers(0, 256, (16, 8, 8, 3), np.uint8),
        test_labels=np.arange(16) % 2,
    )
    return file


def options(*given, output):
    sys.argv = ["accelerator", "--minutes=5", f"--output={output}", *given]
    return accelerator._options()


# ---- stand-ins


@pytest.mark.parametrize("name", ["default", "compare_cifar100", "compare_cifar100_quarter", "digits", "imagenet"])
def test_configs_are_the_same_with_the_stand_in(monkeypatch, name):
    with monkeypatch.context() as patch:
        patch.setattr(ml_collections, "ConfigDict", stand_ins.ConfigDict)
        for module in [module for module in sys.modules if module.startswith("configs")]:
            patch.delitem(sys.modules, module)
        stood_in = importlib.import_module(f"configs.{name}").get_config()
        for module in [module for module in sys.modules if module.startswith("configs")]:
            patch.delitem(sys.modules, module)
    real = importlib.import_module(f"configs.{name}").get_config()
    assert isinstance(stood_in, stand_ins.ConfigDict)
    assert stood_in.to_dict() == real.to_dict()


def test_the_stand_in_updates_as_the_original_does():
    for kind in (stand_ins.ConfigDict, ml_collections.ConfigDict):
        config = kind({"a": {"b": 1, "c": 2}})
        section = config.a
        config.update({"a": {"b": 3}}, d=4)
        config.e = inner = kind()
        inner.f = 5
        assert section.b == 3
        assert config.lock().to_dict() == {"a": {"b": 3, "c": 2}, "d": 4, "e": {"f": 5}}
        with pytest.raises(AttributeError):
            _ = config.g


slow = pytest.mark.skipif("SAS_JAX_SLOW" not in os.environ, reason="takes minutes: make test-accelerator runs it")

# ---- kernels


@slow
def test_kernels_are_compared_by_their_tolerances(monkeypatch):
    monkeypatch.setitem(resnet.DEPTHS, 18, ((1,), False))  # to compile sooner
    found = accelerator_check.compute(width=0.125, images=4, examples=200)
    compared = accelerator_check.compare(found, found)
    assert list(compared) == list(found) == list(accelerator_check.TOLERANCES)
    assert all(each["within"] and each["difference"] == 0 for each in compared.values())
    for name, values in found.items():
        assert np.linalg.norm(values) > 0
        wrong = values * (1 + 2 * accelerator_check.TOLERANCES[name])
        assert not accelerator_check.compare(found | {name: wrong}, found)[name]["within"]
        assert not accelerator_check.compare(found | {name: values * np.nan}, found)[name]["within"]


def test_a_kernel_that_differs_from_a_cpu_is_named(tmp_path):
    given, values = options(output=tmp_path), {name: np.ones(3) for name in accelerator_check.TOLERANCES}
    np.savez(tmp_path / "kernels-cpu.npz", **values)
    np.savez(tmp_path / "kernels-here.npz", **values | {"views": 2 * values["views"]})
    with pytest.raises(accelerator.Ended) as ended:
        list(accelerator._kernels(given, "gpu"))
    assert ended.value.args[0] == "failed"
    assert ended.value.args[1] == "results differ from a CPU's by more than the tolerance: views; see kernels.json"
    assert json.loads((tmp_path / "kernels.json").read_text())["views"]["difference"] == 1
    np.savez(tmp_path / "kernels-here.npz", **values)
    assert [step.name for step in accelerator._kernels(given, "gpu")] == ["kernels-here", "kernels-cpu"]


# ---- images


def test_images_become_a_folder_for_each_class_once(images, tmp_path):
    folder = accelerator.write_images(images, tmp_path / "folder")
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    assert len(paths) == 80
    assert paths[:2] == ["test/0000/0000000.png", "test/0000/0000002.png"]
    given = np.load(images)["train_images"]
    np.testing.assert_array_equal(Image.open(folder / "train" / "0001" / "0000003.png"), given[3])
    images.unlink()
    assert accelerator.write_images(images, folder) == folder


def test_images_without_labels_are_trained_on(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((3, 4, 4, 3), np.uint8))
    folder = accelerator.write_images(tmp_path / "images.npy", tmp_path / "folder")
    assert sorted(path.name for path in folder.rglob("*.png")) == ["0000000.png", "0000001.png", "0000002.png"]
    assert [path.name for path in folder.iterdir()] == ["train"]


def test_without_images_and_packages_the_method_is_skipped_with_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(accelerator, "_installed", lambda package: package != "grain")
    with pytest.raises(accelerator.Ended) as ended:
        list(accelerator._arms(options(output=tmp_path), "gpu"))
    assert ended.value.args == ("skipped", "grain cannot be imported; pass the images as --images=FILE.npz")


# ---- parts


def test_parts_are_those_of_an_accelerator_in_order_of_value(tmp_path, images):
    given = options(f"--images={images}", output=tmp_path)
    names = {name: [step.name for step in steps(given, "gpu")] for name, steps in accelerator.PARTS.items()}
    assert list(names) == ["kernels", "training", "selection", "proxy", "arms"]
    assert names["training"][:3] == [f"resnet18-32-512-step-{n}" for n in ("sas_jax", "torch", "torch_compile")]
    assert names["selection"] == [
        f"{objective}-embeddings-{size}-0.20"
        for size in (50_000, 1_281_167)
        for objective in ("facility_location", "sas")
    ]


@pytest.fixture(name="called")
def fixture_called(monkeypatch, tmp_path):
    """Records the steps instead of running them: each takes a second of a fake clock, or all the time that it has."""
    called, clock, slow = [], [0.0], []

    def call(command, environment, log, *, limit, grace):
        called.append(log.stem)
        log.write_text("the last line\n")
        clock[0] += limit if log.stem in slow else 1
        return None if log.stem in slow else 3 if log.stem == "fails" else 0

    monkeypatch.setattr(accelerator, "_call", call)
    monkeypatch.setattr(accelerator.time, "monotonic", lambda: clock[0])
    return called, slow


def run(monkeypatch, output, parts):
    steps = {
        name: lambda *_, names=names: (accelerator.Step(step, ("m",)) for step in names)
        for name, names in parts.items()
    }
    monkeypatch.setattr(accelerator, "PARTS", steps)
    monkeypatch.setattr(sys, "argv", ["accelerator", "--minutes=1", f"--output={output}"])
    accelerator.main()
    return json.loads((output / "accelerator.json").read_text())


def test_each_part_is_kept_and_not_done_again(monkeypatch, tmp_path, called):
    called, slow = called
    slow.append("c")
    parts = {"first": ["a"], "second": ["fails", "b"], "third": ["c"], "fourth": ["d"]}
    found = run(monkeypatch, tmp_path, parts)
    assert called == ["a", "fails", "b", "c"]
    assert [part["status"] for part in found["parts"].values()] == ["done", "failed", "unfinished", "unfinished"]
    assert found["parts"]["second"]["reason"] == "fails exited with code 3: the last line"
    assert found["hardware"]["device"]
    assert found["environment"]["versions"]["jax"]
    called.clear()
    slow.clear()
    found = run(monkeypatch, tmp_path, parts)
    assert called == ["fails", "c", "d"]
    assert [part["status"] for part in found["parts"].values()] == ["done", "failed", "done", "done"]


@slow
def test_the_proxy_is_resumed_where_it_was_killed_without_the_packages_of_a_cpu(tmp_path, images):
    """A real run is killed on the way, started again, and started once more."""
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    for package in ("ml_collections", "tensorflow_datasets", "grain", "tensorboardX"):
        (lacking / f"{package}.py").write_text("raise ImportError('it is not here')\n")
    output = tmp_path / "output"
    command = [sys.executable, "-m", "benchmarks.accelerator", "--minutes=10", f"--output={output}"]
    command += [f"--images={images}", "--parts=proxy", *(f"--field={field}" for field in FIELDS)]
    environment = os.environ | {"PYTHONPATH": f"{lacking}:{ROOT}"}
    metrics = output / "run" / "metrics.jsonl"
    with subprocess.Popen(command, env=environment, cwd=ROOT) as child:
        while not (metrics.exists() and metrics.read_text()):
            assert child.poll() is None
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=60) == 128 + signal.SIGTERM
    assert not (output / "run" / "embeddings.npy").exists()

    def again():
        subprocess.run(command, env=environment, cwd=ROOT, check=True)
        return json.loads((output / "accelerator.json").read_text())

    first = again()
    assert first["parts"]["proxy"]["status"] == "done"
    assert np.load(output / "run" / "embeddings.npy").shape == (64, 128)
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert steps[-1] == 400
    assert "resumes at step" in (output / "proxy.log").read_text()
    assert again()["parts"] == first["parts"]
