"""Images small enough to embed in the page, and large enough to see."""

import base64
import io

import numpy as np
from PIL import Image

from sas_jax.results.markup import Markup, element

_TINY = 24  # pixels of the longer side; images up to this are stored unscaled and enlarged with hard edges
_LARGE = 112  # pixels of the longer side of all others; 96 such pictures of noise are 2 MB as base64
_QUALITY = 85  # of JPEG


def picture(image: np.ndarray, text: str) -> Markup:
    """Returns an image as an `<img>` that carries its pixels.

    An image of up to 24 pixels keeps its size, and the page shows its pixels as squares. Any other is resized to 112
    pixels with Lanczos, because a photograph of 32 pixels is easier to recognise when smoothed.

    Args:
        image: uint8 [h, w, 3].
        text: The text alternative, which is also the tooltip.
    """
    shown = Image.fromarray(np.ascontiguousarray(image, np.uint8))
    tiny = max(shown.size) <= _TINY
    buffer = io.BytesIO()
    if tiny:
        shown.save(buffer, "PNG", optimize=True)
    else:
        scale = _LARGE / max(shown.size)
        width, height = (max(1, round(scale * side)) for side in shown.size)
        shown = shown.resize((width, height), Image.Resampling.LANCZOS)
        shown.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    kind = "png" if tiny else "jpeg"
    source = f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()
    return element("img", src=source, alt=text, title=text, width=shown.width, height=shown.height,
                   class_="tiny" if tiny else None)  # fmt: skip
