"""Every field of a config is set to invalid values, on the command line and in a config file."""

import contextlib
import decimal
import pathlib

import numpy as np
import pytest

from configs import default
from sas_jax import config_checks, config_file
from sas_jax.config_fields import FIELDS, OF_PARTITION
from sas_jax.errors import InputError

NUL_SURROGATE_LONG = [
    *("\0", "a\0", "\0a", "a\0b", "runs/\0", "\0\0", "x\0.npy", "é\0", " \0", "\0\n"),
    *(
        "\ud800",
        "\udbff",
        "\udc80",
        "\udcff",
        "a\udce9",
        "\udce9.png",
        "\udfff\udfff",
        "é\udc80",
        "/\udcff/",
        "a\ud83d",
    ),
    *("x" * n for n in (4_097, 5_000, 10_000, 65_536, 100_000)),
    *(text * 50_000 for text in ("ab", "/.", "é", "\n ", "😀")),
]
NO_NUMBER = [
    *(
        "",
        " ",
        "abc",
        "None",
        "nan",
        "-nan",
        "inf",
        "-inf",
        "1e308",
        "1e400",
        "-1",
        "-1e-9",
        "0,5",
        "1 2",
        "--1",
        "1__0",
    ),
    *("()", "[1]", "(1,)", "{}", "{'a': 1}", "'1'", "1j", "0x", "True and 1", "1" + "0" * 5_000, "9" * 100_000, "\0"),
    *("1\0", "\ud800", "\udcff", "1\udc80", "x" * 100_000),
]
NO_NUMBERS = [
    *("", "abc", "None", "nan", "(nan,)", "(1e308,)", "(1e999,)", "(-1,)", "(-0.1, 0.5, 0.5)", "((0.5,),)", "('a',)"),
    *("(None,)", "(0.5, None)", "(True,)", "[False]", "{'a': 1}", "{0.5}", "(0.5", "0.5)", "(,)", "(1j,)", "(b'1',)"),
    *(
        "([],)",
        "(0.5, [0.5])",
        "(" * 3_000,
        "(0.5," * 3_000,
        "(1" + "0" * 5_000 + ",)",
        "x" * 100_000,
        "\0",
        "(0.5,\0)",
    ),
    *("\ud800", "('\udcff',)", "('x',) * 3", "(0.5 + 0.1,)"),
]
NO_TEXTS = [
    *("('a',", "(1,)", "1", "1.5", "-1,", "(None,)", "None", "True", "('a', 1)", "('a', None)", "(('a',),)", "[['a']]"),
    *("({},)", "{'a': 'b'}", "{'a'}", "('',)", "('a', '')", "(b'a',)", "b'a'", "(1j,)", "('a' 'b', 3)", "['a', 1e308]"),
    *("(a,)", "(" * 3_000, "['a'" + ", 'a'" * 9_000, "x" * 100_000, f"('{'x' * 5_000}',)", "\0", "('a\\0',)"),
    *("('\\ud800',)", "\ud800", "('a', '\udcff')"),
]
WRONG_TEXTS = {
    int: [*NO_NUMBER, "1.5", "1.0", "1e3", "true"],
    float: [*NO_NUMBER, "true", "0.5f", "1/2", "1e"],
    bool: [*NO_NUMBER, "2", "1.0", "yes?", "truefalse", "tru"],
}
FREE = [name for name, field in FIELDS.items() if field.wanted.startswith("UTF-8 text")]


def flat(tree, above=""):
    for name, value in tree.items():
        yield from flat(value, f"{above}{name}.") if isinstance(value, dict) else [(above + name, value)]


DEFAULTS = dict(flat(default.get_config().to_dict()))


def test_the_table_has_the_fields_of_the_default_config():
    assert sorted(FIELDS) == sorted(DEFAULTS)
    for name, value in DEFAULTS.items():
        FIELDS[name].check(name, value)


def one_sentence(error, name):
    text = str(error)
    assert len(text) <= 300, text
    assert name in text
    assert "\n" not in text
    assert not any(each in text for each in NUL_SURROGATE_LONG if len(each) < 9), "control characters are escaped"
    text.encode()


def wrong_texts(name):
    """Returns invalid texts for a field, depending on its default."""
    if name in FREE:
        return NUL_SURROGATE_LONG
    value = DEFAULTS[name]
    if isinstance(value, str):  # one of several names
        return [*NO_NUMBER, "Adam", "simclr ", "'sas'"]
    if not isinstance(value, tuple):
        return WRONG_TEXTS[type(value)]
    return NO_TEXTS if name in ("data.classes", "latent_classes.class_names", "latent_classes.prompts") else NO_NUMBERS


@contextlib.contextmanager
def taken_out(config, name):
    """Removes a field, so that ConfigDict forgets its type; yields its section, and restores the field at the end."""
    *sections, last = name.split(".")
    section = config
    for each in sections:
        section = section[each]
    value = section[last]
    del section[last]
    yield section, last
    del section[last]
    section[last] = value


@pytest.fixture(scope="module")
def config():
    return default.get_config()


@pytest.mark.parametrize("name", FIELDS)
def test_wrong_values_on_the_command_line_are_one_sentence_each(name, config, monkeypatch):
    monkeypatch.setattr(config_file, "_run", lambda path: config if name != "arms" else default.get_config())
    texts = wrong_texts(name)
    assert len(set(texts)) >= 30
    for text in texts:
        with pytest.raises(InputError) as caught:
            config_file.read("configs/default.py", fields=[f"{name}={text}"])
        one_sentence(caught.value, f"config.{name}")
    assert dict(flat(config.to_dict())) == DEFAULTS


