"""The command, the reports, the pages of docs/ and README.md all say the same about a difference."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import results_tables
from sas_jax.report import comparison, html, runs
from sas_jax.results import differences, printed, selectors
from sas_jax.results.arms import titles
from sas_jax.workdir import Workdir

ROOT = Path(__file__).resolve().parent.parent.parent
STORED = sorted((ROOT / "docs/results").glob("compare-*.json"))
RIVALS = {selector.rival: selector.name for selector in selectors.RIVALS}


def plain(text):
    """Returns a text without its formatting."""
    text = re.sub(r"<[^>]+>|\*\*", "", text).replace("\u00a0", " ").replace("\u2212", "-")
    return re.sub(r"\s+", " ", text).strip()


def listed(table):
    """(arm, rival, title of the accuracy) -> words, of a table whose head is "arm", an accuracy, "vs random", ..."""
    head, *rows = table
    found, title = {}, ""
    for at, name in enumerate(head):
        before, versus, rival = name.rpartition("vs ")
        title = before.strip() or (title if versus else name)
        for row in rows:
            if versus and row[at] not in ("-", "\u2013"):
                found[row[0], rival, title] = row[at]
    return found


def of_command(text):
    lines = [line for line in text.splitlines() if line.startswith("-----")]
    assert len(lines) == 2, "a table of arms, and one of differences"
    table = text.split(lines[1])
    columns = [match.span() for match in re.finditer("-+", lines[1])]
    head = table[0].splitlines()[-1]
    rows = table[1].split("\n\n")[0].splitlines()[1:]
    return listed([[plain(line[begin:end]) for begin, end in columns] for line in (head, *rows)])


def of_page(source):
    found = {}
    for table in re.findall(r"<table.*?</table>", source, re.DOTALL):
        rows = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.DOTALL) for row in re.findall(r"<tr>.*?</tr>", table)]
        found |= listed([list(map(plain, row)) for row in rows])
    return found


def of_comparison(content, tmp_path):
    run = runs.Run(Workdir(tmp_path, writes=False), content["results"], {}, {}, [])
    source = comparison.html([run, run], ["one", "two"])
    one, two = source.split("Differences within two")
    found = of_page(one.split("Differences within one")[1])
    assert found == of_page(two.split("<h2>Arms")[0])
    return found


def of_docs(block):
    found, title, rival, lines = {}, "", "", block.splitlines()
    for at, line in enumerate(lines):
        if line.startswith("### "):
            title, rival = plain(line[4:]), ""
        elif ": the difference to " in line:
            rival = RIVALS[line.rpartition(": the difference to ")[2].rstrip(".")]
        elif line.startswith("| ---"):
            rows = [[plain(cell) for cell in row.strip("| ").split(" | ")] for row in (lines[at - 1], *lines[at + 1 :])]
            rows = rows[: next((end for end, row in enumerate(lines[at + 1 :], 1) if not row.startswith("|")), None)]
            if rows[0][0] == "arm":
                found |= listed(rows)
            elif rival:
                for who, *cells in rows[1:]:
                    for share, words in zip(lines[at - 1].strip("| ").split(" | "), cells, strict=True):
                        if words != "\u2013":
                            whole = f"{who} at {plain(share)}"
                            found[whole, rival, title] = words
    return found


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_every_pair_of_arms_is_told_in_the_same_words(path, tmp_path):
    content = json.loads(path.read_text())
    groups = results_tables.groups_of(content)
    names = {name: plain(title) for name, title in titles(groups).items()}
    wanted = {
        (plain(kind.title), rival, names[name]): plain(str(each))
        for (kind, rival, name), each in differences.of_run(groups).items()
    }
    assert wanted
    page = (ROOT / "docs/comparisons.md").read_text()
    block = page.split(f"<!-- {path.stem}: begin -->")[1].split(f"<!-- {path.stem}: end -->")[0]
    assert of_docs(block) == wanted
    assert of_page(html(results=content["results"])) == wanted
    assert of_comparison(content, tmp_path) == wanted
    primary = {key: words for key, words in wanted.items() if key[2] in (names["probe"], names["knn"])}
    assert of_command(printed.text(content["results"])) == primary


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_the_readme_says_the_same(path):
    content = json.loads(path.read_text())
    readme = (ROOT / "README.md").read_text()
    groups = {group.kind: group for group in results_tables.groups_of(content)}
    rows = [line.strip("| ").split(" | ") for line in readme.splitlines() if line.startswith(f"| {content['title']} |")]
    listed = content.get("listed")  # a list is trained on whole, and is as large as the random subsets
    sources = {listed or results_tables.latent_classes(content, kind.partition) for kind in groups}
    told = [plain(row[-1]) for row in rows if row[1] in sources]
    said = {
        plain(str(each))
        for (kind, rival, name), each in differences.of_run(list(groups.values())).items()
        if (rival, name) == ("random", "probe") and (listed or kind.fraction == results_tables.SHORT_FRACTION)
    }
    seeds = {arm.seed for group in groups.values() for arm in group.arms if group.is_trained}
    assert bool(told) == (len(seeds) >= differences.FEWEST_SEEDS)
    assert set(told) <= said


def test_what_readme_and_docs_claim_is_in_the_report():
    """A report once said of this run that no difference could be claimed."""
    content = json.loads((ROOT / "docs/results/compare-cifar100-small-labels.json").read_text())
    said = of_page(html(results=content["results"]))
    assert said["sas at 20 %", "random", "Linear probe"] == "+2.8 (+1.3 to +4.2) ahead"
