"""From the json of `benchmarks.results` to the tables of docs/results.md: arms, seeds together, beside their rivals."""

from collections.abc import Callable, Sequence
from typing import Any

from sas_jax.results import differences, numbers, schema, selectors, tables
from sas_jax.results.arms import EPOCHS, PRIMARY, Group, grouped, main_setting, settings, titles
from sas_jax.results.differences import FEWEST_SEEDS, LEGEND, Differences
from sas_jax.results.schema import Results
from sas_jax.results.tables import Table, Value

SHORT_FRACTION = 0.2
SHORT_SELECTOR = "sas"
RANDOM = selectors.RIVALS[0].name

_LATENT_CLASSES = {
    "labels": "the labels",
    "few_labels": "few labels",
    "clip_zeroshot": "CLIP",
    "file": "a file",
}


def results_of(content: dict[str, Any]) -> Results:
    """The results in a json of `benchmarks.results`."""
    return schema.partial(content["results"])


def groups_of(content: dict[str, Any]) -> list[Group]:
    """The arms of a json of `benchmarks.results`, seeds together."""
    results = results_of(content)
    return grouped(results.arms, results.dataset.train_size)


def run(content: dict[str, Any], image: str | None) -> str:
    """All that the page says of one run, in Markdown.

    Args:
      content: A json of `benchmarks.results`.
      image: Its plot, relative to the page; None where nothing is measured.
    """
    groups = groups_of(content)
    parts = [f"## {title(content)}", _origin(content)]
    if image is None:
        return "\n\n".join([*parts, "No arm is measured yet."])
    parts += [f"![Accuracy of the linear probe against the fraction of the images]({image})", _rule(content)]
    found, main = differences.of_run(groups), main_setting(groups)
    for name, words in titles(_trained(main)).items():
        parts += _section(main, found, name, words)
    others = [_trained(members) for members in settings(groups).values() if members != main]
    steps = [members for members in others if any(group.kind.step_rule != EPOCHS for group in members)]
    methods = [members for members in others if members not in steps]
    for heading, listed in (
        ("### Equal steps: each arm as many as all images have in the same number of epochs", steps),
        ("### Other methods", methods),
    ):
        if listed:
            members = [group for each in listed for group in each]
            parts += [heading, tables.differences(members, found, PRIMARY).markdown()]
    if collapsed := [group.title for group in groups if any(arm.collapsed for arm in group.arms)]:
        parts.append(f"Collapsed to nearly one point, in at least one seed: {', '.join(collapsed)}.")
    return "\n\n".join(parts)


def short(contents: Sequence[dict[str, Any]]) -> str:
    """The table of the README: the default selector and random images at 20 %, by the linear probe.

    A row for each run and partition.
    """
    rows: list[list[Value]] = []
    for content in contents:
        groups = groups_of(content)
        found, main = differences.of_run(groups), main_setting(groups)
        random = next((group for group in main if _is_short(group, RANDOM)), None)
        for group in main:
            if random and _is_short(group, SHORT_SELECTOR):
                difference = found.get((group.kind, RANDOM, "probe"))
                measured = (group.measures.get("probe"), random.measures.get("probe"), difference)
                rows.append([content["title"], latent_classes(content, group.kind.partition), *measured])
    head = ["images", "latent classes", SHORT_SELECTOR, RANDOM, "difference"]
    return "\n\n".join(
        [
            f"Linear probe in % after contrastive training on {numbers.fraction(SHORT_FRACTION)} of the images, chosen "
            f"by `{SHORT_SELECTOR}` or at random; in brackets the number of seeds. The difference is in points (95 % "
            f"interval, paired by seed). {LEGEND}",
            Table(head, rows).markdown(),
        ]
    )


def _is_short(group: Group, selector: str) -> bool:
    return (group.kind.selector, group.fraction) == (selector, SHORT_FRACTION)


