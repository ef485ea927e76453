"""A user's own config with mistakes: one sentence each, which names the field or the line."""

import sys

import pytest

from configs import default, digits
from sas_jax import config_file
from sas_jax.errors import InputError


@pytest.fixture
def written(tmp_path):
    def write(*lines, name="mine.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        body = "".join(f"    {line}\n" for line in lines)
        path.write_text(
            f"from configs import default\n\ndef get_config():\n    c = default.get_config()\n{body}    return c\n"
        )
        return str(path)

    return write


def refused(path, *overrides):
    with pytest.raises(InputError) as caught:
        config_file.read(path, fields=overrides)
    text = str(caught.value)
    assert len(text) <= 300, text
    assert "\n" not in text
    return text


def test_a_tilde_is_the_home_directory(written, tmp_path, monkeypatch):
    written("c.seed = 5")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_file.read("~/mine.py").seed == 5


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("c.train.batch_size = '64'", "line 5, which raises TypeError: Could not override field 'batch_size'"),
        ("c.seed = 1.5", "TypeError: Could not override field 'seed'"),
        ("c.data.classes = 'cat'", "TypeError: Could not override field 'classes'"),
        ("c.evaluation.geometry = 'no'", "TypeError: Could not override field 'geometry'"),
        ("c.train.epoch.x = 3", "AttributeError"),
        ("c['none']['x'] = 1", "KeyError"),
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("from configs import nothing", "ImportError: cannot import name 'nothing'"),
        ("raise ValueError('several\\nlines')", "line 5, which raises ValueError: several lines. Correct the file."),
        ("raise RuntimeError('x' * 10_000)", "RuntimeError: xxx"),
        ("raise StopIteration", "which raises StopIteration. Correct the file."),
        ("import sys; sys.exit()", "which raises SystemExit. Correct the file."),
        ("raise SystemExit('bye')", "which raises SystemExit: bye. Correct the file."),
        ("assert not c", "line 5, which raises AssertionError. Correct the file."),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("f = lambda: f(); f()", "RecursionError"),
        ("open('nothing')", "FileNotFoundError"),
        ("this is no Python", "SyntaxError"),
    ],
)
def test_what_goes_wrong_inside_a_config_is_told_with_its_reason(written, line, reason):
    text = refused(written(line))
    assert "mine.py" in text
    assert reason in text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "does not define get_config()"),
        (b"x = 1\n", "does not define get_config()"),
        (b"def get_config(): pass", "must return a ConfigDict, got None"),
        (b"def get_config(): return {'seed': 1}", "must return a ConfigDict, got {'seed': 1}"),
        (b"def get_config(): return 'x' + 'y' * 9000", "must return a ConfigDict, got 'xyyy"),
        (b"get_config = 3", "TypeError: 'int' object is not callable"),
        (
            b"def get_config(size): return size",
            "TypeError: get_config() missing 1 required positional argument: 'size'",
        ),
        (b"\0", "null bytes"),
        (b"\xff = 1", "SyntaxError"),
        (
            b"from ml_collections import ConfigDict as C\ndef get_config(): return C()",
            "must have the field config.seed",
        ),
    ],
)
def test_a_file_that_makes_no_config(tmp_path, content, reason):
    (tmp_path / "mine.py").write_bytes(content)
    assert reason in refused(str(tmp_path / "mine.py"))


def test_a_frozen_config_and_one_with_references_are_taken(written):
    references = "from ml_collections import FieldReference; c.ignore_type().__enter__(); c.seed = FieldReference(7)"
    for lines in (["from ml_collections import FrozenConfigDict", "c = FrozenConfigDict(c)"], [references]):
        config = config_file.read(written(*lines), fields=["train.epochs=3"])
        assert (config.train.epochs, config.seed) == (3, 7 if lines == [references] else default.get_config().seed)


