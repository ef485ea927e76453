"""The conventions of the public functions: see CONTRIBUTING.md."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import sas_jax

PAGE = Path(__file__).parent.parent / "docs" / "api.md"
WITHOUT_METHODS = ("sas_jax.InputError", "sas_jax.training.Trainer")  # the page documents these without their methods
ARRAYS = ("ndarray", "jax.Array", "ArrayLike")


def named():
    """Returns the public functions and classes by name: those of docs/api.md, which include those of `sas_jax`."""
    found, module = {}, "sas_jax"
    for kind, name, members in re.findall(
        r"^\.\. (currentmodule|automodule|autofunction|autoclass|autoexception):: (\S+)\n(?: +:members:(.*)\n)?",
        PAGE.read_text(),
        re.MULTILINE,
    ):
        if kind in ("currentmodule", "automodule"):
            module = name
        if kind == "automodule":
            owner = importlib.import_module(name)
            listed = re.split(r",\s*", members.strip()) if members.strip() else _own(owner)
            found |= {f"{name}.{member}": getattr(owner, member) for member in listed}
        elif kind != "currentmodule":
            path = name if name.startswith("sas_jax") else f"{module}.{name}"
            found[path] = pkgutil.resolve_name(path)
    return found


def _own(module):
    """Returns the public names that a module itself defines."""
    return [name for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__]  # fmt: skip


def functions():
    """Returns the public functions, and the public methods of the public classes."""
    found = {}
    for path, value in named().items():
        if inspect.isclass(value) and path not in WITHOUT_METHODS:
            methods = {name: each for name, each in vars(value).items() if not name.startswith("_")}
            found |= {f"{path}.{name}": getattr(value, name) for name, each in methods.items()
                      if inspect.isfunction(each) or isinstance(each, classmethod)}  # fmt: skip
        elif not inspect.isclass(value):
            found[path] = value
    return found


FUNCTIONS = functions()
every = pytest.mark.parametrize("name", FUNCTIONS)


def parameters(name):
    found = inspect.signature(FUNCTIONS[name]).parameters
    return {name: each for name, each in found.items() if name != "self"}


def sections(name):
    """Returns the docstring's sections: for Args the text of each argument, for the others the whole text."""
    text = inspect.getdoc(FUNCTIONS[name]) or ""
    parts = re.split(r"^(Args|Returns|Yields|Raises|Source):", text, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    entries = re.split(r"^ {2,4}((?:\w+, )*\w+): ", found.get("Args", ""), flags=re.MULTILINE)
    arguments = {}
    for names, about in zip(entries[1::2], entries[2::2], strict=True):
        arguments |= dict.fromkeys(names.split(", "), about)
    return found | {"Args": arguments, "": parts[0]}


def test_the_page_holds_the_public_names():
    public = {f"sas_jax.{name}" for name in sas_jax.__all__ if name[0] != "_"}
    modules = {path for path in public if inspect.ismodule(pkgutil.resolve_name(path))}
    assert public - modules <= named().keys()
    assert all(any(path.startswith(f"{module}.") for path in named()) for module in modules)


@every
def test_a_key_comes_first_and_options_are_named(name):
    found = parameters(name)
    if "key" in found and "PRNG" in sections(name)["Args"]["key"] and found["key"].default is inspect.Parameter.empty:
        assert next(iter(found)) == "key"
    positional = [each for each in found.values() if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert all(each.default in (each.empty, None) for each in positional)


@every
def test_the_docstring_says_what_goes_in_and_what_comes_out(name):
    said, found = sections(name), parameters(name)
    assert re.fullmatch(r"\S.*[.:]", said[""].splitlines()[0] if said[""] else "")
    assert found.keys() == said["Args"].keys()
    returns = inspect.signature(FUNCTIONS[name]).return_annotation
    assert "Returns" in said or returns in (None, "None") or not found  # without arguments, the first line says it
    if "raise InputError" in inspect.getsource(inspect.unwrap(FUNCTIONS[name])):
        assert "InputError:" in said["Raises"]


@every
def test_arrays_have_a_shape(name):
    said, found = sections(name), parameters(name)
    for argument, each in found.items():
        if any(kind in str(each.annotation) for kind in ARRAYS) and argument != "key":
            assert re.search(r"\[.*\]", said["Args"][argument]), argument
    if any(kind in str(inspect.signature(FUNCTIONS[name]).return_annotation) for kind in ARRAYS):
        assert re.search(r"\[.*\]", said["Returns"])
