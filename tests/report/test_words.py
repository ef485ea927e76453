"""The words claim what the intervals allow, and nothing else."""

import re

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
