"""The tables of a comparison: their statistics, the stored part of a run, and that the pages show the json."""

import itertools
import json
import math
import re
import statistics
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks import results, results_plot, results_tables, tables
from configs import compare_cifar100, compare_digits
from sas_jax.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = sorted((ROOT / "docs/results").glob("compare-*.json"))
SEEDS = range(5)
N = 1000


def accuracy(value, n=N):
    return {"value": value, "low": max(0, value - 0.03), "high": min(1, value + 0.02), "standard_error": 0.01, "n": n}


def arm(selector, fraction, seed, probe, method="simclr", step_rule="epochs", n=N):
    """Returns a row of results.json; kNN is 2 points below the probe, and the supervised accuracy 20."""
    measured = probe is not None
    return {
        "name": f"{selector}-{fraction}-s{seed}-{method}-{step_rule}",
        "selector": selector,
        "fraction": fraction,
        "seed": seed,
        "method": method,
        "step_rule": step_rule,
        "size": round(1437 * (fraction or 0)),
        "epochs": 40,
        "steps": 440,
        "loss": 3.8,
        "spread": 0.9,
        "collapsed": False,
        "train_seconds": 12.3,
        "views_per_second": 900.0,
        "probe": accuracy(probe, n) if measured else None,
        "knn": accuracy(probe - 0.02, n) if measured else None,
        "probe_few": {"0.05": accuracy(probe - 0.1, n)} if measured else None,
        "probe_coarse": None,
        "geometry": {"distances": [0.1] * 100} if measured else None,
        "supervised": accuracy(probe - 0.2, n) if measured and fraction in (0.2, 1.0) else None,
    }


def noise(seed):
    return 0.002 * math.sin(seed + 1)


def some_arms():
    """Makes sas far ahead of random at 20 %, behind it at 40 %, and no other difference."""
    rows = [arm(None, None, 0, 0.4)]
    gains = {("sas", 0.2): 0.1, ("sas", 0.4): -0.02}
    for selector, fraction, seed in itertools.product(("sas", "facility_location", "random"), (0.2, 0.4), SEEDS):
        own = gains.get((selector, fraction), 0.0) + (noise(seed * 7) if selector != "random" else 0.0)
        rows.append(arm(selector, fraction, seed, 0.55 + fraction / 4 + noise(seed) + own))
    rows += [arm("full", 1.0, seed, 0.75 + noise(seed)) for seed in SEEDS]
    rows += [arm("sas", 0.2, seed, 0.72 + noise(2 * seed), step_rule="steps") for seed in SEEDS]
    rows += [arm("random", 0.2, seed, 0.65 + noise(seed), step_rule="steps") for seed in SEEDS]
    rows += [arm("sas", 0.2, seed, 0.5, "byol") for seed in (0, 1)]
    rows += [arm("random", 0.2, seed, 0.52, "byol") for seed in (0, 1)]
    return [*rows, arm("full", 1.0, 0, 0.58, "byol")]


@pytest.fixture(name="make_workdir")
def fixture_make_workdir(tmp_path):
    """Returns `make_workdir(rows, get_config, section__field=value)`, which writes the files that collecting reads."""

    def make(rows, get_config=compare_digits.get_config, **changes):
        path = tmp_path / "run"
        path.mkdir(exist_ok=True)
        config = get_config()
        with config.unlocked():
            for name, value in changes.items():
                config.update_from_flattened_dict({name.replace("__", "."): value})
        found = {
            "dataset": {"name": "digits", "train_size": 1437, "test_size": 360, "num_classes": 10},
            "latent_classes": {"method": "kmeans", "embeddings": "", "num_classes": 10, "sizes": [1] * 10,
                               "agreement": {"purity": 0.924}},
            "selection": {"objective": "sas", "similarity": "cosine", "turning_fraction": 0.47},
            "stages": {"proxy": {"wall_seconds": 81.0}},
            "arms": rows,
        }  # fmt: skip
        environment = {"python": "3.11.7", "versions": {"sas_jax": "0.1.0", "jax": "0.10.2"}, "commit": "0123abc",
                       "devices": ["cpu", "cpu"]}  # fmt: skip
        for name, content in (("config", config.to_dict()), ("results", found), ("environment", environment)):
            (path / f"{name}.json").write_text(json.dumps(content))
        return path

    return make


