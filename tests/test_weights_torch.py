"""An encoder's features against torchvision's, with weights exported to and imported from PyTorch."""

import re
from pathlib import Path

import numpy as np
import pytest

reason = "make test-torch runs these, with PyTorch, torchvision and timm"
torch = pytest.importorskip("torch", reason=reason)
torchvision = pytest.importorskip("torchvision", reason=reason)
timm = pytest.importorskip("timm", reason=reason)

import safetensors.torch  # noqa: E402

import sas_jax  # noqa: E402
from sas_jax import weights  # noqa: E402
from sas_jax.encoder import Encoder  # noqa: E402
from sas_jax.models import ResNet  # noqa: E402
from sas_jax.views import Views  # noqa: E402

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
PAGE = (Path(__file__).parent.parent / "docs" / "data.md").read_text()
SNIPPET = next(
    code for code in re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) if "resnet" in code
)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def torchs(depth, stem, seed=0):
    """Returns torchvision's ResNet with this stem and without a classifier, with the statistics of some images."""
    torch.manual_seed(seed)
    model = {18: torchvision.models.resnet18, 50: torchvision.models.resnet50}[depth]()
    model.fc = torch.nn.Identity()
    if stem != "7x7_pool":
        model.conv1 = torch.nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    if stem == "3x3":
        model.maxpool = torch.nn.Identity()
    with torch.no_grad():
        model.train()(normalised(IMAGES[:, ::2, ::2]))
    return model.eval()


def normalised(images):
    pixels = torch.tensor(np.ascontiguousarray(images)).permute(0, 3, 1, 2) / 255
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


@pytest.mark.parametrize(
    ("depth", "stem", "kind"),
    [(18, "7x7_pool", "zip"), (18, "3x3", "legacy"), (18, "3x3_pool", "zip"), (50, "7x7_pool", "legacy")],
)
def test_features_are_torchvisions_both_ways(tmp_path, monkeypatch, depth, stem, kind):
    theirs = torchs(depth, stem)
    torch.save(theirs.state_dict(), tmp_path / "w.pth", _use_new_zipfile_serialization=kind == "zip")
    network = ResNet(depth=depth, stem=stem)
    variables = weights.initial(tmp_path / "w.pth", network, field="config.encoder.init")
    encoder = Encoder("full-1.00-s0", 1, Views(size=64, mean=MEAN, std=STD), network, variables)
    with torch.no_grad():
        expected = theirs(normalised(IMAGES)).numpy()
    np.testing.assert_allclose(encoder.apply(IMAGES), expected, atol=1e-4 * np.abs(expected).max(), rtol=1e-4)

    path = tmp_path / "encoder.safetensors"
    encoder.save(str(path))
    np.testing.assert_allclose(sas_jax.load_encoder(path).apply(IMAGES), encoder.apply(IMAGES), rtol=1e-4, atol=1e-5)
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(SNIPPET, found)
    with torch.no_grad():
        np.testing.assert_array_equal(found["model"].eval()(normalised(IMAGES)).numpy(), expected)
    assert (found["built"]["mean"], found["built"]["stem"]) == (list(MEAN), stem)
    if stem == "7x7_pool":
        timms = timm.create_model(f"resnet{depth}", num_classes=0).eval()
        timms.load_state_dict(safetensors.torch.load_file(path))
        with torch.no_grad():
            np.testing.assert_allclose(timms(normalised(IMAGES)).numpy(), expected, rtol=1e-4, atol=1e-4)