@pytest.mark.parametrize(
    "path",
    ["none.py", "~/none.py", ".", "http://host/a.py", "\udcff.py", "x" * 300, "x" * 100_000, "", "/dev/null/x.py"],
)
def test_a_path_that_is_no_file(path):
    assert "which is not a file. Correct the path, or name a shipped config" in refused(path)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("del c.runtime", "must have the field config.runtime."),
        ("del c.methods.moco", "must have the field config.methods.moco."),
        ("del c.train.warmup_epochs", "must have the field config.train.warmup_epochs, got none"),
        ("c.unlock(); c.views.views = c.views", "A section of a config must not contain itself, got one that does"),
        ("c.views = {'flip': 0.5}", "must have the field config.views.crop_scale"),
        ("c.proxy = None", "must have the field config.proxy.embeddings"),
        ("c.train.epoch = 3", "got config.train.epoch. Did you mean config.train.epochs?"),
        ("c.data.root = '/'", "got config.data.root"),
        ("c.arms = ('full', 1.0, 0)", "An entry of config.arms must be (selector, fraction, seed)"),
        ("c.arms = (('full', 1.0, 0, 'simclr', []),)", "A step rule in config.arms must be one of"),
        ("c.arms = (('random', 0.2, 10**400),)", "The seed of an arm 'random' in config.arms must be a whole number"),
        ("c.arms = (('x' * 100_000, 0.2, 0),)", "A selector in config.arms must be one of 'selected', 'sas"),
        ("c.data.folder = None", "config.data.folder must be UTF-8 text"),
        ("c.evaluation.probe_fractions = (None, 'a')", "config.evaluation.probe_fractions must be a tuple of entries"),
        ("c.views.crop_ratio = (2.0, 0.5)", "config.views.crop_ratio must be (lowest, highest), got (2.0, 0.5)"),
    ],
)
def test_fields_that_are_missing_unknown_or_wrong(written, line, sentence):
    assert sentence in refused(written(line))


def test_lists_numbers_and_arguments_are_taken(written):
    path = written("c.arms = [['random', 1, 0]]", "c.train.temperature = 1", "c.data.mean = [0, 0.5, 1]")
    config = config_file.read(path)
    assert config.arms == (["random", 1, 0],)
    assert (config.train.temperature, config.data.mean, config.is_locked) == (1.0, (0, 0.5, 1), True)
    with open(path, "a") as file:
        file.write("\nget = get_config\ndef get_config(name):\n    c = get()\n    c.data.name = name\n    return c\n")
    assert config_file.read(f"{path}:stl10:2").data.name == "stl10:2"


def test_overrides_replace_the_files_fields_the_last_of_a_name_wins():
    config = config_file.read(
        "configs/digits.py", fields=["seed=3", "data.folder=a=b", "seed=4", "arms=(('full', 1.0, 0),)"]
    )
    assert (config.seed, config.data.folder, config.arms) == (4, "a=b", (("full", 1.0, 0),))
    assert config.train.to_dict() == digits.get_config().train.to_dict()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("sed=3", "got config.sed. Did you mean config.seed?"),
        ("proxy.trian.epochs=3", "Did you mean config.proxy.train.epochs?"),
        ("proxy=3", "got the section config.proxy. Set one of its fields, such as config.proxy.embeddings"),
        ("proxy.train={}", "got the section config.proxy.train"),
        ("arms[0]=3", "got config.arms[0]. Did you mean"),
        (f"{'x' * 100_000}=3", "A field of the config must be defined in"),
        ("\0=3", "A field of the config must be defined in"),
        ("\udcff.seed=3", "A field of the config must be defined in"),
        ("seed", "config.seed must be a whole number from 0 to 2,147,483,647, got ''"),
    ],
)
def test_overrides_of_what_is_no_field(override, sentence):
    assert sentence in refused("configs/digits.py", override)


@pytest.mark.parametrize("kind", ["module", "package", "folder", "imported"])
def test_another_projects_configs_do_not_take_the_place_of_ours(tmp_path, monkeypatch, written, kind):
    path = written("c.seed = 5")
    if kind in ("module", "imported"):
        (tmp_path / "configs.py").write_text("default = None\n")
    else:
        (tmp_path / "configs").mkdir()
        (tmp_path / "configs" / "default.py").write_text("x = 1\n")
        if kind == "package":
            (tmp_path / "configs" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "configs"}
    for name in kept:
        monkeypatch.delitem(sys.modules, name)
    if kind == "imported":
        import configs

        assert configs.default is None
    before = {name for name in sys.modules if name.startswith("configs")}
    assert config_file.read(path).seed == 5
    assert {name for name in sys.modules if name.startswith("configs")} == before


def test_a_folder_called_configs_of_ones_own_has_its_own_modules_beside_ours(written):
    written(name="configs/base.py")
    path = written(
        "from configs import base, digits",
        "c = digits.get_config()",
        "c.seed = base.get_config().seed + 1",
        name="configs/mine.py",
    )
    config = config_file.read(path)
    assert (config.seed, config.data.image_size) == (default.get_config().seed + 1, 16)