@pytest.fixture(name="content")
def fixture_content(make_workdir):
    return results.collect(make_workdir(some_arms()), title="Digits", hardware="two cores", date="2026-11-24")


@pytest.fixture(name="pages")
def fixture_pages(tmp_path, content):
    """Returns the arguments of `results.write`, with one json and pages that have places for the tables."""
    folder = tmp_path / "docs" / "results"
    folder.mkdir(parents=True)
    (folder / "compare-digits.json").write_text(results.dumped(content))
    page, readme = tmp_path / "docs" / "comparisons.md", tmp_path / "README.md"
    page.write_text("Before.\n<!-- compare-digits: begin -->\n<!-- compare-digits: end -->\nAfter.\n")
    readme.write_text("Before.\n<!-- results: begin -->\n<!-- results: end -->\nAfter.\n")
    return folder, page, [readme], tmp_path / "docs" / "images"


def cells(page, heading):
    """Returns the first table after a line, by row and column."""
    lines = page.split(heading, 1)[1].splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("|"))
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in itertools.takewhile(lambda x: x.startswith("|"), lines[start:])
    ]
    assert len({len(row) for row in rows}) == 1
    assert set(map(len, rows[1])) <= {3, 4}
    head = [name.replace("\u00a0", " ") for name in rows[0]]
    return {row[0].replace("\u00a0", " "): dict(zip(head[1:], row[1:], strict=True)) for row in rows[2:]}


def test_the_tables_say_what_holds(content):
    page = results_tables.run(content, "images/results-digits.svg")
    reached = cells(page, "### Linear probe\n")
    assert set(reached) == {"sas", "facility_location", "random", "full"}
    values = [row["probe"]["value"] for row in some_arms() if row["name"].startswith("sas-0.4-")]
    assert re.fullmatch(rf"{100 * statistics.fmean(values):.1f} ± 2\.\d \(5\)", reached["sas"]["40 %"])
    assert reached["full"]["20 %"] == "\u2013"
    to_random = cells(page, "Linear probe: the difference to random")
    assert set(to_random) == {"sas", "facility_location"}
    assert to_random["sas"]["20 %"].startswith("+10.")
    assert to_random["sas"]["20 %"].endswith("**ahead**")
    assert re.fullmatch(r"\u2212(1\.9|2\.0) \(.*\) behind", to_random["sas"]["40 %"])
    assert to_random["facility_location"]["20 %"].endswith(")")
    to_full = cells(page, "Linear probe: the difference to all images")
    assert set(to_full) == {"sas", "facility_location", "random"}
    assert to_full["sas"]["20 %"].endswith("behind")
    assert "The untrained encoder reaches 40.0\u00a0% (37.0\u201342.0)." in page


def test_every_accuracy_has_its_tables(content):
    page = results_tables.run(content, "x.svg")
    assert cells(page, "### kNN\n")["full"]["100 %"].startswith("73.0")
    assert cells(page, "### Linear probe on 5\u00a0% of the labels")["full"]["100 %"].startswith("65.0")
    supervised = cells(page, "### Supervised")
    assert set(supervised["sas"]) == {"20 %", "100 %"}
    assert supervised["full"]["100 %"].startswith("55.0")
    assert "ahead" in cells(page, "labels: the difference to random subsets")["sas"]["20 %"]


