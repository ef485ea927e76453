"""Shared code of the commands: parses flags, and reports errors that users can fix in one sentence, not a traceback."""

import contextlib
import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging
from etils import epath

try:
    import jax
except ValueError as error:  # an invalid setting in the environment, which JAX reads on import
    _text = f"JAX settings in the environment must be valid, got an invalid one ({error}). Correct or unset it."
    print(f"sas_jax: {_text}", file=sys.stderr)
    sys.exit(2)
except KeyboardInterrupt:  # importing JAX takes a second
    sys.exit(130)

from sas_jax import files, preemption, terminal
from sas_jax.errors import InputError, shown

EXIT_INPUT = 2  # invalid input
EXIT_INTERRUPTED = 130  # Ctrl-C, by the convention of shells
_FIELD = re.compile(r"--?(no)?config\.([^=]+)(?:=(.*))?", re.DOTALL)
_FLAG = re.compile(r"--?[a-zA-Z]")


def run(main: Callable[[], None], *, interrupted: str = "") -> None:
    """Parses the flags, calls `main` and exits; an InputError is printed as one sentence, with exit code 2.

    Args:
        main: the command.
        interrupted: appended to the message after Ctrl-C or SIGTERM, such as how to resume.
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
        if error.errno not in (*files.FULL, errno.EROFS, errno.EACCES):
            _fail()
            raise
        what = "write" if error.errno in files.FULL else "access"
        fix = files.FULL.get(error.errno, "Change its permissions or choose a writable place")
        _exit(EXIT_INPUT, f"cannot {what} a file: {error}. {fix}, then run the command again.")
    except preemption.Preempted:
        print(f"{_name()}: stopped by SIGTERM{interrupted}", file=sys.stderr)
        sys.exit(preemption.EXIT_PREEMPTED)
    except KeyboardInterrupt:
        _exit(EXIT_INTERRUPTED, f"interrupted{interrupted}")
    except Exception:
        if sentence := _without_devices():
            _exit(EXIT_INPUT, sentence)
        _fail()
        raise


def _exit(code: int, message: str) -> NoReturn:
    """Prints a message to standard error and exits."""
    with contextlib.suppress(OSError):  # the disk of standard error may be full as well
        print(f"{_name()}: {message}", file=sys.stderr, flush=True)
    if jax.distributed.is_initialized():
        os._exit(code)  # an ordinary exit would wait for the other processes, which wait for this one
    sys.exit(code)


def _setting(name: str) -> Any:
    """Returns the value of a JAX setting, given its name in the environment."""
    return jax.config.values[name.lower()]


def _without_devices() -> str:
    """Returns an error message if JAX finds no device, whatever exception that raised, or "" if it finds some."""
    try:
        jax.devices()
    except Exception as error:  # RuntimeError, or an AssertionError without a message
        if (cpus := _setting("JAX_NUM_CPU_DEVICES")) not in (None, -1) and cpus < 1:
            return f"JAX_NUM_CPU_DEVICES must be 1 or more, got {cpus}. Correct or unset it."
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        platforms = _setting("JAX_PLATFORMS")
        wanted = "JAX_PLATFORMS must name" if platforms else "JAX must find"
        return (
            f"{wanted} a platform that is available on this machine and in this installation of JAX, got "
            f"{platforms or 'none'!r} ({reason}). Unset JAX_PLATFORMS, or set it to cpu."
        )
    return ""


def _fail() -> None:
    """Prints the traceback and exits if there are other processes, which an ordinary exit would wait for."""
    if jax.distributed.is_initialized():
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def require(*given: flags.FlagHolder) -> None:
    """Raises an InputError if one of the flags was not given."""
    for flag in given:
        if not flag.value:
            wanted = " ".join(f"--{each.name}=..." for each in given)
            raise InputError(f"--{flag.name} must be given, got none. Give {wanted} (--help explains them).")


def _quietly(main: Callable[[], None]) -> None:
    logging.set_verbosity(logging.WARNING)  # orbax logs every file at the level that absl commands show by default
    sys.unraisablehook = _unraisable
    main()
    sys.stdout.flush()  # here, where a failure is reported as one sentence


def _unraisable(args: Any) -> None:
    """Calls Python's hook, except for an error that orbax raises after a failed write, which was reported already."""
    if str(args.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(args)


def _name() -> str:
    return "sas_jax." + epath.Path(sys.argv[0]).stem


def _parse(argv: Sequence[str]) -> list[str]:
    """Returns flags.FLAGS(argv); every mistake raises an InputError."""
    try:
        if "config" in flags.FLAGS:
            argv = _with_fields(flags.FLAGS.read_flags_from_files(list(argv), force_gnu=False))
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        text = str(error).strip().splitlines()[0].removeprefix("flag ")
        raise InputError(text) from error
    except RecursionError as error:  # absl searches for similar names recursively
        raise InputError("Flags must be known, got an unknown one with a very long name. Correct it.") from error
    if len(rest) > 1:
        raise InputError(f"Command-line arguments must be flags, got {shown(rest[1])}. Write --name=value.")
    return rest


def _with_fields(argv: Sequence[str]) -> list[str]:
    """Rewrites --config.section.field=value as --config_field=section.field=value, which absl knows.

    The value may also be the next argument. Without a value it is true, or false after --noconfig.
    """
    rest, found = list(argv), []
    while rest:
        given = rest.pop(0)
        match = _FIELD.fullmatch(given)
        if match is None:
            found.append(given)
            continue
        negated, name, value = match.groups()
        if value is None:
            value = "false" if negated else "true"
            if not negated and rest and not _FLAG.match(rest[0]):
                value = rest.pop(0)
        found.append(f"--config_field={name}={value}")
    return found


def _use_compilation_cache() -> None:
    """Enables JAX's persistent compilation cache: a second start takes a third of the time.

    An unusable cache directory is reported once; JAX would warn for each program.
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
            f"{_name()}: compiled programs are not cached, so each start takes longer ({files.reason(error)}). Set "
            f"JAX_COMPILATION_CACHE_DIR to a writable directory.",
            file=sys.stderr,
        )
