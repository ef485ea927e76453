"""The report's opening: what ran, the differences between arms, the arms' table and figures, and their training."""

from collections.abc import Mapping, Sequence
from typing import Any

from sas_jax import pretrained
from sas_jax.report import plots
from sas_jax.report.parts import figures, folded, note, notes, section
from sas_jax.results import differences, latent_classes, numbers, tables
from sas_jax.results import notes as fixed
from sas_jax.results.arms import PRIMARY, Group, named, settings, titles
from sas_jax.results.differences import Differences
from sas_jax.results.markup import Markup, element, joined
from sas_jax.results.schema import LatentClasses, Results


def opening(results: Results, config: Mapping[str, Any], groups: Sequence[Group]) -> Markup:
    chosen = [group for group in groups if group.chosen]
    reached = "a ranking of its images" if results.selection.objective else "an unfinished run"
    found = differences.of_run(groups)
    said = fixed.reading(groups, found.values()) + fixed.unequal(groups, results.latent_classes.method)
    return joined(
        element("h1", f"{results.dataset.name or 'unnamed data'}: {named(chosen) if chosen else reached}"),
        element("p", _what_ran(results, config, groups), class_="soft"),
        section(
            "Differences between arms",
            *_differences(groups, found) if found else (note(_no_answer(results, groups)),),
            id="answer",
        ),
        notes(said),
    )


def _differences(groups: Sequence[Group], found: Differences) -> list[Markup]:
    """Returns the differences in the primary accuracies and, folded, those in other accuracies."""
    tables_ = [
        tables.differences(groups, found, [name for name in titles(groups) if (name in PRIMARY) == is_primary])
        for is_primary in (True, False)
    ]
    primary, others = (table.html("arms") if table else None for table in tables_)
    return [part for part in (primary, others and folded("Differences in other accuracies", others)) if part]


def _no_answer(results: Results, groups: Sequence[Group]) -> str:
    trained = [group for group in groups if group.is_trained]
    if any(group.measures for group in trained):
        return "There are no differences: no arm shares a seed with random subsets of its size or with all images."
    if trained:
        return (
            f"Trained: {named(trained)}. No accuracy was measured ({_unmeasured(results)}), so this run does not "
            "show which subset is better."
        )
    if results.selection.objective:
        return "The run ended after the ranking. No encoder was trained on a subset, so there are no accuracies."
    return "The run ended before the ranking, so there are no differences yet."


def _unmeasured(results: Results) -> str:
    """Returns why there are no accuracies."""
    return results.dataset.not_evaluated or "the run was stopped before the evaluation"


def _what_ran(results: Results, config: Mapping[str, Any], groups: Sequence[Group]) -> str:
    dataset, latent, selection = results.dataset, results.latent_classes, results.selection
    parts = []
    if dataset.train_size is not None:
        facts = [numbers.plural(dataset.train_size, "training image")]
        if dataset.test_size:
            facts.append(numbers.plural(dataset.test_size, "test image"))
        labelled = dataset.num_classes
        facts.append(numbers.plural(labelled, "labelled class", "labelled classes") if labelled else "no labels")
        parts.append(f"{dataset.name or 'The data'}: {', '.join(facts)}.")
    if latent.method:
        kinds = numbers.plural(latent.num_classes or 0, "latent class", "latent classes")
        parts.append(f"{kinds} by {latent.method}{_vectors(latent, config)}.")
    if selection.objective:
        parts.append(f"Within each, {selection.objective} ranked the images by {selection.similarity} similarity.")
    trained = sum(len(group.arms) for group in groups if group.is_trained)
    wanted = len(config.get("arms") or ())
    if trained and trained < wanted:
        parts.append(f"{trained} of {wanted} encoders have been trained so far.")
    elif trained:
        parts.append(f"{numbers.plural(trained, 'encoder was', 'encoders were')} trained.")
    return " ".join(parts)


def _vectors(latent: LatentClasses, config: Mapping[str, Any]) -> str:
    """Returns what the latent classes were made from, in words."""
    if not latent_classes.named(latent.method).embedded:
        return ""
    if latent.embeddings == "clip":
        return ", from CLIP's embeddings"
    given = latent.embeddings or _given(config)
    return f", from {_origin(given)}" if given else ", from embeddings of a proxy encoder"


def _given(config: Mapping[str, Any]) -> str:
    """Returns the embeddings that the run was given in place of a proxy; "" if it trains one."""
    proxy = config.get("proxy")
    return str(proxy.get("embeddings") or "") if isinstance(proxy, Mapping) else ""


def _origin(embeddings: str) -> str:
    return f"features of {embeddings}" if pretrained.is_model(embeddings) else "embeddings from a file"


def arms(results: Results, groups: Sequence[Group]) -> Markup:
    if not groups:
        return Markup()
    about = {group.kind.selector: group.selector.about for group in groups if group.selector.about}
    text = "; ".join(f"{name}: {words}" for name, words in about.items())
    unmeasured = f"No linear probe and no kNN: {_unmeasured(results)}."
    pictures = [
        plots.accuracy(members, name, f"{title}, {setting}" if setting else title)
        for setting, members in settings(groups).items()
        for name, title in titles(members).items()
        if name in PRIMARY
    ]
    singles = [Group(group.kind, (arm,)) for group in groups for arm in group.arms]
    return section(
        "Arms",
        tables.arms(groups).html("arms"),
        None if any(group.measures for group in groups if group.is_trained) else note(unmeasured),
        note(f"{text}.") if text else None,
        figures(pictures),
        folded("Results by seed", tables.arms(singles, single=True).html()) if len(singles) > len(groups) else None,
    )


def training(records: Mapping[str, list[dict[str, Any]]], groups: Sequence[Group], config: Mapping[str, Any]) -> Markup:
    kinds: dict[str, dict[str, list[dict[str, Any]]]] = {}  # by the part before "/" in "proxy", "arms/NAME", ...
    for stage, found in records.items():
        kind, _, name = stage.partition("/")
        kinds.setdefault(kind, {})[name] = found
    drawn = [
        plots.loss(f"Training of the {kind}", [(kind, "s1", by_name[""])])
        if "" in by_name
        else plots.loss(
            "Training of the arms" if kind == "arms" else f"Training of the arms, {kind}",
            _curves(by_name, groups),
            "contrastive loss" if kind == "arms" else "loss",
        )
        for kind, by_name in kinds.items()
    ]
    said = []
    if given := _given(config):
        said.append(f"The run was given {_origin(given)}, so no proxy was trained.")
    if not any(drawn):
        said.append("No loss was recorded.")
    broken = [
        f"{stage} at step {numbers.count(record.get('step'))}"
        for stage, found in records.items()
        for record in found
        if "loss" in record and not numbers.known(record["loss"])
    ]
    if broken:
        said.append(f"The loss was not a finite number in {broken[0]}; such points are not drawn.")
    return section("Training", *map(note, said), figures(drawn))


def _curves(
    by_name: Mapping[str, list[dict[str, Any]]], groups: Sequence[Group]
) -> list[tuple[str, str, list[dict[str, Any]]]]:
    crowded = sum(len(group.arms) for group in groups) > plots.CROWD
    known = {arm.name: group for group in groups for arm in group.arms}
    curves = [
        (group.kind.who if crowded else group.title, group.selector.style, by_name[name])
        for name, group in known.items()
        if name in by_name
    ]
    # Arms that were stopped before their results were written come last.
    return curves + [(name, "s0", found) for name, found in by_name.items() if name not in known]