def test_other_settings_stand_beside_their_own_rivals(content):
    page = results_tables.run(content, "x.svg")
    steps = cells(page, "### Equal steps")
    assert steps["sas at 20 % (equal steps)"]["vs random"].startswith("+7.")
    assert steps["sas at 20 % (equal steps)"]["vs full"].startswith("\u22123.")
    methods = cells(page, "### Other methods")
    assert list(methods) == ["sas at 20 % (BYOL)", "random at 20 % (BYOL)", "full (BYOL)"]
    assert methods["sas at 20 % (BYOL)"]["vs full"].startswith("\u22128.0")
    assert methods["sas at 20 % (BYOL)"]["vs random"].endswith("; 2 seeds)")
    assert methods["full (BYOL)"]["vs full"] == "\u2013"


def test_a_collapse_is_told(content):
    assert "collapsed" not in results_tables.run(content, "x.svg")
    next(row for row in content["results"]["arms"] if row.get("method") == "byol")["collapsed"] = True
    said = "The outputs of sas at 20\u00a0% (BYOL) collapsed to nearly one point in at least one seed."
    assert said in results_tables.run(content, "x.svg")


def test_the_short_table_has_each_run_and_partition_at_twenty_percent(content):
    labels = content["results"] | {"latent_classes": {"method": "labels"}}
    labels["partitions"] = {"outside": {"method": "kmeans", "embeddings": "E.npy"}}
    labels["arms"] = [arm | {"partition": "outside"} if arm.get("selector") == "sas" else arm for arm in labels["arms"]]
    short = results_tables.short([content, content | {"title": "More digits", "results": labels}])
    rows = [line.strip("| ").split(" | ") for line in short.splitlines() if line.startswith("|")]
    assert rows[0] == ["images", "latent classes", "sas", "random", "difference"]
    assert [row[:2] for row in rows[2:]] == [
        ["Digits", "10 clusters of the proxy's embeddings"],
        ["More digits", "clusters of pretrained features"],
    ]
    assert re.fullmatch(r"\d\d\.\d ± \d\.\d \(5\)", rows[2][3])
    assert rows[2][4].endswith("**ahead**")


def test_a_list_of_images_is_a_row_with_what_it_was_selected_within(content):
    arms = [each | {"selector": "file", "fraction": 1.0} if each.get("selector") == "sas" and each["fraction"] == 0.2
            else each for each in content["results"]["arms"]]  # fmt: skip
    listed = content | {"listed": "clusters of old", "results": content["results"] | {"arms": arms}}
    rows = results_tables.short_rows([listed])
    assert [(row.latent_classes, row.difference.sign) for row in rows] == [("clusters of old", 1)]
    assert results_tables.title(listed) == "Digits; a list by sas within clusters of old"
    page = results_tables.run(listed, None)
    assert "; a list of images that sas chose within clusters of old." in page
    assert "latent classes from" not in page


def test_the_plot_has_a_line_for_each_selector_and_the_level_of_all_images(content):
    picture = results_plot.accuracy(content)
    tree = ElementTree.fromstring(picture)
    found = [element.get("class") for element in tree.iter() if element.tag.endswith("path")]
    assert found == ["line s1", "line s5", "line s2"]
    kinds = [element.get("class") for element in tree.iter()]
    assert kinds.count("dot s1") == kinds.count("whisker s1") == 2
    assert kinds.count("reference") == 1
    assert "sas at 20\u00a0% 70." in picture
    assert picture == results_plot.accuracy(json.loads(json.dumps(content)))


def test_collecting_keeps_what_the_tables_need_and_drops_what_is_bulky(content):
    text = results.dumped(content)
    assert json.loads(text) == content
    assert not re.search("seconds|distances|sizes|standard_error", text)
    assert content["wanted"] == len(compare_digits.get_config().arms)
    assert content["config"]["train.epochs"] == 40
    assert "arms" not in content["config"]
    assert "evaluation.knn_temperature" not in content["config"]
    assert content["environment"]["commit"] == "0123abc"
    assert len(content["results"]["arms"]) == len(some_arms())


def test_hundreds_of_arms_stay_small(make_workdir):
    rows = [arm("facility_location_self0", 0.2, seed, 1 / (2 + seed / 225)) for seed in range(225)]
    assert len(results.dumped(results.collect(make_workdir(rows), title="Digits"))) < 200_000


