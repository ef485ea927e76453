import concurrent.futures
import json
import multiprocessing
import operator
import pickle
import shutil
import struct

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from sas_jax import devices
from sas_jax.data import images, prepared, records
from sas_jax.errors import InputError

SIZES = {"train": 70, "unlabelled": 7, "test": 5}


def picture(split, i, side=6):
    return np.random.default_rng([len(split), i]).integers(0, 256, (side, side + i % 3, 3), dtype=np.uint8)


def toy(*, own_id=True, label="class", image_keys=("image",), toy_name="toy", version="1.2.0", sizes=None):
    """A builder of images of several shapes; the ids number them in the order of generation, not the stored order."""
    features = {key: tfds.features.Image(shape=(None, None, 3), encoding_format="png") for key in image_keys}
    features["bounds"] = tfds.features.Sequence(tfds.features.BBoxFeature())
    if own_id:
        features["id"] = tfds.features.Text() if own_id != "integer" else tfds.features.Scalar(np.int64)
    if label:
        features["label"] = tfds.features.ClassLabel(names=["a", "b"]) if label == "class" else np.float32

    class Toy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = toy_name
        VERSION = tfds.core.Version(version)

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {s: self._generate_examples(s, n) for s, n in (sizes or SIZES).items()}

        def _generate_examples(self, split, count):
            for i in range(count):
                example = {key: Image.fromarray(picture(split, i)) for key in image_keys} | {"bounds": []}
                if own_id:
                    example["id"] = {"integer": i, "repeated": "same"}.get(own_id, f"{split}_{i:05d}")
                if label == "class":
                    example["label"] = -1 if split == "unlabelled" else i % 2
                elif label:
                    example["label"] = 0.5
                yield i, example

    return Toy


def read(path, train="train", test="test", size=6, placement="host"):
    return prepared.read(path, name="toy", train_split=train, test_split=test, image_size=size, placement=placement)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return epath.Path(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="module")
def toy_path(data_dir):
    return prepared.prepare(toy(), data_dir)


def test_prepare_leaves_only_the_data_set_and_find_finds_it(data_dir, toy_path):
    assert toy_path == data_dir / "toy" / "1.2.0"
    assert not [p.name for p in data_dir.iterdir() if "incomplete" in p.name]
    assert prepared.find("toy", data_dir) == toy_path
    assert prepared.find("toy:1.2.0", data_dir) == toy_path
    assert prepared.find("toy:1.*.*", data_dir) == toy_path
    assert prepared.find("toy:2.0.0", data_dir) is None
    assert prepared.find("toys", data_dir) is None


def test_each_image_has_its_own_pixels_label_and_id(toy_path):
    dataset = read(toy_path)
    assert dataset.class_names == ("a", "b")
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        assert split.ids.dtype.kind == "U"
        assert sorted(split.ids) == [f"{name}_{i:05d}" for i in range(SIZES[name])]
        order = [int(i[-5:]) for i in split.ids]
        np.testing.assert_array_equal(split.labels, np.array(order) % 2)
        assert split.labels.dtype == np.int32
        expected = [images.square_rgb(Image.fromarray(picture(name, i)), 6) for i in order]
        np.testing.assert_array_equal(split.images, expected)
    assert read(toy_path, test="").test is None
    assert read(toy_path, size=9).train.images.shape == (70, 9, 9, 3)


def test_joined_splits_and_slices(toy_path):
    whole, other = read(toy_path).train, read(toy_path, train="unlabelled").train
    assert other.labels is None
    both = read(toy_path, train="train+unlabelled").train
    np.testing.assert_array_equal(both.images, np.concatenate([whole.images, other.images]))
    np.testing.assert_array_equal(both.labels, np.concatenate([whole.labels, [-1] * 7]))
    np.testing.assert_array_equal(both.ids, np.concatenate([whole.ids, other.ids]))
    part = read(toy_path, train="train[10:30]").train
    np.testing.assert_array_equal(part.images, whole.images[10:30])
    np.testing.assert_array_equal(part.ids, whole.ids[10:30])


