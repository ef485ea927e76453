"""Collects json from the workdirs of comparisons, and writes the tables and plots of docs/comparisons.md.

    python -m benchmarks.results collect WORKDIR docs/results/compare-NAME.json --title="Digits, two CPU cores"
    python -m benchmarks.results write

`collect` stores what the tables need of a run, which may be unfinished; with --onto it adds the arms that another
machine trained. `write` makes docs/images/results-*.svg, docs/images/differences.svg and the tables: for each
compare-NAME.json docs/comparisons.md has the lines `<!-- compare-NAME: begin -->` and `<!-- compare-NAME: end -->`,
README.md and docs/results.md one pair each with `results`. Text outside of them is kept.
"""

import argparse
import datetime
import importlib
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import results_plot, results_tables, tables
from sas_jax import json_schemas, plan, pretrained, typed
from sas_jax.errors import InputError, shown
from sas_jax.report import comparison
from sas_jax.results.schema import Results
from sas_jax.typed import Anything
from sas_jax.workdir import flatten, jsonable

ROOT = Path(__file__).resolve().parent.parent
SHORT_TABLE = "results"
_ARM = ("name", "selector", "fraction", "seed", "method", "step_rule", "partition", "size", "epochs", "steps", "loss",
        "spread", "collapsed")  # fmt: skip
_ACCURACIES = ("probe", "knn", "probe_coarse", "supervised")
_ACCURACY = ("value", "low", "high", "n")
_ENVIRONMENT = ("python", "versions", "platform", "backend", "devices", "commit")
_LATENT_CLASSES = ("method", "embeddings", "num_classes", "agreement")
_PLACES = ("proxy.embeddings", "latent_classes.file", "latent_classes.labels_file", "latent_classes.embeddings",
           "selection.file", "selection.similarity_embeddings", "data.folder", "data.test_folder")  # fmt: skip
_PLACES_OF_PARTITIONS = ("file", "labels_file", "embeddings", "similarity_embeddings")


def collect(
    workdir: Path,
    *,
    title: str,
    listed: str | None = None,
    command: str | None = None,
    hardware: str | None = None,
    date: str | None = None,
) -> dict[str, Any]:
    """Returns what the tables need of a finished or unfinished run.

    Args:
        workdir: The directory of the run.
        title: The name of the run on the page.
        listed: For a run on a list of images, the latent classes within which the list was selected, in words.
        command: The command of the run; by default the shortest one that gives its config.
        hardware: The hardware of the run; by default the devices of environment.json.
        date: The date of the run; by default the day results.json was written, in UTC.

    Returns:
        The content of a compare-NAME.json: without times, geometry and class sizes; of the config the fields that
        differ from configs/default.py; "wanted", the number of arms in the config, beside the existing arms.

    Raises:
        InputError: there is no run, it has no results, or its files are damaged.
    """
    if not workdir.is_dir():
        raise InputError(
            f"WORKDIR must be the directory of a run, got {workdir}, which is not a directory. Correct it."
        )
    config = _read(workdir, "config.json", json_schemas.Config, "Give a directory that python -m sas_jax.main created.")
    results = _read(workdir, "results.json", Results, "Wait until the run has measured an arm, or resume it.")
    try:
        environment = _read(workdir, "environment.json", dict[str, Anything], "")
    except InputError:  # it only describes the machine
        environment = {}
    written = datetime.datetime.fromtimestamp((workdir / "results.json").stat().st_mtime, datetime.UTC)
    differing = {name: value for name, value in _that_matters("default", config).items() if name != "arms"}
    return {
        "title": title,
        **({"listed": listed} if listed else {}),
        "command": command or _command(config),
        "date": date or written.date().isoformat(),
        "hardware": hardware or _devices(environment),
        "environment": {name: environment[name] for name in _ENVIRONMENT if name in environment},
        "config": {name: without_directory(name, value) for name, value in differing.items()},
        "wanted": len(config.get("arms", ())),
        "results": {
            "dataset": results["dataset"],
            "latent_classes": _named(results["latent_classes"]),
            "partitions": {name: _named(partition) for name, partition in results.get("partitions", {}).items()},
            "selection": results["selection"],
            "arms": [_arm(arm) for arm in results["arms"]],
        },
    }


def joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Joins the arms of two runs of one config on other days or machines, since an arm depends only on the config.

    Args:
        first: The content of a compare-NAME.json, whose title, command and versions are kept.
        second: The content of a later one.

    Raises:
        InputError: an arm is in both, or they differ in more than their arms.
    """
    partitions = [content["results"].get("partitions", {}) for content in (first, second)]
    both = sorted(partitions[0].keys() & partitions[1].keys())
    for name, one, other in (
        *((name, first.get(name), second.get(name)) for name in ("config", "listed")),
        ("dataset", first["results"]["dataset"], second["results"]["dataset"]),
        ("selection", *(_ranking(each) for each in (first, second))),
        *((f"partition {name}", partitions[0][name], partitions[1][name]) for name in both),
    ):
        if one != other:
            raise InputError(
                f"Runs to be joined must have the same {name}, got {shown(one)} and {shown(other)}. Keep them in "
                f"separate files."
            )
    arms = {arm["name"]: arm for arm in first["results"]["arms"]}
    new = {arm["name"]: arm for arm in second["results"]["arms"] if arm.get("selector")}  # keep one untrained encoder
    if twice := sorted(arms.keys() & new.keys()):
        raise InputError(
            f"Runs to be joined must have no arm in common, got {', '.join(twice)} in both. Leave one out."
        )
    changed: dict[str, Any] = {name: _both(first[name], second[name]) for name in ("hardware", "date")}
    commit = _both(*(each["environment"].get("commit") for each in (first, second)))
    changed["environment"] = first["environment"] | {"commit": commit}
    results = first["results"] | {"partitions": partitions[0] | partitions[1], "arms": [*arms.values(), *new.values()]}
    return first | changed | {"wanted": max(first["wanted"], second["wanted"], len(arms | new) - 1), "results": results}


def _both(one: Any, other: Any) -> str:
    texts = [text for each in (one, other) if each for text in str(each).split("; ")]
    return "; ".join(dict.fromkeys(texts))


def _ranking(content: dict[str, Any]) -> dict[str, Any]:
    """Returns the selection; for a list without its turning point, which is irrelevant and varies between machines."""
    chosen = content["results"]["selection"]
    return {name: value for name, value in chosen.items() if name != "turning_fraction" or "listed" not in content}


def _named(latent_classes: dict[str, Any]) -> dict[str, Any]:
    """Returns the stored fields of latent classes; a partition has only those that differ from the run's own."""
    found = {name: latent_classes[name] for name in _LATENT_CLASSES if name in latent_classes}
    return {name: without_directory(f"latent_classes.{name}", value) for name, value in found.items()}


def dumped(content: dict[str, Any]) -> str:
    """Formats a compare-NAME.json: indented, but with one line per arm, for small files and readable diffs."""
    arms = content["results"]["arms"]
    lines = ",\n".join(f"      {json.dumps(arm)}" for arm in arms)
    short = {**content, "results": {**content["results"], "arms": "ARMS"}}
    return json.dumps(short, indent=2).replace('"arms": "ARMS"', f'"arms": [\n{lines}\n    ]') + "\n"


def write(results: Path, page: Path, shorts: Sequence[Path], images: Path) -> list[Path]:
    """Writes all plots and tables anew, from all compare-*.json.

    Args:
        results: The directory of the json.
        page: Where the tables go.
        shorts: The pages where the short table goes.
        images: Where the plots go: differences.svg, and results-NAME.svg for compare-NAME.json.

    Returns:
        The written files, changed or not.

    Raises:
        InputError: there is no json, or a page lacks the comments that say where its tables go.
    """
    found = {path: json.loads(path.read_text()) for path in sorted(results.glob("compare-*.json"))}
    if not found:
        raise InputError(
            f"{results} must hold a compare-*.json, got none. Make one with python -m benchmarks.results collect."
        )
    drawn, text = {}, _text(page)
    for path, content in found.items():
        image = images / f"results-{path.stem.removeprefix('compare-')}.svg"
        drawn[image] = results_plot.accuracy(content)
        block = results_tables.run(content, f"{images.name}/{image.name}" if drawn[image] else None)
        text = _inserted(text, page, path.stem, block)
    contents = list(found.values())
    drawn[images / "differences.svg"] = results_plot.differences(contents)
    table = results_tables.short(contents)
    texts = {page: text} | {path: _inserted(_text(path), path, SHORT_TABLE, table) for path in shorts}
    written = {path: content for path, content in (drawn | texts).items() if content is not None}
    for path, content in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return list(written)


def _read(workdir: Path, name: str, kind: Any, remedy: str) -> dict[str, Any]:
    path = workdir / name
    if not path.is_file():
        raise InputError(f"WORKDIR must hold a {name}, got {workdir}, which has none. {remedy}")
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        content = None
    if defect := typed.defect(kind, content, path.stem):
        raise InputError(
            f"{path} must be intact, as written by python -m sas_jax.main, got a damaged one ({defect}). Remove it, "
            "and run that command again."
        )
    assert isinstance(content, dict)
    return content


