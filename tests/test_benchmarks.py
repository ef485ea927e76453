"""The benchmark of selection runs, measures what it claims, and its page shows its json."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cases, measure, numpy_greedy, out_of_core, processes, selection, tables
from benchmarks.implementations import IMPLEMENTATIONS, Task

ROOT = Path(__file__).resolve().parent.parent
PAIRS = [
    (name, objective)
    for name, implementation in IMPLEMENTATIONS.items()
    for objective in implementation.bytes_per_pair
    if not name.startswith("sas_jax")
]
MODULES = {"apricot-select": "apricot", "submodlib-py": "submodlib", "kmedoids": "kmedoids"}


def run(output, *flags):
    command = [sys.executable, "-m", "benchmarks.selection", "--runs=1", f"--output={output}", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(name="output", scope="module")
def fixture_output(tmp_path_factory):
    """Runs our two implementations, and kmedoids if it is installed, on a case of each kind."""
    output = tmp_path_factory.mktemp("benchmark") / "selection-tiny.json"
    done = run(
        output,
        "--quick",
        "--only=facility_location-60-0.20,facility_location-mixed,sas-embeddings",
        "--implementations=sas_jax,kmedoids,numpy",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return output


def slow_value(objective, similarity, picks):
    rest = [i for i in range(len(similarity)) if i not in picks]
    if objective == "facility_location":
        return sum(max(float(similarity[i, j]) for j in picks) for i in range(len(similarity)))
    return sum(float(similarity[i, j]) for i in rest for j in picks)


def slow_greedy(objective, similarity, budget):
    picks = []
    for _ in range(budget):
        left = [e for e in range(len(similarity)) if e not in picks]
        picks.append(max(left, key=lambda e: (slow_value(objective, similarity, [*picks, e]), -e)))
    return picks


def example_matrix(n, seed=0):
    return cases.similarity(cases.mixture(n, np.random.default_rng(seed)))


def test_similarities_are_symmetric_and_of_multiples_that_float32_subtracts_exactly():
    s = example_matrix(40)
    assert s.dtype == np.float32
    assert s.ctypes.data % 64 == 0
    np.testing.assert_array_equal(s, s.T)
    np.testing.assert_array_equal(s * 2.0**23, np.rint(s * 2.0**23))
    np.testing.assert_array_equal(np.diagonal(s), 1)
    assert s.min() >= 0
    assert s.max() == 1
    differences = s[:, None, :] - s[None, :, :]
    np.testing.assert_array_equal(differences, s.astype(np.float64)[:, None, :] - s.astype(np.float64)[None, :, :])


def test_similarity_of_rows_is_that_of_the_matrix():
    z = cases.mixture(40, np.random.default_rng(1))
    np.testing.assert_allclose(
        cases.similarity_rows(z, np.array([7, 0, 39])), cases.similarity(z)[[7, 0, 39]], rtol=0, atol=2.0**-22
    )


def test_matrices_of_a_file_come_back_as_they_were(tmp_path):
    matrices = [np.random.default_rng(n).random((n, n), np.float32) for n in (3, 8, 5)]
    with (tmp_path / "matrices.bin").open("wb") as file:
        for matrix in matrices:
            cases.append_matrix(file, matrix)
    values = np.fromfile(tmp_path / "matrices.bin", np.float32)
    for matrix, again in zip(matrices, cases.split_matrices(values, [3, 8, 5]), strict=True):
        np.testing.assert_array_equal(matrix, again)


@pytest.mark.parametrize("objective", cases.OBJECTIVES)
def test_numpy_form_is_greedy_by_definition(objective):
    s = example_matrix(30)
    picks = numpy_greedy.greedy(objective, s.__getitem__, 30, 20)
    assert picks.tolist() == slow_greedy(objective, s, 20)
    assert numpy_greedy.value(objective, s.__getitem__, 30, picks) == pytest.approx(
        slow_value(objective, s, picks.tolist()), rel=1e-12
    )
    assert numpy_greedy.shortfall(objective, s.__getitem__, 30, picks) == 0


@pytest.mark.parametrize("objective", cases.OBJECTIVES)
def test_replay_notices_a_pick_that_was_not_the_best(objective):
    s = example_matrix(30)
    picks = numpy_greedy.greedy(objective, s.__getitem__, 30, 10)
    worst_first = np.argmin(s.sum(0))
    assert numpy_greedy.shortfall(objective, s.__getitem__, 30, np.array([worst_first, *picks])) > 0.01
    assert numpy_greedy.shortfall(objective, s.__getitem__, 30, np.array([*picks, picks[0]])) == np.inf


@pytest.mark.filterwarnings("ignore")  # the packages' own warnings are not tested
@pytest.mark.parametrize(("name", "objective"), PAIRS)
def test_all_maximise_the_same_function(name, objective):
    package = IMPLEMENTATIONS[name].package
    if package and importlib.util.find_spec(MODULES[package]) is None:
        pytest.skip(f"{package} is not installed: pip install -r benchmarks/requirements.txt")
    n, s = 60, example_matrix(60, seed=2)
    picks = {}
    for each in ("sas_jax", name):
        # A copy, because kmedoids turns the matrix into dissimilarities in place.
        matrices = [s.copy()]
        task = Task(objective, np.empty((n, 1), np.float32), np.zeros(n, int), [48], matrices, devices=1)
        (picks[each],) = IMPLEMENTATIONS[each].prepare(task)()
    rows = s.__getitem__
    # A wrong trade-off gives picks with gains that are lower by several per cent; only ties may be broken differently.
    assert numpy_greedy.shortfall(objective, rows, n, picks[name]) < 1e-6
    assert picks[name][:12].tolist() == picks["sas_jax"][:12].tolist()


def test_one_that_takes_too_long_is_stopped():
    script = "import time; from benchmarks import measure; measure.timed(lambda: time.sleep(60), 0.2)"
    child = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert child.returncode == -selection.signal.SIGALRM
    assert measure.timed(lambda: [np.arange(3)], 60)[1][0].tolist() == [0, 1, 2]


def test_standard_cases_are_those_asked_for():
    names = [case.name for case in cases.standard([30], [70, 80])]
    assert [name for name in names if "-30-" in name] == [
        f"{objective}-30-{fraction}" for objective in cases.OBJECTIVES for fraction in ("0.20", "0.80")
    ]
    assert [name for name in names if "embeddings" in name] == [
        f"{objective}-embeddings-{size}-0.20" for size in (70, 80) for objective in cases.OBJECTIVES
    ]
    assert len(set(names)) == len(names)
    mixed = next(case for case in cases.standard() if "mixed" in case.name)
    assert (min(mixed.sizes), max(mixed.sizes)) == (30, 3000)
    assert all(size % 5 == 0 for size in mixed.sizes)


def test_what_was_stopped_is_not_tried_on_more():
    stopped = [(1, 5000, 0.2)]
    assert "already stopped" in selection._stopped_before((1, 10_000, 0.8), stopped)
    assert selection._stopped_before((100, 500, 0.2), stopped) is None


def test_every_case_and_implementation_is_there_with_a_value(output):
    results = json.loads(output.read_text())
    assert len(results["cases"]) == 3
    for name, case in results["cases"].items():
        own, reference = case["results"]["sas_jax"], case["results"]["numpy"]
        assert own["value"] == pytest.approx(reference["value"], rel=1e-6), name
        assert own["cold_seconds"] > 0
        assert len(own["warm_seconds"]) == len(reference["warm_seconds"]) == 1
        assert own["first_ever_seconds"] > 0
        assert own["memory_before_bytes"] is None or 0 < own["memory_before_bytes"] <= own["memory_peak_bytes"]
        assert sum(case["budgets"]) == round(0.2 * case["examples"])
    single, mixed, embeddings = results["cases"].values()
    assert single["results"]["sas_jax"]["largest_shortfall"] < 1e-6
    assert mixed["results"]["sas_jax"]["largest_shortfall"] < 1e-6
    assert "kmedoids" not in embeddings["results"]  # it has no cut objective
    installed = importlib.util.find_spec("kmedoids") is not None
    assert single["results"]["kmedoids"]["status"] == ("measured" if installed else "skipped")
    assert installed or "cannot be imported" in single["results"]["kmedoids"]["reason"]


def test_a_case_measured_again_leaves_the_others_as_they_were(output, tmp_path):
    merged = tmp_path / "merged.json"
    merged.write_text(output.read_text())
    done = run(merged, "--quick", "--only=facility_location-60-0.20", "--implementations=numpy", "--runs=2")
    assert done.returncode == 0, done.stdout + done.stderr
    before, after = json.loads(output.read_text())["cases"], json.loads(merged.read_text())["cases"]
    changed = after["facility_location-60-0.20"]["results"]
    assert len(changed["numpy"]["warm_seconds"]) == 2
    assert changed["sas_jax"] == before["facility_location-60-0.20"]["results"]["sas_jax"]
    assert {name: after[name] for name in after if "-60-" not in name} == {
        name: before[name] for name in before if "-60-" not in name
    }


def test_embeddings_of_ones_own_are_taken_as_they_are_where_norms_allow(tmp_path):
    rng = np.random.default_rng(5)
    classes = rng.permutation(np.repeat([3, 8], [20, 30]))
    np.save(tmp_path / "classes.npy", classes)
    np.save(tmp_path / "images.npy", 0.5 * cases.mixture(50, rng))
    files = [f"--embeddings={tmp_path / 'images.npy'}", f"--classes={tmp_path / 'classes.npy'}"]
    done = run(tmp_path / "own.json", "--implementations=numpy", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "own.json").read_text())
    case = results["cases"]["facility_location-images-0.20"]
    assert (case["classes"], case["budgets"]) == (2, [4, 6])
    z = np.load(tmp_path / "images.npy")
    value = 0.0
    for label, budget in ((3, 4), (8, 6)):
        s = cases.similarity(z[classes == label])
        assert np.partition(s[0], -2)[-2] <= 0.25
        value += slow_value("facility_location", s, slow_greedy("facility_location", s, budget))
    assert case["results"]["numpy"]["value"] == pytest.approx(value, rel=1e-9)
    assert "facility location, 2 classes of 20 to 30 (images), 20%" in tables.selection(results)


def test_results_of_other_hardware_are_refused(output, tmp_path):
    other = tmp_path / "other.json"
    results = json.loads(output.read_text())
    other.write_text(json.dumps(results | {"hardware": results["hardware"] | {"cores": 1000}}))
    done = run(other, "--quick", "--implementations=numpy")
    assert done.returncode != 0
    assert "other hardware" in done.stderr
    assert json.loads(other.read_text())["hardware"]["cores"] == 1000


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--implementations=numpy,sklearn"], "got sklearn. Correct the name"),
        (["--only=nothing"], "--only must be contained in the name of a case, got nothing"),
        (["--sizes=500,many"], "--sizes must be whole numbers of 10 or more"),
        (["--unpartitioned=9"], "--unpartitioned must be whole numbers of 10 or more"),
        (["--embeddings=e.npy"], "must be given together"),
    ],
)
def test_flags_that_cannot_be_used_are_named(monkeypatch, capsys, flags, sentence):
    monkeypatch.setattr(sys, "argv", ["selection", "--output=x.json", *flags])
    with pytest.raises(SystemExit):
        selection._options()
    assert sentence in capsys.readouterr().err


def test_tables_hold_what_was_measured_and_go_to_their_place(output):
    results = json.loads(output.read_text())
    text = tables.selection(results)
    time = tables.seconds(results["cases"]["facility_location-60-0.20"]["results"]["numpy"])
    (row,) = [line for line in text.splitlines() if line.startswith("| facility location, 60, 20% |")][:1]
    assert f"{time:.4f} (" in row
    page = "# A\n<!-- a: begin -->\nold\n<!-- a: end -->\nB\n"
    page = tables.insert(tables.insert(page, "a", "first"), "a", text)
    assert page == f"# A\n<!-- a: begin -->\n{text}\n<!-- a: end -->\nB\n"
    with pytest.raises(ValueError, match=r"must have the lines .* for other\.json"):
        tables.insert(page, "other", text)
    case = results["cases"]["facility_location-60-0.20"]
    assert tables._numpy(case) not in ("-", "failed")
    case["results"][tables.MATRICES] = {"status": "failed", "reason": "exited with code 1: why"}
    assert (tables._numpy(case), tables._warm(case["results"][tables.MATRICES], case)) == ("failed", "failed")


def test_page_shows_the_results_that_lie_beside_it():
    files = sorted((ROOT / "docs" / "results").glob("selection-*.json"))
    if not files:
        pytest.skip("docs/results holds no selection-*.json; python -m benchmarks.selection writes one")
    page = (ROOT / "docs" / "tables.md").read_text()
    for file in files:
        assert tables.insert(page, file.stem, tables.selection(json.loads(file.read_text()))) == page, (
            f"docs/tables.md does not show {file.name}: run python -m benchmarks.plot docs/results/selection-*.json"
        )


@pytest.mark.parametrize("module", [out_of_core, processes])
def test_scaling_md_shows_what_was_measured(module):
    page = (ROOT / "docs" / "scaling.md").read_text()
    table = module.table(json.loads(module.OUTPUT.read_text()))
    assert tables.insert(page, module.OUTPUT.stem, table) == page, f"run python -m {module.__name__} write"


def test_benchmarks_md_states_the_range_of_the_ratios():
    cases = json.loads((ROOT / "docs" / "results" / "selection-cpu.json").read_text())["cases"].values()
    text = " ".join((ROOT / "docs" / "benchmarks.md").read_text().split())
    for ratio, peer in ((tables._any, "the fastest package"), (tables._numpy, "the same algorithm in NumPy")):
        found = [float(ratio(case)) for case in cases if ratio(case) != "-"]
        assert f"{min(found):.2g} to {max(found):.2g} times as fast as {peer}" in text


def test_plot_draws_and_fills_the_page(output, tmp_path):
    pytest.importorskip("matplotlib", reason="pip install -r benchmarks/requirements.txt draws the plots")
    page = tmp_path / "page.md"
    page.write_text(f"<!-- {output.stem}: begin -->\n<!-- {output.stem}: end -->\n")
    command = [sys.executable, "-m", "benchmarks.plot", str(output), f"--page={page}", f"--images={tmp_path}"]
    subprocess.run(command, cwd=ROOT, check=True)
    assert (tmp_path / f"benchmark-{output.stem}.png").stat().st_size > 10_000
    assert tables.selection(json.loads(output.read_text())) in page.read_text()
