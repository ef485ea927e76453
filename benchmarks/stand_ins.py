"""Runs a module with stand-ins for missing packages: `python -m benchmarks.stand_ins sas_jax.main --config=...`.

ml_collections and tensorboardX may be missing on a machine with a GPU. The stand-ins then provide what sas_jax uses of
them. Images must be in memory (`config.data.placement`): grain, which streams them, has no stand-in.
"""

import contextlib
import importlib
import runpy
import sys
import types
from typing import Any


class ConfigDict(dict):
    """The part of ml_collections.ConfigDict that sas_jax uses, without type checks."""

    def __init__(self, values: dict[str, Any] | None = None):
        super().__init__()
        self.update(values or {})

    def __setitem__(self, name: str, value: Any) -> None:
        plain = isinstance(value, dict) and not isinstance(value, ConfigDict)
        super().__setitem__(name, ConfigDict(value) if plain else value)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error

    __setattr__ = __setitem__  # type: ignore[assignment]

    def update(self, *values: dict[str, Any], **more: Any) -> None:  # type: ignore[override]
        for name, value in [item for given in (*values, more) for item in given.items()]:
            if isinstance(self.get(name), ConfigDict) and isinstance(value, dict):
                self[name].update(value)
            else:
                self[name] = value

    def to_dict(self) -> dict[str, Any]:
        return {name: value.to_dict() if isinstance(value, ConfigDict) else value for name, value in self.items()}

    def lock(self) -> "ConfigDict":
        return self

    def ignore_type(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class SummaryWriter:
    """Replaces tensorboardX's and writes nothing; metrics.jsonl has the same numbers."""

    def __init__(self, folder: str, purge_step: int): ...

    def add_scalar(self, name: str, value: float, step: int) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


_NAMES: dict[str, dict[str, Any]] = {
    "ml_collections": {"ConfigDict": ConfigDict},
    "tensorboardX": {"SummaryWriter": SummaryWriter},
}


def install() -> None:
    """Makes the stand-ins importable in place of missing packages."""
    for package, names in _NAMES.items():
        try:
            importlib.import_module(package)
        except ImportError:
            module = types.ModuleType(package)
            vars(module).update(names)
            sys.modules[package] = module


if __name__ == "__main__":
    install()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
