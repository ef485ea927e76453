"""Seeds are pooled, and the pooled interval covers test images and seeds."""

import pytest
from scipy import stats

from sas_jax.results import arms
from sas_jax.results.schema import Accuracy


def accuracy(value, half=0.05):
    return Accuracy(value=value, low=max(0, value - half), high=min(1, value + half), n=360)


def titles(groups):
    return [group.title.replace("\u00a0", " ") for group in groups]


def test_seeds_widen_the_interval():
    pooled = arms.pooled([accuracy(value) for value in (0.55, 0.60, 0.65)])
    assert pooled.value == pytest.approx(0.60)
    over_seeds = stats.t.ppf(0.975, 2) * stats.sem([0.55, 0.60, 0.65])
    assert pooled.high - pooled.value == pytest.approx((0.05**2 + over_seeds**2) ** 0.5)


def test_more_equal_seeds_do_not_shrink_the_test_sets_interval():
    one, many = arms.pooled([accuracy(0.6)]), arms.pooled([accuracy(0.6)] * 9)
    assert (many.low, many.high) == pytest.approx((one.low, one.high))


def test_the_interval_stays_within_0_and_1():
    pooled = arms.pooled([accuracy(0.90), accuracy(0.999)])
    assert 0 <= pooled.low <= pooled.value <= pooled.high <= 1


def test_seeds_without_an_accuracy_do_not_count():
    assert arms.pooled([None, accuracy(0.6)]).seeds == (0.6,)
    assert arms.pooled([None]) is None


def test_intervals_are_apart_where_they_do_not_touch():
    def measure(low, high):
        return arms.Measure(value=(low + high) / 2, low=low, high=high, n=100, seeds=((low + high) / 2,))

    assert not arms.apart(measure(0.5, 0.6), measure(0.6, 0.7))
    assert arms.apart(measure(0.5, 0.6), measure(0.61, 0.7))
    assert arms.apart(measure(0.61, 0.7), measure(0.5, 0.6))


def test_groups_are_ordered_for_reading(make_arm):
    rows = [make_arm(name) for name in ("unheard_of", "random", "sas")]
    rows += [make_arm("full", 1.0), make_arm("sas", 0.05), make_arm("untrained", None)]
    rows += [make_arm("sas", method="byol"), make_arm("sas", partition="labels")]
    groups = arms.grouped(rows)
    assert titles(groups) == [
        "untrained", "sas at 5 %", "sas at 20 %", "sas in labels at 20 %", "random at 20 %", "full",
        "unheard_of at 20 %", "sas at 20 % (BYOL)",
    ]  # fmt: skip
    assert arms.named(groups[1:6]).replace("\u00a0", " ") == (
        "sas at 5 %, 20 %; sas in labels at 20 %; random at 20 %; full"
    )


def test_partitions_tell_groups_apart(make_arm):
    rows = [make_arm("sas", seed=seed, partition=name) for name in ("a", "", "b") for seed in range(2)]
    groups = arms.grouped(rows)
    assert titles(groups) == ["sas at 20 %", "sas in a at 20 %", "sas in b at 20 %"]
    assert [len(group.arms) for group in groups] == [2, 2, 2]


def test_a_listed_subset_has_the_fraction_of_its_images(make_arm):
    listed = make_arm("file", 1.0, size=287)
    (group,) = arms.grouped([listed], 1437)
    assert titles([group]) == ["file at 19.97 %"]
    (random,) = arms.grouped([make_arm("random", 0.2)])
    assert group.is_as_large_as(random)
    assert arms.grouped([listed])[0].fraction is None, "not all images, where their number is not known"


def test_methods_and_step_rules_are_settings_of_their_own(make_arm):
    rows = [make_arm("untrained", None), make_arm("full", 1.0)]
    for method, step_rule in (("simclr", "epochs"), ("simclr", "steps"), ("byol", "epochs")):
        rows += [make_arm(selector, method=method, step_rule=step_rule) for selector in ("sas", "random")]
    groups = arms.grouped(rows)
    divided = arms.settings(groups)
    assert list(divided) == ["", "equal steps", "BYOL"]
    assert titles(divided["equal steps"]) == ["untrained", "full", "sas at 20 % (equal steps)",
                                              "random at 20 % (equal steps)"]  # fmt: skip
    assert titles(divided["BYOL"]) == ["untrained", "sas at 20 % (BYOL)", "random at 20 % (BYOL)"]
    assert arms.main_setting(groups) == divided[""]
    assert arms.main_setting([]) == []
    byol = [group for group in groups if group.kind.method == "byol"]
    assert arms.main_setting(byol) == byol


def test_accuracies_have_their_titles_in_order(make_arm):
    few = {"0.1": accuracy(0.3), "0.01": accuracy(0.2)}
    rows = [make_arm(probe=0.5, probe_few=few, supervised=accuracy(0.4)), make_arm("untrained", None)]
    groups = arms.grouped(rows)
    assert [title.replace("\u00a0", " ") for title in arms.titles(groups).values()] == [
        "Linear probe", "Linear probe on 1 % of the labels", "Linear probe on 10 % of the labels",
        "Supervised: networks trained with labels",
    ]  # fmt: skip
    assert groups[1].measures["probe_few/0.01"].value == 0.2
    assert arms.titles(groups[:1]) == {}
