"""The sources of pretrained networks (packages, the hub's cache, files), and what identifies a network."""

import contextlib
import hashlib
import importlib
import importlib.util
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sas_jax.errors import InputError

_CONNECT_SECONDS = 5.0


def check_installed(what: str, *packages: str, extra: str) -> None:
    """Checks that packages are installed, without importing them.

    Raises:
        InputError: one is not installed.
    """
    if lacking := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise InputError(
            f"{what} requires {' and '.join(packages)} (not installed: {', '.join(lacking)}). Run pip install "
            f"'sas_jax[{extra}]'."
        )


@contextlib.contextmanager
def asked_if_reachable() -> Iterator[str]:
    """Uses only the hub's local cache if the hub cannot be reached; its client would retry for minutes.

    Yields:
        Why models that are not in the cache cannot be loaded; "" if the hub can be reached.
    """
    constants: Any = importlib.import_module("huggingface_hub.constants")
    before = constants.HF_HUB_OFFLINE
    host = urllib.parse.urlsplit(constants.ENDPOINT).hostname
    why = (
        "offline mode is on; unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE to download it"
        if before
        else f"{host} cannot be reached"
    )
    problem = f"it is not in the local cache, and {why}"
    constants.HF_HUB_OFFLINE = before or not _reachable(constants.ENDPOINT)
    try:
        yield problem if constants.HF_HUB_OFFLINE else ""
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(url: str) -> bool:
    """Returns whether the URL's host accepts connections, or might through a proxy."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme in urllib.request.getproxies():
        return True
    try:
        port = parts.port or {"http": 80}.get(parts.scheme, 443)
        socket.create_connection((parts.hostname or "", port), timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def model_files(place: str) -> list[Path]:
    """Returns the files of a network in a folder or file (ONNX weights may be in a second file); else none."""
    path = Path(place).expanduser()
    if path.is_file():
        return [each for each in (path, Path(f"{path}.data")) if each.is_file()]
    return sorted(each for each in path.iterdir() if each.is_file()) if place and path.is_dir() else []


def identity(name: str) -> list[str]:
    """Returns what identifies a model: its files' names and content hashes, or its name on the hub."""
    found = []
    for file in model_files(name):
        with file.open("rb") as opened:
            found += [file.name, hashlib.file_digest(opened, "blake2b").hexdigest()]
    return found or [name]
