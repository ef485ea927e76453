"""Images small enough to travel inside the page, and large enough to see."""

import base64
import io

import numpy as np
from PIL import Image

from sas_jax.results.markup import Markup, element

_TINY = 24  # pixels: enlarged with hard edges, as stored
_LARGE = 112  # pixels of the longer side of all others: 96 such pictures of noise are 2 MB as base64
_QUALITY = 85  # of JPEG


def picture(image: np.ndarray, text: str) -> Markup:
    """Returns an image as an `<img>` that carries its pixels.

    Of up to 24 pixels it is kept as it is, and the page shows its pixels as squares; any other is brought to 112
    pixels, by Lanczos, for a photograph of 32 is easier to recognise smooth.

    Args:
        image: uint8 [h, w, 3].
        text: What it shows, for those who do not see it; also its tooltip.
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
