"""Features of images from a pretrained network: timm/NAME, hf/NAME or onnx/FILE. They need the extra [pretrained].

Each kind of network brings its own preprocessing. PyTorch, timm, transformers and ONNX Runtime are imported when a
network is loaded.
"""

import contextlib
import dataclasses
import difflib
import functools
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from PIL import Image

from sas_jax import files, settings
from sas_jax.embedded_once import cached, check_installed, hub, in_batches
from sas_jax.embedding import unit_rows
from sas_jax.errors import InputError, shown
from sas_jax.images import Images
from sas_jax.views import Views, view

# Of ImageNet's training images, in [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_NEAREST = 3  # names of models that are suggested
_FREE = 224  # pixels a side, where an ONNX graph takes any size


@dataclasses.dataclass(frozen=True)
class Model:
    """A pretrained network.

    Attributes:
        name: such as "timm/resnet18".
        size: pixels a side, at which its preprocessing expects images.
        device: where it computes.
        prepare: uint8 [b, h, w, 3] to what `forward` takes; called on several threads.
        forward: what `prepare` made of b images to numbers [b, d], on the host.
    """

    name: str
    size: int
    device: str
    prepare: Callable[[np.ndarray], Any]
    forward: Callable[[Any], np.ndarray]

    def images(
        self, images: Images, *, batch_size: int, random: "RandomViews | None" = None, first: int = 0
    ) -> Iterator[np.ndarray]:
        """Images to features, with a progress bar.

        Args:
            images: uint8 [n, h, w, 3], in memory or decoded when asked for.
            batch_size: images, or views of them, at a time, at least 1.
            random: the views to take the mean of; None for each image as it is.
            first: the image to begin with.

        Yields:
            float32 [b, d] of the next b images: the network's output, or the mean of the views' unit-normalised ones.

        Raises:
            InputError: the network does not give one finite vector an image.
        """
        count = 1 if random is None else random.count
        size = max(1, batch_size // count)

        def prepare(indices: np.ndarray) -> Any:
            if random is None:
                return self.prepare(images[indices])
            padded = np.resize(indices, size)  # the last batch is filled up, so that all share one program
            return self.prepare(random.draw(images[padded], padded)[: count * len(indices)])

        def forward(prepared: Any) -> np.ndarray:
            vectors = self._vectors(prepared)
            if random is None:
                return vectors
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            return vectors.reshape(-1, count, vectors.shape[1]).mean(axis=1)

        return in_batches(len(images), prepare, forward, batch_size=size, label="features", first=first)

    def _vectors(self, prepared: Any) -> np.ndarray:
        output = np.asarray(self.forward(prepared))
        if output.ndim < 2 or output.shape[2:] != (1,) * (output.ndim - 2):
            raise InputError(
                f"The output of {self.name} must be one vector an image, got {list(output.shape)}. Choose another "
                f"model, or export it with pooling."
            )
        vectors = output.reshape(output.shape[:2]).astype(np.float32)
        if not np.isfinite(vectors).all():
            raise InputError(f"The output of {self.name} must be finite, got NaN or infinity. Choose another model.")
        return vectors


@dataclasses.dataclass(frozen=True)
class RandomViews:
    """Random views of images, in the images' own size: those of `sas_jax.views`, but for their normalisation.

    Attributes:
        views: what a view is.
        count: of each image, at least 1.
        seed: a view is a function of the seed, the image's index and the view's number.
    """

    views: Views
    count: int
    seed: int

    @settings.fixed
    def draw(self, images: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """uint8 [b, s, s, 3] of images with these indices, int [b], to uint8 [b * count, s, s, 3], image by image."""
        seen = dataclasses.replace(self.views, size=images.shape[1], mean=(0, 0, 0), std=(1, 1, 1))
        try:
            device = jax.local_devices(backend="cpu")[0]  # a GPU is the network's
        except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
            device = None
        with jax.default_device(device):
            drawn = _draw(settings.key(self.seed), images, indices.astype(np.int32), views=seen, count=self.count)
        return np.asarray(drawn).reshape(-1, *images.shape[1:])


@functools.partial(jax.jit, static_argnames=("views", "count"))
def _draw(key: jax.Array, images: jax.Array, indices: jax.Array, *, views: Views, count: int) -> jax.Array:
    def one_view(index: jax.Array, image: jax.Array, number: jax.Array) -> jax.Array:
        return view(jax.random.fold_in(jax.random.fold_in(key, index), number), image, views)

    of_image = jax.vmap(one_view, (None, None, 0))
    seen = jax.vmap(of_image, (0, 0, None))(indices, images, jnp.arange(count))
    return jnp.round(seen * 255).astype(jnp.uint8)


def is_model(name: str) -> bool:
    """Whether a field or an argument names a pretrained network, and not a .npy file."""
    kind, slash, _ = name.partition("/")
    return kind in _KINDS and bool(slash) and not name.endswith(".npy")


def path_of(name: str) -> str:
    """The file or folder that holds the network; "" where it is known by its name only."""
    place = os.path.expanduser(name.partition("/")[2])
    return place if os.path.exists(place) else ""


def check(name: str, *, field: str) -> None:
    """Finds out whether a network can be loaded, as far as that shows without loading it.

    Args:
        name: "timm/NAME", "hf/NAME", "onnx/FILE", or a folder in place of NAME.
        field: the argument or field that holds it.

    Raises:
        InputError: no such name, no such file, or the extra is not installed.
    """
    kind, _, rest = name.partition("/")
    if kind not in _KINDS or not rest:
        raise InputError(
            f"{field} must be timm/NAME, hf/NAME (or a folder for NAME) or onnx/FILE, got {shown(name)}. Write it so."
        )
    check_installed(f"{field} {kind}/...", *_KINDS[kind].packages, extra="pretrained")
    _KINDS[kind].check(rest, field)


def load(name: str, *, field: str) -> Model:
    """Loads a pretrained network, on a GPU if the library finds one.

    Args:
        name, field: as of `check`.

    Raises:
        InputError: as `check`, or its weights cannot be loaded.
    """
    check(name, field=field)
    kind, _, rest = name.partition("/")
    with contextlib.nullcontext("") if path_of(name) else hub() as problem:
        try:
            return _KINDS[kind].load(name, os.path.expanduser(rest))
        except Exception as error:  # the hub's, the network's and damaged files' errors have no common type
            raise InputError(
                f"{field} must name a model that can be loaded, got {shown(name)}, which cannot "
                f"({problem or files.reason(error)[:200]}). {_KINDS[kind].fix}"
            ) from error


def embed_images(
    name: str,
    images: Images,
    *,
    source: str,
    folder: epath.PathLike,
    field: str,
    batch_size: int = 64,
    log: Callable[[str], None] = print,
) -> np.ndarray:
    """The features of images by a pretrained network, in place of a run's own embeddings.

    Args:
        name, field: as of `check`.
        images: uint8 [n, h, w, 3].
        source: as of `cached`.
        folder: a path, local or remote, that keeps the features in a file named after the network.
        batch_size: images at a time, at least 1.
        log: gets a sentence on what is done.

    Returns:
        float32 [n, d], of norm 1.

    Raises:
        InputError: the network cannot be used, or its file in `folder` holds something else.
    """

    def make() -> np.ndarray:
        model = load(name, field=field)
        log(f"{name}: embedding {len(images):,} images on {model.device}")
        return np.concatenate(list(model.images(images, batch_size=batch_size)))

    cache = epath.Path(folder) / f"pretrained-{re.sub('[^A-Za-z0-9._]+', '-', name)[-100:]}.npz"
    vectors = cached(make, len(images), of=name, model=path_of(name) or name, source=source, cache=cache, log=log)
    return unit_rows(vectors, where=f"{field} ({name})", log=log, means=False)


# The kinds of networks.


@dataclasses.dataclass(frozen=True)
class _Kind:
    """A library of networks.

    Attributes:
        packages: that it needs.
        check: raises InputError of (the name less its kind, the field) where it cannot be a network.
        load: makes a network of (the whole name, the name less its kind); raises whatever the library does.
        fix: what to do where it cannot be loaded.
    """

    packages: tuple[str, ...]
    check: Callable[[str, str], None]
    load: Callable[[str, str], Model]
    fix: str


def _check_timm(rest: str, field: str) -> None:
    if os.path.isdir(os.path.expanduser(rest)):
        return
    import timm

    known = [*timm.list_models(), *timm.list_models(pretrained=True)]  # the latter have a tag behind a dot
    if rest not in known:
        nearest = difflib.get_close_matches(rest[:200], known, n=_NEAREST, cutoff=0.0)
        raise InputError(
            f"{field} must name a model that timm knows, got {shown(f'timm/{rest}')}. The nearest are "
            f"{', '.join(f'timm/{name}' for name in nearest)}."
        )


def _load_timm(name: str, rest: str) -> Model:
    import timm
    import torch

    network = timm.create_model(f"local-dir:{rest}" if os.path.isdir(rest) else rest, pretrained=True, num_classes=0)
    device = _torch_device()
    network = network.eval().to(device)
    config = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**config, is_training=False)

    def prepare(batch: np.ndarray) -> Any:
        return torch.stack([transform(Image.fromarray(image)) for image in batch])

    def forward(pixels: Any) -> np.ndarray:
        with torch.inference_mode():
            return network(pixels.to(device)).float().cpu().numpy()

    # The transform crops the centre: read at the size before the crop, its resizing has nothing left to do.
    size = round(config["input_size"][-1] / config["crop_pct"])
    return Model(name, size, device, prepare, forward)


def _load_hf(name: str, rest: str) -> Model:
    import torch
    from transformers import AutoImageProcessor, AutoModel

    # With PIL, which is always there, so that one model gives the same features everywhere.
    processor = AutoImageProcessor.from_pretrained(rest, backend="pil")
    network, report = AutoModel.from_pretrained(rest, output_loading_info=True)
    lacking = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    unpooled = any(key.startswith("pooler.") for key in lacking)  # published without a pooler, which is then random
    if others := sorted(key for key in lacking if not key.startswith("pooler.")):
        raise ValueError(f"{len(others)} of its weights are missing or misshapen, the first {others[0]}")
    device = _torch_device()
    network = network.eval().to(device)

    def prepare(batch: np.ndarray) -> Any:
        found = processor(images=list(batch), input_data_format="channels_last", return_tensors="pt")
        return found["pixel_values"]

    def forward(pixels: Any) -> np.ndarray:
        with torch.inference_mode():
            if hasattr(network, "get_image_features"):  # CLIP, SigLIP
                found = network.get_image_features(pixel_values=pixels.to(device))
            else:
                found = network(pixel_values=pixels.to(device))
        if unpooled:
            vectors = found.last_hidden_state[:, 0]  # what the pooler reads
        elif isinstance(found, torch.Tensor):
            vectors = found
        else:
            pooled = getattr(found, "pooler_output", None)
            vectors = found.last_hidden_state if pooled is None else pooled
        return vectors.float().cpu().numpy()

    sizes = processor.size or {}
    size = sizes.get("shortest_edge") or sizes.get("height") or _FREE
    return Model(name, int(size), device, prepare, forward)


def _check_onnx(rest: str, field: str) -> None:
    if not os.path.isfile(os.path.expanduser(rest)):
        raise InputError(f"{field} must name an ONNX file, got {shown(rest)}, which is not a file. Correct the path.")


def _load_onnx(name: str, rest: str) -> Model:
    import onnxruntime

    cuda = "CUDAExecutionProvider"
    providers = [each for each in (cuda, "CPUExecutionProvider") if each in onnxruntime.get_available_providers()]
    session = onnxruntime.InferenceSession(rest, providers=providers)
    said = session.get_modelmeta().custom_metadata_map
    mean, std = (
        np.asarray(json.loads(said[key]) if key in said else default, np.float32)
        for key, default in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD))
    )
    if mean.shape != (3,) or std.shape != (3,) or not (std > 0).all():
        raise ValueError(f"its metadata should hold three numbers as mean and std, and hold {mean} and {std}")
    inputs = session.get_inputs()
    shape = inputs[0].shape
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(shape) != 4 or shape[1] not in (3, "C", None):
        found = ", ".join(f"{each.type} {each.shape}" for each in inputs)
        raise ValueError(f"its input should be float [n, 3, h, w], and is {found}")
    height, width = (side if isinstance(side, int) else _FREE for side in shape[2:])
    at_once = shape[0] if isinstance(shape[0], int) else None  # exported for batches of this size only
    output = next((each.name for each in session.get_outputs() if len(each.shape) == 2), session.get_outputs()[0].name)

    def prepare(batch: np.ndarray) -> np.ndarray:
        resized = [np.asarray(Image.fromarray(x).resize((width, height), Image.Resampling.BICUBIC)) for x in batch]
        pixels = (np.stack(resized).astype(np.float32) / 255 - mean) / std
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))

    def forward(pixels: np.ndarray) -> np.ndarray:
        step, found = at_once or len(pixels), []
        for start in range(0, len(pixels), step):
            rows = np.minimum(np.arange(start, start + step), len(pixels) - 1)  # the last batch repeats its last image
            found.append(session.run([output], {inputs[0].name: pixels[rows]})[0])
        return np.concatenate(found)[: len(pixels)]

    device = "cuda" if session.get_providers()[0] == cuda else "cpu"
    return Model(name, max(height, width), device, prepare, forward)


def _torch_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


_ONLINE = "Check the name and the network, or download the model and give its folder."
_KINDS = {
    "timm": _Kind(("torch", "timm"), _check_timm, _load_timm, _ONLINE),
    "hf": _Kind(("torch", "transformers"), lambda rest, field: None, _load_hf, _ONLINE),
    "onnx": _Kind(("onnxruntime",), _check_onnx, _load_onnx, "Export it with an input float [n, 3, h, w]."),
}
"""By the first part of a name."""
