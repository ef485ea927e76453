"""Ranking a file of embeddings."""

import functools
import importlib
import itertools
import json
import os
import pathlib
import time

import jax
import numpy as np
import pytest

import sas_jax
from sas_jax import devices, latent_classes
from sas_jax.errors import InputError
from sas_jax.latent_classes import passes
from sas_jax.rank_file import rank_file
from sas_jax.selection import checks, classwise

module = importlib.import_module("sas_jax.rank_file")


@pytest.fixture
def folder(tmp_path):
    """Writes files for 60 examples."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "e.npy", rng.normal(size=(60, 8)).astype(np.float32))
    np.save(tmp_path / "views.npy", rng.normal(size=(60, 3, 8)))
    np.save(tmp_path / "c.npy", rng.integers(3, size=60))
    np.save(tmp_path / "w.npy", rng.random(60))
    np.save(tmp_path / "mask.npy", np.arange(60) < 40)
    np.save(tmp_path / "i.npy", np.array([7, 3]))
    np.save(tmp_path / "negative.npy", np.arange(60) - 1)
    (tmp_path / "few.txt").write_text("a\nb\n")
    (tmp_path / "ids.txt").write_text("".join(f"image {k}\n" for k in range(60)))
    return tmp_path


def run(folder, embeddings="e.npy", output="r.parquet", **options):
    """Returns the summary for these files of the folder."""
    for name in ("classes", "weights", "initial", "where", "ids"):
        if name in options:
            options[name] = str(folder / options[name])
    return rank_file(str(folder / embeddings), str(folder / output), **options)


def arrays(folder, *names):
    return [np.load(folder / name) for name in names]


def assert_same_ranking(found, expected):
    assert found.position.tolist() == expected.position.tolist()
    np.testing.assert_array_equal(found.gain, expected.gain)
    assert found.classes.tolist() == expected.classes.tolist()


def test_a_file_is_ranked_as_its_array_is(folder):
    said = run(folder, classes="c.npy", objective="facility_location", fraction=0.2, ids="ids.txt")
    found = sas_jax.Ranking.load(folder / "r.parquet", of=np.load(folder / "e.npy"))
    z, classes = arrays(folder, "e.npy", "c.npy")
    expected = sas_jax.rank(z, classes, objective="facility_location", budget=12)
    assert_same_ranking(found, expected)
    assert found.ids.tolist() == [f"image {k}" for k in range(60)]
    assert found.subset(fraction=0.2).tolist() == expected.subset(fraction=0.2).tolist()
    sizes = np.bincount(classes)
    assert said.startswith(
        f"Ranked 12 of 60 examples in 3 classes of {sizes.min()} to {sizes.max()} by facility_location in "
    )
    assert said.endswith(
        f"r.parquet.\nThe indices to keep: sas_jax.Ranking.load({str(folder / 'r.parquet')!r}).subset(fraction=0.2)"
    )


def test_everything_is_ranked_without_a_fraction(folder):
    said = run(folder, output="r.csv")
    assert said.startswith("Ranked 60 of 60 examples in one class by sas in ")
    ranking = sas_jax.Ranking.load(folder / "r.csv")
    assert sorted(ranking.position.tolist()) == list(range(60))
    assert f" Gains are below 0 beyond a fraction of {ranking.turning_fraction:.3f}." in said


def test_options_reach_rank(folder):
    run(folder, "views.npy", kind="gaussian", tau=0.7, self_similarity=0.0, objective="similarity_sum")
    expected = sas_jax.rank(
        np.load(folder / "views.npy"), kind="gaussian", tau=0.7, self_similarity=0.0, objective="similarity_sum"
    )
    assert_same_ranking(sas_jax.Ranking.load(folder / "r.parquet"), expected)
    run(folder, "e.npy", kmeans=3, fraction=0.5, budgets="balanced")
    assert sas_jax.Ranking.load(folder / "r.parquet").metadata["parameters"]["budgets"] == "balanced"
    z = np.load(folder / "e.npy") / 20
    np.save(folder / "short.npy", z)
    run(folder, "short.npy", normalize=False)
    assert_same_ranking(sas_jax.Ranking.load(folder / "r.parquet"), sas_jax.rank(z, normalize=False))


def test_weights_initial_and_where_reach_rank(folder):
    said = run(folder, weights="w.npy", initial="i.npy", where="mask.npy", objective="facility_location")
    z, weights, initial, where = arrays(folder, "e.npy", "w.npy", "i.npy", "mask.npy")
    expected = sas_jax.rank(z, weights=weights, initial=initial, where=where, objective="facility_location")
    found = sas_jax.Ranking.load(folder / "r.parquet")
    assert_same_ranking(found, expected)
    assert (found.position >= 0).sum() == 38
    assert "Ranked 38 of 60 examples" in said
    # A fraction of 1 is more than was ranked, so the summary gives the size.
    assert said.endswith(
        f"The indices to keep, in addition to those of i.npy: sas_jax.Ranking.load("
        f"{str(folder / 'r.parquet')!r}).subset(size=38)"
    )


@pytest.mark.parametrize("name", ["e.npy", "views.npy"])
def test_kmeans_makes_the_classes_that_the_pipeline_would(folder, name):
    said = run(folder, name, kmeans=4, seed=5)
    z = np.load(folder / name).astype(np.float64)
    unit = z / np.linalg.norm(z, axis=-1, keepdims=True)
    unit = (unit if unit.ndim == 2 else unit.mean(1)).astype(np.float32)
    classes = latent_classes.kmeans(jax.random.key(5), unit, num_classes=4).labels
    found = sas_jax.Ranking.load(folder / "r.parquet")
    assert found.classes.tolist() == classes.tolist()
    assert_same_ranking(found, sas_jax.rank(np.load(folder / name), classes))
    assert "in 4 classes of" in said
    assert found.metadata["select"] == {"fraction": 1.0, "kmeans": 4, "seed": 5}


@pytest.mark.parametrize("kmeans", [0, -1, 1.5, "3", True])
def test_what_is_no_number_of_classes_is_refused(folder, kmeans):
    """0 would rank all examples as one class, as if no number had been given."""
    with pytest.raises(
        InputError, match=r"^--kmeans must be a whole number, 1 or more, got .*\. Give a number of classes"
    ):
        run(folder, kmeans=kmeans)


def test_a_file_larger_than_memory_is_read_in_blocks(folder, monkeypatch):
    """Its classes are found in passes, and a class too large to be ranked is refused with one sentence."""
    z = np.load(folder / "e.npy")
    unit = (z / np.linalg.norm(z.astype(np.float64), axis=1, keepdims=True)).astype(np.float32)
    monkeypatch.setattr(devices, "memory", lambda: z.nbytes)
    run(folder, kmeans=4, seed=5)
    found = sas_jax.Ranking.load(folder / "r.parquet", of=z)
    assert found.classes.tolist() == passes.kmeans_by_passes(jax.random.key(5), unit, num_classes=4).labels.tolist()
    assert_same_ranking(found, sas_jax.rank(z, found.classes))
    monkeypatch.setattr(classwise, "_LARGEST_MATRIX", 40)
    monkeypatch.setattr(devices, "free_memory", lambda: 1000)
    with pytest.raises(InputError, match="must fit in memory to be ranked, got one of 60 examples, which needs"):
        run(folder)


def test_the_metadata_say_what_was_given(folder):
    run(folder, classes="c.npy", where="mask.npy", fraction=0.25)
    metadata = sas_jax.Ranking.load(folder / "r.parquet").metadata
    z, classes, where = arrays(folder, "e.npy", "c.npy", "mask.npy")
    expected = sas_jax.rank(z, classes, where=where, budget=15).metadata
    assert {name: metadata[name] for name in expected} == expected
    assert metadata["source"] == "e.npy"
    assert metadata["select"] == {"classes": "c.npy", "where": "mask.npy", "fraction": 0.25}
    assert str(folder) not in json.dumps(metadata)


def test_a_ranking_of_another_file_is_refused_with_both_names(folder):
    run(folder)
    message = "made by sas from 60 examples of e.npy with the fingerprint .* used on 60 examples of other.npy with the"
    np.save(folder / "other.npy", np.load(folder / "e.npy")[::-1])
    with pytest.raises(InputError, match=message):
        sas_jax.Ranking.load(folder / "r.parquet", of=np.load(folder / "other.npy", mmap_mode="r"))


@pytest.mark.parametrize("convert", [np.asfortranarray, lambda z: z.astype(">f4"), lambda z: z.astype(np.float64)])
def test_arrays_of_any_layout(folder, convert):
    run(folder)
    expected = sas_jax.Ranking.load(folder / "r.parquet")
    np.save(folder / "converted.npy", convert(np.load(folder / "e.npy")))
    run(folder, "converted.npy", "converted.parquet")
    found = sas_jax.Ranking.load(folder / "converted.parquet")
    assert_same_ranking(found, expected)
    assert found.metadata["fingerprint"] == expected.metadata["fingerprint"]


def test_halves_are_taken(folder):
    z = np.load(folder / "e.npy").astype(np.float16)
    np.save(folder / "half.npy", z)
    run(folder, "half.npy")
    assert_same_ranking(sas_jax.Ranking.load(folder / "r.parquet"), sas_jax.rank(z.astype(np.float32)))


def test_an_interrupted_run_goes_on_where_it_was(folder, monkeypatch):
    """Raises what Ctrl-C raises, at a report of progress."""
    z = np.random.default_rng(1).normal(size=(100, 8))
    np.save(folder / "large.npy", z)
    monkeypatch.setattr(classwise, "_LARGEST_MATRIX", 64)  # larger classes are ranked step by step
    reports, rank, interrupt = [], module.rank, True

    def report(done, total):
        reports.append(done)
        if interrupt and 0 < done < total:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "rank", lambda *given, **options: rank(*given, **(options | {"progress": report})))
    for clock in ("monotonic", "perf_counter", "time"):  # reports come once a second: every look takes a second here
        monkeypatch.setattr(time, clock, functools.partial(next, itertools.count(1e9)))
    with pytest.raises(KeyboardInterrupt):
        run(folder, "large.npy")
    assert (folder / "r.parquet.partial").exists()
    assert not (folder / "r.parquet").exists()
    assert 0 < reports[-1] < 100
    done, interrupt = reports[-1], False
    reports.clear()
    run(folder, "large.npy")
    assert reports[0] >= done
    assert_same_ranking(sas_jax.Ranking.load(folder / "r.parquet"), sas_jax.rank(z))
    assert not (folder / "r.parquet.partial").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"embeddings": "none.npy"},
            "none.npy must be a .npy file, got one that cannot be read (No such file or directory)",
        ),
        ({"embeddings": "."}, "must be a .npy file, got one that cannot be read (Is a directory)"),
        (
            {"embeddings": "two.npz"},
            "two.npz must be a .npy file, got one that cannot be read (it is an archive of arrays",
        ),
        ({"embeddings": "short.npy"}, "short.npy must be a .npy file, got one that cannot be read"),
        ({"embeddings": "mask.npy"}, "`embeddings` must be [n, d], or [n, m, d] for m views of each example"),
        ({"embeddings": "integers.npy"}, "Embeddings must be floating point, got int64"),
        ({"embeddings": "nothing.npy"}, "`embeddings` must be [n, d]"),
        ({"embeddings": "nan.npy"}, "`embeddings` must be finite, got NaN or infinity in rows 3, 59."),
        (
            {"embeddings": "nan.npy", "kmeans": 3},
            "`embeddings` must be finite, got NaN or infinity in rows 3, 59.",
        ),
        ({"embeddings": "zero.npy"}, "must have no rows of zeros, got a norm of 0 in row 5"),
        ({"embeddings": "e.npy", "normalize": False}, "must have norms of at most 1 with normalize=False"),
        ({"classes": "none.npy"}, "none.npy must be a .npy file, got one that cannot be read"),
        ({"classes": "e.npy"}, "Classes must have one entry for each example, shape [60], got [60, 8]"),
        ({"classes": "w.npy"}, "Classes must be text, or whole numbers from 0 to 2^31 - 1, got "),
        ({"classes": "negative.npy"}, "Classes must be text, or whole numbers from 0 to 2^31 - 1, got -1 as entry 0"),
        ({"classes": "c.npy", "kmeans": 3}, "Only one of --classes and --kmeans may be given"),
        ({"kmeans": 61}, "--kmeans must be at most the 60 rows of --embeddings, got 61"),
        (
            {"embeddings": "same.npy", "kmeans": 3},
            "--kmeans must be at most the 1 distinct rows of --embeddings, got 3",
        ),
        ({"objective": "fl"}, "The objective must be one of sas, facility_location, similarity_sum, got 'fl'"),
        ({"weights": "i.npy"}, "Weights must have one entry for each example, shape [60], got [2]"),
        ({"initial": "negative.npy"}, "`initial` must hold indices from 0 to 59"),
        ({"where": "w.npy"}, "`where` must be bool [60], True for candidates, got float64 [60]"),
        ({"ids": "few.txt"}, "Ids must have one entry for each example, shape [60], got [2]"),
        ({"ids": "twice.txt"}, "must be unique, got 'a' as entry 1"),
        ({"ids": "e.npy"}, "e.npy must be a UTF-8 text file"),
        ({"self_similarity": 2.0}, "self_similarity must be from 0 to 1, got 2.0"),
        ({"tau": -1.0}, "tau must be more than 0, got -1.0"),
        ({"fraction": 0.0}, "`fraction` must be more than 0 and at most 1, got 0.0"),
        ({"fraction": float("nan")}, "`fraction` must be more than 0 and at most 1, got nan"),
        ({"fraction": 0.001}, "`fraction` must select at least one of 60 examples, got 0.001"),
        ({"fraction": 0.9, "where": "mask.npy"}, "from 1 to the 40 candidates, got 54"),
        ({"output": "r.txt"}, "A ranking must be a .parquet, .csv or .npz file"),
        ({"output": "nowhere/r.csv"}, "must be a writable file, got one that cannot be written"),
        ({"output": "folder.csv"}, "got one that cannot be written (Is a directory). Choose"),
    ],
)
def test_bad_input_is_one_sentence(folder, changes, message):
    z = np.load(folder / "e.npy")
    np.savez(folder / "two.npz", a=z, b=z)
    (folder / "short.npy").write_bytes((folder / "e.npy").read_bytes()[:500])
    np.save(folder / "integers.npy", np.ones((60, 8), int))
    np.save(folder / "nothing.npy", z[:0])
    np.save(folder / "nan.npy", np.where(np.isin(np.arange(60), [3, 59])[:, None], np.nan, z))
    np.save(folder / "zero.npy", np.where(np.arange(60)[:, None] == 5, 0, z))
    np.save(folder / "same.npy", np.ones((60, 8)))
    (folder / "twice.txt").write_text("a\n" * 60)
    (folder / "folder.csv").mkdir()
    before = sorted(folder.iterdir())
    with pytest.raises(InputError) as stopped:
        run(folder, **changes)
    assert message in str(stopped.value)
    assert "\n" not in str(stopped.value)
    assert sorted(folder.iterdir()) == before


def test_a_place_that_cannot_be_written_is_found_before_the_work(folder, monkeypatch):
    def never(*_, **__):
        raise AssertionError("the ranking began")

    monkeypatch.setattr(module, "rank", never)
    for output in ("nowhere/r.csv", "e.npy/r.csv", "r.txt", f"{'x' * 252}.csv"):
        with pytest.raises(InputError, match=r"A ranking must be|must be a writable file"):
            run(folder, output=output)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "fl"}, "The objective must be one of sas, facility_location, similarity_sum"),
        ({"kind": "cosin"}, "The kind of similarity must be one of cosine, clipped_cosine, gaussian"),
        ({"weights": "negative.npy"}, "`weights` must be from 0 to 3.4e+38, got -1"),
        ({"initial": "w.npy"}, "`initial` must be integers [k], indices of examples already chosen"),
        ({"where": "c.npy"}, "`where` must be bool [60]"),
        ({"ids": "few.txt"}, "Ids must have one entry for each example, shape [60], got [2]"),
    ],
)
def test_mistakes_are_found_before_minutes_of_kmeans(folder, monkeypatch, changes, message):
    def never(*_, **__):
        raise AssertionError("k-means began")

    monkeypatch.setattr("sas_jax.rank_file.cluster", never)
    with pytest.raises(InputError) as stopped:
        run(folder, kmeans=3, **changes)
    assert message in str(stopped.value)


def test_what_is_given_is_mapped_and_not_read(folder, monkeypatch):
    seen = {}

    def rank(values, classes, **options):
        seen.update(options, embeddings=values, classes=classes)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "rank", rank)
    with pytest.raises(KeyboardInterrupt):
        run(folder, classes="c.npy", weights="w.npy", initial="i.npy", where="mask.npy")
    names = ("embeddings", "classes", "weights", "initial", "where")
    assert all(isinstance(seen[name], np.memmap) for name in names)
    assert pathlib.Path(seen["resume"]) == folder / "r.parquet.partial"
    assert seen["mesh"].size == jax.device_count()
    assert checks.mesh(seen["mesh"]) is seen["mesh"]


@pytest.mark.parametrize("name", ["r" * 247 + ".parquet", "\u00e9" * 125 + ".csv"])
def test_an_output_may_have_the_longest_name_that_there_is(tmp_path, name):
    embeddings = np.random.default_rng(0).normal(size=(9, 3))
    np.save(tmp_path / "E.npy", embeddings)
    rank_file(str(tmp_path / "E.npy"), str(tmp_path / name))
    assert len(sas_jax.Ranking.load(str(tmp_path / name))) == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["E.npy", name])


def test_an_output_that_is_a_link_is_written_through(tmp_path):
    np.save(tmp_path / "E.npy", np.random.default_rng(0).normal(size=(9, 3)))
    (tmp_path / "disk").mkdir()
    (tmp_path / "r.csv").symlink_to("disk/there.csv")
    rank_file(str(tmp_path / "E.npy"), str(tmp_path / "r.csv"))
    assert (tmp_path / "r.csv").is_symlink()
    assert len(sas_jax.Ranking.load(str(tmp_path / "disk" / "there.csv"))) == 9
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["there.csv"]


def test_another_process_may_have_finished_the_same_ranking(tmp_path, monkeypatch):
    np.save(tmp_path / "E.npy", np.random.default_rng(0).normal(size=(9, 3)))
    rank = module.rank

    def and_the_other_is_done(*given, resume, **more):
        ranking = rank(*given, resume=resume, **more)
        os.remove(resume)
        return ranking

    monkeypatch.setattr(module, "rank", and_the_other_is_done)
    rank_file(str(tmp_path / "E.npy"), str(tmp_path / "r.csv"))
    assert len(sas_jax.Ranking.load(str(tmp_path / "r.csv"))) == 9
