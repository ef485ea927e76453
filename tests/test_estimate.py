"""The estimated time of training, and advice on how to reduce it."""

from configs import cifar100
from sas_jax import plan
from sas_jax.estimate import Estimate, forward_flops
from sas_jax.progress import duration


def said(views_per_second, stage="proxy", n=50_000):
    config = cifar100.get_config()
    lines = []
    estimate = Estimate(config, round(sum(arm.fraction for arm in plan.arms(config)) * n), lines.append)
    estimate.report(stage, n, views_per_second)
    estimate.report(stage, n, 1e9)  # only the first call logs
    return lines


def test_the_arms_are_counted_by_their_networks_cost():
    config = cifar100.get_config()
    ratio = forward_flops(config.encoder, 32) / forward_flops(config.proxy.encoder, 32)
    assert 2.0 < ratio < 2.4  # 0.56 and 0.25 billion multiply-adds
    views = 2 * 400 * 50_000
    seconds = views / 1e5 * (1 + 1.4 * ratio)  # the proxy on all images, the arms on 0.2 + 0.2 + 1.0 of them
    assert duration(seconds) in said(1e5)[0]
    assert len(said(1e5)) == 1


def test_over_a_day_it_says_what_makes_it_smaller():
    lines = said(300)
    assert "days" in lines[0]
    assert "--config.encoder.width=0.25" in lines[1]


def test_durations_read_well():
    assert [duration(s) for s in (12.3, 90, 5400, 200_000)] == ["12 s", "90 s", "90 min", "2.3 days"]
