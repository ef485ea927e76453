"""The valid values of each config field. Checks, command-line parsing and error messages all use this table."""

import ast
import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

from sas_jax import training
from sas_jax.data import subsets
from sas_jax.errors import InputError, shown
from sas_jax.latent_classes import METHODS
from sas_jax.models import DEPTHS, STEMS
from sas_jax.plan import LARGEST_SEED
from sas_jax.selection.budgets import BUDGETS
from sas_jax.selection.objectives import OBJECTIVES
from sas_jax.training import optimizer

_MANY = 1_000_000  # more images, epochs or iterations than any run has; larger values are mistakes
_LONGEST = 4096  # characters of a text, such as a path
_SWITCH = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


@dataclasses.dataclass(frozen=True)
class Field:
    """The valid values of a field.

    Attributes:
        wanted: describes them, after "must be".
        fits: whether a value is valid.
        read: parses the command line's text; raises any exception for invalid text.
    """

    wanted: str
    fits: Callable[[Any], bool]
    read: Callable[[str], Any]

    def check(self, name: str, value: Any) -> None:
        """Raises InputError unless the value is valid."""
        if not self.fits(value):
            raise self.error(name, value)

    def parse(self, name: str, text: str) -> Any:
        """Parses a value from the command line; raises InputError if it is invalid."""
        try:
            value = self.read(text)
        except Exception as error:  # literal_eval raises MemoryError and RecursionError as well
            raise self.error(name, text) from error
        self.check(name, value)
        return value

    def error(self, name: str, value: Any) -> InputError:
        """Returns the error for an invalid value."""
        return InputError(f"{name} must be {self.wanted}, got {shown(value)}. See configs/default.py.")


def _whole(least: int, most: int) -> Field:
    return Field(
        f"a whole number from {least:,} to {most:,}", lambda value: type(value) is int and least <= value <= most, int
    )


def _number(least: float, most: float) -> Field:
    return Field(
        f"a number from {least:,g} to {most:,g}",
        lambda value: type(value) in (int, float) and least <= value <= most,
        float,
    )


def _part() -> Field:
    return Field("a number above 0 and at most 1", lambda value: type(value) in (int, float) and 0 < value <= 1, float)


def _choice(*known: Any) -> Field:
    kind = (int, float) if isinstance(known[0], float) else type(known[0])
    return Field(
        f"one of {', '.join(map(repr, known))}",
        lambda value: isinstance(value, kind) and not isinstance(value, bool) and value in known,
        type(known[0]),
    )


def _switch() -> Field:
    return Field("true or false", lambda value: type(value) is bool, lambda text: _SWITCH[text.lower()])


def _text(*, empty: bool = True) -> Field:
    def fits(value: Any) -> bool:
        if not isinstance(value, str) or "\0" in value or len(value) > _LONGEST:
            return False
        try:
            value.encode()  # fails for surrogates, with which Python represents other bytes on the command line
        except UnicodeEncodeError:
            return False
        return empty or bool(value)

    return Field(f"UTF-8 text of {'at most' if empty else '1 to'} {_LONGEST:,} characters without NUL", fits, str)


def _several(each: Field, count: int | None = None) -> Field:
    def fits(value: Any) -> bool:
        right = isinstance(value, tuple | list) and count in (None, len(value))
        return right and all(map(each.fits, value))

    return Field(f"a tuple of {'entries' if count is None else f'{count} entries'}, each {each.wanted}", fits, _tuple)


