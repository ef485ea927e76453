"""Differences paired by seed, against the definitions, and what is claimed about them."""

import itertools
import math
import random

import pytest

from sas_jax.results import differences
from sas_jax.results.arms import grouped


def slow_upper_tail(t, freedom):
    """Computes P(T > t) of Student's t by the trapezium rule after the substitution t = tan(angle)."""
    angles = [math.atan(t) + (math.pi / 2 - math.atan(t)) * i / 4_000 for i in range(4_001)]
    density = [(1 + math.tan(a) ** 2 / freedom) ** (-(freedom + 1) / 2) / math.cos(a) ** 2 for a in angles[:-1]] + [0.0]
    area = sum((one + two) / 2 for one, two in itertools.pairwise(density)) * (angles[1] - angles[0])
    constant = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    return constant * area


def slow_quantile(freedom):
    low, high = 0.0, 1000.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if slow_upper_tail(middle, freedom) > 0.025 else (low, middle)
    return low


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_difference_is_a_t_interval_on_the_differences_of_seeds(make_group, seeds):
    rng = random.Random(seeds)
    ours = {seed: 0.6 + rng.gauss(0, 0.02) for seed in range(seeds)}
    theirs = {seed: value - 0.02 + rng.gauss(0, 0.01) for seed, value in ours.items()}
    found = differences.paired(make_group(ours), make_group(theirs, selector="random"), "probe")
    single = [ours[seed] - theirs[seed] for seed in range(seeds)]
    mean = sum(single) / seeds
    error = math.sqrt(sum((d - mean) ** 2 for d in single) / (seeds - 1) / seeds)
    half = slow_quantile(seeds - 1) * error
    assert (found.value, found.low, found.high) == pytest.approx((mean, mean - half, mean + half), abs=1e-5)
    assert found.p == pytest.approx(2 * slow_upper_tail(abs(mean) / error, seeds - 1), rel=1e-3)
    assert found.seeds == seeds


def test_a_spread_that_seeds_share_is_not_in_the_difference(make_group):
    base = {0: 0.5, 1: 0.6, 2: 0.7}
    above = {0: 0.521, 1: 0.620, 2: 0.719}
    found = differences.paired(make_group(above), make_group(base), "probe")
    assert 0 < found.low < found.value < found.high < 0.03


def test_only_shared_seeds_are_set_against_each_other(make_group):
    found = differences.paired(
        make_group({0: 0.6, 1: 0.61, 2: 0.6, 9: 0.1}), make_group({0: 0.5, 1: 0.5, 2: 0.5, 7: 0.9}), "probe"
    )
    assert found.seeds == 3
    assert found.value == pytest.approx(0.31 / 3)
    assert differences.paired(make_group({0: 0.6}), make_group({1: 0.6}), "probe") is None


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_claim_nothing_and_have_the_interval_of_independent_accuracies(make_group, seeds):
    one, other = make_group(dict.fromkeys(range(seeds), 0.9)), make_group(dict.fromkeys(range(seeds), 0.5))
    found = differences.paired(one, other, "probe")
    half = math.hypot(0.03, 0.02)
    assert (found.low, found.high) == pytest.approx((0.4 - half, 0.4 + half))
    assert found.p is None
    (said,) = differences.judged([found])
    assert said.sign == 0
    assert str(said) == f"+40.0 (+36.4 to +43.6; {'1 seed' if seeds == 1 else '2 seeds'})"


def test_the_interval_of_one_seed_leans_to_where_the_accuracies_lean(make_group):
    one, other = make_group({0: 0.995}), make_group({0: 0.5})  # its upper end is clipped at 1
    found = differences.paired(one, other, "probe")
    assert found.value - found.low == pytest.approx(math.hypot(0.03, 0.02))
    assert found.high - found.value == pytest.approx(math.hypot(0.005, 0.03))


def test_the_same_image_in_each_of_three_seeds_is_no_certainty(make_group):
    ours, theirs = dict.fromkeys(range(3), 101 / 360), dict.fromkeys(range(3), 100 / 360)
    found = differences.paired(make_group(ours, n=360), make_group(theirs, n=360), "probe")
    assert found.p > differences.LEVEL
    error = 1 / (math.sqrt(6) * 360) / math.sqrt(3)
    assert found.high - found.value == pytest.approx(slow_quantile(2) * error, rel=1e-4)


def test_holm_rejects_what_the_step_down_procedure_rejects():
    rng = random.Random(0)
    for _ in range(200):
        values = [round(rng.random() ** 3, 2) for _ in range(rng.randrange(1, 8))]
        adjusted = differences.holm(values)
        for level in (0.013, 0.05, 0.21):
            rejected = set()
            for step, index in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
                if values[index] >= level / (len(values) - step):
                    break
                rejected.add(index)
            assert {index for index, value in enumerate(adjusted) if value < level} == rejected
        assert all(one >= other for one, other in zip(adjusted, values, strict=True))


def difference(value, p, apart=False):
    return differences.Difference(value, value - 0.01, value + 0.01, 5, p, apart)


def test_what_is_claimed_depends_on_how_much_is_compared():
    alone = differences.judged([difference(0.02, 0.02)])
    among = differences.judged([difference(0.02, 0.02), None, *[difference(0.0, 0.9)] * 4])
    assert [each.sign for each in alone] == [1]
    assert among[0].sign == 0
    assert among[1] is None
    assert str(alone[0]) == "+2.0 (+1.0 to +3.0) ahead"
    assert str(among[0]) == "+2.0 (+1.0 to +3.0) (ahead)"
    assert str(among[2]) == "+0.0 (\u22121.0 to +1.0)"


