"""The allowed imports between folders of sas_jax: see CONTRIBUTING.md."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "sas_jax"
KNOWN = {
    ("latent_classes", "pretrained"),
    *(("report", room) for room in ("data", "pretrained", "results", "selection")),
}


def imported(path):
    """Returns the names of a module's imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_a_folder_knows_only_those_that_the_page_names():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    found = set()
    for path in PACKAGE.glob("*/*.py"):
        room = path.parent.name
        others = {name.split(".")[1] for name in imported(path) if name.startswith("sas_jax.")}
        found |= {(room, other) for other in others & rooms - {room}}
    assert {pair for pair in found if pair[0] != "run"} == KNOWN
