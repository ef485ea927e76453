"""The words claim what the intervals allow, and nothing else."""

import re

import numpy as np
import pytest
from scipy import stats

from sas_jax.report import arms, words

CLAIM = re.compile(r"ahead|behind|apart|more than|less than|better|worse|exceed", re.IGNORECASE)


def test_overlapping_intervals_claim_nothing(make_arm):
    groups = arms.grouped([make_arm(None, None, 0.60), make_arm("sas", 0.2, 0.612), make_arm("random", 0.2, 0.601),
                           make_arm("full", 1.0, 0.62)])  # fmt: skip
    said = " ".join(words.answers(groups))
    assert not CLAIM.search(said), said
    assert said.count("o difference") == 3


@pytest.mark.parametrize(("chosen", "word"), [(0.75, "ahead of"), (0.40, "behind")])
def test_intervals_apart_are_told_with_their_sign(make_arm, chosen, word):
    groups = arms.grouped([make_arm("sas", 0.2, chosen), make_arm("random", 0.2, 0.60)])
    first = words.answers(groups)[0]
    assert f"sas is {word} random, and the intervals do not overlap." in first
    assert "claimed" not in first


def test_the_rule_turns_where_the_intervals_touch():
    def measure(low, high):
        return arms.Measure(value=(low + high) / 2, low=low, high=high, n=100, seeds=((low + high) / 2,))

    assert arms.order(measure(0.5, 0.6), measure(0.6, 0.7)) == 0
    assert arms.order(measure(0.5, 0.6), measure(0.61, 0.7)) == -1
    assert arms.order(measure(0.61, 0.7), measure(0.5, 0.6)) == 1


def test_two_rivals_with_different_verdicts(make_arm):
    groups = arms.grouped([make_arm("sas", 0.2, 0.70), make_arm("random", 0.2, 0.50),
                           make_arm("random_balanced", 0.2, 0.69)])  # fmt: skip
    first = words.answers(groups)[0].replace("\u00a0", " ")
    assert "sas is ahead of random, and the intervals do not overlap" in first
    assert "no difference to random_balanced can be claimed from one test set of 360 images" in first


def test_random_of_another_size_is_no_rival(make_arm):
    groups = arms.grouped([make_arm("sas", 0.2, 0.80), make_arm("random", 0.4, 0.50)])
    assert "no random subset of its size" in words.answers(groups)[0]


def test_training_that_made_it_worse_is_told(make_arm):
    groups = arms.grouped([make_arm(None, None, 0.80), make_arm("sas", 0.2, 0.50)])
    assert "Below it, with intervals apart: sas at 20\u00a0%." in words.answers(groups)[-1]


def test_a_missing_untrained_encoder_is_told(make_arm):
    assert "was not measured" in words.answers(arms.grouped([make_arm("sas", 0.2, 0.5)]))[-1]


def test_nothing_measured_says_nothing(make_arm):
    assert words.answers(arms.grouped([make_arm("sas", 0.2, None)])) == []
    assert words.answers([]) == []


def test_only_the_untrained_encoder_is_no_answer(make_arm):
    assert words.answers(arms.grouped([make_arm(None, None, 0.7)])) == []


def test_seeds_widen_the_interval(make_accuracy):
    singles = [make_accuracy(value) for value in (0.55, 0.60, 0.65)]
    pooled = arms.pooled(singles)
    assert pooled.value == pytest.approx(0.60)
    half = sum(single["high"] - single["value"] for single in singles) / 3
    over_seeds = stats.t.ppf(0.975, 2) * stats.sem([0.55, 0.60, 0.65])
    assert pooled.high - pooled.value == pytest.approx((half**2 + over_seeds**2) ** 0.5)
    assert pooled.high - pooled.value > half


def test_more_equal_seeds_do_not_shrink_the_test_sets_interval(make_accuracy):
    one, many = arms.pooled([make_accuracy(0.6)]), arms.pooled([make_accuracy(0.6)] * 9)
    assert many.low == pytest.approx(one.low)
    assert many.high == pytest.approx(one.high)


