"""The report's opening: what ran, the answer in words, the arms' table and figures, and their training."""

from collections.abc import Mapping, Sequence
from typing import Any

from sas_jax.report import numbers, plots, words
from sas_jax.report.arms import UNTRAINED, Group, Measure, named, order, settings
from sas_jax.report.markup import Markup, element, joined
from sas_jax.report.parts import accuracy, figures, note, section, sentence, table


def opening(results: Mapping[str, Any], config: Mapping[str, Any], groups: Sequence[Group]) -> Markup:
    dataset = results.get("dataset") or {}
    name = dataset.get("name", "unnamed data")
    chosen = [group for group in groups if group.chosen]
    heading = f"{name}: {named(chosen)}" if chosen else f"{name}: {_reached(results)}"
    sentences = words.answers(groups)
    if not sentences:
        sentences = [_no_answer(results, groups)]
    caveats = words.caveats(groups, (results.get("latent_classes") or {}).get("method"))
    return joined(
        element("h1", heading),
        element("p", _what_ran(results, config, groups), class_="soft"),
        element(
            "section",
            element("p", sentence(sentences[0]), class_="first"),
            element("ul", *(element("li", sentence(text)) for text in sentences[1:])) if sentences[1:] else None,
            id="answer",
        ),
        element("ul", *(element("li", text) for text in caveats), class_="notes", id="reading") if caveats else None,
    )


def _reached(results: Mapping[str, Any]) -> str:
    return "a ranking of its images" if results.get("selection") else "an unfinished run"


def _no_answer(results: Mapping[str, Any], groups: Sequence[Group]) -> str:
    trained = [group for group in groups if group.selector != UNTRAINED]
    if trained:
        return (
            f"Trained: {named(trained)}. No accuracy was measured ({_unmeasured(results)}), so this run does not "
            "tell which subset is better."
        )
    if results.get("selection"):
        return "The run ended with the ranking; no encoder was trained on a subset, so nothing is said about accuracy."
    return "The run ended before the ranking; there is no answer yet."


def _unmeasured(results: Mapping[str, Any]) -> str:
    """Why there are no accuracies."""
    dataset = results.get("dataset") or {}
    return dataset.get("not_evaluated") or "the run was stopped before the evaluation"


def _what_ran(results: Mapping[str, Any], config: Mapping[str, Any], groups: Sequence[Group]) -> str:
    dataset, latent = results.get("dataset") or {}, results.get("latent_classes") or {}
    selection = results.get("selection") or {}
    parts = []
    if dataset.get("train_size") is not None:
        facts = [numbers.plural(dataset["train_size"], "training image")]
        if dataset.get("test_size"):
            facts.append(numbers.plural(dataset["test_size"], "test image"))
        labelled = dataset.get("num_classes")
        facts.append(numbers.plural(labelled, "labelled class", "labelled classes") if labelled else "no labels")
        parts.append(f"{dataset.get('name', 'The data')}: {', '.join(facts)}.")
    if latent:
        kinds = numbers.plural(latent.get("num_classes") or 0, "latent class", "latent classes")
        parts.append(f"{kinds} by {latent.get('method')}{_vectors(latent, config)}.")
    if selection:
        parts.append(
            f"Within each, {selection.get('objective')} ranked the images by {selection.get('similarity')} similarity."
        )
    trained = sum(len(group.arms) for group in groups if group.selector != UNTRAINED)
    wanted = len(config.get("arms") or ())
    if trained and trained < wanted:
        parts.append(f"{trained} of {wanted} encoders were trained so far.")
    elif trained:
        parts.append(f"{numbers.plural(trained, 'encoder was', 'encoders were')} trained.")
    return " ".join(parts)