def _arm(arm: dict[str, Any]) -> dict[str, Any]:
    found = {name: arm.get(name) for name in _ARM} | {name: _accuracy(arm.get(name)) for name in _ACCURACIES}
    few = {share: _accuracy(measure) for share, measure in (arm.get("probe_few") or {}).items()}
    return {name: value for name, value in (found | {"probe_few": few or None}).items() if value not in (None, "")}


def _accuracy(measure: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if measure is None else {name: measure[name] for name in _ACCURACY}


def _that_matters(base: str, config: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a stored config that differ from configs/`base`.py and can change a result."""
    given = jsonable(importlib.import_module(f"configs.{base}").get_config().to_dict())
    there = flatten(config)
    return plan.that_matters(
        {name: there[name] for name in comparison.differing_fields([given, config]) if name in there}
    )


def _command(config: dict[str, Any]) -> str:
    """Returns the shortest command that reproduces a run's numbers, as far as its config determines it."""
    bases = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    changes = {base: _that_matters(base, config) for base in bases}
    base = min(bases, key=lambda name: (len(changes[name]), name))
    words = ["python", "-m", "sas_jax.main", f"--config=configs/{base}.py"]
    for name, value in changes[base].items():
        text = str(without_directory(name, _tuple(value))).replace("'", '"')  # the shell's quotes go around it
        words.append(f"--config.{name}={text}")
    return shlex.join(words)


def _tuple(value: Any) -> Any:
    """Converts lists back to the tuples that they were before JSON."""
    return tuple(map(_tuple, value)) if isinstance(value, list) else value


def without_directory(name: str, value: Any) -> Any:
    """Strips a file's directory, which is meaningless on other machines; names of networks are kept."""
    is_place = name in _PLACES or (name.startswith("partitions.") and name.rpartition(".")[2] in _PLACES_OF_PARTITIONS)
    return Path(value).name if is_place and value and not pretrained.is_model(value) else value


def _devices(environment: dict[str, Any]) -> str:
    """Describes the devices of environment.json, such as "4 x cpu"; CPU devices may be simulated."""
    devices = [str(device) for device in environment.get("devices", ())]
    kinds = dict.fromkeys(devices)
    return ", ".join(f"{devices.count(kind)} x {kind}" for kind in kinds) or "unknown hardware"


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError as error:
        raise InputError(
            f"{path} must be an existing file, got none. Create it, with the comments that enclose the tables."
        ) from error


def _inserted(text: str, path: Path, stem: str, block: str) -> str:
    try:
        return tables.insert(text, stem, block)
    except ValueError as error:
        raise InputError(
            f"{path} must hold the lines <!-- {stem}: begin --> and <!-- {stem}: end -->, got one or none of them. "
            f"Put them where the table should be."
        ) from error


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="action", required=True)
    collecting = commands.add_parser("collect", help="write the json of a workdir")
    collecting.add_argument("workdir", type=Path)
    collecting.add_argument("output", type=Path, help="docs/results/compare-NAME.json")
    collecting.add_argument("--title", required=True, help="title of the run on the page")
    collecting.add_argument("--listed", help="latent classes within which the run's list was selected")
    collecting.add_argument("--onto", action="store_true", help="add the arms to those of the existing json")
    collecting.add_argument("--command", help="command that made the run; by default derived from its config")
    collecting.add_argument("--hardware", help="hardware of the run, in words; by default its devices")
    collecting.add_argument("--date", help="date of the run; by default that of results.json")
    writing = commands.add_parser("write", help="write the tables and plots of all json")
    writing.add_argument("--results", type=Path, default=ROOT / "docs/results", help="folder of the json")
    writing.add_argument(
        "--page", type=Path, default=ROOT / "docs/comparisons.md", help="page to insert the tables into"
    )
    shorts = [ROOT / "README.md", ROOT / "docs/results.md"]
    writing.add_argument("--short", type=Path, nargs="+", default=shorts, help="pages to insert the short table into")
    writing.add_argument("--images", type=Path, default=ROOT / "docs/images", help="folder for the plots")
    options = parser.parse_args(arguments)
    try:
        if options.action == "collect":
            if not (options.output.name.startswith("compare-") and options.output.suffix == ".json"):
                raise InputError(f"The output must be named compare-NAME.json, got {options.output}. Rename it.")
            given = {name: getattr(options, name) for name in ("title", "listed", "command", "hardware", "date")}
            content = collect(options.workdir, **given)
            if options.onto:
                content = joined(json.loads(options.output.read_text()), content)
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(dumped(content))
            print(f"{options.output}: {results_tables.progress(content)}")
        else:
            for path in write(options.results, options.page, options.short, options.images):
                print(path)
    except InputError as error:
        print(f"benchmarks.results: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