def test_the_interval_stays_within_0_and_1(make_accuracy):
    pooled = arms.pooled([make_accuracy(0.90), make_accuracy(0.999)])
    assert 0 <= pooled.low <= pooled.value <= pooled.high <= 1


def test_caveats_name_what_was_not_held_equal(make_arm):
    groups = arms.grouped([make_arm("sas", 0.2, 0.6), make_arm("full", 1.0, 0.9)])
    said = " ".join(words.caveats(groups, "labels"))
    assert "trained once" in said
    assert "equally many steps (80 to 440)" in said
    assert "labels themselves" in said
    same = " ".join(words.caveats(arms.grouped([make_arm("sas", 0.2, 0.6), make_arm("random", 0.2, 0.6)]), "kmeans"))
    assert "steps" not in same
    assert "labels themselves" not in same


def test_caveats_tell_mixed_and_several_seeds(make_arm):
    several = [make_arm("sas", 0.2, 0.6, seed) for seed in range(2)]
    assert "spread over seeds" in " ".join(words.caveats(arms.grouped(several), None))
    mixed = [*several, make_arm("random", 0.2, 0.6)]
    assert "an arm with one seed" in " ".join(words.caveats(arms.grouped(mixed), None))


def test_groups_are_ordered_for_reading(make_arm):
    groups = arms.grouped([make_arm("full", 1.0, 0.9), make_arm("random", 0.2, 0.5), make_arm("sas", 0.2, 0.5),
                           make_arm("sas", 0.05, 0.5), make_arm(None, None, 0.5)])  # fmt: skip
    titles = [group.title.replace("\u00a0", " ") for group in groups]
    assert titles == ["untrained", "sas at 5 %", "sas at 20 %", "random at 20 %", "full"]
    assert arms.named(groups[1:]).replace("\u00a0", " ") == "sas at 5 %, 20 %; random at 20 %; full"


def test_the_opening_is_a_share_of_the_accuracy_of_all_images(make_arm):
    groups = arms.grouped([make_arm("sas", 0.2, 0.46), make_arm("random", 0.2, 0.44), make_arm("full", 1.0, 0.50)])
    first = words.answers(groups)[0].replace("\u00a0", " ")
    assert first.startswith("20 % of the images, chosen by sas, reach 92.0 % (")
    assert "; random reaches 88.0 % (" in first
    assert first.endswith("no difference can be claimed from one test set of 360 images.")


def test_several_fractions_are_shares_too(make_arm):
    groups = arms.grouped([make_arm("full", 1.0, 0.50), *(make_arm(name, share, share + bonus)
                           for name, bonus in (("sas", 0.1), ("random", 0.05)) for share in (0.2, 0.3))])  # fmt: skip
    said = " ".join(words.answers(groups)).replace("\u00a0", " ")
    assert re.search(r"Of the accuracy of all 1,437 images, sas reaches 60\.0 % \(.*?\) at 20 %, 80\.0 % \(", said)
    assert re.search(r"; random reaches 50\.0 % \(.*?\) at 20 %, 70\.0 % \(", said)


def test_an_interval_of_a_ratio_holds_it_as_often_as_it_says(make_accuracy):
    rng = np.random.default_rng(0)
    held = 0
    for one, other in rng.binomial(360, (0.6, 0.9), size=(2_000, 2)) / 360:
        _, low, high = arms.relative(*(arms.pooled([make_accuracy(value)]) for value in (one, other)))
        held += low <= 0.6 / 0.9 <= high
    assert held / 2_000 == pytest.approx(0.95, abs=0.015)


def test_a_ratio_to_almost_nothing_is_not_told(make_accuracy):
    small, large = (arms.pooled([make_accuracy(value, 20)]) for value in (0.0, 0.5))
    assert arms.relative(large, small) is None
    assert arms.relative(small, large)[:2] == (0.0, 0.0)