ANY = [  # types that no field has
    *(None, object(), len, int, ..., 1j, range(3), {1}, b"1", bytearray(b"x"), np.zeros(3), np.ones(()), iter([])),
    *(np.float32(0.5), np.int64(1), np.bool_(True), np.array(["a"]), pathlib.Path("a"), decimal.Decimal("0.5")),
    *({}, {"a": 1}, ([1],), [[[]]], (None,), ({},), ("a", None), ("\0",), ("\udcff",), ("x" * 100_000,)),
    *((float("nan"),), (1e308,), (-1,), (True,), (10**5_000,), float("nan"), float("inf"), 1e308, -1, -1e-9),
]
WRONG_VALUES = {
    int: [*ANY, 1.0, True, "1", 10**30, 10**5_000, *NUL_SURROGATE_LONG[::6]],
    float: [*ANY, True, "1.0", 10**30, *NUL_SURROGATE_LONG[::6]],
    bool: [*ANY, 0, 1, "true", *NUL_SURROGATE_LONG[::6]],
    str: [*ANY, 0, 1.0, True, *NUL_SURROGATE_LONG],
    tuple: [*ANY, 0, 1.0, True, *NUL_SURROGATE_LONG[::6]],
}


@pytest.mark.parametrize("name", OF_PARTITION)
def test_wrong_values_in_a_partition_are_one_sentence_each(name, monkeypatch):
    whole = next(field for field in FIELDS if field.endswith(f".{name}") and FIELDS[field] is OF_PARTITION[name])
    config = default.get_config()
    monkeypatch.setattr(config_file, "_run", lambda path: config)
    for text in wrong_texts(whole):
        with pytest.raises(InputError) as caught:
            config_file.read("configs/default.py", fields=[f"partitions.fine.{name}={text}"])
        one_sentence(caught.value, f"config.partitions.fine.{name}")
    for value in WRONG_VALUES[type(DEFAULTS[whole])]:
        config = default.get_config()
        config.partitions = {"fine": {name: value}}
        with pytest.raises(InputError) as caught:
            config_checks.check(config)
        one_sentence(caught.value, "config.partitions.")


SECTIONS = sorted({name.rpartition(".")[0] for name in FIELDS if "." in name} | {"partitions", "partitions.fine"})


@pytest.mark.parametrize("section", SECTIONS)
def test_what_is_no_section_is_one_sentence_each(section):
    """In a config file; on the command line a section takes no value."""
    for value in (*ANY, 3, 1.5, True, *NUL_SURROGATE_LONG[::6]):
        if isinstance(value, dict) and not value and section.startswith("partitions"):
            continue  # these sections may be empty, or hold entries that change nothing
        config = default.get_config()
        *above, last = section.split(".")
        place = config
        for each in above:
            place = place[each]
        with place.ignore_type():
            place[last] = value
        with pytest.raises(InputError) as caught:
            config_checks.check(config)
        one_sentence(caught.value, "config.")
    for text in ("", "3", "{}", "None", "\0", "\udcff", "x" * 100_000):
        with pytest.raises(InputError) as caught:
            config_file.read("configs/default.py", fields=[f"{section}={text}"])
        one_sentence(caught.value, "config.")


@pytest.mark.parametrize("name", ["", "__class__", "_x", "a/b", "\0", "\udcff", "é", "x" * 100_000])
def test_what_is_no_name_of_a_partition_is_one_sentence(name):
    with pytest.raises(InputError) as caught:
        config_file.read("configs/default.py", fields=[f"partitions.{name}.num_classes=3"])
    one_sentence(caught.value, "config.partitions")


@pytest.mark.parametrize("name", FIELDS)
def test_wrong_values_in_a_config_are_one_sentence_each(name, config):
    for value in WRONG_VALUES[type(DEFAULTS[name])]:
        with taken_out(config, name) as (section, last):
            section[last] = value
            with pytest.raises(InputError) as caught:
                config_checks.check(config)
        one_sentence(caught.value, f"config.{name}")
    assert dict(flat(config.to_dict())) == DEFAULTS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 1e-320) for name in FIELDS if name.endswith(("learning_rate", "temperature", ".tau"))),
        *((name, 10**7) for name in FIELDS if name.endswith(("epochs", "batch_size", "iterations", "views"))),
        *((name, ()) for name in ("data.mean", "views.crop_scale")),
        ("data.std", (0.0, 0.5, 0.5)),
        ("encoder.width", 1e9),
        ("latent_classes.clip_model", ""),
        ("data.classes", ("a", "")),
        ("evaluation.probe_fractions", (0,)),
    ],
)
def test_absurd_numbers_are_refused_with_the_range(name, value):
    with pytest.raises(InputError, match=r"from .* to|number above 0|characters|of [23], each"):
        FIELDS[name].check(f"config.{name}", value)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("seed", "3", 3),
        ("train.temperature", "1", 1.0),
        ("train.learning_rate", "1e-3", 1e-3),
        ("train.remat", "True", True),
        ("train.remat", "0", False),
        ("encoder.depth", "18", 18),
        ("selection.self_similarity", "0", 0.0),
        ("data.name", "1", "1"),
        ("data.folder", "~/a b=ü", "~/a b=ü"),
        ("data.classes", "cat", ("cat",)),
        ("data.classes", "('cat')", ("cat",)),
        ("data.classes", " ['a', 'b'] ", ("a", "b")),
        ("data.classes", "()", ()),
        ("latent_classes.prompts", r"a\d {}", (r"a\d {}",)),
        ("evaluation.probe_fractions", "(0.01, 1)", (0.01, 1)),
        ("arms", "(('random', 0.2, 0),)", (("random", 0.2, 0),)),
    ],
)
def test_a_value_on_the_command_line_has_the_type_of_its_field(name, text, value):
    found = FIELDS[name].parse(f"config.{name}", text)
    assert found == value
    assert type(found) is type(value)