@pytest.mark.parametrize("own_id", [False, "repeated"])
def test_without_usable_ids_the_index_in_the_whole_split_is_the_id(data_dir, own_id):
    path = prepared.prepare(toy(own_id=own_id, label=None, toy_name=f"toy_{own_id}".lower()), data_dir)
    dataset = read(path)
    assert dataset.class_names is None
    assert dataset.train.labels is None
    assert list(dataset.train.ids) == [str(i) for i in range(70)]
    assert list(read(path, train="train[60:62]").train.ids) == ["60", "61"]
    joined = read(path, train="train[:1]+unlabelled[5:]").train
    assert list(joined.ids) == ["train_0", "unlabelled_5", "unlabelled_6"]


def test_integer_ids_and_labels_that_are_no_classes(data_dir):
    dataset = read(prepared.prepare(toy(own_id="integer", label="number", toy_name="toy_numbers"), data_dir))
    assert sorted(dataset.train.ids, key=int) == [str(i) for i in range(70)]
    assert dataset.train.labels is None
    assert dataset.class_names is None


@pytest.mark.parametrize("num_shards", [1, 3])
def test_stl10_is_in_its_published_order(tmp_path, num_shards):
    """Its records have no ids, and tfds stores them in its own order."""
    builder = toy(own_id=False, toy_name="stl10")(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False, num_shards=num_shards)
    )
    path = epath.Path(builder.data_path)
    assert len(list(path.glob("*-train*"))) == num_shards
    stored = tfds.builder_from_directory(path).as_data_source(
        "train", deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    labels = [records.features(stored[i])["label"].int64_list.value[0] for i in range(70)]
    assert labels != [i % 2 for i in range(70)], "else this test shows nothing"

    def published(split):
        return [images.square_rgb(Image.fromarray(picture(split, i)), 6) for i in range(SIZES[split])]

    both = read(path, train="train+unlabelled")
    np.testing.assert_array_equal(both.train.images, published("train") + published("unlabelled"))
    np.testing.assert_array_equal(both.train.labels, [i % 2 for i in range(70)] + [-1] * 7)
    names = [f"train_{i:05d}" for i in range(70)] + [f"unlabelled_{i:05d}" for i in range(7)]
    assert list(both.train.ids) == names
    np.testing.assert_array_equal(both.test.images, published("test"))
    alone = read(path, train="unlabelled", placement="stream").train
    assert list(alone.ids) == names[70:]
    np.testing.assert_array_equal(alone.images[:], published("unlabelled"))
    part = read(path, train="train[10:30]").train  # positions are in the stored order, as always
    assert len(part) == 20
    assert list(part.ids) == sorted(part.ids)
    for name, image in zip(part.ids, part.images, strict=True):
        np.testing.assert_array_equal(image, published("train")[names.index(name)])


@pytest.mark.parametrize("feature", ["file_name", "image/filename"])
def test_the_images_file_name_is_the_id_where_there_is_no_other(tmp_path, feature):
    class Named(toy(own_id=False, toy_name="toy_named"), skip_registration=True):
        name = "toy_named"

        def _info(self):
            features = dict(super()._info().features.items()) | {feature: tfds.features.Text()}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _generate_examples(self, split, count):
            return ((i, e | {feature: f"n{i:03d}.JPEG"}) for i, e in super()._generate_examples(split, count))

    split = read(prepared.prepare(Named, epath.Path(tmp_path))).train
    assert sorted(split.ids) == [f"n{i:03d}.JPEG" for i in range(70)]
    expected = [images.square_rgb(Image.fromarray(picture("train", int(i[1:4]))), 6) for i in split.ids]
    np.testing.assert_array_equal(split.images, expected)


def test_a_label_that_is_none_of_the_classes_is_damage(toy_path, tmp_path):
    target = as_tfrecord(toy_path, epath.Path(tmp_path) / "toy" / "1.2.0")
    features = (target / "features.json").read_text()
    assert features.count('"numClasses": "2"') == 1
    (target / "features.json").write_text(features.replace('"numClasses": "2"', '"numClasses": "1"'))
    with pytest.raises(InputError, match=r"cannot be read \(a label is 1, but there are only 1 classes\)"):
        read(target)


def test_any_single_image_feature_will_do_and_two_are_an_error(data_dir):
    one = prepared.prepare(toy(image_keys=("picture",), toy_name="toy_picture"), data_dir)
    split = read(one).train
    expected = [images.square_rgb(Image.fromarray(picture("train", int(i[-5:]))), 6) for i in split.ids]
    np.testing.assert_array_equal(split.images, expected)
    two = prepared.prepare(toy(image_keys=("left", "right"), toy_name="toy_pairs"), data_dir)
    with pytest.raises(InputError, match=r"must have one image, got 2 in toy .*bounds, id, label, left, right"):
        read(two)


@pytest.mark.parametrize("split", ["trane", "train[", "train[5", ""])
def test_a_split_that_is_not_there_names_those_that_are(toy_path, split):
    with pytest.raises(InputError, match=r"config\.data\.train_split .* must name splits .* train, unlabelled"):
        read(toy_path, train=split)


def test_an_empty_split_is_an_error(toy_path):
    with pytest.raises(InputError, match="got none in "):
        read(toy_path, train="train[5:5]")


def test_a_process_that_was_second_finds_the_first_ones_work(tmp_path):
    data_dir = epath.Path(tmp_path)
    first = toy(sizes={"train": 3})

    class Second(toy(sizes={"train": 3}), skip_registration=True):
        name = "toy"

        def _split_generators(self, dl_manager):
            prepared.prepare(first, data_dir)  # another process prepares it while this one is preparing
            return super()._split_generators(dl_manager)

    path = prepared.prepare(Second, data_dir)
    assert len(read(path, test="").train) == 3
    assert [p.name for p in data_dir.iterdir()] == ["toy"]


def test_a_data_dir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"config\.data\.dir must be a writable folder, got .*\. Set it"):
        prepared.prepare(toy(), epath.Path(tmp_path / "file"))