def test_a_claim_that_other_images_bear_out_is_bold_and_turns_with_the_arms():
    (said,) = differences.judged([difference(-0.02, 0.001, apart=True)])
    assert said.markdown() == "\u22122.0 (\u22123.0 to \u22121.0) **behind**"
    assert said.reversed().markdown() == "+2.0 (+1.0 to +3.0) **ahead**"


def seeds(make_arm, selector, fraction, value, **fields):
    """Makes three seeds around a value, with almost the same spread in each arm."""
    own = 0.0002 * len(selector)
    return [make_arm(selector, fraction, value + spread + own * spread, seed, **fields)
            for seed, spread in enumerate((-0.02, 0.0, 0.02))]  # fmt: skip


def of_run(rows):
    """Returns the differences of a run, by title, rival and accuracy."""
    found = differences.of_run(grouped(rows))
    return {(kind.title.replace("\u00a0", " "), rival, name): each for (kind, rival, name), each in found.items()}


def test_arms_meet_random_of_their_size_and_all_images(make_arm):
    rows = [*seeds(make_arm, "sas", 0.2, 0.6), *seeds(make_arm, "random", 0.2, 0.5), *seeds(make_arm, "full", 1.0, 0.7),
            *seeds(make_arm, "random", 0.4, 0.65), *seeds(make_arm, "sas", 0.6, 0.6),
            make_arm("untrained", None, 0.3)]  # fmt: skip
    found = of_run(rows)
    assert {key: str(each).split(" (")[0] for key, each in found.items()} == {
        ("sas at 20 %", "random", "probe"): "+10.0",
        ("sas at 20 %", "full", "probe"): "\u221210.0",
        ("sas at 60 %", "full", "probe"): "\u221210.0",
        ("random at 20 %", "full", "probe"): "\u221220.0",
        ("random at 40 %", "full", "probe"): "\u22125.0",
    }


def test_partitions_are_two_arms_beside_one_random(make_arm):
    rows = [*seeds(make_arm, "sas", 0.2, 0.6, partition="a"), *seeds(make_arm, "sas", 0.2, 0.4, partition="b"),
            *seeds(make_arm, "random", 0.2, 0.5)]  # fmt: skip
    found = of_run(rows)
    assert found["sas in a at 20 %", "random", "probe"].verdict == "ahead"
    assert found["sas in b at 20 %", "random", "probe"].verdict == "behind"
    assert {each.seeds for each in found.values()} == {3}


def test_each_setting_meets_its_own_rivals(make_arm):
    rows = []
    for value, fields in ((0.5, {}), (0.6, {"step_rule": "steps"}), (0.7, {"method": "byol"})):
        rows += seeds(make_arm, "random", 0.2, value, **fields) + seeds(make_arm, "sas", 0.2, value + 0.01, **fields)
    rows += seeds(make_arm, "full", 1.0, 0.8)
    found = of_run(rows)
    assert all(
        each.value == pytest.approx(0.01, abs=1e-3) for (_, rival, _), each in found.items() if rival == "random"
    )
    assert sum(rival == "random" for _, rival, _ in found) == 3
    assert ("sas at 20 % (equal steps)", "full", "probe") in found
    assert ("sas at 20 % (BYOL)", "full", "probe") not in found


def test_accuracies_are_families_of_their_own(make_arm):
    """Comparisons by one accuracy do not weaken the claims about another."""
    mine = [make_arm("sas", 0.2, value, seed) for seed, value in enumerate((0.50, 0.525, 0.555))]
    base = [make_arm("random", 0.2, value, seed) for seed, value in enumerate((0.48, 0.50, 0.52))]
    alone = of_run([*mine, *base])["sas at 20 %", "random", "probe"]
    knn = [make_arm(arm.selector, 0.2, arm.probe.value, arm.seed, knn=arm.probe) for arm in (*mine, *base)]
    assert of_run(knn)["sas at 20 %", "random", "probe"] == alone
    others = [make_arm("sas", 0.2, 0.5 + 0.01 * seed * (-1) ** seed, seed, partition=name)
              for name in "abcdefghij" for seed in range(3)]  # fmt: skip
    among = of_run([*mine, *base, *others])["sas at 20 %", "random", "probe"]
    assert (alone.verdict, among.verdict) == ("ahead", "(ahead)")


def test_runs_are_compared_arm_by_arm_with_the_first_that_has_it(make_arm):
    one = grouped([*seeds(make_arm, "sas", 0.2, 0.5), make_arm("random", 0.2, 0.4)])
    two = grouped([*seeds(make_arm, "sas", 0.2, 0.6), *seeds(make_arm, "full", 1.0, 0.7)])
    three = grouped(seeds(make_arm, "full", 1.0, 0.7))
    found = differences.between([one, two, three])
    assert {(kind.selector, name, at): each.value for (kind, name, at), each in found.items()} == pytest.approx(
        {("sas", "probe", 1): 0.1, ("full", "probe", 2): 0.0}
    )
    turned = differences.between([two, one])
    kind = one[0].kind
    assert str(turned[kind, "probe", 1]) == str(found[kind, "probe", 1].reversed())
