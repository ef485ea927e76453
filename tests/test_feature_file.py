"""Files of features, with a fake pretrained network."""

import numpy as np
import pytest
from PIL import Image

from sas_jax import feature_file as command
from sas_jax import pretrained
from sas_jax.errors import InputError
from sas_jax.feature_file import feature_file

SIZE = 6


@pytest.fixture(autouse=True)
def loaded(monkeypatch):
    """Replaces any network by one that computes the mean colour of images."""
    names = []
    fake = pretrained.Model("timm/fake", SIZE, "cpu", lambda batch: batch / 255, lambda x: x.mean(axis=(1, 2)))
    monkeypatch.setattr(pretrained, "load", lambda name, field: names.append((name, field)) or fake)
    return names


@pytest.fixture
def folder(tmp_path):
    for name, red in (("b/0.png", 200), ("a/1.png", 100), ("a/0.png", 0)):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 12), (red, 0, 0)).save(path)
    return tmp_path / "images"


def test_a_folder_of_images(tmp_path, folder, loaded):
    (folder / "a" / "2.png").write_bytes(b"")
    for i in range(100):
        Image.new("RGB", (2, 2), (255, 0, 0)).save(folder / f"c{i:03}.png")
    said = feature_file(str(tmp_path / "out" / "E.npy"), model="timm/fake", images=str(folder), batch_size=2)
    found = np.load(tmp_path / "out" / "E.npy")
    ids = (tmp_path / "out" / "E.ids.txt").read_text().splitlines()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0] * 255, [0, 100, 200] + [255] * 100, atol=1e-3)
    assert ids[:4] == ["a/0.png", "a/1.png", "b/0.png", "c000.png"]
    assert loaded == [("timm/fake", "--model")]
    assert "103 x 3 features from timm/fake" in said
    assert "skipped" in said.splitlines()[1]


def test_images_are_read_at_the_networks_size(tmp_path, folder, monkeypatch):
    seen = []
    fake = pretrained.Model("timm/fake", SIZE, "cpu", lambda x: seen.append(x.shape) or x, lambda x: x[:, 0, 0])
    monkeypatch.setattr(pretrained, "load", lambda name, field: fake)
    feature_file(str(tmp_path / "E.npy"), model="timm/fake", images=str(folder), batch_size=4)
    assert seen == [(3, SIZE, SIZE, 3)]


def test_a_configs_training_images_in_their_order(tmp_path):
    fields = [f"data.dir={tmp_path}", "data.image_size=8"]
    feature_file(str(tmp_path / "E.npy"), model="timm/fake", config="digits", fields=fields)
    config = command.config_file.read("digits", fields=fields)
    train = command.sas_jax.data.load(config.data).train
    np.testing.assert_allclose(np.load(tmp_path / "E.npy"), train.images.mean(axis=(1, 2)) / 255, rtol=1e-5)
    assert (tmp_path / "E.ids.txt").read_text().splitlines() == list(train.ids)


def test_an_interrupted_call_resumes(tmp_path, folder, monkeypatch):
    """For the same model, images and views; the state of a different call is overwritten."""
    for i in range(20):
        Image.new("RGB", (9, 9), (i, 2 * i, 0)).save(folder / f"c{i:03}.png")
    output, seen, said = tmp_path / "E.npy", [], []

    def forward(batch, most):
        if len(seen) == most:
            raise KeyboardInterrupt
        seen.append(len(batch))
        return batch.mean(axis=(1, 2))

    def call(most=1000, **options):
        fake = pretrained.Model("timm/fake", SIZE, "cpu", lambda x: x / 255, lambda batch: forward(batch, most))
        monkeypatch.setattr(pretrained, "load", lambda name, field: fake)
        seen.clear()
        given = {"model": "timm/fake", "images": str(folder), "batch_size": 5} | options
        feature_file(str(output), log=said.append, **given)
        return np.load(output)

    whole = call()
    output.unlink()
    with pytest.raises(KeyboardInterrupt):
        call(most=2)
    np.testing.assert_array_equal(call(), whole)
    assert seen == [5, 5, 3]
    assert said == [f"{tmp_path / 'E.npy.partial'}: resumes at image 10"]
    assert not (tmp_path / "E.npy.partial").exists()
    for other in ({"model": "timm/other"}, {"views": 2}):
        with pytest.raises(KeyboardInterrupt):
            call(most=2)
        call(**other)
        assert sum(seen) == 23 * other.get("views", 1)
    assert len(said) == 1


def test_views_are_those_of_the_config_and_its_seed(tmp_path, monkeypatch):
    columns = pretrained.Model("timm/fake", SIZE, "cpu", lambda x: x / 255, lambda x: x[..., 0].mean(axis=1))
    monkeypatch.setattr(pretrained, "load", lambda name, field: columns)

    def call(*fields, views=2):
        fields = [f"data.dir={tmp_path}", "data.image_size=8", "data.train_split=train[:9]", *fields]
        feature_file(str(tmp_path / "E.npy"), model="timm/fake", config="digits", fields=fields, views=views)
        return np.load(tmp_path / "E.npy")

    first = call("seed=1")
    np.testing.assert_array_equal(call("seed=1"), first)
    assert not np.allclose(call("seed=2"), first, atol=1e-3)
    still = ("flip", "jitter", "grey", "blur")
    unchanged = call("views.crop_scale=(1,1)", "views.crop_ratio=(1,1)", *(f"views.{name}=0" for name in still))
    plain = call(views=0)
    np.testing.assert_allclose(unchanged, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"model": ""}, "Exactly one of --encoder and --model must be given, got neither"),
        ({"encoder": "runs/x"}, "Exactly one of --encoder and --model must be given, got both"),
        ({"images": ""}, "Exactly one of --images and --config must be given, got neither"),
        ({"config": "digits"}, "Exactly one of --images and --config must be given, got both"),
        ({"arm": "full-1.00-s0"}, "--arm must be given only with --encoder, got it without --encoder"),
        ({"allow_older": True}, "--allow_older must be given only with --encoder"),
        (
            {"model": "", "encoder": "runs/x", "views": 2},
            "--views must be given only with --model, got it without --model",
        ),
        ({"fields": ["seed=1"]}, "--config.FIELD must be given only with --config"),
        ({"output": "E.txt"}, "--output must end in .npy, got 'E.txt'"),
    ],
)
def test_arguments_that_do_not_fit_together(tmp_path, folder, loaded, overrides, sentence):
    given = {"output": str(tmp_path / "E.npy"), "model": "timm/fake", "images": str(folder)} | overrides
    with pytest.raises(InputError, match=sentence):
        feature_file(**given)
    assert not loaded
    assert not (tmp_path / "E.npy").exists()