def as_tfrecord(path, target):
    """Copies a data set prepared in array_record to TFRECORD, byte by byte as the format is defined."""
    info = tfds.builder_from_directory(path).info
    target.mkdir(parents=True)
    for file in path.glob("*.json"):
        (target / file.name).write_text(file.read_text().replace("array_record", "tfrecord"))
    for split in info.splits:
        source = tfds.builder_from_directory(path).as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        records = [source[i] for i in range(len(source))]
        # The file name states the number of files, and differs only in the format.
        name = info.splits[split].filenames[0].replace("array_record", "tfrecord")
        (target / name).write_bytes(b"".join(struct.pack("<QI", len(r), 0) + r + struct.pack("<I", 0) for r in records))
    return target


def test_tfrecord_is_read_as_array_record_is(toy_path, tmp_path):
    data_dir = epath.Path(tmp_path)
    as_tfrecord(toy_path, data_dir / "toy" / "1.2.0")
    expected, found = read(toy_path), read(prepared.find("toy", data_dir))
    for a, b in ((expected.train, found.train), (expected.test, found.test)):
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.ids, b.ids)


@pytest.mark.parametrize("cut", [1, 20, -5])
def test_a_tfrecord_cut_short(toy_path, tmp_path, cut):
    target = as_tfrecord(toy_path, epath.Path(tmp_path) / "toy" / "1.2.0")
    (file,) = target.glob("*train*")
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(
        InputError, match=r"(that ends within one\. Remove its|files have only \d+ bytes\)\. Remove that) folder"
    ):
        read(target)


def test_an_array_record_cut_short(tmp_path):
    path = prepared.prepare(toy(), epath.Path(tmp_path))
    (file,) = path.glob("*-train*")
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"cannot be read .*\. Remove that folder"):
        read(path)


