"""Makes Markdown tables from the json of `benchmarks.results`: arms, grouped over seeds, compared with their rivals."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from sas_jax.results import differences, numbers, schema, selectors, tables
from sas_jax.results.arms import EPOCHS, PRIMARY, Group, Measure, grouped, main_setting, settings, titles
from sas_jax.results.differences import FEWEST_SEEDS, Difference, Differences
from sas_jax.results.latent_classes import named
from sas_jax.results.schema import Results
from sas_jax.results.tables import Table, Value

SHORT_FRACTION = 0.2
SHORT_SELECTOR = "sas"
RANDOM = selectors.RIVALS[0].name


def results_of(content: dict[str, Any]) -> Results:
    """Returns the results in a json of `benchmarks.results`."""
    return schema.partial(content["results"])


def groups_of(content: dict[str, Any]) -> list[Group]:
    """Returns the arms of a json of `benchmarks.results`, grouped over seeds."""
    results = results_of(content)
    return grouped(results.arms, results.dataset.train_size)


def run(content: dict[str, Any], image: str | None) -> str:
    """Returns the page's section on one run, in Markdown.

    Args:
        content: A json of `benchmarks.results`.
        image: Its plot, relative to the page; None if nothing is measured.
    """
    groups = groups_of(content)
    parts = [f"## {title(content)}", _origin(content)]
    if image is None:
        return "\n\n".join([*parts, "No arm has been measured yet."])
    parts += [f"![Accuracy of the linear probe against the fraction of the images]({image})"]
    found, main = differences.of_run(groups), main_setting(groups)
    for name, words in titles(_trained(main)).items():
        parts += _section(main, found, name, words)
    others = [_trained(members) for members in settings(groups).values() if members != main]
    steps = [members for members in others if any(group.kind.step_rule != EPOCHS for group in members)]
    methods = [members for members in others if members not in steps]
    for heading, listed in (
        ("### Equal steps: each arm takes as many steps as all images in the same number of epochs", steps),
        ("### Other methods", methods),
    ):
        if listed:
            members = [group for each in listed for group in each]
            parts += [heading, tables.differences(members, found, PRIMARY).markdown()]
    if collapsed := [group.title for group in groups if any(arm.collapsed for arm in group.arms)]:
        parts.append(f"The outputs of {', '.join(collapsed)} collapsed to nearly one point in at least one seed.")
    return "\n\n".join(parts)


@dataclasses.dataclass(frozen=True)
class Short:
    """A row of the short table: `SHORT_SELECTOR`, or a list made by it, compared with equally many random images."""

    images: str
    latent_classes: str
    chosen: Measure | None
    random: Measure | None
    difference: Difference


def short_rows(contents: Sequence[dict[str, Any]]) -> list[Short]:
    """Returns a row for each run and partition with enough seeds to claim a difference, by the linear probe."""
    rows = []
    for content in contents:
        groups = groups_of(content)
        found, main = differences.of_run(groups), main_setting(groups)
        short = (group for group in main if group.fraction == SHORT_FRACTION)
        random = next((group for group in short if group.kind.selector == RANDOM), None)
        for group in main:
            listed = group.selector.is_listed
            if random and group.is_as_large_as(random) and (listed or group.kind.selector == SHORT_SELECTOR):
                classes = content.get("listed", "a list") if listed else latent_classes(content, group.kind.partition)
                measured = (group.measures.get("probe"), random.measures.get("probe"))
                difference = found.get((group.kind, RANDOM, "probe"))
                if difference and difference.seeds >= FEWEST_SEEDS:
                    rows.append(Short(content["title"], classes, *measured, difference))
    return rows


def short(contents: Sequence[dict[str, Any]]) -> str:
    """Returns the table of the README: the default selector and random images at 20 %, by the linear probe."""
    head = ["images", "latent classes", SHORT_SELECTOR, RANDOM, "difference"]
    rows: list[list[Value]] = [
        [row.images, row.latent_classes, row.chosen, row.random, row.difference] for row in short_rows(contents)
    ]
    return "\n\n".join(
        [
            f"Linear probe in % after contrastive training on {numbers.fraction(SHORT_FRACTION)} of the images (number "
            f'of seeds), and the difference in points (95 % interval, paired by seed). "Ahead" means beyond chance '
            f"after Holm's correction.",
            Table(head, rows).markdown(),
        ]
    )


def latent_classes(content: dict[str, Any], partition: str = "") -> str:
    """Describes the origin of the latent classes of a run, or of one of its partitions."""
    results = content["results"]
    section = results["latent_classes"] | (results["partitions"][partition] if partition else {})
    method = named(section["method"])
    if not method.clusters:
        field = "labelled_fraction"
        labelled = content["config"].get(f"partitions.{partition}.{field}" if partition else f"latent_classes.{field}")
        return f"{method.about} ({numbers.fraction(labelled)})" if method.embedded and labelled else method.about
    embeddings = section.get("embeddings")
    of = (
        "CLIP embeddings" if embeddings == "clip" else "pretrained features" if embeddings else "the proxy's embeddings"
    )
    number = section.get("num_classes")
    return f"{numbers.count(number)} clusters of {of}" if number else f"clusters of {of}"


def title(content: dict[str, Any]) -> str:
    """Returns a run's heading: its title, and the origin of its latent classes or its list of images."""
    if "listed" in content:
        return f"{content['title']}; a list by {SHORT_SELECTOR} within {content['listed']}"
    return f"{content['title']}; latent classes from {latent_classes(content)}"


