"""`python -m sas_jax.export`, and the functions that it calls."""

import gc
import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sas_jax
from sas_jax.data import index_files, read_folder, subsets
from sas_jax.errors import InputError
from sas_jax.export_subset import export_subset

ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": sas_jax.__path__[0] + "/.."}


@pytest.fixture
def folder(tmp_path):
    """Makes a folder of images, and its ranking in two classes."""
    names = [f"{name}/{k}.png" for name, k in itertools.product("ab", range(10))]
    for k, name in enumerate(names):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), 10 * k, np.uint8)).save(tmp_path / "images" / name)
    rng = np.random.default_rng(0)
    position = np.concatenate([rng.permutation(10), rng.permutation(10)])
    ranking = sas_jax.Ranking(position, np.ones(20), np.repeat([0, 1], 10), names)
    ranking.save(tmp_path / "ranking.parquet")
    return tmp_path


@pytest.mark.parametrize("suffix", ["npy", "npz", "csv", "parquet", "txt"])
@pytest.mark.parametrize("images", [False, True])
def test_every_format_goes_out_and_in_again_unchanged(folder, suffix, images):
    ranking = sas_jax.Ranking.load(folder / "ranking.parquet")
    root = str(folder / "images") if images and suffix == "txt" else ""
    for k, options in enumerate(
        ({"fraction": 0.3}, {"size": 7}, {"fraction": 0.25, "rounding": "floor"}, {"size": 20})
    ):
        path = str(folder / f"subset-{k}.{suffix}")
        told = export_subset(str(folder / "ranking.parquet"), output=path, images=root, **options)
        expected = ranking.subset(**options)
        assert told == f"Kept {len(expected)} of 20 examples: {path}."
        listed = index_files.read(path)
        assert subsets.resolve(listed, ranking.ids, root=root).tolist() == expected.tolist()
        if suffix != "npy":  # and selects the same images if they are stored in another order
            other = ranking.ids[::-1]
            found = subsets.resolve(listed, other, root=root)
            assert sorted(other[found].tolist()) == ranking.ids[expected].tolist()
    if root:
        assert all(line.startswith(f"{root}/") for line in listed.ids)


def snippet(first):
    """Returns the Python snippet of docs/data.md with this first line."""
    page = (Path(__file__).parent.parent / "docs" / "data.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    return next(code for code in blocks if code.startswith(first))


def test_row_numbers_for_datasets_select_the_same_images(tmp_path, monkeypatch):
    """As in docs/data.md; ranked in another order, and without one of the rows."""
    datasets = pytest.importorskip("datasets", reason="the extra dev has it")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    datasets.Dataset.from_dict({"number": list(range(20))}).to_parquet("data/train-00000-of-00001.parquet")
    rows = [row for row in np.random.default_rng(0).permutation(20).tolist() if row != 4]
    ranking = sas_jax.Ranking(np.arange(19), np.ones(19), np.zeros(19), [f"train_{row:05d}" for row in rows])
    ranking.save("ranking.parquet")
    export_subset("ranking.parquet", size=6, format="hf", output="subset.npy")
    found = {}
    exec(snippet("import datasets"), found)
    assert found["subset"]["number"][:] == sorted(rows[:6])
    other = sas_jax.Ranking([2, 0, 1], [1.0] * 3, [0] * 3, ["b.png", "a.png", "c.png"])
    other.save("other.csv")
    export_subset("other.csv", size=2, format="hf", output="subset.txt")
    assert (tmp_path / "subset.txt").read_text() == "1\n2\n", "paths have no numbers: the indices"


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_keys_for_webdataset_select_the_same_images(tmp_path, monkeypatch):
    """As in docs/data.md, for a folder that was packed into tar files."""
    webdataset = pytest.importorskip("webdataset", reason="the extra dev has it")
    monkeypatch.chdir(tmp_path)
    names = [f"{folder}/{k}.x.png" for folder in "ab" for k in range(4)]
    for number in range(2):
        with webdataset.TarWriter(f"train-{number:06d}.tar") as writer:
            for name in names[4 * number : 4 * number + 4]:
                writer.write({"__key__": name.partition(".")[0], "txt": name})
    sas_jax.Ranking([7, 0, 6, 1, 2, 5, 4, 3], [1.0] * 8, [0] * 8, names).save("ranking.csv")
    export_subset("ranking.csv", size=3, format="wds", output="subset.txt")
    found = {}
    exec(snippet("import webdataset"), found)
    assert [sample["txt"].decode() for sample in found["subset"]] == [names[1], names[3], names[4]]
    del found
    gc.collect()  # webdataset leaves files open


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "pt", "output": "s.npy"}, "--format must be hf or wds, got 'pt'"),
        ({"format": "hf", "output": "s.csv"}, r"--output must end in \.npy or \.txt with --format=hf, got 's\.csv'"),
        ({"format": "wds", "output": "s.npy"}, r"--output must end in \.txt with --format=wds"),
        ({"format": "wds", "output": "s.txt", "images": "x"}, "--images must be left out with --format=wds, got 'x'"),
        ({"format": "wds", "output": "s.txt"}, "The ranking must have ids for --format=wds, got none"),
    ],
)
def test_formats_that_cannot_be_written(tmp_path, options, message):
    sas_jax.Ranking([1, 0, 2], [1.0] * 3, [0] * 3).save(tmp_path / "r.csv")
    with pytest.raises(InputError, match=message):
        export_subset(str(tmp_path / "r.csv"), size=2, **options)


