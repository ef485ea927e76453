"""Arbitrary bytes in foreign files give a result or one sentence, and neither a hang nor a large use of memory.

Each reader is given files that are whole, changed in places, truncated, or arbitrary.
"""

import io
import json
import os
import signal
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from etils import epath
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

import sas_jax
from sas_jax import files, latent_classes
from sas_jax.data import folder, index_files, prepared, tinyimagenet
from sas_jax.embedding import read_embeddings
from sas_jax.errors import InputError
from sas_jax.latent_classes import few_labels
from sas_jax.selection import ranking_files

MOST_SECONDS = 20
MOST_BYTES = 1 << 30

fuzzed = settings(deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def within_time_and_memory():
    """Limits a whole test with all its examples, so that a single expensive one shows."""

    def late(*_):
        raise TimeoutError(f"over {MOST_SECONDS} s")

    status = Path("/proc/self/status")

    def peak(field):
        (line,) = (line for line in status.read_text().splitlines() if line.startswith(f"{field}:"))
        return int(line.split()[1]) << 10

    signal.signal(signal.SIGALRM, late)
    signal.alarm(6 * MOST_SECONDS)
    if status.exists():
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = peak("VmRSS")
    try:
        yield
    finally:
        signal.alarm(0)
    if status.exists():
        assert peak("VmHWM") - before < MOST_BYTES


def survives(read):
    """Calls a reader: its result or an InputError of one line passes; anything else fails the test."""
    try:
        return read()
    except InputError as error:
        sentence = str(error)
    assert len(sentence.splitlines()) == 1
    return None


def changed(whole):
    """Draws bytes that are almost those of a whole file, or nothing like them."""
    places = st.integers(0, len(whole))

    def cut(at):
        return whole[:at]

    def replaced(at_and_new):
        at, new = at_and_new
        return whole[:at] + new + whole[at + len(new) :]

    def spliced(parts):
        first, second, new = parts
        return whole[:first] + new + whole[second:]

    few = st.one_of(
        st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\x7f\xff\xff\xff", b"9" * 20])
    )
    return st.one_of(
        st.tuples(places, few).map(replaced),
        st.tuples(places, few).map(replaced),
        places.map(cut),
        st.tuples(places, places, st.binary(max_size=8)).map(spliced),
        st.binary(max_size=64),
        st.just(whole),
    )


def saved(save, *arrays, **named):
    buffer = io.BytesIO()
    save(buffer, *arrays, **named)
    return buffer.getvalue()


def npy(descr, shape, data=b""):
    """Returns a .npy with an arbitrary header."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


headers = st.builds(
    npy,
    st.sampled_from(
        ["'<f4'", "'<i8'", "'|b1'", "'|O'", "'<U0'", "'|V0'", "'<M8[s]'", "'>f8'", "[('a', '<f4')]", "''", "3"]
    ),
    st.sampled_from(
        [
            "(4,)",
            "(4, 3)",
            "(4, 0)",
            "()",
            "(0,)",
            "(1125899906842624,)",
            "(1000000000000000000, 1000000000000000000)",
            "(-1,)",
            "(4.0,)",
            "4",
            "(True,)",
        ]
    ),
    st.binary(max_size=60),
)
VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3) + 1
some_npy = st.one_of(
    changed(saved(np.save, VECTORS)),
    changed(saved(np.save, np.arange(4))),
    headers,
    changed(saved(np.savez, a=np.arange(4))),
)


@fuzzed
@given(some_npy)
@example(npy("'<f4'", f"({1 << 50}, 3)"))
@example(npy("'<f4'", f"({1 << 31}, 3)"))
@example(npy("'<U0'", "(-1,)"))
@example(saved(np.savez, a=VECTORS))
def test_arrays(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzzed.npy"
    path.write_bytes(data)
    found = survives(lambda: read_embeddings(path, n=4, field="config.proxy.embeddings", log=lambda _: None))
    assert found is None or (found.dtype == np.float32 and len(found) == 4 and np.isfinite(found).all())
    classes = survives(lambda: latent_classes.from_file(path, n=4))
    assert classes is None or (classes.shape == (4,) and classes.min() >= 0)
    mapped = survives(lambda: files.mapped(str(path)))
    assert mapped is None or mapped.ndim
    listed = survives(lambda: index_files.read(str(path)))
    assert listed is None or len(listed)


RANKING = sas_jax.Ranking(
    np.array([1, 0, -1, 0]), np.array([0.5, 1, np.nan, 2]), np.array([0, 0, 0, 7]), np.array(["a", "b", "c", "ä"])
)


def saved_ranking(suffix, path):
    RANKING.save(str(path / f"whole{suffix}"))
    return (path / f"whole{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npz"])
def test_rankings(tmp_path, suffix):
    whole = saved_ranking(suffix, tmp_path)
    path = tmp_path / f"fuzzed{suffix}"

    @fuzzed
    @given(changed(whole))
    def any_bytes(data):
        path.write_bytes(data)
        found = survives(lambda: sas_jax.Ranking.load(str(path)))
        assert found is None or len(found) == 4
        survives(lambda: index_files.read(str(path)))

    any_bytes()


@fuzzed
@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.one_of(
                st.lists(st.one_of(st.integers(-2, 5), st.none(), st.integers(-(2**70), 2**70)), max_size=4),
                st.lists(st.floats(), max_size=4),
                st.lists(st.text(max_size=3), max_size=4),
                st.just(0),
            )
            for name in ("index", "id", "class", "position", "gain", "metadata")
        },
    ),
    st.one_of(st.just("{}"), st.text(max_size=8), st.just("[" * 100_000), st.just('{"turning_fraction": []}')),
)
def test_rankings_with_other_columns(tmp_path_factory, columns, metadata):
    path = tmp_path_factory.getbasetemp() / "columns"
    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = np.array(values)
        except OverflowError:
            arrays[name] = np.array(values, object)
    with open(f"{path}.npz", "wb") as file:
        np.savez(file, **{"metadata": np.array(metadata)} | arrays)
    try:
        table = pa.table({name: pa.array(values) for name, values in columns.items() if values != 0})
    except (pa.ArrowException, OverflowError, ValueError):
        table = pa.table({"index": [0]})
    pyarrow.parquet.write_table(
        table.replace_schema_metadata({"sas_jax": metadata.encode("utf-8", "replace")}), f"{path}.parquet"
    )
    text = "\n".join(",".join(map(repr, values)) for values in columns.values() if values != 0)
    Path(f"{path}.csv").write_text(f"# {metadata}\n{','.join(columns)}\n{text}\n", errors="replace")
    for suffix in (".npz", ".parquet", ".csv"):
        survives(lambda suffix=suffix: sas_jax.Ranking.load(f"{path}{suffix}"))
        survives(lambda suffix=suffix: index_files.read(f"{path}{suffix}"))


def test_small_files_that_unpack_to_much_are_refused_before_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(ranking_files, "MOST", 3)
    monkeypatch.setattr(files, "LARGEST", 5000)
    for suffix, message in (
        (".parquet", "it has 4 rows, more than the limit of 3"),
        (".npz", "bytes, more than the limit of 5,000"),
    ):
        path = str(tmp_path / f"r{suffix}")
        RANKING.save(path)
        if suffix == ".npz":
            arrays = dict(np.load(path)) | {"more": np.zeros(10_000)}
            np.savez_compressed(path, **arrays)
            assert os.path.getsize(path) < 5000
        with pytest.raises(InputError, match=message):
            sas_jax.Ranking.load(path)


texts = st.one_of(
    changed(b'id,label\r\na,1\r\n"b",2\r\n'),
    changed(b"n01\tgoldfish, Carassius\nn02\tcrane\n"),
    st.text(alphabet=st.sampled_from('id,label"\n\r\t\0ab12-é\ufeff '), max_size=40).map(lambda text: text.encode()),
)


@fuzzed
@given(texts)
def test_texts(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    for suffix in ("csv", "txt"):
        path.with_suffix(f".{suffix}").write_bytes(data)
        listed = survives(lambda suffix=suffix: index_files.read(str(path.with_suffix(f".{suffix}"))))
        assert listed is None or len(listed)
    found = survives(
        lambda: few_labels.read(path.with_suffix(".csv"), ids=np.array(["a", "b", "c"]), class_names=["x"])
    )
    assert found is None or (found.shape == (3,) and found.min() >= -1)
    survives(lambda: files.lines(str(path.with_suffix(".txt"))))


def encoded(format, mode="RGB", **options):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    return saved(Image.fromarray(pixels).convert(mode).save, format=format, **options)


IMAGES = [
    *(encoded(format) for format in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")),
    encoded("JPEG", "CMYK"),
    encoded("JPEG", "L", progressive=True),
    encoded("PNG", "P"),
    encoded("PNG", "LA"),
    encoded("TIFF", "RGB", compression="tiff_lzw"),
    encoded("TIFF", "F"),
]
some_image = st.one_of(*map(changed, IMAGES))


@fuzzed
@given(st.lists(some_image, min_size=1, max_size=4))
@example([b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"])
def test_images_in_a_folder(tmp_path_factory, contents):
    path = tmp_path_factory.mktemp("images")
    for i, data in enumerate(contents):
        (path / f"{i}.png").write_bytes(data)
    for placement in ("host", "stream"):
        found = survives(lambda placement=placement: folder.read_folder(str(path), image_size=4, placement=placement))
        if found is not None:
            survives(lambda found=found: found[0].images[:])


def test_an_image_is_never_a_program(tmp_path, monkeypatch):
    """PIL would run a file that begins as PostScript with Ghostscript, whatever its name."""
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was called"))
    (tmp_path / "0.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    for placement in ("host", "stream"):
        with pytest.raises(InputError, match="cannot identify image file"):
            folder.read_folder(str(tmp_path), image_size=4, placement=placement)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    for part in ("train/n01/images", "train/n02/images", "val/images"):
        (root / part).mkdir(parents=True)
        Image.new("L", (8, 8)).save(root / part / "0.JPEG")
    (root / "wnids.txt").write_text("n02\nn01")
    (root / "words.txt").write_text("n01\tgoldfish\nn02\tcrane, derrick")
    (root / "val" / "val_annotations.txt").write_text("0.JPEG\tn02\t0\t0\t8\t8\n")
    return root


@pytest.mark.parametrize("name", ["wnids.txt", "words.txt", "val/val_annotations.txt"])
def test_the_texts_of_tinyimagenet(tiny, name):
    whole = (tiny / name).read_bytes()

    @fuzzed
    @given(changed(whole))
    def any_bytes(data):
        (tiny / name).write_bytes(data)
        found = survives(lambda: tinyimagenet.load(str(tiny), train_split="train", test_split="val", image_size=4))
        if found is not None:
            assert max(found.train.labels.max(), found.test.labels.max()) < len(set(found.class_names))

    any_bytes()
    (tiny / name).write_bytes(whole)


@pytest.fixture(scope="module", params=["array_record", "tfrecord"])
def prepared_path(request, tmp_path_factory):
    import tensorflow_datasets as tfds

    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=["a", "b"]),
    }

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "toy"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(6)}

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"id": str(i), "image": Image.new("RGB", (5, 4), (i, 0, 0)), "label": i % 2}

    path = prepared.prepare(Builder, epath.Path(tmp_path_factory.mktemp("tfds")))
    if request.param == "tfrecord":
        info = tfds.builder_from_directory(path).info
        source = tfds.builder_from_directory(path).as_data_source(
            "train", deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        stored = [source[i] for i in range(6)]
        (old,) = info.splits["train"].filenames
        (path / old).unlink()
        framed = (struct.pack("<QI", len(r), 0) + r + struct.pack("<I", 0) for r in stored)
        (path / old.replace("array_record", "tfrecord")).write_bytes(b"".join(framed))
        for file in path.glob("*.json"):
            file.write_text(file.read_text().replace("array_record", "tfrecord"))
    return path


def load_prepared(path):
    def load():
        found = prepared.find("toy", path.parent.parent)
        if found is None:
            return None
        return prepared.read(found, name="toy", train_split="train", test_split="", image_size=4, placement="stream")

    dataset = survives(load)
    if dataset is not None:
        split = dataset.train
        assert len(split) == len(split.ids) == len(set(split.ids))
        assert split.labels is None or split.labels.max() < len(dataset.class_names)
        survives(lambda: split.images[:])
    return dataset


def fuzz_prepared(path, name, contents):
    (file,) = path.glob(name)
    whole = file.read_bytes()

    @settings(fuzzed, max_examples=60)
    @given(contents(whole))
    def any_bytes(data):
        file.write_bytes(data)
        load_prepared(path)

    try:
        any_bytes()
    finally:
        file.write_bytes(whole)
    assert load_prepared(path) is not None


def changed_json(whole):
    """Draws the same file, one with any of its values replaced, or one with changed bytes."""
    tree = json.loads(whole)

    def places(node, above=()):
        yield above
        for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            yield from places(value, (*above, key))

    def put(place_and_value):
        place, value = place_and_value
        if not place:
            return json.dumps(value).encode()
        copy = json.loads(whole)
        node = copy
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = value
        return json.dumps(copy).encode()

    values = st.sampled_from(
        [None, 0, -1, "", "x", "../../x", [], {}, [None], "9" * 12, "9" * 30, 1e308, True, "{", ["6", "0"], "3.*.*"]
    )
    return st.one_of(st.tuples(st.sampled_from(list(places(tree))), values).map(put), changed(whole))


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_the_descriptions_of_a_prepared_data_set(prepared_path, name):
    fuzz_prepared(prepared_path, name, changed_json)


@pytest.mark.parametrize("name", ["toy-train.*", "label.labels.txt"])
def test_the_records_of_a_prepared_data_set(prepared_path, name):
    fuzz_prepared(prepared_path, name, changed)


def test_an_info_that_promises_more_than_there_is(prepared_path):
    """Refused before memory is allocated for it."""
    file = prepared_path / "dataset_info.json"
    whole = file.read_text()
    tree = json.loads(whole)
    try:
        for count, message in (
            (7, "cannot be read"),
            (10**9, "lists 1,000,000,000 examples"),
            (10**18, "examples, but its files have only"),
        ):
            tree["splits"][0]["shardLengths"] = [str(count)]
            file.write_text(json.dumps(tree))
            with pytest.raises(InputError, match=message):
                prepared.read(prepared_path, name="toy", train_split="train", test_split="", image_size=4)
    finally:
        file.write_text(whole)


@pytest.mark.parametrize("name", [".npy", ".parquet", ".csv", ".npz", ".txt", ".pkl"])
def test_a_pipe_to_which_nothing_is_written(tmp_path, name):
    path = tmp_path / f"pipe{name}"
    os.mkfifo(path)
    reads = [lambda: index_files.read(str(path)), lambda: files.lines(str(path))]
    if name in (".parquet", ".csv", ".npz"):
        reads.append(lambda: sas_jax.Ranking.load(str(path)))
    reads.append(lambda: few_labels.read(path, ids=np.array(["a"])))
    reads.append(lambda: latent_classes.from_file(path, n=1))
    reads.append(lambda: read_embeddings(path, n=1, field="config.proxy.embeddings", log=lambda _: None))
    reads.append(lambda: files.mapped(str(path)))
    for read in reads:
        with pytest.raises(InputError, match="it is a pipe or a device, not a file"):
            read()
