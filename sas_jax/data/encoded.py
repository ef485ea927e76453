"""Identifies and checks encoded images by their first and last bytes, without decoding them."""

import hashlib
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from sas_jax.data import images

_ENDS = 1024  # bytes
_COMPRESSED = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF")  # first bytes of JPEG, PNG, GIF, WebP
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


class Ends(NamedTuple):
    """The length, the first and the last bytes of an encoded image.

    Attributes:
        length: in bytes.
        first: the first bytes, at most 1,024.
        last: the last bytes, at most 1,024; all bytes if the format may be uncompressed.
    """

    length: int
    first: bytes
    last: bytes

    def mark(self) -> int:
        """Returns a 64-bit hash of the image that does not depend on its location or modification time.

        Changing the pixels of a compressed image changes its length or its last bytes: these end in a checksum (PNG),
        or are shifted by the bits before them.
        """
        content = self.length.to_bytes(8, "little") + self.first + self.last
        return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")

    def look_whole(self, format: str | None) -> bool:
        """Whether the last bytes are a valid end of `format` (PIL's name); False for formats without a fixed end."""
        match format:
            case "JPEG" | "MPO":  # entropy-coded data never contains this marker, so a truncated file lacks it
                return b"\xff\xd9" in self.last[-64:]  # not before, where a thumbnail may end
            case "PNG":
                return self.last.endswith(_PNG_END)
            case "GIF":
                return self.last.endswith(b"\0;")
            case "WEBP":
                return True  # PIL reads the whole file to open it
        return False


def read_ends(file: BinaryIO) -> Ends:
    """Reads the ends of an open file and seeks back to its beginning."""
    first = file.read(_ENDS)
    length = file.seek(0, 2)
    file.seek(max(0, length - _ENDS) if first.startswith(_COMPRESSED) else 0)
    last = file.read()
    file.seek(0)
    return Ends(length, first, last)


def check(file: BinaryIO, found: Ends, decode: Callable[[BinaryIO], object]) -> None:
    """Raises what `decode` would raise, without decoding if the header and the end are intact.

    A damaged header and a truncated file are detected; an image that does not end as its format requires is decoded.
    Damage between the ends is not detected.

    Args:
        file: an encoded image, open at its beginning.
        found: its ends.
        decode: decodes an open file.
    """
    with images.opened(file) as image:
        format = image.format
    if not found.look_whole(format):
        file.seek(0)
        decode(file)
