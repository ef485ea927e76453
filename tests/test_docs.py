"""README and the pages of docs/: their Python runs, and the things they name exist."""

import os
import re
import shlex
from pathlib import Path

import pytest

from configs import default

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

# By page and first line of the snippet: the reason why it cannot run here.
NOT_RUN = {
    ("docs/rankings.md", "import sas_jax"): "tests/test_rankings.py runs it, from the checkout",
    ("docs/data.md", "import datasets, numpy"): "tests/test_export.py runs it, on files",
    ("docs/data.md", "import webdataset"): "tests/test_export.py runs it, on files",
    ("docs/data.md", "import json, safetensors.torch, torch, torchvision"): "tests/test_weights_torch.py runs it",
    ("docs/data.md", "dataset = torchvision.datasets.ImageFolder(PATH)"): "needs torchvision and a folder of images",
}


def name(page):
    return str(page.relative_to(ROOT))


SNIPPETS = [
    pytest.param(page, code, id=f"{name(page)}-{number}")
    for page in PAGES
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
]


@pytest.mark.parametrize(("page", "code"), SNIPPETS)
def test_python_runs(page, code, tmp_path, monkeypatch):
    compiled = compile(code, name(page), "exec")
    if reason := NOT_RUN.get((name(page), code.splitlines()[0])):
        pytest.skip(reason)
    monkeypatch.chdir(tmp_path)  # some snippets write files
    exec(compiled, {"__name__": name(page)})


def test_every_exception_is_of_a_snippet():
    found = {(name(page), code.splitlines()[0]) for page, code in (snippet.values for snippet in SNIPPETS)}
    assert set(NOT_RUN) <= found, "NOT_RUN names a snippet that no page has: remove it"


def prose(page):
    """Returns the page without its code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^    .*$", "", text, flags=re.MULTILINE))


def anchors(page):
    """Returns the page's headings as GitHub and MyST name them in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = Path(os.path.normpath(page.parent / path)) if path else page
        assert file.exists(), f"{name(page)} links to {target}"
        assert not anchor or anchor in anchors(file), f"{name(page)} links to {target}, which is no heading there"


def test_index_lists_every_page():
    listed = re.search(r"```\{toctree\}\n:hidden:\n\n(.*?)```", (ROOT / "docs/index.md").read_text(), re.DOTALL)
    assert sorted(listed[1].split()) == sorted(
        page.stem for page in (ROOT / "docs").glob("*.md") if page.stem != "index"
    )


def code(page):
    """Returns the code of a page: blocks, indented lines, and text between backticks."""
    text = page.read_text()
    blocks = re.findall(r"^```\n(.*?)^```|((?:^    .*\n)+)", text, re.DOTALL | re.MULTILINE)
    return "\n".join([*("".join(block) for block in blocks), *re.findall(r"`([^`\n]+)`", text)])


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_name_what_exists(page):
    text = code(page)
    fields = default.get_config()
    for dotted in set(re.findall(r"\bconfig\.([a-z_]+(?:\.[a-z_0-9]+)*)", text)) - {"section.field"}:
        at = fields
        for part in dotted.split("."):
            assert part in at, f"{name(page)} names config.{dotted}, which is no field"
            at = at[part]
    for path in re.findall(r"(?<![\w/.])(?:sas_jax|tests|benchmarks|configs|docs|launch)/[\w./*-]+", text):
        assert any(ROOT.glob(path)), f"{name(page)} names {path}"
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"^ *make ([a-z-]+)", text, re.MULTILINE):
        assert target in targets, f"{name(page)} names make {target}"
    for module in re.findall(r"python -m ((?:sas_jax|benchmarks)[\w.]*)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), f"{name(page)} names {module}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_flags_of_commands_exist(page):
    joined = code(page).replace("\\\n", " ")
    for line in joined.splitlines():
        found = re.search(r"python -m (sas_jax\.(?:main|select|export|embed|report)) (.*)", line)
        if not found:
            continue
        source = ROOT / found[1].replace(".", "/")
        source = source / "__main__.py" if source.is_dir() else source.with_suffix(".py")
        known = set(re.findall(r'flags\.DEFINE_\w+\(\s*"(\w+)"', source.read_text()))
        for flag in re.findall(r"--(\w+)(?=[=\s]|$)", " ".join(shlex.split(found[2], comments=True))):
            assert {flag, flag.removeprefix("no")} & known, f"{name(page)} gives {found[1]} the flag --{flag}"
