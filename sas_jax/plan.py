"""What a config asks for: its arms, and its stages, each with the fingerprint of all that it depends on."""

import contextlib
import dataclasses
import os
import re
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from sas_jax import devices
from sas_jax.errors import InputError, shown
from sas_jax.selection.budgets import PROPORTIONAL
from sas_jax.selection.selectors import LISTED, SELECTORS, Selector
from sas_jax.training import CONTRASTIVE
from sas_jax.workdir import fingerprint

LARGEST_SEED = 2**31 - 1  # of the config and of an arm; their sum still fits JAX's 32 bits

STAGES = ("data", "proxy", "embed", "classes", "rank", "subset", "train", "evaluate", "report")
SELECTED = "selected"  # in config.arms: the configured objective
STEP_RULES = ("epochs", "steps")


@dataclasses.dataclass(frozen=True)
class Arm:
    """One training run of a comparison."""

    selector: str
    fraction: float
    seed: int
    method: str = "simclr"
    step_rule: str = "epochs"
    partition: str = ""

    @property
    def fraction_name(self) -> str:
        """At least two decimals, and as many as the fraction has."""
        short = f"{self.fraction:.2f}"
        return short if float(short) == self.fraction else repr(self.fraction)

    @property
    def name(self) -> str:
        method = "" if self.method == "simclr" else f"-{self.method}"
        rule = "" if self.step_rule == "epochs" else f"-{self.step_rule}"
        return f"{within(self.selector, self.partition)}-{self.fraction_name}-s{self.seed}{method}{rule}"

    @property
    def chooses(self) -> Selector:
        """Its selector."""
        return SELECTORS[self.selector]


def within(selector: str, partition: str) -> str:
    """A selector and the partition that it works in, as names show them: "sas", or "sas@labels"."""
    return f"{selector}@{partition}" if partition else selector


def arms(config: ConfigDict) -> tuple[Arm, ...]:
    """The arms of a config, "selected" replaced by the objective's name.

    Raises:
        InputError: an entry is not (a known selector, a fraction in (0, 1], a seed >= 0) and perhaps a known method and
            step rule after them, or stands twice; or a selector's partition is not in config.partitions.
    """
    found: list[Arm] = []
    for entry in config.arms:
        if not (isinstance(entry, (tuple, list)) and 3 <= len(entry) <= 5):
            raise InputError(
                f"An entry of config.arms must be (selector, fraction, seed), perhaps with a method and a step rule "
                f"after them, got {shown(entry)}. Write it so."
            )
        selector, fraction, seed = entry[:3]
        method = entry[3] if len(entry) > 3 else config.method
        step_rule = entry[4] if len(entry) > 4 else "epochs"
        selector, at, partition = selector.partition("@") if isinstance(selector, str) else (selector, "", "")
        one_of("A selector in config.arms", selector, (SELECTED, *SELECTORS))
        chosen = config.selection.objective if selector == SELECTED else selector
        if at:
            one_of(f"The partition of the arm {selector!r} in config.arms", partition, tuple(partitions(config)))
            if not SELECTORS[chosen].partitioned:
                raise InputError(
                    f"The partition of an arm in config.arms must belong to a selector that looks at it, got "
                    f"{shown(entry[0])}. Write {selector!r}."
                )
        if type(fraction) not in (int, float) or not 0 < fraction <= 1:
            raise InputError(
                f"The fraction of an arm {selector!r} in config.arms must be more than 0 and at most 1, got "
                f"{shown(fraction)}. Give the part of the images to keep, such as 0.2."
            )
        if SELECTORS[chosen].everything and fraction != 1:
            raise InputError(
                f"The fraction of the arm {selector!r} in config.arms must be 1.0, got {fraction!r}. Set it to 1.0."
            )
        if type(seed) is not int or not 0 <= seed <= LARGEST_SEED:
            raise InputError(
                f"The seed of an arm {selector!r} in config.arms must be a whole number from 0 to {LARGEST_SEED}, got "
                f"{shown(seed)}. Choose another."
            )
        one_of("A method in config.arms", method, CONTRASTIVE)
        one_of("A step rule in config.arms", step_rule, STEP_RULES)
        arm = Arm(chosen, float(fraction), seed, method, step_rule, partition)
        if arm in found:
            raise InputError(f"The arms of config.arms must differ, got {arm.name} twice. Remove one.")
        found.append(arm)
    return tuple(found)


