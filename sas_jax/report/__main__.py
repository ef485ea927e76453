"""Rebuilds the report of a run, or compares several runs on one page.

python -m sas_jax.report runs/digits
python -m sas_jax.report runs/digits runs/digits-facility [--output=compare.html]
"""

import pathlib
import sys

from absl import flags

from sas_jax import command

# absl finds a command's flags by this name, and messages begin with it: sas_jax/report, not sas_jax/report/__main__.py
sys.argv[0] = str(pathlib.Path(sys.argv[0]).parent)

WORKDIRS = flags.DEFINE_multi_string(
    "workdir", [], "Directory of a run; several are compared. The flag's name, --workdir=, may be omitted."
)
OUTPUT = flags.DEFINE_string(
    "output",
    "",
    "Page to write, .html; by default report.html in the run's directory, or for several runs ./compare.html.",
)


def main() -> None:
    """Writes the page as the flags say, and prints its path."""
    from sas_jax import data  # after parsing the flags, so that a mistyped flag is reported at once
    from sas_jax.report.rebuild import rebuild
    from sas_jax.selection.ranking import Ranking

    print(rebuild(WORKDIRS.value, output=OUTPUT.value, load_dataset=data.load, load_ranking=Ranking.load))


def named(arguments: list[str]) -> list[str]:
    """Returns the arguments with --workdir= before each directory; all others are flags, as in every command."""
    found, before = [], ""
    for argument in arguments:
        is_value = before.lstrip("-") in ("output", "workdir") and before.startswith("-")
        found.append(argument if argument.startswith("-") or is_value else f"--workdir={argument}")
        before = argument
    return found


if __name__ == "__main__":
    sys.argv[1:] = named(sys.argv[1:])
    command.run(main)
