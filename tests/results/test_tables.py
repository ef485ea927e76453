"""One description of columns for three formats."""

import pytest

from sas_jax.report import comparison, html, runs
from sas_jax.results import differences, printed, tables
from sas_jax.results.arms import grouped
from sas_jax.results.tables import Column, Name, Stacked, Table
from sas_jax.workdir import Workdir


@pytest.fixture
def groups(make_arm):
    values = {"sas": 0.6, "random": 0.5}
    rows = [make_arm(name, 0.2, value + 0.01 * seed, seed) for name, value in values.items() for seed in range(3)]
    return grouped([make_arm("untrained", None, 0.3), *rows])


def test_an_accuracy_is_written_in_each_form(groups):
    measure = groups[1].measures["probe"]
    assert measure.text() == "61.0 (57.1-64.2)"
    assert measure.markdown() == "61.0 \u00b1 3.5 (3)"
    assert measure.html() == "61.0\u00a0%<small>57.1\u201364.2</small><small>seeds 60.0\u201362.0</small>"


def test_a_difference_is_written_in_each_form(groups):
    (difference,) = differences.of_run(groups).values()
    assert difference.text() == difference.markdown() == "+10.0 (+9.9 to +10.1) **ahead**"
    assert difference.html() == "+10.0 <small>(+9.9 to +10.1)</small> <b>ahead</b>"


def test_a_table_has_three_forms(groups):
    measure = groups[1].measures["probe"]
    table = Table(["arm", "x\u00a0%"], [[Name("<sas>", "s1"), Stacked(measure, measure)], ["b", None]])
    assert table.text() == (
        "arm                                  x %\n"
        "-----  ---------------------------------\n"
        "<sas>  61.0 (57.1-64.2) 61.0 (57.1-64.2)\n"
        "b                                      -\n"
    )
    twice = "61.0 \u00b1 3.5 (3)<br>61.0 \u00b1 3.5 (3)"
    lines = ["| arm | x\u00a0% |", "| --- | ---: |", f"| <sas> | {twice} |", "| b | \u2013 |"]
    assert table.markdown().splitlines() == lines
    assert '<th scope="row"><span class="key s1"></span>&lt;sas&gt;</th>' in table.html()


def test_columns_without_content_are_left_out(groups):
    table = tables.arms(groups)
    assert list(table.head) == ["arm", "seeds", "images", "Linear probe", "steps"]
    assert [row[0].title.replace("\u00a0", " ") for row in table.rows] == ["untrained", "sas at 20 %", "random at 20 %"]
    assert "steps" not in tables.arms(groups, brief=True).head


def test_differences_stand_beside_accuracies(groups):
    found = differences.of_run(groups)
    table = tables.differences(groups, found, ["probe"])
    assert list(table.head) == ["arm", "Linear probe", "vs random"]
    assert [row[2] is None for row in table.rows] == [True, False, True]
    brief = tables.differences(groups, found, ["probe"], accuracies=False)
    assert (list(brief.head), len(brief.rows)) == (["arm", "Linear probe vs random"], 1)
    assert not tables.differences(groups, found, ["knn"])


def test_a_new_column_is_one_place(monkeypatch, tmp_path):
    """It then appears in the printed text, in the report, and on a page of several runs."""
    column = Column("half the images", lambda group: f"{group.mean('size') / 2:.0f} halves", is_brief=True)
    monkeypatch.setattr(tables, "_AFTER", (*tables._AFTER, column))
    results = {"arms": [{"name": "sas-0.20-s0", "selector": "sas", "fraction": 0.2, "size": 84}], "dataset": {}}
    run = runs.Run(Workdir(tmp_path, writes=False), results, {}, {}, [])
    for text in (printed.text(results), html(results=results), comparison.html([run, run], ["a", "b"])):
        assert "half the images" in text
        assert "42 halves" in text
