"""The images that a ranking picked first and last, large enough to see."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sas_jax.images import Images
from sas_jax.report import measures
from sas_jax.report.parts import label_name, note, section
from sas_jax.report.pictures import picture
from sas_jax.results import numbers
from sas_jax.results.markup import Markup, element

_TITLE = "Most and least valuable images"
_ENDS = ("first", "last")


def picks(
    ranking: Any,
    images: Images | None,
    labels: np.ndarray | None,
    class_names: Sequence[str] | None,
    without_images: str = "",
) -> Markup:
    """Shows the first and the last picks of some latent classes.

    Args:
        ranking: Has position, gain and classes; None if there is no ranking.
        images: uint8 [n, h, w, 3].
        labels: int [n], -1 for images without a label.
        class_names: The labels' names.
        without_images: Why there are no images, if so.
    """
    if ranking is None:
        return Markup()
    labels = None if labels is None else np.asarray(labels)
    position, gain, classes = (np.asarray(part) for part in (ranking.position, ranking.gain, ranking.classes))
    if images is None or not len(images):
        why = f" ({without_images})" if without_images else ""
        return section(_TITLE, note(f"No images are shown: they are not available{why}."))
    shown = measures.shown_classes(position, classes)
    if not shown:
        return section(_TITLE, note("No latent class has two ranked images."))
    blocks = []
    for label in shown:
        members = classes == label
        size = int(members.sum())
        about = numbers.plural(size, "image")
        if labels is not None and (found := measures.majorities(classes[members], labels[members]).get(label)):
            about += f", {numbers.percent(found[1], 0)} labelled {label_name(found[0], class_names)}"
        rows = []
        for end, indices in zip(_ENDS, measures.ends(position, classes, label), strict=True):
            pictures = []
            for index in indices:
                says = f"image {index}, pick {position[index] + 1} of {size} in latent class {label}"
                if np.isfinite(gain[index]):
                    says += f", gain {numbers.decimal(float(gain[index]), 2)}"
                named = None
                if labels is not None and labels[index] >= 0:
                    named = label_name(int(labels[index]), class_names)
                    says += f", labelled {named}"
                caption = element("figcaption", named) if named else None
                pictures.append(element("figure", picture(images[index], says), caption))
            rows.append(element("div", element("h4", end), element("div", *pictures), class_="row"))
        heading = element("h3", f"Latent class {label} ", element("span", about))
        blocks.append(element("div", heading, *rows, class_="picks"))
    total = len(np.unique(classes))
    text = "The first and the last picks of a class, which add the most and the least to the objective."
    if any(gain[measures.ends(position, classes, label)[1]].min(initial=0.0) < 0 for label in shown):
        text += (
            " Where gains are negative, the last picks are not the outliers of a class: they are similar to many "
            "images that were picked earlier."
        )
    if len(shown) < total:
        text += f" {len(shown)} of {total} classes are shown, from large to small."
    if (position < 0).any():
        text += " The last picks are the last of the ranked images: images beyond the budget are not shown."
    return section(_TITLE, note(text), *blocks)
