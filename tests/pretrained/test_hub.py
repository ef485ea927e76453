"""The Hugging Face hub, and the files of a network."""

import socket
import sys
import types

import pytest

from sas_jax.pretrained import hub


@pytest.fixture
def constants(monkeypatch):
    """Replaces huggingface_hub's constants: the hub is on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = types.SimpleNamespace(HF_HUB_OFFLINE=False, ENDPOINT=f"http://127.0.0.1:{port}", close=server.close)
        monkeypatch.setitem(sys.modules, "huggingface_hub", types.ModuleType("huggingface_hub"))
        monkeypatch.setitem(sys.modules, "huggingface_hub.constants", found)
        monkeypatch.setattr(hub.urllib.request, "getproxies", dict)
        yield found


def test_a_hub_that_answers_is_asked(constants):
    with hub.asked_if_reachable() as problem:
        assert (problem, constants.HF_HUB_OFFLINE) == ("", False)


def test_without_network_only_the_local_cache_is_asked(constants, monkeypatch):
    constants.close()
    with hub.asked_if_reachable() as problem:
        assert problem == "it is not in the local cache, and 127.0.0.1 cannot be reached"
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(hub.urllib.request, "getproxies", lambda: {"http": "http://proxy"})
    with hub.asked_if_reachable() as problem:
        assert problem == ""


def test_offline_mode_is_named_with_the_way_out_of_it(constants):
    constants.HF_HUB_OFFLINE = True
    with hub.asked_if_reachable() as problem:
        assert problem == (
            "it is not in the local cache, and offline mode is on; unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE to "
            "download it"
        )
    assert constants.HF_HUB_OFFLINE


def test_the_files_of_a_network(tmp_path):
    for name in ("b", "m.onnx", "m.onnx.data"):
        (tmp_path / name).write_text(name)
    (tmp_path / "folder").mkdir()
    assert hub.model_files(str(tmp_path / "m.onnx")) == [tmp_path / "m.onnx", tmp_path / "m.onnx.data"]
    assert hub.model_files(str(tmp_path / "b")) == [tmp_path / "b"]
    assert len(hub.model_files(str(tmp_path))) == 3
    assert hub.model_files("") == hub.model_files("facebook/dinov2-small") == []