def _tuple(text: str) -> tuple[Any, ...]:
    """Parses a Python tuple, or its only entry."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about backslashes
            value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        if text.lstrip().startswith(("(", "[")):
            raise
        value = text
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _under(section: str, fields: dict[str, Field]) -> dict[str, Field]:
    return {f"{section}.{name}": field for name, field in fields.items()}


_ENCODER = {
    "depth": _choice(*DEPTHS),
    "width": _number(0.01, 64),
    "stem": _choice(*STEMS),
    "init": _text(),
    "head_hidden": _whole(0, 65_536),
    "head_features": _whole(2, 65_536),
}
_OPTIMIZER = {
    "optimizer": _choice(*optimizer.OPTIMIZERS),
    "learning_rate": _number(1e-12, 1e6),
    "weight_decay": _number(0, 1e3),
    "rate_scaling": _choice(*optimizer.RATE_SCALINGS),
    "schedule": _choice(*optimizer.SCHEDULES),
    "warmup_epochs": _number(0, _MANY),
}
_TEMPERATURE = _number(1e-4, 1e4)
_TRAIN = _OPTIMIZER | {
    "epochs": _whole(1, _MANY),
    "batch_size": _whole(2, _MANY),
    "temperature": _TEMPERATURE,
    "remat": _switch(),
    "skip_nonfinite": _whole(0, _MANY),
    "deterministic": _switch(),
}
_PREDICTOR = {"head_hidden": _whole(0, 65_536), "head_features": _whole(2, 65_536)}
_MOMENTUM = {"momentum": _number(0, 1), "final_momentum": _number(0, 1)}
_IMAGES = _whole(1, _MANY)  # batch size

FIELDS: dict[str, Field] = {
    "seed": _whole(0, LARGEST_SEED),
    **_under(
        "data",
        {
            "name": _text(),
            "dir": _text(),
            "train_split": _text(),
            "test_split": _text(),
            "folder": _text(),
            "test_folder": _text(),
            "classes": _several(_text(empty=False)),
            "image_size": _whole(1, 4096),
            "placement": _choice("auto", "device", "host", "stream"),
            "mean": _several(_number(0, 1), 3),
            "std": _several(_number(0.001, 1), 3),
        },
    ),
    **_under(
        "views",
        {
            "crop_scale": _several(_number(1e-4, 1), 2),
            "crop_ratio": _several(_number(1e-3, 1e3), 2),
            **dict.fromkeys(("flip", "jitter", "grey", "blur"), _number(0, 1)),
            **dict.fromkeys(("brightness", "contrast", "saturation"), _number(0, 100)),
            "hue": _number(0, 0.5),
        },
    ),
    "proxy.embeddings": _text(),
    **_under("proxy.encoder", _ENCODER),
    **_under("proxy.train", _TRAIN),
    "embedding.views": _whole(1, 65_536),
    "embedding.batch_size": _IMAGES,
    **_under(
        "latent_classes",
        {
            "method": _choice(*METHODS),
            "embeddings": _text(),
            "num_classes": _whole(0, 100_000_000),
            "restarts": _whole(1, 1000),
            "labelled_fraction": _part(),
            "labels_file": _text(),
            "clip_model": _text(empty=False),
            "clip_batch_size": _IMAGES,
            "class_names": _several(_text(empty=False)),
            "prompts": _several(_text(empty=False)),
            "file": _text(),
        },
    ),
    **_under(
        "selection",
        {
            "objective": _choice(*OBJECTIVES),
            "similarity": _choice("cosine", "clipped_cosine", "gaussian"),
            "tau": _number(1e-6, 1e6),
            "self_similarity": _choice(0.0, 1.0),
            "budgets": _choice(*BUDGETS),
            "similarity_embeddings": _text(),
            "file": _text(),
            "file_order": _choice(*subsets.ORDERS),
            "file_split": _text(),
            "file_drop": _switch(),
        },
    ),
    **_under("encoder", _ENCODER),
    **_under("train", _TRAIN),
    "method": _choice(*training.METHODS),
    **_under("methods.byol", _OPTIMIZER | _PREDICTOR | _MOMENTUM | {"predictor_hidden": _whole(0, 65_536)}),
    **_under("methods.simsiam", _OPTIMIZER | _PREDICTOR | {"predictor_hidden": _whole(0, 65_536)}),
    **_under(
        "methods.moco",
        _OPTIMIZER
        | _PREDICTOR
        | _MOMENTUM
        | {
            "temperature": _TEMPERATURE,
            "queue_size": _whole(2, 100_000_000),
            "batch_norm_groups": _whole(1, 65_536),
        },
    ),
    "arms": Field(  # plan.arms checks the entries
        "a tuple of entries such as ('random', 0.2, 0)", lambda value: isinstance(value, tuple | list), _tuple
    ),
    **_under(
        "evaluation",
        {
            "probe_l2": _number(0, 1e6),
            "probe_iterations": _whole(1, _MANY),
            "probe_fractions": _several(_part()),
            "probe_l2_grid": _several(_number(0, 1e6)),
            "geometry": _switch(),
            "supervised_fractions": _several(_part()),
            "knn_neighbours": _whole(1, 100_000_000),
            "knn_temperature": _TEMPERATURE,
            "batch_size": _IMAGES,
        },
    ),
    "compute_dtype": _choice("auto", "float32", "bfloat16"),
    **_under(
        "runtime",
        {
            "checkpoint_epochs": _whole(1, _MANY),
            "checkpoint_seconds": _number(0, 1e9),
            "keep_checkpoints": _whole(1, _MANY),
            "data_workers": _whole(0, 1024),
            "heartbeat_seconds": _number(5, 1e6),
        },
    ),
}
"""The fields by name, in the order of configs/default.py."""

OF_PARTITION = {
    name.rpartition(".")[2]: field
    for name, field in FIELDS.items()
    if name.startswith("latent_classes.") or name in ("selection.budgets", "selection.similarity_embeddings")
}
"""The fields that a section of config.partitions may have."""


def field(name: str) -> Field | None:
    """Returns the field "section.name" or "partitions.NAME.name" of a config, or None."""
    section, _, rest = name.partition(".")
    return FIELDS.get(name) if section != "partitions" else OF_PARTITION.get(rest.partition(".")[2])