def test_a_listed_subset_meets_baselines_of_its_size(make_arm):
    listed = make_arm("file", 1.0, 0.60) | {"size": 287}
    rows = [listed, make_arm("random", 0.2, 0.50), make_arm("random", 0.4, 0.70), make_arm("full", 1.0, 0.80)]
    groups = arms.grouped(rows, 1437)
    assert groups[0].title.replace("\u00a0", " ") == "file at 19.97 %"
    first = words.answers(groups)[0].replace("\u00a0", " ")
    assert first.startswith("19.97 % of the images, those listed in a file, reach 75.0 % (")
    assert "random reaches 62.5 %" in first
    assert "87.5 %" not in first, "a baseline of another size"
    assert arms.grouped([listed])[0].fraction is None, "not all images, where their number is not known"


def test_networks_with_labels_are_claimed_by_the_same_rule(make_arm, make_accuracy):
    def said(chosen):
        rows = [make_arm("sas", 0.2, 0.5), make_arm("random", 0.2, 0.5)]
        rows[0]["supervised"], rows[1]["supervised"] = make_accuracy(chosen), make_accuracy(0.60)
        return words.answers(arms.grouped(rows))[-1].replace("\u00a0", " ")

    assert "sas at 20 %: sas is behind random, and the intervals do not overlap." in said(0.40)
    assert "sas at 20 %: no difference can be claimed" in said(0.61)


def test_networks_with_labels_at_several_fractions_are_told_in_short(make_arm, make_accuracy):
    rows = [make_arm(name, share, 0.5) for name in ("sas", "random") for share in (0.2, 0.4)]
    for row, value in zip(rows, (0.3, 0.6, 0.6, 0.61), strict=True):
        row["supervised"] = make_accuracy(value)
    said = words.answers(arms.grouped(rows))[-1].replace("\u00a0", " ")
    assert said == (
        "Networks trained with labels on the same images: sas against random of the same size: behind at 20 %; no "
        "difference can be claimed at 40 %."
    )


def test_methods_and_step_rules_are_told_apart(make_arm):
    rows = [make_arm(None, None, 0.5)]
    for method, step_rule, value in (("simclr", "epochs", 0.7), ("simclr", "steps", 0.8), ("byol", "epochs", 0.9)):
        more = {"method": method, "step_rule": step_rule, "collapsed": method == "byol"}
        rows += [make_arm("sas", 0.2, value) | more, make_arm("random", 0.2, value - 0.2) | more]
    rows += [make_arm("full", 1.0, 0.95) | {"method": "simclr", "step_rule": "epochs"}]
    groups = arms.grouped(rows)
    assert [g.title.replace("\u00a0", " ") for g in groups if g.selector == "sas"] == [
        "sas at 20 %",
        "sas at 20 % (equal steps)",
        "sas at 20 % (BYOL)",
    ]
    divided = dict(arms.settings(groups))
    assert list(divided) == ["", "equal steps", "BYOL"]
    assert {g.selector for g in divided["equal steps"]} == {"untrained", "sas", "random", "full"}
    assert {g.selector for g in divided["BYOL"]} == {"untrained", "sas", "random"}
    assert all({g.method for g in members if g.selector == "sas"} == {"byol" if name == "BYOL" else "simclr"}
               for name, members in divided.items())  # fmt: skip
    said = [text.replace("\u00a0", " ") for text in words.answers(groups)]
    assert any(
        text.startswith("BYOL: sas at 20 % (BYOL) reaches 90.0 %") and "ahead of random" in text for text in said
    )
    assert any(text.startswith("Equal steps: ") and "80.0 %" in text for text in said)
    assert "ahead of random" in said[0]
    assert "sas at 20 % (BYOL), random at 20 % (BYOL) collapsed" in " ".join(words.caveats(groups, None)).replace(
        "\u00a0", " "
    )