def training(config: ConfigDict, method: str) -> ConfigDict:
    """How a method trains the arms: config.train, with what the method has of its own."""
    own = {} if method == "simclr" else config.methods[method].to_dict()
    return ConfigDict(config.train.to_dict() | own)


def partitions(config: ConfigDict) -> dict[str, ConfigDict]:
    """config.partitions: by name, what a partition has in place of fields of config.latent_classes and selection."""
    return dict(config.get("partitions", {}))  # a run of an earlier version has none


def in_partition(config: ConfigDict, partition: str) -> ConfigDict:
    """The config with the fields of one of its partitions in their places; for "" as it is."""
    found = ConfigDict(config.to_dict())
    for name, value in partitions(config).get(partition, {}).items():
        section = found.latent_classes if name in found.latent_classes else found.selection
        section[name] = value
    return found


def partitions_of_arms(config: ConfigDict) -> tuple[str, ...]:
    """The partitions that a run makes: "", its own, first, then those that arms name."""
    return tuple(dict.fromkeys(["", *(arm.partition for arm in arms(config))]))


def classes_stage(partition: str) -> str:
    """The stage that makes the latent classes of a partition."""
    return f"classes/{partition}" if partition else "classes"


def ranked(config: ConfigDict) -> tuple[tuple[str, str], ...]:
    """(selector, partition) of each ranking of a run: the configured objective first, then what only arms name."""
    named = [(arm.selector, arm.partition) for arm in arms(config) if arm.chooses.is_ranked]
    return tuple(dict.fromkeys([(config.selection.objective, ""), *named]))


def rank_stage(config: ConfigDict, selector: str, partition: str = "") -> str:
    """The stage that ranks by `selector` within a partition."""
    configured = selector == config.selection.objective and not partition
    return "rank" if configured else f"rank/{within(selector, partition)}"


def ranking_file(config: ConfigDict, selector: str, partition: str) -> str:
    """ranking.parquet for the configured objective; another that an arm names carries its name."""
    configured = rank_stage(config, selector, partition) == "rank"
    return "ranking.parquet" if configured else f"ranking-{within(selector, partition)}.parquet"


def inputs(config: ConfigDict) -> dict[str, str]:
    """Each stage of the run, in order, with the fingerprint of everything its result depends on."""
    c = config.to_dict()
    found: dict[str, str] = {}
    images = train_images(config)
    data = {name: value for name, value in c["data"].items() if name not in ("dir", "placement")}
    found["data"] = fingerprint(images, data, _folder_fingerprint(data["test_folder"]))
    normalised = {name: data[name] for name in ("mean", "std")}
    seen = (images, normalised, c["views"], c["seed"], devices.compute_dtype(c["compute_dtype"]))
    if c["proxy"]["embeddings"]:
        embedded = found["embed"] = fingerprint(images, _file_fingerprint(c["proxy"]["embeddings"]))
    else:
        proxy = found["proxy"] = fingerprint(seen, c["proxy"])
        pairs = c["selection"]["similarity"] != "cosine"  # then every view is kept, not only their mean
        embedded = found["embed"] = fingerprint(proxy, c["embedding"]["views"], pairs)
    for partition in partitions_of_arms(config):
        section = in_partition(config, partition).latent_classes.to_dict()
        found[classes_stage(partition)] = _classes_fingerprint(section, images, embedded, c["seed"])
    for selector, partition in ranked(config):
        section = in_partition(config, partition).selection.to_dict()
        looked_at = _similarity(section) if SELECTORS[selector].objective else ()
        classes = found[classes_stage(partition)]
        given = section.get("similarity_embeddings")
        vectors = _file_fingerprint(given) if given else embedded
        found[rank_stage(config, selector, partition)] = fingerprint(vectors, classes, selector, looked_at)
    untrained = fingerprint(seen, c["encoder"])
    measured = {
        name: value for name, value in c["evaluation"].items() if name not in ("batch_size", "supervised_fractions")
    }
    found["evaluate/untrained"] = fingerprint(untrained, measured, found["data"])
    for arm in arms(config):
        source: Any = ""
        if arm.chooses.is_ranked:
            source = found[rank_stage(config, arm.selector, arm.partition)]
        elif arm.chooses.partitioned:
            source = found[classes_stage(arm.partition)]
        elif arm.selector == LISTED:
            source = _file_fingerprint(c["selection"]["file"])
            source = (source, *(c["selection"][f"file_{name}"] for name in ("order", "split", "drop")))
        if arm.chooses.partitioned:
            budgets = in_partition(config, arm.partition).selection.get("budgets", PROPORTIONAL)
            source = source if budgets == PROPORTIONAL else (source, budgets)
        trained = fingerprint(untrained, training(config, arm.method).to_dict(), _identity(arm), source)
        found[f"train/{arm.name}"] = trained
        found[f"evaluate/{arm.name}"] = fingerprint(trained, measured, found["data"])
        if trains_supervised(config, arm):
            found[f"supervised/{arm.name}"] = fingerprint(trained, "supervised", found["data"])
    return found