def test_the_command_is_the_shortest_that_gives_the_config(make_workdir):
    rows = some_arms()
    found = results.collect(make_workdir(rows), title="Digits")
    assert found["command"] == "python -m sas_jax.main --config=configs/compare_digits.py"
    changed = make_workdir(rows, compare_cifar100.get_config, latent_classes__method="labels",
                           proxy__embeddings="/secret/place/embeddings.npy", data__dir="/secret/data",
                           runtime__checkpoint_epochs=77)  # fmt: skip
    found = results.collect(changed, title="CIFAR-100")
    assert found["command"] == (
        "python -m sas_jax.main --config=configs/compare_cifar100.py --config.latent_classes.method=labels "
        "--config.proxy.embeddings=embeddings.npy"
    )
    assert "secret" not in results.dumped(found)
    assert results.collect(changed, title="CIFAR-100", command="make all")["command"] == "make all"
    assert results.collect(changed, title="CIFAR-100")["hardware"] == "2 x cpu"


def test_a_run_that_goes_on_says_how_far_it_has_come(make_workdir):
    rows = [arm(None, None, 0, 0.4), arm("full", 1.0, 0, 0.7), arm("sas", 0.2, 0, None)]
    content = results.collect(make_workdir(rows, arms=[["full", 1.0, 0], ["sas", 0.2, 0], ["sas", 0.2, 1]]), title="D")
    assert results_tables.progress(content) == "2 of 3 arms trained, 1 measured"
    page = results_tables.run(content, "x.svg")
    assert "**2 of 3 arms trained, 1 measured.**" in page
    assert set(cells(page, "### Linear probe")) == {"full"}
    assert results_plot.accuracy(content) is not None


def test_a_whole_run_says_so(make_workdir):
    content = results.collect(make_workdir([arm("full", 1.0, 0, 0.7)], arms=[["full", 1.0, 0]]), title="D")
    assert results_tables.progress(content) == "all 1 arms were trained and measured"


def test_arms_that_are_not_measured_make_no_tables(make_workdir, pages):
    content = results.collect(make_workdir([arm("sas", 0.2, 0, None)]), title="Digits")
    (pages[0] / "compare-digits.json").write_text(results.dumped(content))
    results.write(*pages)
    assert "No arm has been measured yet." in pages[1].read_text()
    assert "svg" not in pages[1].read_text()
    assert not pages[3].exists()


def test_what_is_no_run_is_refused_with_a_sentence(make_workdir, tmp_path):
    with pytest.raises(InputError, match=r"directory of a run, got .*, which is not a directory"):
        results.collect(tmp_path / "nowhere", title="D")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"config\.json, got .* has none. Give a directory"):
        results.collect(tmp_path / "empty", title="D")
    workdir = make_workdir(some_arms())
    (workdir / "results.json").write_text('{"dataset": {}}')
    with pytest.raises(InputError, match=r"damaged one \(results\.latent_classes is missing\)"):
        results.collect(workdir, title="D")
    (workdir / "results.json").unlink()
    with pytest.raises(InputError, match=r"results\.json, got .* has none. Wait until"):
        results.collect(workdir, title="D")


