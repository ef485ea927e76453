"""Progress, with a clock that the tests set."""

import io

import pytest

from sas_jax.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def told(stream, reports, total=1000, raises=None):
    """Returns the output for these reports of (seconds, done)."""
    now = [0.0]
    try:
        with Progress("ranked", stream=stream, clock=lambda: now[0]) as progress:
            for seconds, done in reports:
                now[0] = seconds
                progress(done, total)
            if raises:
                raise raises
    except KeyboardInterrupt:
        pass
    return stream.getvalue()


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_nothing_in_the_first_two_seconds(stream):
    assert told(stream(), [(0.5, 100), (1.0, 500), (1.9, 1000)]) == ""


def test_a_log_has_a_line_every_ten_seconds():
    lines = told(io.StringIO(), [(second, 10 * second) for second in range(1, 31)]).splitlines()
    assert lines == [
        "ranked 20 of 1,000 (2 %), 10 a second, 98 s left",
        "ranked 120 of 1,000 (12 %), 10 a second, 88 s left",
        "ranked 220 of 1,000 (22 %), 10 a second, 78 s left",
    ]


def test_a_terminal_has_one_line_that_is_rewritten():
    text = told(Terminal(), [(second, 200 * second) for second in range(1, 6)])
    assert text.count("\n") == 1
    assert text.endswith("\n")
    first, *_, last = text.strip("\n").split("\r")[1:]
    assert first == "ranked 400 of 1,000 (40 %), 200 a second, 3 s left"
    assert last.rstrip() == "ranked 1,000 of 1,000 (100 %), 200 a second, 0 s left"


def test_what_a_longer_line_left_is_covered():
    shown = told(Terminal(), [(2, 0), (3, 1), (4, 1000)]).strip("\n").split("\r")[1:]
    assert shown[0] == "ranked 0 of 1,000 (0 %)"
    assert shown[1].startswith("ranked 1 of 1,000 (0 %), 1 a second, 17 min left")
    assert shown[2].startswith("ranked 1,000 of 1,000 (100 %), 500 a second, 0 s left")
    longest = told(Terminal(), [(2, 0), (3, 1), (100, 1)]).strip("\n").split("\r")[1:]
    assert longest[2] == "ranked 1 of 1,000 (0 %)".ljust(len(longest[1]))


def test_an_interrupted_line_is_ended():
    assert told(Terminal(), [(3, 5)], raises=KeyboardInterrupt()) == "\rranked 5 of 1,000 (0 %)\n"
    assert told(io.StringIO(), [(1, 5)], raises=KeyboardInterrupt()) == ""


def test_the_rate_is_that_of_the_last_seconds_and_not_of_what_was_done_before():
    # Resumed at 500: 50 a second for 10 s, then 1 a second.
    reports = [(second, 500 + 40 * second) for second in range(11)] + [
        (second, 890 + second) for second in range(11, 60)
    ]
    last = told(Terminal(), reports).rstrip("\n").split("\r")[-1].rstrip()
    assert last == "ranked 949 of 1,000 (94 %), 1 a second, 51 s left"


@pytest.mark.parametrize(
    ("done", "told_of_it"),
    [
        (1, "(0 %), 0.1 a second, 2.8 h left"),
        (5, "(0 %), 0.5 a second, 33 min left"),
        (84, "(8 %), 8.4 a second, 109 s left"),
        (999, "(99 %), 100 a second, 0 s left"),
    ],
)
def test_units(done, told_of_it):
    assert told(io.StringIO(), [(2, 0), (12, done)]).rstrip("\n").endswith(told_of_it)
