"""The arms and partitions of a config, and the stages and files that they need."""

import dataclasses
import re
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from sas_jax.errors import InputError, shown
from sas_jax.selection.selectors import SELECTORS, Selector
from sas_jax.training import DEFAULT, METHODS

LARGEST_SEED = 2**31 - 1  # of the config and of an arm; their sum still fits into JAX's 32 bits

SELECTED = "selected"  # in config.arms: the configured objective
STEP_RULES = ("epochs", "steps")


@dataclasses.dataclass(frozen=True)
class Arm:
    """One training run of a comparison."""

    selector: str
    fraction: float
    seed: int
    method: str = DEFAULT
    step_rule: str = "epochs"
    partition: str = ""

    @property
    def fraction_name(self) -> str:
        """The fraction with all its decimals, at least two."""
        short = f"{self.fraction:.2f}"
        return short if float(short) == self.fraction else repr(self.fraction)

    @property
    def name(self) -> str:
        method = "" if self.method == DEFAULT else f"-{self.method}"
        rule = "" if self.step_rule == "epochs" else f"-{self.step_rule}"
        return f"{within(self.selector, self.partition)}-{self.fraction_name}-s{self.seed}{method}{rule}"

    @property
    def chooses(self) -> Selector:
        """The arm's selector."""
        return SELECTORS[self.selector]


def within(selector: str, partition: str) -> str:
    """Returns the name of a selector within a partition: "sas", or "sas@labels"."""
    return f"{selector}@{partition}" if partition else selector


def arms(config: ConfigDict) -> tuple[Arm, ...]:
    """Returns the arms of a config, with "selected" replaced by the objective's name.

    Raises:
        InputError: an entry is not (a known selector, a fraction in (0, 1], a seed >= 0), optionally followed by a
            known method and step rule; two arms are equal; or a selector's partition is not in config.partitions.
    """
    found: list[Arm] = []
    for entry in config.arms:
        if not (isinstance(entry, (tuple, list)) and 3 <= len(entry) <= 5):
            raise InputError(
                f"An entry of config.arms must be (selector, fraction, seed), optionally followed by a method and a "
                f"step rule, got {shown(entry)}. Correct it."
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
                    f"The selector before '@' in config.arms must use latent classes, got {shown(entry[0])}. Write "
                    f"{selector!r}, or choose another selector."
                )
        if type(fraction) not in (int, float) or not 0 < fraction <= 1:
            raise InputError(
                f"The fraction of an arm {selector!r} in config.arms must be more than 0 and at most 1, got "
                f"{shown(fraction)}. Give the fraction of the images to keep, such as 0.2."
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
        one_of("A method in config.arms", method, tuple(METHODS))
        one_of("A step rule in config.arms", step_rule, STEP_RULES)
        arm = Arm(chosen, float(fraction), seed, method, step_rule, partition)
        if arm in found:
            raise InputError(f"The arms of config.arms must differ, got {arm.name} twice. Remove one.")
        found.append(arm)
    return tuple(found)


def training(config: ConfigDict, method: str) -> ConfigDict:
    """Returns the training config of a method: config.train, overridden by the method's own fields."""
    own = config.get("methods", {}).get(method, ConfigDict())
    return ConfigDict(config.train.to_dict() | own.to_dict())


def compares_views(config: ConfigDict) -> bool:
    """Returns whether the similarity compares all pairs of views, so that the embeddings of all views are kept."""
    return config.selection.similarity != "cosine"


def partitions(config: ConfigDict) -> dict[str, ConfigDict]:
    """Returns config.partitions: by name, the fields of config.latent_classes and selection that each overrides."""
    return dict(config.get("partitions", {}))  # configs of earlier versions have none


def in_partition(config: ConfigDict, partition: str) -> ConfigDict:
    """Returns a copy of the config with the fields that a partition overrides; for "", the config itself."""
    if not partition:
        return config
    found = ConfigDict(config.to_dict())
    for name, value in partitions(config)[partition].items():
        section = found.latent_classes if name in found.latent_classes else found.selection
        section[name] = value
    return found


def partitions_of_arms(config: ConfigDict) -> tuple[str, ...]:
    """Returns the partitions of a run: first "", its own, then those that arms name."""
    return tuple(dict.fromkeys(["", *(arm.partition for arm in arms(config))]))


def classes_stage(partition: str) -> str:
    """Returns the stage that makes the latent classes of a partition."""
    return f"classes/{partition}" if partition else "classes"


def ranked(config: ConfigDict) -> tuple[tuple[str, str], ...]:
    """Returns (selector, partition) of each ranking: the configured objective's first, then those only arms name."""
    named = [(arm.selector, arm.partition) for arm in arms(config) if arm.chooses.is_ranked]
    return tuple(dict.fromkeys([(config.selection.objective, ""), *named]))


def classes_file(partition: str) -> str:
    """Returns the name of a partition's file of latent classes."""
    return f"latent_classes-{partition}.npy" if partition else "latent_classes.npy"


def rank_stage(config: ConfigDict, selector: str, partition: str = "") -> str:
    """Returns the stage that ranks by `selector` within a partition."""
    configured = selector == config.selection.objective and not partition
    return "rank" if configured else f"rank/{within(selector, partition)}"


def ranking_file(config: ConfigDict, selector: str, partition: str) -> str:
    """Returns ranking.parquet for the configured objective, else a file name with the selector's name."""
    configured = rank_stage(config, selector, partition) == "rank"
    return "ranking.parquet" if configured else f"ranking-{within(selector, partition)}.parquet"


def trains_supervised(config: ConfigDict, arm: Arm) -> bool:
    """Returns whether the encoder is also trained with labels on the arm's subset.

    Only arms of config.method with the step rule "epochs" are: the others would repeat their subsets.
    """
    repeated = arm.method != config.method or arm.step_rule != "epochs"
    return arm.fraction in config.evaluation.supervised_fractions and not repeated


def that_matters(flat: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a flattened config that can change a result."""
    sizes = ("embedding.batch_size", "evaluation.batch_size", "latent_classes.clip_batch_size")
    nothing = (*sizes, "data.dir", "data.placement")
    return {name: value for name, value in flat.items() if not name.startswith("runtime.") and name not in nothing}


def config_name(path: str) -> str:
    """Returns the name of a config: configs/digits.py:... becomes digits."""
    return re.sub(r"\.py$", "", Path(path.split(":")[0]).name)


def one_of(what: str, value: Any, known: tuple[str, ...]) -> None:
    """Raises InputError unless the value is one of `known`."""
    if not (isinstance(value, str) and value in known):
        names = ", ".join(repr(k) for k in known)
        raise InputError(f"{what} must be one of {names}, got {shown(value, 40)}. Choose one.")
