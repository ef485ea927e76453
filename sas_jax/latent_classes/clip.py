"""CLIP embeddings of images and of class names, with transformers and PyTorch (the extra [clip]).

Source: Radford et al., "Learning transferable visual models from natural language supervision" (ICML 2021), section 3.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from etils import epath

from sas_jax.errors import InputError
from sas_jax.images import Images
from sas_jax.pretrained import hub
from sas_jax.pretrained.batches import in_batches
from sas_jax.pretrained.cache import cached

# The paper's 18 prompts for CIFAR (data/prompts.md in its repository); {} stands for the class name.
TEMPLATES = tuple(
    phrase.replace("ARTICLE", article)
    for article in ("a", "the")
    for phrase in (
        "a photo of ARTICLE {}.",
        "a blurry photo of ARTICLE {}.",
        "a black and white photo of ARTICLE {}.",
        "a low contrast photo of ARTICLE {}.",
        "a high contrast photo of ARTICLE {}.",
        "a bad photo of ARTICLE {}.",
        "a good photo of ARTICLE {}.",
        "a photo of ARTICLE small {}.",
        "a photo of ARTICLE big {}.",
    )
)

_BLOCK_ENTRIES = 1 << 24  # entries of a block's similarities to the class names: 64 MiB


def embed_images(
    name: str,
    images: Images,
    *,
    source: str,
    cache: epath.PathLike,
    batch_size: int = 64,
    log: Callable[[str], None] = print,
) -> np.ndarray:
    """Embeds images, or reads their embeddings from the cache.

    Args:
        name: a CLIP model: a folder saved by transformers, or a name on the Hugging Face hub.
        images: uint8 [n, h, w, 3]; the model's own processor resizes them.
        source: a fingerprint of the images, from `Split.fingerprint()`.
        cache: the path, local or remote, of the .npz file that this function writes. It is valid for one model and one
            source, and is overwritten for others. A model in a folder is identified by its files' contents, one on the
            hub by its name.
        batch_size: images per batch, at least 1.
        log: takes progress messages.

    Returns:
        float32 [n, d], rows of norm 1.

    Raises:
        InputError: the extra is not installed, the model cannot be loaded, or `cache` holds something else.
    """

    def make() -> np.ndarray:
        model = load(name)
        log(f"CLIP: embedding {len(images):,} images with {name} on {model.device}")
        return model.images(images, batch_size=batch_size)

    return cached(make, len(images), of="CLIP", model=name, source=source, cache=cache, log=log)


def embed_names(name: str, class_names: Sequence[str], *, templates: Sequence[str] = TEMPLATES) -> np.ndarray:
    """Embeds each class name as the normalized mean of its unit text embeddings over the templates.

    Args:
        name: a CLIP model, as in `embed_images`.
        class_names: c names, at least 1; underscores are replaced by spaces.
        templates: at least one; {} stands for the class name.

    Returns:
        float32 [c, d], rows of norm 1.

    Raises:
        InputError: a name or a template cannot be used, the extra is not installed, or the model cannot be loaded.
    """
    check_prompts(class_names, templates)
    return load(name).names(class_names, templates)


def check_prompts(class_names: Sequence[str], templates: Sequence[str]) -> None:
    """Checks class names and templates.

    Raises:
        InputError: there are none, a name is empty or occurs twice, or a template lacks {}.
    """
    if not class_names:
        raise InputError("`class_names` must hold a name for each class, got none. Give them, or use method 'kmeans'.")
    for given in class_names:
        if not given.strip() or list(class_names).count(given) > 1:
            problem = "an empty one" if not given.strip() else f"{given!r} twice"
            raise InputError(f"`class_names` must name each class once, got {problem}. Correct the names.")
    if not templates:
        raise InputError("`templates` must hold at least one prompt, got none. Give one, such as 'a photo of a {}.'.")
    for template in templates:
        if "{}" not in template:
            raise InputError(
                f"A prompt must have {{}} where the class name goes, got {template!r}. Write 'a photo of a {{}}.', for "
                "example."
            )


def zero_shot(images: np.ndarray, class_names: np.ndarray) -> np.ndarray:
    """Assigns each image the class whose name is most similar; ties go to the lowest class.

    Args:
        images: float [n, d], as `embed_images` returns them.
        class_names: float [c, d], as `embed_names` returns them.

    Returns:
        int32 [n], in [0, c); a class can be empty.

    Raises:
        InputError: the two differ in width.
    """
    if np.ndim(images) != 2 or np.ndim(class_names) != 2 or images.shape[1] != class_names.shape[1]:
        raise InputError(
            f"`images` and `class_names` must be [n, d] and [c, d] of one width, got {list(np.shape(images))} and "
            f"{list(np.shape(class_names))}. Embed both with the same model."
        )
    rows = max(1, _BLOCK_ENTRIES // len(class_names))
    found = np.empty(len(images), np.int32)
    for start in range(0, len(images), rows):
        found[start : start + rows] = np.argmax(images[start : start + rows] @ class_names.T, axis=1)
    return found


class Clip:
    """A loaded CLIP model; made by `load`."""

    def __init__(self, model: Any, processor: Any, tokenizer: Any, device: str):
        self._model = model
        self._processor = processor
        self._tokenizer = tokenizer
        self.device = device

    def images(self, images: Images, *, batch_size: int) -> np.ndarray:
        """Embeds images uint8 [n, h, w, 3] as float32 [n, d], rows of norm 1."""
        import torch

        def prepare(indices: np.ndarray) -> Any:
            batch = list(images[indices])
            found = self._processor(images=batch, input_data_format="channels_last", return_tensors="pt")
            return found["pixel_values"]

        def forward(pixels: Any) -> np.ndarray:
            with torch.inference_mode():
                return _unit(self._model.get_image_features(pixel_values=pixels.to(self.device)).pooler_output)

        batches = in_batches(len(images), prepare, forward, batch_size=batch_size, label="CLIP")
        return np.concatenate(list(batches))

    def names(self, class_names: Sequence[str], templates: Sequence[str]) -> np.ndarray:
        """Embeds c names as float32 [c, d], rows of norm 1."""
        import torch

        found = []
        with torch.inference_mode():
            for name in class_names:
                prompts = [template.replace("{}", name.replace("_", " ")) for template in templates]
                tokens = self._tokenizer(prompts, padding=True, truncation=True, return_tensors="pt").to(self.device)
                vectors = _unit(self._model.get_text_features(**tokens).pooler_output)
                mean = vectors.mean(axis=0)
                found.append(mean / np.linalg.norm(mean))
        return np.stack(found)


def check_installed() -> None:
    """Checks that the packages that load a model are installed, without importing them.

    Raises:
        InputError: the extra is not installed.
    """
    hub.check_installed("CLIP", "torch", "transformers", extra="clip")


def load(name: str) -> Clip:
    """Loads a CLIP model, onto a GPU if PyTorch has one.

    Args:
        name: a folder saved by transformers, or a name on the Hugging Face hub.

    Raises:
        InputError: the extra is not installed, or there is no complete CLIP model of this name.
    """
    check_installed()
    import torch
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, CLIPModel

    name = os.path.expanduser(name)
    with contextlib.nullcontext("") if os.path.exists(name) else hub.asked_if_reachable() as problem:
        try:
            kind = AutoConfig.from_pretrained(name).model_type
            if kind != "clip":
                raise ValueError(f"it is a model of type {kind!r}, not 'clip'")
            model, report = CLIPModel.from_pretrained(name, output_loading_info=True)
            if lacking := sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}):
                raise ValueError(
                    f"{len(lacking)} of its weights are missing or have a wrong shape, the first {lacking[0]}"
                )
            # The PIL backend is always available, so that a model gives the same embeddings everywhere.
            processor = AutoImageProcessor.from_pretrained(name, backend="pil")
            tokenizer = AutoTokenizer.from_pretrained(name)
        except Exception as error:  # a damaged file can raise any error of the library that reads it
            reason = problem or (str(error) or type(error).__name__).split("\n")[0]
            raise InputError(
                "config.latent_classes.clip_model must be a CLIP model, a folder that transformers saved or a name on "
                f"the Hugging Face hub, got {name!r}, which cannot be loaded ({reason[:120]}). Check the name, or "
                "download the model and give its folder."
            ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Clip(model.eval().to(device), processor, tokenizer, device)


def _unit(vectors: Any) -> np.ndarray:
    """Normalizes a tensor's rows to unit length and copies them to the host."""
    return (vectors / vectors.norm(dim=-1, keepdim=True)).float().cpu().numpy()
