"""What the commands share: flags in, one sentence out for what a person can mend, and no traceback for it."""

import difflib
import errno
import os
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
from absl import app, flags, logging
from etils import epath

from sas_jax import files, preemption, terminal
from sas_jax.errors import InputError
from sas_jax.workdir import flatten

EXIT_INPUT = 2  # something given cannot be used
EXIT_INTERRUPTED = 130  # Ctrl-C, as shells have it


def run(main: Callable[[], None], *, interrupted: str = "") -> None:
    """Parses the flags, calls `main` and exits; an InputError is printed as one sentence, with exit code 2.

    Args:
        main: the command.
        interrupted: what Ctrl-C or SIGTERM says beside that it did, such as how to go on.
    """
    terminal.prepare()
    with terminal.guarded():
        _run(main, interrupted)


def _run(main: Callable[[], None], interrupted: str) -> None:
    _use_compilation_cache()
    preemption.listen()
    try:
        app.run(lambda _: _quietly(main), flags_parser=_parse)
    except InputError as error:
        _exit(EXIT_INPUT, str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            _fail()
            raise
        _exit(EXIT_INPUT, f"a file cannot be written ({error}): make room or mend its rights, and run again")
    except preemption.Preempted:
        print(f"{_name()}: asked to end (SIGTERM){interrupted}", file=sys.stderr)
        sys.exit(preemption.EXIT_PREEMPTED)
    except KeyboardInterrupt:
        _exit(EXIT_INTERRUPTED, f"interrupted{interrupted}")
    except Exception:
        _fail()
        raise


def _exit(code: int, message: str) -> NoReturn:
    """Ends with a sentence."""
    print(f"{_name()}: {message}", file=sys.stderr, flush=True)
    if jax.distributed.is_initialized():
        os._exit(code)  # an ordinary exit would wait for the other processes, and these wait for this one
    sys.exit(code)


def _fail() -> None:
    """Ends with a traceback where there are other processes, which an ordinary exit would wait for."""
    if jax.distributed.is_initialized():
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def require(*given: flags.FlagHolder) -> None:
    """Raises an InputError where one of the flags was not given."""
    for flag in given:
        if not flag.value:
            wanted = " ".join(f"--{each.name}=..." for each in given)
            raise InputError(f"--{flag.name} is needed and was not given: give {wanted} (--help explains them)")


def _quietly(main: Callable[[], None]) -> None:
    logging.set_verbosity(logging.WARNING)  # orbax tells of every file at the level that absl commands show
    sys.unraisablehook = _unraisable
    main()
    sys.stdout.flush()  # here, where what fails is said in a sentence


def _unraisable(args: Any) -> None:
    """Python's own hook, but for what orbax leaves behind of a write that failed, and that has been said."""
    if str(args.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(args)


def _name() -> str:
    return "sas_jax." + epath.Path(sys.argv[0]).stem


def _parse(argv: Sequence[str]) -> list[str]:
    """flags.FLAGS(argv), with every mistake as an InputError."""
    if "config" in flags.FLAGS and (path := _config_path(argv)) and not epath.Path(path.partition(":")[0]).is_file():
        raise InputError(
            f"--config has to name a config file such as configs/digits.py, but {path} cannot be read: mend the path "
            f"(the configs are in a checkout of sas_jax, and named from there)"
        )
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        raise InputError(_wrong_value(argv, _first_line(str(error)))) from error
    except (KeyError, AttributeError, IndexError) as error:  # ml_collections, for what is not there
        if (sentence := _unknown_field(argv)) is None:
            raise  # a defect inside the config file keeps its traceback
        raise InputError(sentence) from error
    except SyntaxError as error:
        raise InputError(
            f"--config has to name a file of Python, but {_config_path(argv)} is not ({error}): see configs/digits.py"
        ) from error
    except ModuleNotFoundError as error:
        if error.name != "configs":
            raise
        raise InputError(
            f"{_config_path(argv)} imports the package configs, which is found only from the top of a checkout of "
            f"sas_jax: run the command there"
        ) from error
    if len(rest) > 1:
        raise InputError(f"everything on the command line has to be a flag, but {rest[1]!r} is not: write --name=value")
    return rest


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0].removeprefix("flag ")


def _config_path(argv: Sequence[str]) -> str:
    """The value of --config, written with "=" or behind a space; "" where there is none."""
    for given, following in zip(argv, [*argv[1:], ""], strict=True):
        if given.lstrip("-").startswith("config="):
            return given.split("=", 1)[1]
        if given in ("--config", "-config"):
            return following
    return ""


def _fields(argv: Sequence[str]) -> dict[str, Any]:
    """The config file's own fields and values: {"config.proxy.train.epochs": 400, ...}."""
    path, _, argument = _config_path(argv).partition(":")
    names = runpy.run_path(path)
    if "get_config" not in names:
        raise InputError(
            f"--config has to name a file that defines get_config(), but {path} does not: see configs/digits.py"
        )
    get_config = names["get_config"]
    config = get_config(argument) if argument else get_config()
    return {f"config.{name}": value for name, value in flatten(config.to_dict()).items()}


def _overrides(argv: Sequence[str]) -> list[tuple[str, str]]:
    """[("config.seed", "3"), ...] of --config.seed=3."""
    found = [re.fullmatch(r"--?(config\.[^=]+)(?:=(.*))?", given, re.DOTALL) for given in argv]
    return [(match[1], match[2] or "") for match in found if match]


def _unknown_field(argv: Sequence[str]) -> str | None:
    """One sentence with the nearest field, or None where all fields are known."""
    fields = _fields(argv)
    sections = {name.rsplit(".", i)[0] for name in fields for i in range(1, name.count(".") + 1)}
    for field, _ in _overrides(argv):
        if field not in fields and field not in sections:
            near = difflib.get_close_matches(field, list(fields), n=1, cutoff=0.0)[0]
            return (
                f"{field} is not a field of the config; the nearest is {near} (configs/default.py explains every field)"
            )
    return None


def _wrong_value(argv: Sequence[str], message: str) -> str:
    """One sentence about a value that a field cannot take; `message`, absl's own, for a flag that is no field."""
    match = re.match(r"--(config\.[^=]+)=(.*?): ", message)
    if match is None:
        return message
    field, value = match[1], match[2]
    default = _fields(argv).get(field)
    if default is None:
        return f"{field} is a section of the config and takes no value: give one of its fields (configs/default.py)"
    kind = {int: "a whole number", float: "a number", bool: "true or false", str: "text", tuple: "a tuple"}[
        type(default)
    ]
    return f"{field} has to be {kind} (in {_config_path(argv)} it is {default!r}), but was given {value!r}: mend it"


def _use_compilation_cache() -> None:
    """Keeps compiled programs between runs: a second start takes a third of the time.

    Where they cannot be kept that is said once. JAX would warn of each program.
    """
    given = jax.config.values["jax_compilation_cache_dir"]
    try:
        folder = files.expanded(given or "~/.cache/sas_jax/xla")
        if not files.is_remote(folder):
            folder.mkdir(parents=True, exist_ok=True)
            files.check_place(folder / "sas_jax")
        jax.config.update("jax_compilation_cache_dir", str(folder))
    except (OSError, InputError) as error:
        jax.config.update("jax_enable_compilation_cache", False)
        print(
            f"{_name()}: compiled programs are not kept, so that each start takes longer ({files.reason(error)}). Set "
            f"JAX_COMPILATION_CACHE_DIR to a directory that can be written.",
            file=sys.stderr,
        )
