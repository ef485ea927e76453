"""The command line: `sas-jax COMMAND` runs `python -m sas_jax.MODULE`."""

import difflib
import runpy
import sys
from pathlib import Path

from sas_jax import terminal
from sas_jax.errors import shown

MODULES = {"run": "main", "select": "select", "export": "export", "embed": "embed", "report": "report"}
HELP = """\
usage: sas-jax COMMAND [--flag=value ...]

Select and train
  run      run the whole method, from images to the report: --config=cifar100
  select   rank examples by their embeddings: --embeddings=E.npy --output=ranking.parquet

Use the results
  export   export the subset of a ranking as a list or links, or the weights of an encoder
  embed    compute features of images with a trained encoder or a pretrained network
  report   rebuild the report of a run, or compare several runs: WORKDIR [WORKDIR ...]

sas-jax COMMAND --help lists the flags of a command.
Configs for run: {names}
They are in {folder}; default.py explains every field."""


def main() -> None:
    """Runs the command that the first argument names."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        terminal.prepare()
        with terminal.guarded():
            print(_help(), flush=True)
        return
    if name not in MODULES:
        near = difflib.get_close_matches(name[:80], MODULES, n=1)
        fix = f"Did you mean {near[0]}?" if near else "Run sas-jax --help."
        known = ", ".join(MODULES)
        print(f"sas-jax: the first argument must be one of {known}, got {shown(name)}. {fix}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [sys.argv[0], *arguments]
    runpy.run_module(f"sas_jax.{MODULES[name]}", run_name="__main__", alter_sys=True)


def _help() -> str:
    from sas_jax import config_file  # imports JAX

    configs = config_file.shipped()
    return HELP.format(names=", ".join(configs), folder=Path(next(iter(configs.values()))).parent)


if __name__ == "__main__":
    main()