def latent_classes(content: dict[str, Any], partition: str = "") -> str:
    """Where the latent classes of a run, or of one of its partitions, came from, in words."""
    results = content["results"]
    section = results["latent_classes"] | (results["partitions"][partition] if partition else {})
    if section["method"] != "kmeans":
        return _LATENT_CLASSES.get(section["method"], section["method"])
    embeddings = section.get("embeddings")
    of = (
        "CLIP embeddings" if embeddings == "clip" else "pretrained features" if embeddings else "the proxy's embeddings"
    )
    number = section.get("num_classes")
    return f"{numbers.count(number)} clusters of {of}" if number else f"clusters of {of}"


def title(content: dict[str, Any]) -> str:
    """What a run is called: its title and where its latent classes came from."""
    return f"{content['title']}; latent classes from {latent_classes(content)}"


def progress(content: dict[str, Any]) -> str:
    """How far the run has come: "143 of 222 arms trained, 140 measured"."""
    trained = [arm for arm in content["results"]["arms"] if arm.get("selector")]
    done = sum("probe" in arm or "knn" in arm for arm in trained)
    if done == len(trained) == content["wanted"]:
        return f"all {content['wanted']} arms"
    return f"{len(trained)} of {content['wanted']} arms trained, {done} measured"


def _origin(content: dict[str, Any]) -> str:
    environment, results = content["environment"], content["results"]
    versions = environment.get("versions", {})
    named = ", ".join(f"{name} {versions[name]}" for name in ("sas_jax", "jax", "flax", "optax") if name in versions)
    dataset, latent = results["dataset"], results["latent_classes"]
    classes = f"{latent['num_classes']} latent classes from {latent_classes(content)}"
    if purity := (latent.get("agreement") or {}).get("purity"):
        classes += f", {numbers.percent(purity)} of the images with the most frequent label of theirs"
    return (
        f"{content['hardware']}, {content['date']}; Python {environment.get('python')}, {named}; commit "
        f"{environment.get('commit')}; `{content['command']}`. {dataset['name']}: "
        f"{numbers.count(dataset['train_size'])} training and {numbers.count(dataset['test_size'])} test images; "
        f"{classes}. **{progress(content)[:1].upper()}{progress(content)[1:]}.** What the config has otherwise than "
        f"configs/default.py, and every seed's accuracy, is in the json."
    )


def _rule(content: dict[str, Any]) -> str:
    return (
        "Accuracies are in %, mean ± half the width of the 95 % interval (number of seeds); the interval covers the "
        "choice of the test images and, with several seeds, the seeds (Student's t). Differences are in points, over "
        "the seeds that both arms have: arms of one seed begin with the same weights and meet the same "
        f"{numbers.count(content['results']['dataset']['test_size'])} test images. With {FEWEST_SEEDS} seeds or more "
        "the interval is Student's t on the seeds' differences, which is about these test images and, for a chosen "
        "subset, about this one ranking: another proxy has another one. It is that of the single comparison, whereas "
        "ahead and behind mean beyond chance (5 %) after Holm's correction for all differences of a table. Bold: "
        "moreover the two accuracies' own intervals, which cover other test images, do not overlap. In brackets: "
        "the single comparison's interval leaves 0 out, but after the correction chance is not ruled out; of twenty "
        "comparisons of equals one is expected to. No word: no difference is shown, which does not show that there "
        "is none. Where the number of seeds is given there are "
        "fewer than that: the interval is that of two independent accuracies, covers no seeds where it is one, and "
        "nothing is claimed."
    )


def _section(groups: Sequence[Group], found: Differences, name: str, words: str) -> list[str]:
    """An accuracy of all selectors and fractions, and the differences to random and to all images."""
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
    """Selectors by fractions; "" without any."""
    cells: dict[str, dict[float, Value]] = {}
    for group in _trained(groups):
        if group.fraction is not None and (found := cell(group)):
            cells.setdefault(group.kind.who, {})[group.fraction] = found
    fractions = sorted({fraction for row in cells.values() for fraction in row})
    rows = [[who, *map(row.get, fractions)] for who, row in cells.items()]
    return Table(["", *map(numbers.fraction, fractions)], rows).markdown() if rows else ""


def _trained(groups: Sequence[Group]) -> list[Group]:
    return [group for group in groups if group.is_trained]
