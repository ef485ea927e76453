"""The parts of CLIP without PyTorch: zero-shot classes, prompts, the cache, the error if the extra is missing.

tests/latent_classes/test_clip_model.py loads a real, tiny model.
"""

import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sas_jax.errors import InputError
from sas_jax.latent_classes import clip

IMAGES = np.random.default_rng(0).integers(0, 256, size=(9, 4, 4, 3), dtype=np.uint8)


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_zero_shot_is_the_most_similar_name(monkeypatch):
    rng = np.random.default_rng(1)
    images, names = unit(rng.normal(size=(50, 8))), unit(rng.normal(size=(5, 8)))
    expected = [max(range(5), key=lambda c: float(image @ names[c])) for image in images]
    for entries in (1 << 24, 5 * 7):
        monkeypatch.setattr(clip, "_BLOCK_ENTRIES", entries)
        found = clip.zero_shot(images, names)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.int32
    np.testing.assert_array_equal(clip.zero_shot(images, names[[0, 0]]), np.zeros(50))  # ties go to the lowest class
    with pytest.raises(InputError, match=r"of one width, got \[50, 8\] and \[5, 7\]"):
        clip.zero_shot(images, names[:, 1:])


def test_templates_are_the_papers_and_usable():
    assert len(set(clip.TEMPLATES)) == 18
    assert {"a photo of a {}.", "a photo of the big {}."} <= set(clip.TEMPLATES)
    clip.check_prompts(("cat", "dog"), clip.TEMPLATES)


@pytest.mark.parametrize(
    ("names", "templates", "sentence"),
    [
        ((), ("{}",), "got none. Give them"),
        (("cat", " "), ("{}",), "got an empty one"),
        (("cat", "dog", "cat"), ("{}",), "got 'cat' twice"),
        (("cat",), (), "at least one prompt, got none"),
        (("cat",), ("a {}", "a photo"), "where the class name goes, got 'a photo'"),
    ],
)
def test_bad_prompts(names, templates, sentence):
    with pytest.raises(InputError, match=sentence):
        clip.embed_names("none", names, templates=templates)


def test_without_the_extra_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"\(not installed: torch.*\)\. Run pip install 'sas_jax\[clip\]'\.$"):
        clip.load("openai/clip-vit-base-patch32")


class Stub:
    """Counts how often images are embedded."""

    device = "cpu"

    def __init__(self):
        self.calls = 0

    def images(self, images, *, batch_size):
        self.calls += 1
        return unit(images[:].reshape(len(images), -1).astype(np.float32))


@pytest.fixture
def stub(monkeypatch):
    made = Stub()
    monkeypatch.setattr(clip, "load", lambda name: made)
    return made


def test_images_are_embedded_once(tmp_path, stub):
    said = []
    options = {"cache": tmp_path / "new" / "clip.npz", "log": said.append}
    first = clip.embed_images("hub/name", IMAGES, source="s", **options)
    again = clip.embed_images("hub/name", IMAGES, source="s", **options)
    np.testing.assert_array_equal(first, again)
    assert stub.calls == 1
    assert "embedding 9 images with hub/name on cpu" in said[0]
    assert "using the cached embeddings of 9 images in" in said[1]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["clip.npz"]


def test_another_model_or_source_or_count_is_embedded_anew(tmp_path, stub):
    options = {"cache": tmp_path / "clip.npz", "log": lambda _: None}
    for name, source, n in (("a", "s", 9), ("b", "s", 9), ("b", "t", 9), ("b", "t", 8), ("a", "s", 9)):
        found = clip.embed_images(name, IMAGES[:n], source=source, **options)
        assert found.shape == (n, 48)
    assert stub.calls == 5


def test_a_folders_model_is_known_by_its_contents(tmp_path, stub):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_text("1")
    options = {"source": "s", "cache": tmp_path / "clip.npz", "log": lambda _: None}
    clip.embed_images(str(folder), IMAGES, **options)
    folder.rename(tmp_path / "elsewhere")
    clip.embed_images(str(tmp_path / "elsewhere"), IMAGES, **options)
    assert stub.calls == 1
    (tmp_path / "elsewhere" / "weights").write_text("2")
    clip.embed_images(str(tmp_path / "elsewhere"), IMAGES, **options)
    assert stub.calls == 2


def test_what_is_no_cache_is_not_overwritten(tmp_path, stub):
    path = tmp_path / "clip.npz"
    options = {"source": "s", "cache": path, "log": lambda _: None}
    clip.embed_images("m", IMAGES, **options)
    whole = path.read_bytes()
    with np.load(path) as archive:
        fingerprint = archive["fingerprint"]
    np.savez(tmp_path / "wrong.npz", embeddings=np.zeros((3, 2), np.float32), fingerprint=fingerprint)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros((9, 48), np.float32))
    for content in (
        b"",
        b"mine",
        whole[:-30],
        (tmp_path / "wrong.npz").read_bytes(),
        (tmp_path / "other.npz").read_bytes(),
        (tmp_path / "array.npy").read_bytes(),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"clip\.npz must be a cache of CLIP embeddings, got .* Remove it"):
            clip.embed_images("m", IMAGES, **options)
        assert path.read_bytes() == content
    assert stub.calls == 1


@given(place=st.integers(0, 2**16), byte=st.integers(0, 255), cut=st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_cache_is_refused_or_read(tmp_path_factory, stub, place, byte, cut):
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.unlink(missing_ok=True)
    clip.embed_images("m", IMAGES[:2], source="s", cache=path, log=lambda _: None)
    content = bytearray(path.read_bytes())
    if cut:
        content = content[: place % len(content)]
    else:
        content[place % len(content)] = byte
    path.write_bytes(content)
    try:
        found = clip.embed_images("m", IMAGES[:2], source="s", cache=path, log=lambda _: None)
    except InputError:
        return
    assert found.shape == (2, 48)
