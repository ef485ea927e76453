"""What a config asks for: checked, and laid out as stages, each with the fingerprint of all that it depends on."""

import contextlib
import dataclasses
import math
import os
import re
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from sas_jax import devices
from sas_jax.data import subsets
from sas_jax.errors import InputError
from sas_jax.latent_classes import METHODS
from sas_jax.models import DEPTHS, STEMS
from sas_jax.training import CONTRASTIVE, optimizer
from sas_jax.workdir import fingerprint

LARGEST_SEED = 2**31 - 1  # of the config and of an arm; their sum still fits JAX's 32 bits

STAGES = ("data", "proxy", "embed", "classes", "rank", "subset", "train", "evaluate", "report")
OBJECTIVES = ("sas", "facility_location", "similarity_sum")
SELF0 = "facility_location_self0"  # facility_location with self_similarity=0, whatever the config's
BASELINES = ("prototypes_easy", "prototypes_hard", "k_center")
RANKED = (*OBJECTIVES, SELF0, *BASELINES)
SELECTORS = ("selected", *RANKED, "random", "random_balanced", "file", "full")
STEP_RULES = ("epochs", "steps")
SIMILARITIES = ("cosine", "clipped_cosine", "gaussian")
DTYPES = ("auto", "float32", "bfloat16")
PLACEMENTS = ("auto", "device", "host", "stream")


@dataclasses.dataclass(frozen=True)
class Arm:
    """One training run of a comparison."""

    selector: str
    fraction: float
    seed: int
    method: str = "simclr"
    step_rule: str = "epochs"

    @property
    def fraction_name(self) -> str:
        """At least two decimals, and as many as the fraction has."""
        short = f"{self.fraction:.2f}"
        return short if float(short) == self.fraction else repr(self.fraction)

    @property
    def name(self) -> str:
        method = "" if self.method == "simclr" else f"-{self.method}"
        rule = "" if self.step_rule == "epochs" else f"-{self.step_rule}"
        return f"{self.selector}-{self.fraction_name}-s{self.seed}{method}{rule}"

    @property
    def is_ranked(self) -> bool:
        """Whether the subset is a prefix of a ranking that a stage makes."""
        return self.selector in RANKED


def arms(config: ConfigDict) -> tuple[Arm, ...]:
    """The arms of a config, "selected" replaced by the objective's name.

    Raises:
        InputError: an entry is not (a known selector, a fraction in (0, 1], a seed >= 0) and perhaps a known method and
            step rule after them, or stands twice.
    """
    found: list[Arm] = []
    for entry in config.arms:
        if not (isinstance(entry, (tuple, list)) and 3 <= len(entry) <= 5):
            raise InputError(
                f"an entry of config.arms has to be (selector, fraction, seed), and perhaps a method and a step rule "
                f"after them, but is {entry!r}: mend it"
            )
        selector, fraction, seed = entry[:3]
        method = entry[3] if len(entry) > 3 else config.method
        step_rule = entry[4] if len(entry) > 4 else "epochs"
        _one_of("a selector in config.arms", selector, SELECTORS)
        if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 < fraction <= 1:
            raise InputError(
                f"a fraction in config.arms has to be more than 0 and at most 1, but that of {selector!r} is "
                f"{fraction!r}: give the part of the images to keep, such as 0.2"
            )
        if selector in ("full", "file") and fraction != 1:
            raise InputError(
                f"the arm {selector!r} of config.arms has to have the fraction 1.0, but has {fraction!r}: mend it"
            )
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
            raise InputError(
                f"a seed in config.arms has to be a whole number from 0 to {LARGEST_SEED}, but that of {selector!r} is "
                f"{seed!r}: choose another"
            )
        _one_of("a method in config.arms", method, CONTRASTIVE)
        _one_of("a step rule in config.arms", step_rule, STEP_RULES)
        chosen = config.selection.objective if selector == "selected" else selector
        arm = Arm(chosen, float(fraction), seed, method, step_rule)
        if arm in found:
            raise InputError(f"the arms of config.arms have to differ, but {arm.name} stands there twice: remove one")
        found.append(arm)
    return tuple(found)


