"""What an encoded image's first and last bytes tell, so that it need not be decoded to be known."""

import hashlib
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from sas_jax.data import images

_ENDS = 1024  # bytes
_COMPRESSED = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF")  # JPEG, PNG, GIF, WebP begin so
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


class Ends(NamedTuple):
    """The length and the ends of an encoded image.

    Attributes:
        length: bytes.
        first: the first bytes, at most 1,024.
        last: the last, as many; of a format that may not be compressed all bytes.
    """

    length: int
    first: bytes
    last: bytes

    def mark(self) -> int:
        """A 64-bit hash, the same wherever the image lies and whenever it was copied there.

        Other pixels in a compressed image change its length, or its last bytes: they end in a checksum (PNG), or the
        bits before them have shifted.
        """
        content = self.length.to_bytes(8, "little") + self.first + self.last
        return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")

    def look_whole(self, format: str | None) -> bool:
        """Whether the end is one that the format (in PIL's words) has; False where that cannot be told."""
        match format:
            case "JPEG" | "MPO":  # entropy-coded data never holds this marker, so a file cut there does not end so
                return b"\xff\xd9" in self.last[-64:]  # not further up, where a thumbnail may end
            case "PNG":
                return self.last.endswith(_PNG_END)
            case "GIF":
                return self.last.endswith(b"\0;")
            case "WEBP":
                return True  # to open one PIL has to read it to its end
        return False


def read_ends(file: BinaryIO) -> Ends:
    """The ends of an open file, which is left at its beginning."""
    first = file.read(_ENDS)
    length = file.seek(0, 2)
    file.seek(max(0, length - _ENDS) if first.startswith(_COMPRESSED) else 0)
    last = file.read()
    file.seek(0)
    return Ends(length, first, last)


def check(file: BinaryIO, found: Ends, decode: Callable[[BinaryIO], object]) -> None:
    """Raises what `decode` would raise, as far as that can be known without decoding.

    A damaged header and a file that was cut short are found: an image whose end is not that of its format is decoded
    after all. Damage between the ends is not.

    Args:
        file: an encoded image, open at its beginning.
        found: its ends.
        decode: decodes such a file.
    """
    with images.opened(file) as image:
        format = image.format
    if not found.look_whole(format):
        file.seek(0)
        decode(file)