def test_a_ranking_without_ids_gives_indices(folder):
    sas_jax.Ranking([1, 0, 2], [np.nan] * 3, [0, 0, 0]).save(folder / "r.csv")
    for suffix in ("npy", "npz", "csv", "parquet", "txt"):
        export_subset(str(folder / "r.csv"), output=f"{folder}/s.{suffix}", size=2)
        assert index_files.read(f"{folder}/s.{suffix}").indices.tolist() == [0, 1]


def test_budgets_reach_the_subset(folder):
    sas_jax.Ranking([0, 1, 2, 3, 4, 0, 1], [np.nan] * 7, [0, 0, 0, 0, 0, 1, 1]).save(folder / "r.csv")
    export_subset(str(folder / "r.csv"), output=f"{folder}/s.npy", size=4, budgets="balanced")
    assert np.load(folder / "s.npy").tolist() == [0, 1, 5, 6]


def test_links_and_a_list_at_once(folder):
    links, output = str(folder / "subset"), str(folder / "paths.txt")
    told = export_subset(str(folder / "ranking.parquet"), output=output, links=links, images=f"{folder}/images", size=6)
    assert told == f"Kept 6 of 20 examples: {output} and links in {links}."
    ranking = sas_jax.Ranking.load(folder / "ranking.parquet")
    expected = ranking.ids[ranking.subset(size=6)].tolist()
    assert read_folder(links, image_size=4)[0].ids.tolist() == expected
    assert index_files.read(output).ids == tuple(f"{folder}/images/{name}" for name in expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 3}, "--output or --links must be given, got neither"),
        ({"output": "s.npy"}, "Exactly one of --fraction and --size must be given, got neither"),
        ({"output": "s\0.npy", "size": 3}, r"A path must not contain NUL characters, got 's\\x00.npy'"),
        ({"output": "s.npy", "size": 3, "fraction": 0.1}, "--fraction and --size must be given, got both"),
        ({"output": "s.npy", "size": 99}, "a whole number from 1 to 20, .* got 99"),
        ({"output": "s.json", "size": 3}, "must end in one of .*, got 's.json'"),
        (
            {"output": "s.csv", "images": "images", "size": 3},
            "--output must end in .txt if --images is given without --links",
        ),
        ({"links": "s", "size": 3}, "--images must be given with --links, got ''"),
        (
            {"links": "images/s", "images": "images", "size": 3},
            "must be neither inside the folder of images nor contain it",
        ),
        ({"links": "s", "images": "none", "size": 3}, "The folder of images must exist, got 'none'"),
        (
            {"output": "./ranking.parquet", "size": 3},
            "--output must not be the ranking itself, got ./ranking.parquet",
        ),
        ({"ranking": "none.csv", "output": "s.npy", "size": 3}, "The ranking none.csv cannot be read"),
        (
            {"ranking": "r.csv", "output": "s.txt", "images": "images", "size": 1},
            "must have ids for --images, got none",
        ),
        ({"ranking": "r.csv", "links": "s", "images": "images", "size": 1}, "must have ids for --images"),
        ({"output": "no/s.npy", "size": 3}, "^no/s.npy must be a writable path"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(folder, monkeypatch, options, message):
    monkeypatch.chdir(folder)
    sas_jax.Ranking([1, 0, 2], [np.nan] * 3, [0, 0, 0]).save("r.csv")
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError, match=message) as found:
        export_subset(**{"ranking": "ranking.parquet"} | options)
    assert "\n" not in str(found.value)
    assert sorted(folder.rglob("*")) == before


def start(folder, *flags):
    command = [sys.executable, "-m", "sas_jax.export", *flags]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)


def test_a_process_writes_a_subset(folder):
    flags = ["--fraction=0.2", "--output=paths.txt", "--links=subset", "--images=images"]
    done = start(folder, "--ranking=ranking.parquet", *flags)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout == "Kept 4 of 20 examples: paths.txt and links in subset.\n"
    assert len((folder / "paths.txt").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--output=s.npy", "--size=3"], "--ranking must be given, got none"),
        (
            ["--ranking=ranking.parquet", "--output=s.npy", "--fraction=2"],
            "`fraction` must be more than 0 and at most 1",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(folder, flags, message):
    done = start(folder, *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sas_jax.export: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
