"""Batches prepared ahead, and the hub; tests/latent_classes/test_clip.py has the cache."""

import socket
import sys
import types

import pytest

from sas_jax import embedded_once


def test_work_ahead_keeps_the_order_and_is_bounded(monkeypatch):
    monkeypatch.setattr(embedded_once.devices, "cpu_count", lambda: 3)
    begun, taken = [], []
    for value in embedded_once._ahead(lambda a: begun.append(a) or a * a, range(30)):
        taken.append(value)
        assert len(begun) <= len(taken) + 3
    assert taken == [a * a for a in range(30)]


@pytest.fixture
def constants(monkeypatch):
    """In the place of huggingface_hub's: a hub on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = types.SimpleNamespace(HF_HUB_OFFLINE=False, ENDPOINT=f"http://127.0.0.1:{port}", close=server.close)
        monkeypatch.setitem(sys.modules, "huggingface_hub", types.ModuleType("huggingface_hub"))
        monkeypatch.setitem(sys.modules, "huggingface_hub.constants", found)
        monkeypatch.setattr(embedded_once.urllib.request, "getproxies", dict)
        yield found


def test_a_hub_that_answers_is_asked(constants):
    with embedded_once.hub() as problem:
        assert (problem, constants.HF_HUB_OFFLINE) == ("", False)


def test_without_network_only_the_local_cache_is_asked(constants, monkeypatch):
    constants.close()
    with embedded_once.hub() as problem:
        assert problem == "it is not in the local cache, and 127.0.0.1 cannot be reached"
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(embedded_once.urllib.request, "getproxies", lambda: {"http": "http://proxy"})
    with embedded_once.hub() as problem:
        assert problem == ""


def test_the_files_of_a_network(tmp_path):
    for name in ("b", "m.onnx", "m.onnx.data"):
        (tmp_path / name).write_text(name)
    (tmp_path / "folder").mkdir()
    assert embedded_once.model_files(str(tmp_path / "m.onnx")) == [tmp_path / "m.onnx", tmp_path / "m.onnx.data"]
    assert embedded_once.model_files(str(tmp_path / "b")) == [tmp_path / "b"]
    assert len(embedded_once.model_files(str(tmp_path))) == 3
    assert embedded_once.model_files("") == embedded_once.model_files("facebook/dinov2-small") == []