def test_the_highest_version_is_found_but_array_record_goes_first(toy_path, tmp_path):
    data_dir = epath.Path(tmp_path)
    for version in ("1.2.0", "1.10.0"):
        prepared.prepare(toy(version=version, sizes={"train": 2}), data_dir)
    assert prepared.find("toy", data_dir).name == "1.10.0"
    as_tfrecord(toy_path, data_dir / "toy" / "2.0.0")
    assert prepared.find("toy", data_dir).name == "1.10.0"
    assert prepared.find("toy:2.0.0", data_dir).name == "2.0.0"


def test_a_format_that_cannot_be_read_or_a_damaged_description_is_said(toy_path, tmp_path):
    target = as_tfrecord(toy_path, epath.Path(tmp_path) / "toy" / "1.2.0")
    whole = (target / "dataset_info.json").read_text()
    for text in (json.dumps(json.loads(whole) | {"fileFormat": "riegeli"}), "{", whole):
        (target / "dataset_info.json").write_text(text)
        if text == whole:
            (target / "features.json").unlink()
        with pytest.raises(InputError, match=r"in another format or damaged\. Remove it and prepare the data again"):
            prepared.find("toy", epath.Path(tmp_path))


def test_one_config_on_disk_needs_no_name_and_two_do(toy_path, tmp_path):
    data_dir = epath.Path(tmp_path)
    as_tfrecord(toy_path, data_dir / "toy" / "small" / "1.2.0")
    assert prepared.find("toy", data_dir) == prepared.find("toy/small", data_dir) == data_dir / "toy/small/1.2.0"
    as_tfrecord(toy_path, data_dir / "toy" / "large" / "1.2.0")
    with pytest.raises(InputError, match="toy/large, toy/small"):
        prepared.find("toy", data_dir)


def test_the_default_directory_is_tfdss_own():
    assert prepared.directory("") == epath.Path(tfds.core.constants.DATA_DIR).expanduser()
    assert "~" not in str(prepared.directory("~/sets"))


@pytest.mark.parametrize("train", ["train", "train[60:]+unlabelled+train[:5]", "train[5:5]+unlabelled"])
@pytest.mark.parametrize("format", ["array_record", "tfrecord"])
def test_streamed_images_are_those_in_memory_bit_for_bit(toy_path, tmp_path, train, format):
    path = toy_path if format == "array_record" else as_tfrecord(toy_path, epath.Path(tmp_path) / "toy" / "1.2.0")
    whole, streamed = (read(path, train=train, placement=placement) for placement in ("host", "stream"))
    assert streamed.class_names == whole.class_names
    for expected, found in ((whole.train, streamed.train), (whole.test, streamed.test)):
        assert isinstance(found.images, prepared.RecordImages)
        np.testing.assert_array_equal(found.images[:], expected.images)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.ids, expected.ids)
        order = np.random.default_rng(0).integers(0, len(expected), 100)
        np.testing.assert_array_equal(found.images[order], expected.images[order])
        np.testing.assert_array_equal(found.images[-1], expected.images[-1])
        assert found.fingerprint() == expected.fingerprint()


def test_more_than_is_read_at_once_is_the_same(toy_path, monkeypatch):
    monkeypatch.setattr(prepared, "_READ_AT_ONCE", 7)
    np.testing.assert_array_equal(read(toy_path, placement="stream").train.images[:], read(toy_path).train.images)


def test_what_is_streamed_is_not_decoded_before_it_is_asked_for(toy_path, monkeypatch):
    monkeypatch.setattr(images, "square_rgb", None)
    dataset = read(toy_path, placement="stream")
    assert list(np.unique(dataset.train.labels)) == [0, 1]
    with pytest.raises(InputError, match="record 0: "):
        dataset.train.images[0]


@pytest.mark.parametrize("format", ["array_record", "tfrecord"])
def test_other_threads_and_another_process_read_the_same(toy_path, tmp_path, format):
    path = toy_path if format == "array_record" else as_tfrecord(toy_path, epath.Path(tmp_path) / "toy" / "1.2.0")
    whole, streamed = read(path).train.images, read(path, placement="stream").train.images
    orders = [np.random.default_rng(i).integers(0, 70, 40) for i in range(24)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for order, found in zip(orders, pool.map(streamed.__getitem__, orders), strict=True):
            np.testing.assert_array_equal(found, whole[order])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(streamed))[orders[0]], whole[orders[0]])
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        np.testing.assert_array_equal(pool.submit(operator.getitem, streamed, orders[0]).result(), whole[orders[0]])
        assert not pool.submit(eval, "'tensorflow_datasets' in __import__('sys').modules").result(), "it takes seconds"