def test_the_arms_of_two_machines_are_joined(content):
    def part(seeds):
        arms = [arm for arm in content["results"]["arms"] if not arm.get("selector") or arm["seed"] in seeds]
        return content | {"results": content["results"] | {"arms": arms}}

    later = part({3, 4}) | {"hardware": "four cores"}
    rounded = later["results"]["selection"] | {"turning_fraction": 0.1234}
    later["environment"] = later["environment"] | {"commit": "4567def"}
    later["results"] = later["results"] | {"selection": rounded}
    with pytest.raises(InputError, match="must have the same selection"):
        results.joined(part({0, 1, 2}), later)
    listed = {"listed": "clusters of old"}  # no arm trains on the run's own ranking
    results.joined(part({0, 1, 2}) | listed, later | listed)
    later["results"] = later["results"] | {"selection": content["results"]["selection"]}
    whole = results.joined(part({0, 1, 2}), later)
    assert results_tables.short([whole]) == results_tables.short([content])
    assert whole["hardware"] == "two cores; four cores"
    assert whole["environment"]["commit"] == "0123abc; 4567def"
    assert sum(not arm.get("selector") for arm in whole["results"]["arms"]) == 1
    with pytest.raises(InputError, match=r"no arm in common, got .*sas-0\.2-s2"):
        results.joined(part({0, 1, 2}), part({2, 3}))
    with pytest.raises(InputError, match=r"the same config, got .* and .*epochs.* Keep them in separate"):
        results.joined(part({0}), part({1}) | {"config": {"train.epochs": 3}})


def test_the_commands_collect_and_write(make_workdir, pages, capsys):
    folder, page, (readme,), images = pages
    output = folder / "compare-digits.json"
    output.unlink()
    results.main(["collect", str(make_workdir(some_arms())), str(output), "--title=Digits", "--hardware=two cores"])
    assert "arms trained" in capsys.readouterr().out
    places = [f"--results={folder}", f"--page={page}", f"--short={readme}", f"--images={images}"]
    results.main(["write", *places])
    for path in (page, readme):
        text = path.read_text()
        assert text.startswith("Before.\n<!-- ")
        assert text.endswith("-->\nAfter.\n")
        assert "**ahead**" in text
    assert "(images/results-digits.svg)" in page.read_text()
    assert "two cores" in page.read_text()
    pictures = [images / "results-digits.svg", images / "differences.svg"]
    before = {path: path.read_bytes() for path in (page, readme, *pictures)}
    results.main(["write", *places])
    assert {path: path.read_bytes() for path in before} == before
    output.unlink()
    with pytest.raises(SystemExit, match="2"):
        results.main(["write", *places])
    assert capsys.readouterr().err.endswith(
        "must hold a compare-*.json, got none. Make one with python -m benchmarks.results collect.\n"
    )
    with pytest.raises(SystemExit, match="2"):
        results.main(["collect", str(folder), str(folder / "digits.json"), "--title=Digits"])
    assert "compare-NAME.json" in capsys.readouterr().err


@pytest.mark.parametrize(("at", "stem"), [(0, "compare-digits"), (1, "results")])
def test_a_page_without_a_place_is_refused_and_nothing_is_written(pages, at, stem):
    places = [pages[1], *pages[2]]
    places[at].write_text(f"<!-- {stem}: begin -->\n")
    before = [path.read_text() for path in places]
    with pytest.raises(InputError, match=f"<!-- {stem}: end -->, got one or none of them"):
        results.write(*pages)
    assert [path.read_text() for path in places] == before
    places[at].unlink()
    with pytest.raises(InputError, match=r"must be an existing file, got none\. Create it"):
        results.write(*pages)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_the_pages_hold_what_the_json_holds(path):
    content = json.loads(path.read_text())
    picture = results_plot.accuracy(content)
    image = ROOT / "docs/images" / f"results-{path.stem.removeprefix('compare-')}.svg"
    page = (ROOT / "docs/comparisons.md").read_text()
    if picture is not None:
        assert image.read_text() == picture, "make results"
    block = results_tables.run(content, f"images/{image.name}" if picture else None)
    assert tables.insert(page, path.stem, block) == page, "make results"
    assert len(path.read_bytes()) < 200_000


@pytest.mark.parametrize("name", ["README.md", "docs/results.md"])
def test_the_short_table_and_its_figure_hold_what_the_json_holds(name):
    contents = [json.loads(each.read_text()) for each in COMMITTED]
    page = (ROOT / name).read_text()
    assert tables.insert(page, results.SHORT_TABLE, results_tables.short(contents)) == page, "make results"
    assert (ROOT / "docs/images/differences.svg").read_text() == results_plot.differences(contents), "make results"