def trains_supervised(config: ConfigDict, arm: Arm) -> bool:
    """Whether the encoder is trained once more on the arm's subset, with labels; not again for other methods."""
    return arm.fraction in config.evaluation.supervised_fractions and arm == Arm(
        arm.selector, arm.fraction, arm.seed, partition=arm.partition
    )


def _identity(arm: Arm) -> tuple[Any, ...]:
    """What tells an arm from those that train on the same images; its partition is in the fingerprint of these."""
    return dataclasses.astuple(arm)[:5]


def _similarity(section: dict[str, Any]) -> dict[str, Any]:
    """What the similarity depends on beside the embeddings."""
    names = ["similarity", "self_similarity"] + ["tau"] * (section["similarity"] == "gaussian")
    return {name: section[name] for name in names}


def _classes_fingerprint(section: dict[str, Any], images: str, embedded: str, seed: int) -> str:
    method = section["method"]
    if method == "labels":
        return fingerprint(images, method)
    if method == "file":
        return fingerprint(images, _file_fingerprint(section["file"]))
    if method == "clip_zeroshot":
        return fingerprint(_clip(section, images), section["class_names"], section["prompts"])
    if section["embeddings"] == "clip":
        vectors = fingerprint(_clip(section, images))
    else:
        vectors = _file_fingerprint(section["embeddings"]) if section["embeddings"] else embedded
    if method == "few_labels":
        few = _file_fingerprint(section["labels_file"]) if section["labels_file"] else section["labelled_fraction"]
        return fingerprint(vectors, images, method, few, seed)
    return fingerprint(vectors, method, section["num_classes"], section["restarts"], seed)


def _clip(section: dict[str, Any], images: str) -> tuple[str, ...]:
    """What the images' CLIP embeddings depend on."""
    return images, section["clip_model"], _folder_fingerprint(section["clip_model"])


def train_images(config: ConfigDict) -> str:
    """The fingerprint of which images are trained on; not of where tfds keeps them, or of the test images."""
    data = config.data
    places = data.name, data.train_split, data.folder, _folder_fingerprint(data.folder)
    return fingerprint(places, data.classes, data.image_size)


def that_matters(flat: dict[str, Any]) -> dict[str, Any]:
    """The fields of a flattened config less those that cannot change a result."""
    sizes = ("embedding.batch_size", "evaluation.batch_size", "latent_classes.clip_batch_size")
    nothing = (*sizes, "data.dir", "data.placement")
    return {name: value for name, value in flat.items() if not name.startswith("runtime.") and name not in nothing}


def config_name(path: str) -> str:
    """configs/digits.py:... -> digits."""
    return re.sub(r"\.py$", "", Path(path.split(":")[0]).name)


def _file_fingerprint(path: str) -> str:
    """Of a file's place, size and time of change: cheap, and different after each writing."""
    try:
        status = Path(path).expanduser().stat()
    except OSError:
        return fingerprint(path, None)  # the stage that reads it says what is wrong
    return fingerprint(path, status.st_size, status.st_mtime_ns)


def _folder_fingerprint(folder: str) -> str:
    """Of the names and sizes of what is in a local folder; images that are replaced, added or removed change it."""
    sizes = []
    seen: set[str] = set()
    for place, folders, names in os.walk(Path(folder).expanduser() if folder else "", followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()  # a link back to where the walk has been
            continue
        seen.add(real)
        for name in names:
            path = os.path.join(place, name)
            with contextlib.suppress(OSError):  # a link to nothing; reading the images says so
                sizes.append((os.path.relpath(path, folder), os.path.getsize(path)))
    return fingerprint(sorted(sizes))


def one_of(what: str, value: Any, known: tuple[str, ...]) -> None:
    """Raises InputError unless the value is a known one."""
    if not (isinstance(value, str) and value in known):
        names = ", ".join(repr(k) for k in known)
        raise InputError(f"{what} must be one of {names}, got {shown(value, 40)}. Choose one.")
