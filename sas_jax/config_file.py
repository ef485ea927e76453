"""Reads a config from its file and the command line; mistakes in either raise InputError with one sentence."""

import contextlib
import functools
import os
import runpy
import sys
import traceback
import types
from collections.abc import Iterator, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from sas_jax import config_checks, files
from sas_jax.config_fields import field
from sas_jax.errors import InputError, shown

_PACKAGE = Path(__file__).parent
_CONFIGS = next(each for each in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if each.is_dir())
"""The folder of the shipped configs: in an installed package, or beside it in a checkout."""


def read(path: str, *, fields: Sequence[str] = ()) -> ConfigDict:
    """Returns the config defined by a file, with some fields replaced.

    Args:
        path: a Python file that defines get_config(), or the name of a shipped config, such as "cifar100"; text after
            a ":" is passed to get_config().
        fields: overrides of the file's values, each "section.field=value".

    Returns:
        The config, checked and locked.

    Raises:
        InputError: the file cannot be executed, or the file or an override does not match configs/default.py.
    """
    config = _run(path)
    config_checks.named(config)
    for given in fields:
        name, _, text = given.partition("=")
        if (wanted := field(name)) is None:
            raise config_checks.unknown(name)
        *sections, last = name.split(".")
        section = functools.reduce(_section, sections, config)
        with section.ignore_type():
            section[last] = wanted.parse(f"config.{name}", text)
    config_checks.check(config)
    return config.lock()


def _section(config: ConfigDict, name: str) -> ConfigDict:
    """Returns a section of a config, and creates it if it is a partition that the config lacks."""
    if name not in config:
        config_checks.check_partition_name(name)
        config[name] = ConfigDict()
    return config[name]


def shipped() -> dict[str, Path]:
    """Returns the files of the configs shipped with the package, by name."""
    return {path.stem: path for path in sorted(_CONFIGS.glob("*.py"))}


def _run(path: str) -> ConfigDict:
    """Executes a config file and returns the result of its get_config()."""
    name, _, argument = path.partition(":")
    wanted = "--config must be a config file such as configs/digits.py"
    place = shown(name if len(name) <= 70 else f"...{name[-67:]}")  # the end of a long path is more informative
    name = str(shipped().get(name) or files.expanded(name))
    if not os.path.isfile(name):
        fix = "Correct the path, or name a shipped config (sas-jax --help lists them)."
        raise InputError(f"{wanted}, got {place}, which is not a file. {fix}")
    try:
        with _our_configs(Path(name).absolute().parent):
            names = runpy.run_path(name)
            if "get_config" not in names:
                raise InputError(f"{wanted}, got {place}, which does not define get_config(). See configs/digits.py.")
            config = names["get_config"](*([argument] if argument else []))
            if not isinstance(config, ConfigDict):
                raise InputError(
                    f"get_config() must return a ConfigDict, got {shown(config)} from {place}. See configs/digits.py."
                )
            config = ConfigDict(config.to_dict())  # a copy that is neither frozen nor has references
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # the file may raise anything
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == name]
        where = f"{place}, line {lines[-1]}" if lines else place
        reason = " ".join(str(error).split())
        reason = reason if len(reason) <= 100 else reason[:97] + "..."
        reason = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
        raise InputError(f"{wanted}, got {where}, which raises {reason}. Correct the file.") from error
    return config


@contextlib.contextmanager
def _our_configs(folder: Path) -> Iterator[None]:
    """Makes `from configs import default` import the shipped configs, even if another `configs` is importable.

    Modules that the shipped configs lack are looked up in the config file's own folder, if its name is configs.
    """
    ours = types.ModuleType("configs")
    ours.__path__ = [str(each) for each in (_CONFIGS, folder) if each.name == "configs"]
    theirs = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "configs"}
    for name in theirs:
        del sys.modules[name]
    sys.modules["configs"] = ours
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "configs"]:
            del sys.modules[name]
        sys.modules.update(theirs)