def test_the_fingerprint_is_of_the_content(toy_path, tmp_path):
    copy = shutil.copytree(toy_path, tmp_path / "other" / "toy" / "1.2.0", copy_function=shutil.copyfile)
    first = read(toy_path).train.fingerprint()
    assert read(epath.Path(copy), placement="stream").train.fingerprint() == first
    others = {read(toy_path, train=split).train.fingerprint() for split in ("train[1:]", "unlabelled")}
    assert len(others | {first, read(toy_path, size=7).train.fingerprint()}) == 4


@pytest.mark.parametrize(("free", "streams"), [(2 * 75 * 108, False), (2 * 75 * 108 - 1, True)])
def test_auto_counts_the_images_of_both_splits_before_it_decodes_one(toy_path, monkeypatch, free, streams):
    decoded = []
    square_rgb = images.square_rgb
    monkeypatch.setattr(images, "square_rgb", lambda *a: decoded.append(0) or square_rgb(*a))
    monkeypatch.setattr(devices, "free_memory", lambda: free)
    dataset = read(toy_path, placement="auto")
    assert len(decoded) == (0 if streams else 75)
    assert [isinstance(s.images, np.ndarray) for s in (dataset.train, dataset.test)] == [not streams] * 2


def test_a_record_that_is_damaged_is_said_when_it_can_be_known(toy_path, tmp_path):
    """A truncated image is found at once, one with changed bits in the middle only when it is decoded."""
    target = as_tfrecord(toy_path, epath.Path(tmp_path) / "toy" / "1.2.0")
    (file,) = target.glob("*train*")
    whole = file.read_bytes()
    at = whole.rindex(b"IEND")
    file.write_bytes(whole[:at] + b"XXXX" + whole[at + 4 :])
    np.testing.assert_array_equal(read(target, placement="stream").train.images[:], read(toy_path).train.images)
    file.write_bytes(whole[: at - 60] + bytes(64) + whole[at + 4 :])
    for placement in ("host", "stream"):
        with pytest.raises(
            InputError, match=r"'train' in '.*' must be intact, got .* cannot be read .*\. Remove that fol"
        ):
            read(target, placement=placement)
    data = bytearray(whole)
    data[at - 30] ^= 4
    file.write_bytes(data)
    dataset = read(target, placement="stream")
    assert dataset.train.images[:5].shape == (5, 6, 6, 3)
    with pytest.raises(InputError, match=r"'train' in .* cannot be read \(record 69: .*\)\. Remove that folder"):
        dataset.train.images[[0, 69]]


def test_records_that_were_taken_away_are_said(tmp_path):
    path = prepared.prepare(toy(), epath.Path(tmp_path))
    dataset = read(path, placement="stream")
    (file,) = path.glob("*-train*")
    file.unlink()
    with pytest.raises(InputError, match=r"'train' in .* cannot be read"):
        pickle.loads(pickle.dumps(dataset.train.images))[0]


def test_too_many_open_files_are_no_damage():
    with pytest.raises(InputError, match=r"cannot be read \(.*\)\. Raise .*ulimit -n"), prepared._whole("train", "/x"):
        raise RuntimeError("open() failed: Too many open files; opening /x/train-00000-of-01024")


@pytest.mark.parametrize("version", ["zzz", "1.2", "1.2.x", "1.2.0.0"])
def test_a_version_that_is_none(data_dir, toy_path, version):
    for folder in (data_dir, data_dir / "empty"):
        with pytest.raises(
            InputError,
            match=rf"The version .* must have a form such as .*, got 'toy:{version}'\. Correct it or leave it",
        ):
            prepared.find(f"toy:{version}", folder)