def progress(content: dict[str, Any]) -> str:
    """Describes the progress of a run, such as "143 of 222 arms trained, 140 measured"."""
    trained = [arm for arm in content["results"]["arms"] if arm.get("selector")]
    done = sum("probe" in arm or "knn" in arm for arm in trained)
    if done == len(trained) == content["wanted"]:
        return f"all {content['wanted']} arms were trained and measured"
    return f"{len(trained)} of {content['wanted']} arms trained, {done} measured"


def _origin(content: dict[str, Any]) -> str:
    environment, results = content["environment"], content["results"]
    versions = environment.get("versions", {})
    named = ", ".join(f"{name} {versions[name]}" for name in ("sas_jax", "jax", "flax", "optax") if name in versions)
    dataset, latent = results["dataset"], results["latent_classes"]
    if "listed" in content:  # no arm trained on a choice by the run's own classes and ranking
        chosen = f"a list of images that {SHORT_SELECTOR} chose within {content['listed']}"
    else:
        chosen = f"{latent['num_classes']} latent classes from {latent_classes(content)}"
        if purity := (latent.get("agreement") or {}).get("purity"):
            chosen += f" ({numbers.percent(purity)} of the images have the most frequent label of their class)"
    joined = (content["hardware"], content["date"], environment.get("commit"))
    hardware, date, commit = (str(text).replace("; ", " and ") for text in joined)
    return (
        f"Run on {hardware}, {date}, with Python {environment.get('python')}, {named}, commit {commit}, by "
        f"`{content['command']}`. Data: {dataset['name']}, {numbers.count(dataset['train_size'])} training and "
        f"{numbers.count(dataset['test_size'])} test images; {chosen}. "
        f"**{progress(content)[:1].upper()}{progress(content)[1:]}.** The json file has every seed's accuracy and the "
        f"settings that differ from configs/default.py."
    )


def _section(groups: Sequence[Group], found: Differences, name: str, words: str) -> list[str]:
    """Returns an accuracy of all selectors and fractions, and the differences to random and to all images."""
    parts = [f"### {words}", _matrix(groups, lambda group: group.measures.get(name))]
    base = next((group.measures[name] for group in groups if not group.is_trained and name in group.measures), None)
    if base:
        parts.append(f"The untrained encoder reaches {base}.")
    for rival in selectors.RIVALS:
        matrix = _matrix(groups, lambda group, rival=rival: found.get((group.kind, rival.name, name)))
        if matrix:
            parts += [f"{words}: the difference to {rival.rival}.", matrix]
    return parts


def _matrix(groups: Sequence[Group], cell: Callable[[Group], Value]) -> str:
    """Returns a table of selectors by fractions; "" if it would be empty."""
    cells: dict[str, dict[float, Value]] = {}
    for group in _trained(groups):
        if group.fraction is not None and (found := cell(group)):
            cells.setdefault(group.kind.who, {})[group.fraction] = found
    fractions = sorted({fraction for row in cells.values() for fraction in row})
    rows = [[who, *map(row.get, fractions)] for who, row in cells.items()]
    return Table(["", *map(numbers.fraction, fractions)], rows).markdown() if rows else ""


def _trained(groups: Sequence[Group]) -> list[Group]:
    return [group for group in groups if group.is_trained]
