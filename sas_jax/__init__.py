"""Selects and trains on the subsets of examples that contribute most to contrastive self-supervised learning.

Importing this package is cheap; each public name is imported on first use.
"""

import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sas_jax.encoder import load_encoder as load_encoder
    from sas_jax.errors import InputError as InputError
    from sas_jax.run import pipeline as pipeline
    from sas_jax.selection.rank import rank as rank
    from sas_jax.selection.ranking import Ranking as Ranking

__version__ = "0.1.0"

_HOMES = {
    "InputError": "sas_jax.errors:InputError",
    "Ranking": "sas_jax.selection.ranking:Ranking",
    "load_encoder": "sas_jax.encoder:load_encoder",
    "pipeline": "sas_jax.run.pipeline",
    "rank": "sas_jax.selection.rank:rank",
}

__all__ = ["InputError", "Ranking", "__version__", "load_encoder", "pipeline", "rank"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = pkgutil.resolve_name(_HOMES[name])
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