def check(config: ConfigDict) -> None:
    """Finds what no run could use, before anything is computed.

    Raises:
        InputError: the first such field, what it should be and what it is.
    """
    _one_of("config.method", config.method, CONTRASTIVE)
    arms(config)
    _one_of("config.selection.objective", config.selection.objective, OBJECTIVES)
    _one_of("config.selection.similarity", config.selection.similarity, SIMILARITIES)
    _one_of("config.selection.self_similarity", config.selection.self_similarity, (0.0, 1.0))
    _one_of("config.latent_classes.method", config.latent_classes.method, METHODS)
    _one_of("config.compute_dtype", config.compute_dtype, DTYPES)
    _one_of("config.data.placement", config.data.placement, PLACEMENTS)
    for name, encoder in (("config.proxy.encoder", config.proxy.encoder), ("config.encoder", config.encoder)):
        _one_of(f"{name}.depth", encoder.depth, tuple(DEPTHS))
        _one_of(f"{name}.stem", encoder.stem, tuple(STEMS))
        _above(f"{name}.width", encoder.width, 0)
        _at_most(f"{name}.width", encoder.width, 64)
        _at_least(f"{name}.head_features", encoder.head_features, 2)
        _at_least(f"{name}.head_hidden", encoder.head_hidden, 0)
    for name, train in (("config.proxy.train", config.proxy.train), ("config.train", config.train)):
        _at_least(f"{name}.epochs", train.epochs, 1)
        _at_least(f"{name}.batch_size", train.batch_size, 2)
        _above(f"{name}.temperature", train.temperature, 0)
        _check_optimizer(name, train)
        _at_least(f"{name}.skip_nonfinite", train.skip_nonfinite, 0)
    _check_methods(config)
    _at_least("config.seed", config.seed, 0)
    _at_most("config.seed", config.seed, LARGEST_SEED)
    _at_most("config.data.image_size", config.data.image_size, 4096)
    _at_least("config.data.image_size", config.data.image_size, 1)
    for field in ("mean", "std"):
        values = config.data[field]
        _numbers(f"config.data.{field}", values, 3)
        if not all(0 <= v <= 1 for v in values) or (field == "std" and min(values) == 0):
            raise InputError(
                f"config.data.{field} has to be three numbers in [0, 1], one a channel (std above 0), but is {values}: "
                f"mend it"
            )
    views = config.views
    for field in ("flip", "jitter", "grey", "blur"):
        if not 0 <= views[field] <= 1:
            raise InputError(f"config.views.{field} is a probability in [0, 1], but is {views[field]}: mend it")
    for field in ("brightness", "contrast", "saturation", "hue"):
        _at_least(f"config.views.{field}", views[field], 0)
    if views.hue > 0.5:
        raise InputError(
            f"config.views.hue has to be at most 0.5 (half the colour circle), but is {views.hue}: lower it"
        )
    for field, top in (("crop_scale", 1.0), ("crop_ratio", 1e3)):
        pair = views[field]
        _numbers(f"config.views.{field}", pair, 2)
        if not 0 < pair[0] <= pair[1] <= top:
            raise InputError(f"config.views.{field} has to be (lowest, highest) above 0, but is {pair}: mend it")
    _at_least("config.embedding.views", config.embedding.views, 1)
    _at_least("config.embedding.batch_size", config.embedding.batch_size, 1)
    _check_latent_classes(config.latent_classes)
    _check_file(config)
    if config.data.name != "folder" and config.data.test_folder:
        raise InputError(
            f"config.data.test_folder is given, but config.data.name is {config.data.name!r}: set the name to "
            f"'folder', or give no test_folder"
        )
    _above("config.selection.tau", config.selection.tau, 0)
    _at_least("config.evaluation.probe_l2", config.evaluation.probe_l2, 0)
    for field in ("probe_fractions", "supervised_fractions"):
        for fraction in config.evaluation[field]:
            _above(f"config.evaluation.{field}", fraction, 0)
            _at_most(f"config.evaluation.{field}", fraction, 1)
    for l2 in config.evaluation.probe_l2_grid:
        _at_least("config.evaluation.probe_l2_grid", l2, 0)
    _at_least("config.evaluation.probe_iterations", config.evaluation.probe_iterations, 1)
    _at_least("config.evaluation.knn_neighbours", config.evaluation.knn_neighbours, 1)
    _above("config.evaluation.knn_temperature", config.evaluation.knn_temperature, 0)
    _at_least("config.evaluation.batch_size", config.evaluation.batch_size, 1)
    for field in ("checkpoint_epochs", "keep_checkpoints"):
        _at_least(f"config.runtime.{field}", config.runtime[field], 1)
    _at_least("config.runtime.checkpoint_seconds", config.runtime.checkpoint_seconds, 0)
    _at_least("config.runtime.data_workers", config.runtime.data_workers, 0)
    _at_least("config.runtime.heartbeat_seconds", config.runtime.heartbeat_seconds, 5)


