"""Images small enough to travel inside the page."""

import base64
import io

import numpy as np
from PIL import Image

from sas_jax.report.markup import Markup, element

_TINY = 48  # pixels: enlarged with hard edges, as it is stored; larger ones are photographs and reduced to _LARGEST
_LARGEST = 80  # 96 such thumbnails of noise are 2.5 MB as base64


def thumbnail(image: np.ndarray, text: str) -> Markup:
    """Returns an image as an `<img>` that carries its pixels.

    Args:
      image: uint8 [h, w, 3].
      text: What it shows, for those who do not see it; also its tooltip.
    """
    picture = Image.fromarray(np.ascontiguousarray(image, np.uint8))
    tiny = max(picture.size) <= _TINY
    picture.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return element("img", src=source, alt=text, title=text, width=picture.width, height=picture.height,
                   class_="tiny" if tiny else None)  # fmt: skip
