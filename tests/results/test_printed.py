"""The text that the command prints."""

import re

from sas_jax.results import printed


def accuracy(value):
    return {"value": value, "low": value - 0.02, "high": value + 0.02, "standard_error": 0.01, "n": 1000}


def arm(selector, probe, seed=0, **fields):
    given = {"name": f"{selector}-s{seed}", "selector": selector, "fraction": 0.2, "seed": seed, "size": 1234,
             "epochs": 3, "probe": probe, "knn": None, "train_seconds": 61.4}  # fmt: skip
    return given | fields


def test_accuracies_stand_with_their_intervals():
    untrained = arm(None, accuracy(0.5), name="untrained", fraction=None, size=0, train_seconds=0.0)
    text = printed.text({"arms": [untrained, arm("sas", accuracy(0.613))]})
    lines = text.splitlines()
    assert len({len(line) for line in lines[1:4]}) == 1  # the columns are aligned
    assert lines[1].split("  ")[0] == "arm"
    assert re.fullmatch(r"sas at 20 % +1 +1,234 +3 +61\.3 \(59\.3-63\.3\) +1 min 1 s", lines[4])
    assert "kNN" not in text
    assert text.isascii()


def test_one_seed_is_said_to_be_no_evidence():
    text = printed.text({"arms": [arm("sas", accuracy(0.9)), arm("random", accuracy(0.5))]})
    assert "+40.0 (+37.2 to +42.8; 1 seed)" in text
    assert "one seed, which cannot show that arms differ" in text.replace("\n", " ")
    assert "ahead" not in text


def test_several_seeds_are_judged():
    values = (0.62, 0.60, 0.61)
    rows = [arm("sas", accuracy(value + 0.1 + 0.001 * at), at) for at, value in enumerate(values)]
    rows += [arm("random", accuracy(value), at) for at, value in enumerate(values)]
    text = printed.text({"arms": rows})
    assert re.search(r"sas at 20 % +\+10\.1 \(\+9\.9 to \+10\.3\) \*\*ahead\*\*", text)
    assert "Holm's correction" in text


def test_without_labels_there_is_no_word_about_intervals():
    text = printed.text({"arms": [arm("full", None)]})
    assert "full" in text
    assert "interval" not in text
    assert printed.text({"arms": []}) == printed.text({}) == ""
