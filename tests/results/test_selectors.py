"""The table of selectors."""

from sas_jax.results import selectors
from sas_jax.results.selectors import Role
from sas_jax.selection.selectors import SELECTORS


def test_every_selector_of_a_config_is_in_the_table():
    assert set(selectors.SELECTORS) == {*SELECTORS, "untrained"}, "give it a line in sas_jax/results/selectors.py"


def test_looks_differ():
    styles = [selector.style for selector in selectors.SELECTORS.values()]
    assert len(set(styles)) == len(styles)


def test_an_unknown_selector_is_shown_last():
    unknown = selectors.named("of a later version")
    assert unknown.role == Role.CHOSEN
    assert selectors.place(unknown.name) == len(selectors.SELECTORS)
