"""Commands with closed, broken, full or ASCII-only standard streams."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHOUT = """
import sys
from sas_jax import terminal
terminal.prepare()
with terminal.guarded():
    for _ in range(20_000):
        print("\\xe9 \\udcff \\u4e2d", file={stream})
"""
WRITE = """
import os, sys
from sas_jax import terminal
terminal.prepare()
with terminal.guarded():
    print("out")
    print("err", file=sys.stderr)
    with open("file", "w") as file:
        assert file.fileno() > 2
        os.write(1, b"a library's own words")
        file.write("what was meant")
"""


def shell(line, code, cwd, **environment):
    """Runs the command within a line of shell; returns its exit code and its standard error."""
    settings = (
        os.environ
        | {"PYTHONPATH": str(ROOT), "PROGRAM": code, "PYTHON": sys.executable, "PYTHONUNBUFFERED": ""}
        | environment
    )
    line = line.replace("PROGRAM", '"$PYTHON" -c "$PROGRAM"') + '; exit "${PIPESTATUS[0]}"'
    found = subprocess.run(["bash", "-c", line], env=settings, cwd=cwd, capture_output=True, timeout=60)
    return found.returncode, found.stderr.decode()


@pytest.mark.parametrize("stream", ["sys.stdout", "sys.stderr"])
def test_nobody_reads_any_more(tmp_path, stream):
    line = "PROGRAM 2>&1 | head -1" if stream == "sys.stderr" else "PROGRAM | head -1"
    assert shell(line, SHOUT.format(stream=stream), tmp_path) == (141, "")


def test_nobody_reads_what_is_printed_last(tmp_path):
    code = SHOUT.format(stream="sys.stdout").replace("20_000", "1") + "    import time; time.sleep(0.5)\n"
    assert shell("PROGRAM | true", code, tmp_path) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_are_nowhere_and_their_numbers_are_not_given_to_files(tmp_path, closed):
    code, said = shell(f"PROGRAM {closed}", WRITE, tmp_path)
    assert (code, said) in ((0, "err\n"), (0, ""))
    assert (tmp_path / "file").read_text() == "what was meant"


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "C.UTF-8"},
    ],
)
def test_what_a_terminal_cannot_show_is_escaped(tmp_path, environment):
    assert shell("PROGRAM > out", SHOUT.format(stream="sys.stdout"), tmp_path, **environment) == (0, "")
    shown = (tmp_path / "out").read_bytes().splitlines()[0]
    assert shown in (rb"\xe9 \udcff \u4e2d", b"\xe9 \\udcff \\u4e2d", "é \udcff 中".encode(errors="surrogateescape"))


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_files_have_the_same_names_under_every_locale(tmp_path, locale):
    (tmp_path / "\u00fc").write_text("")
    code = """
import os, sys
from sas_jax import terminal
terminal.prepare()
print(ascii(os.listdir()), ascii(sys.argv[1:]), os.path.exists("\\u00fc"))
"""
    settings = {"LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    assert shell("PROGRAM \u00fc 'a b' >../out", code, tmp_path, **settings) == (0, "")
    assert (tmp_path.parent / "out").read_text() == "['\\xfc'] ['\\xfc', 'a b'] True\n"


def test_a_broken_pipe_of_another_kind_is_an_error(tmp_path):
    code = "from sas_jax import terminal\nwith terminal.guarded():\n    raise BrokenPipeError('a worker')"
    found, said = shell("PROGRAM", code, tmp_path)
    assert found == 1
    assert "BrokenPipeError: a worker" in said