def _check_optimizer(name: str, section: ConfigDict) -> None:
    _above(f"{name}.learning_rate", section.learning_rate, 0)
    _at_least(f"{name}.weight_decay", section.weight_decay, 0)
    _one_of(f"{name}.optimizer", section.optimizer, optimizer.OPTIMIZERS)
    _one_of(f"{name}.schedule", section.schedule, optimizer.SCHEDULES)
    _one_of(f"{name}.rate_scaling", section.rate_scaling, optimizer.RATE_SCALINGS)
    _at_least(f"{name}.warmup_epochs", section.warmup_epochs, 0)


def _check_methods(config: ConfigDict) -> None:
    for method, section in config.methods.items():
        name = f"config.methods.{method}"
        _check_optimizer(name, section)
        _at_least(f"{name}.head_features", section.head_features, 2)
        for field in ("head_hidden", "predictor_hidden"):
            if field in section:
                _at_least(f"{name}.{field}", section[field], 0)
        for field in ("momentum", "final_momentum"):
            if field in section:
                _at_least(f"{name}.{field}", section[field], 0)
                _at_most(f"{name}.{field}", section[field], 1)
    if any(arm.method == "moco" for arm in arms(config)):
        moco, batch = config.methods.moco, config.train.batch_size
        _above("config.methods.moco.temperature", moco.temperature, 0)
        _at_least("config.methods.moco.batch_norm_groups", moco.batch_norm_groups, 1)
        if batch % moco.batch_norm_groups or batch < 2 * moco.batch_norm_groups:
            raise InputError(
                f"config.train.batch_size has to be a multiple, and not the same, of the "
                f"{moco.batch_norm_groups} BatchNorm groups of MoCo, but is {batch}: change it, or "
                f"config.methods.moco.batch_norm_groups"
            )
        if moco.queue_size < 2 * batch or moco.queue_size % (2 * batch):
            raise InputError(
                f"config.methods.moco.queue_size has to be a multiple of two batches ({2 * batch} keys), but is "
                f"{moco.queue_size}: choose {max(1, round(moco.queue_size / (2 * batch))) * 2 * batch}"
            )


def training(config: ConfigDict, method: str) -> ConfigDict:
    """How a method trains the arms: config.train, with what the method has of its own."""
    own = {} if method == "simclr" else config.methods[method].to_dict()
    return ConfigDict(config.train.to_dict() | own)


def _check_latent_classes(section: ConfigDict) -> None:
    _at_least("config.latent_classes.num_classes", section.num_classes, 0)
    _at_least("config.latent_classes.restarts", section.restarts, 1)
    _above("config.latent_classes.labelled_fraction", section.labelled_fraction, 0)
    _at_most("config.latent_classes.labelled_fraction", section.labelled_fraction, 1)
    _at_least("config.latent_classes.clip_batch_size", section.clip_batch_size, 1)
    if section.method == "file" and not section.file:
        raise InputError(
            "config.latent_classes.method is 'file', but config.latent_classes.file names none: give a .npy"
        )
    # A field that the method does not look at is a mistake about the method.
    for field, methods in (
        ("file", ("file",)),
        ("labels_file", ("few_labels",)),
        ("embeddings", ("kmeans", "few_labels")),
        ("class_names", ("clip_zeroshot",)),
        ("prompts", ("clip_zeroshot",)),
    ):
        if section[field] and section.method not in methods:
            raise InputError(
                f"config.latent_classes.{field} is given, but config.latent_classes.method is {section.method!r}: set "
                f"the method to {' or '.join(map(repr, methods))}, or leave the field empty"
            )


def _check_file(config: ConfigDict) -> None:
    """What config.selection says of a subset made elsewhere."""
    section, wanted = config.selection, any(arm.selector == "file" for arm in arms(config))
    _one_of("config.selection.file_order", section.file_order, subsets.ORDERS)
    if wanted and not section.file:
        raise InputError("config.arms has the arm 'file', but config.selection.file names none: give a list of images")
    if section.file and not wanted:
        raise InputError(
            "config.selection.file is given, but no arm trains on it: add ('file', 1.0, 0) to config.arms, or give no "
            "file"
        )
    if section.file_order == "original" and "+" in section.file_split and "[" in config.data.train_split:
        raise InputError(
            f"config.selection.file_split {section.file_split!r} counts through whole splits, but "
            f"config.data.train_split is {config.data.train_split!r}: name whole splits there"
        )


