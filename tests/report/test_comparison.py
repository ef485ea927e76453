"""The report of several runs: what it claims and shows, and that it contains nothing harmful."""

import copy
import re

import pytest

from sas_jax.report import comparison, runs
from sas_jax.workdir import Workdir


@pytest.fixture
def make_run(digits_run, tmp_path):
    """Returns `make_run(arms, config, dataset, stages)`, which makes a run; by default that of the fixture."""

    def make(arms=None, config=None, dataset=None, stages=None):
        results = copy.deepcopy(digits_run["results"])
        results["arms"] = arms if arms is not None else results["arms"]
        results["dataset"] |= dataset or {}
        results["stages"] = stages or results["stages"]
        return runs.Run(Workdir(tmp_path, writes=False), results, config or digits_run["config"],
                        digits_run["environment"], [])  # fmt: skip

    return make


@pytest.fixture
def compare(read_page):
    """Returns `compare(one=run, two=run)`, which makes the page."""
    return lambda **named: read_page(comparison.html(list(named.values()), list(named)))


def several(make_arm, value, **fields):
    return [make_arm("sas", 0.2, value + 0.01 * seed, seed) | fields for seed in range(3)]


def test_one_seed_claims_nothing(compare, make_run, make_arm):
    page = compare(one=make_run([make_arm("sas", 0.2, 0.60)]), two=make_run([make_arm("sas", 0.2, 0.62)]))
    assert [
        "sas at 20 %, Linear probe",
        "60.0 % 54.9\u201364.9",
        "62.0 % 56.9\u201366.9 +2.0 (\u22125.1 to +9.1; 1 seed)",
    ] in [[re.sub(r"\s+", " ", cell).strip() for cell in row] for row in page.rows]
    assert "one seed, which cannot show that arms differ" in page.part("reading")
    assert not re.search("ahead|behind", page.text)


def test_several_seeds_are_judged_against_the_first_run(compare, make_run, make_arm):
    page = compare(one=make_run(several(make_arm, 0.40)), two=make_run(several(make_arm, 0.62)),
                   three=make_run(several(make_arm, 0.40)))  # fmt: skip
    row = next(row for row in page.rows if row and row[0] == "sas at 20 %, Linear probe")
    assert "+22.0" in row[2]
    assert row[2].split()[-1] == "ahead"
    assert not re.search("ahead|behind", row[3])
    assert "Holm" in page.part("reading")


def test_arms_that_only_one_run_has_are_not_compared(compare, make_run, make_arm):
    page = compare(one=make_run([make_arm("sas", 0.2, 0.40)]), two=make_run([make_arm("sas", 0.4, 0.62)]))
    assert "No arm was measured in more than one of these runs." in page.part("answer")


@pytest.mark.parametrize("dataset", [{"name": "other digits"}, {"test_size": 10_000}])
def test_accuracies_on_different_tests_are_not_set_against_each_other(compare, make_run, dataset):
    answer = compare(one=make_run(), two=make_run(dataset=dataset)).part("answer")
    assert "their accuracies cannot be compared" in answer


def test_the_table_has_each_arm_of_each_run(compare, make_run, make_arm):
    page = compare(one=make_run([make_arm("sas", 0.2, 0.612)]),
                   two=make_run([make_arm("sas", 0.2, 0.6, seed) for seed in range(2)]))  # fmt: skip
    rows = [row for row in page.rows if row and row[0].startswith("sas at")]
    assert ["sas at 20 %", "one", "1", "287", "40", "61.2 % 56.1\u201366.1", "59.2 % 54.1\u201364.2", "80", "4.123",
            "17 s"] in rows  # fmt: skip
    assert ["sas at 20 %", "two", "2"] in [row[:3] for row in rows]


def test_the_figures_show_every_fraction_of_every_run(compare, make_run, make_arm):
    arms = [make_arm(name, share, 0.5 + share) for name in ("sas", "random") for share in (0.05, 0.2, 0.4)]
    page = compare(one=make_run(arms), two=make_run(arms))
    assert len(page.attributes("svg")) == 2
    assert len([c for c in page.attributes("circle") if c["class"].endswith("open")]) == 2 * 2 * 3
    label = page.attributes("svg")[0]["aria-label"].replace("\u00a0", " ")
    assert "one: sas 40 %: 90.0 %" in label
    assert "two: random 5 %: 55.0 %" in label


def test_only_the_fields_that_differ_are_listed(compare, make_run):
    configs = [{"seed": seed, "train": {"epochs": 40, **more}} for seed, more in ((0, {}), (1, {"remat": True}))]
    page = compare(one=make_run(config=configs[0]), two=make_run(config=configs[1]))
    assert ["seed", "0", "1"] in page.rows
    assert ["train.remat", "no such field", "true"] in page.rows
    assert not [row for row in page.rows if row and row[0] == "train.epochs"]
    assert "same in every field" in compare(one=make_run(), two=make_run()).text


def test_another_way_of_measuring_is_a_caveat(compare, make_run):
    configs = [{"evaluation": {"probe_l2": value}} for value in (0.0, 1.0)]
    page = compare(one=make_run(config=configs[0]), two=make_run(config=configs[1]))
    assert "were not evaluated in the same way: they differ in config.evaluation.probe_l2" in page.part("reading")
    assert "in the same way" not in compare(one=make_run(), two=make_run()).part("reading")


def test_times_of_a_stages_arms_are_added(compare, make_run):
    stages = {"proxy": {"wall_seconds": 70.0}, "train/a": {"wall_seconds": 20.0}, "train/b": {"wall_seconds": 25.0}}
    page = compare(one=make_run(stages=stages), two=make_run(stages={"proxy": {"wall_seconds": 10.0}}))
    assert ["train", "45 s", "\u2013"] in page.rows
    assert ["total", "1 min 55 s", "10 s"] in page.rows


def test_names_from_outside_are_harmless(compare, make_run, make_arm):
    attack = "<script>alert(1)</script>"
    arm = make_arm("sas", 0.2, 0.6) | {"selector": attack, "name": attack}
    one = make_run([arm], config={attack: attack}, dataset={"name": attack}, stages={attack: {"wall_seconds": 1.0}})
    page = compare(**{attack: one, "two": make_run([arm], dataset={"name": attack})})
    assert not page.attributes("script")
    assert attack in page.text
    assert "http" not in page.source.replace("http-equiv", "")
    assert all(len(svg["aria-label"]) > 20 for svg in page.attributes("svg"))
