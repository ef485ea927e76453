"""Batches that are prepared ahead."""

from sas_jax.pretrained import batches


def test_work_ahead_keeps_the_order_and_is_bounded(monkeypatch):
    monkeypatch.setattr(batches.devices, "cpu_count", lambda: 3)
    begun, taken = [], []
    for value in batches._ahead(lambda a: begun.append(a) or a * a, range(30)):
        taken.append(value)
        assert len(begun) <= len(taken) + 3
    assert taken == [a * a for a in range(30)]