def ranked(config: ConfigDict) -> tuple[str, ...]:
    """The selectors whose rankings a run makes: the configured objective first, then those that only arms name."""
    named = [arm.selector for arm in arms(config) if arm.is_ranked]
    return tuple(dict.fromkeys([config.selection.objective, *named]))


def rank_stage(config: ConfigDict, selector: str) -> str:
    """The stage that ranks by `selector`."""
    return "rank" if selector == config.selection.objective else f"rank/{selector}"


def inputs(config: ConfigDict) -> dict[str, str]:
    """Each stage of the run, in order, with the fingerprint of everything its result depends on."""
    c = config.to_dict()
    found: dict[str, str] = {}
    images = train_images(config)
    data = {name: value for name, value in c["data"].items() if name not in ("dir", "placement")}
    found["data"] = fingerprint(images, data, _folder_fingerprint(data["test_folder"]))
    normalised = {name: data[name] for name in ("mean", "std")}
    seen = (images, normalised, c["views"], c["seed"], devices.compute_dtype(c["compute_dtype"]))
    similarity = {name: c["selection"][name] for name in ("similarity", "self_similarity")}
    if similarity["similarity"] == "gaussian":
        similarity["tau"] = c["selection"]["tau"]
    if c["proxy"]["embeddings"]:
        embedded = found["embed"] = fingerprint(images, _file_fingerprint(c["proxy"]["embeddings"]))
    else:
        proxy = found["proxy"] = fingerprint(seen, c["proxy"])
        pairs = c["selection"]["similarity"] != "cosine"  # then every view is kept, not only their mean
        embedded = found["embed"] = fingerprint(proxy, c["embedding"]["views"], pairs)
    classes = found["classes"] = _classes_fingerprint(c["latent_classes"], images, embedded, c["seed"])
    for selector in ranked(config):
        looked_at = () if selector in BASELINES else similarity
        found[rank_stage(config, selector)] = fingerprint(embedded, classes, selector, looked_at)
    untrained = fingerprint(seen, c["encoder"])
    measured = {
        name: value for name, value in c["evaluation"].items() if name not in ("batch_size", "supervised_fractions")
    }
    found["evaluate/untrained"] = fingerprint(untrained, measured, found["data"])
    for arm in arms(config):
        source: Any = ""
        if arm.is_ranked:
            source = found[rank_stage(config, arm.selector)]
        elif arm.selector == "random_balanced":
            source = classes
        elif arm.selector == "file":
            source = _file_fingerprint(c["selection"]["file"])
            source = (source, *(c["selection"][f"file_{name}"] for name in ("order", "split", "drop")))
        trained = fingerprint(untrained, training(config, arm.method).to_dict(), dataclasses.astuple(arm), source)
        found[f"train/{arm.name}"] = trained
        found[f"evaluate/{arm.name}"] = fingerprint(trained, measured, found["data"])
        if trains_supervised(config, arm):
            found[f"supervised/{arm.name}"] = fingerprint(trained, "supervised", found["data"])
    return found


def trains_supervised(config: ConfigDict, arm: Arm) -> bool:
    """Whether the encoder is trained once more on the arm's subset, with labels; not again for other methods."""
    return arm.fraction in config.evaluation.supervised_fractions and arm == Arm(arm.selector, arm.fraction, arm.seed)


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
        status = Path(path).stat()
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


def _numbers(name: str, values: Any, count: int) -> None:
    if len(values) != count or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        raise InputError(f"{name} has to be a tuple of {count} numbers, but is {values!r}: mend it")


def _one_of(what: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        names = ", ".join(repr(k) for k in known)
        raise InputError(f"{what} has to be one of {names}, but is {value!r}: choose one of them")


def _at_least(name: str, value: float, least: float) -> None:
    if not least <= value < math.inf:
        raise InputError(f"{name} has to be finite and at least {least}, but is {value}: mend it")


def _at_most(name: str, value: float, most: float) -> None:
    if not value <= most:
        raise InputError(f"{name} has to be at most {most}, but is {value}: lower it")


def _above(name: str, value: float, least: float) -> None:
    if not least < value < math.inf:
        raise InputError(f"{name} has to be finite and above {least}, but is {value}: mend it")