def _vectors(latent: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """What the latent classes were made from."""
    if latent.get("method") in ("labels", "file"):
        return ""
    if own := latent.get("embeddings"):
        return ", from CLIP's embeddings" if own == "clip" else ", from embeddings from a file of their own"
    return ", from embeddings from a file" if _from_file(config) else ", from embeddings of a proxy encoder"


def _from_file(config: Mapping[str, Any]) -> bool:
    proxy = config.get("proxy")
    return bool(proxy.get("embeddings")) if isinstance(proxy, Mapping) else False


def arms(results: Mapping[str, Any], groups: Sequence[Group]) -> Markup:
    if not groups:
        return Markup()
    measure = words.measure_name(groups)
    base = next((getattr(g, measure) for g in groups if g.selector == UNTRAINED), None) if measure else None
    palette = plots.styles(groups)
    rows = [
        (
            _selector(group, palette[group.selector]),
            numbers.fraction(group.fraction),
            numbers.count(group.mean("size")),
            _accuracy(group.probe),
            _accuracy(group.knn),
            _difference(getattr(group, measure), base) if measure and group.selector != UNTRAINED else numbers.NOTHING,
            numbers.count(group.mean("epochs")),
            numbers.count(group.mean("steps")),
            numbers.decimal(group.mean("loss")),
            numbers.duration(group.mean("train_seconds") or None),
        )
        for group in groups
    ]
    head = (
        "selector",
        "fraction",
        "images",
        "linear probe",
        "kNN",
        "over untrained",
        "epochs",
        "steps",
        "loss",
        "training",
    )
    notes = []
    if measure:
        notes.append(
            f"Over untrained: the difference in percentage points of the {words.MEASURES[measure]}, and whether the "
            "two 95 % intervals overlap."
        )
    else:
        notes.append(f"No linear probe and no kNN: {_unmeasured(results)}.")
    if any(len(group.arms) > 1 for group in groups):
        notes.append("Rows with several seeds show their means, and the spread from the lowest seed to the highest.")
    pictures = [
        plots.accuracy(members, name, f"{title}, {setting}" if setting else title)
        for setting, members in settings(groups)
        for name, title in (("probe", "Linear probe"), ("knn", "kNN"))
    ]
    return section(
        "Arms",
        table(head, rows, "arms"),
        note(" ".join(notes)),
        figures(pictures),
        _further(groups, palette),
        _seeds(groups),
    )


def _further(groups: Sequence[Group], palette: Mapping[str, str]) -> Markup | None:
    """The accuracies that not every run measures."""
    columns: list[tuple[str, list[Measure | None]]] = [
        (f"probe on {numbers.fraction(float(share))} of the labels", [group.few.get(share) for group in groups])
        for share in sorted({share for group in groups for share in group.few}, key=float)
    ]
    columns.append(("probe on coarse classes", [group.coarse for group in groups]))
    columns.append(("trained with labels", [group.supervised for group in groups]))
    columns = [(name, found) for name, found in columns if any(found)]
    if not columns:
        return None
    rows = [
        (_selector(group, palette[group.selector]), numbers.fraction(group.fraction),
         *(_accuracy(found[at]) for _, found in columns))
        for at, group in enumerate(groups)
    ]  # fmt: skip
    text = "With 95 % intervals."
    if any(name == "trained with labels" for name, _ in columns):
        text += " Trained with labels: the test accuracy of a network that learned from the subset's labels."
    return element(
        "div",
        element("h3", "Further accuracies"),
        table(("selector", "fraction", *(name for name, _ in columns)), rows, "arms"),
        note(text),
    )


def _selector(group: Group, style: str) -> Markup:
    seeds = element("small", f"{len(group.arms)} seeds") if len(group.arms) > 1 else None
    setting = element("small", group.setting) if group.setting else None
    return joined(element("span", class_=f"key {style}"), group.selector, setting, seeds)


def _accuracy(found: Measure | None) -> Markup:
    if found is None or len(found.seeds) < 2:
        return accuracy(found)
    ends = numbers.span(min(found.seeds), max(found.seeds))
    return joined(accuracy(found), element("small", f"seeds {ends}"))


def _difference(found: Measure | None, base: Measure | None) -> Markup:
    if found is None or base is None:
        return Markup(numbers.NOTHING)
    apart = "apart" if order(found, base) else "overlap"
    return joined(numbers.points(found.value - base.value), element("small", apart))


def _seeds(groups: Sequence[Group]) -> Markup | None:
    """Every single arm, where seeds were put together."""
    if all(len(group.arms) == 1 for group in groups):
        return None

    def single(measure: Mapping[str, Any] | None) -> str:
        return numbers.interval(measure["value"], measure["low"], measure["high"]) if measure else numbers.NOTHING

    rows = [
        (
            arm.get("name", group.title),
            numbers.count(arm.get("size")),
            numbers.decimal(arm.get("loss")),
            single(arm.get("probe")),
            single(arm.get("knn")),
            numbers.duration(arm.get("train_seconds") or None),
        )
        for group in groups
        for arm in group.arms
    ]
    head = ("arm", "images", "loss", "linear probe", "kNN", "training")
    return element("details", element("summary", "Each seed by itself"), table(head, rows))


def training(records: Mapping[str, list[dict[str, Any]]], groups: Sequence[Group], config: Mapping[str, Any]) -> Markup:
    kinds: dict[
        str, dict[str, list[dict[str, Any]]]
    ] = {}  # "proxy", "arms/NAME", "supervised/NAME": by what is before /
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
    notes = []
    if _from_file(config):
        notes.append("The embeddings came from a file, so no proxy was trained here.")
    if not any(drawn):
        notes.append("No loss was recorded.")
    broken = [
        f"{stage} at step {numbers.count(record.get('step'))}"
        for stage, found in records.items()
        for record in found
        if "loss" in record and not numbers.known(record["loss"])
    ]
    if broken:
        notes.append(f"The loss was not a finite number in {broken[0]}; such points are not drawn.")
    return section("Training", *map(note, notes), figures(drawn))


def _curves(
    by_name: Mapping[str, list[dict[str, Any]]], groups: Sequence[Group]
) -> list[tuple[str, str, list[dict[str, Any]]]]:
    palette = plots.styles(groups)
    crowded = sum(len(group.arms) for group in groups) > plots.CROWD
    known = {str(arm.get("name")): group for group in groups for arm in group.arms}
    curves = [
        (group.selector if crowded else group.title, palette[group.selector], by_name[name])
        for name, group in known.items()
        if name in by_name
    ]
    # an arm that was stopped before its row was written
    return curves + [(name, "s0", found) for name, found in by_name.items() if name not in known]
