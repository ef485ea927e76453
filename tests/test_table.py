"""The printed table."""

from sas_jax import table


def accuracy(value):
    return {"value": value, "low": value - 0.02, "high": value + 0.02, "standard_error": 0.01, "n": 1000}


def arm(name, probe):
    return {"name": name, "size": 1234, "epochs": 3, "probe": probe, "knn": None, "train_seconds": 61.4}


def test_accuracies_stand_with_their_intervals():
    text = table.arms({"arms": [arm("untrained", accuracy(0.5)), arm("sas-0.20-s0", accuracy(0.613))]})
    assert "61.3 (59.3-63.3)" in text
    assert "1,234" in text
    assert "95 % intervals from the 1,000 test images" in text
    lines = text.splitlines()
    assert len({len(line) for line in lines[1:5]}) == 1  # the columns line up


def test_without_labels_there_is_no_word_about_intervals():
    text = table.arms({"arms": [arm("full-1.00-s0", None)]})
    assert "interval" not in text
    assert table.arms({"arms": []}) == ""
