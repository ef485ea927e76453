"""HTML elements whose text is escaped unless it is already markup.

Class names, file names and config values come from outside. Every string becomes part of the page through `element`,
which escapes whatever is not `Markup`. A forgotten call thus shows as visible tags, never as a script that runs.
"""

import html


class Markup(str):
    """Text that is already HTML."""

    __slots__ = ()


def escaped(content: object) -> Markup:
    """Returns `content` as markup: unchanged if it is markup, else escaped."""
    return content if isinstance(content, Markup) else Markup(html.escape(str(content)))


def joined(*contents: object) -> Markup:
    """Returns the concatenated contents, each escaped unless it is markup; None is left out."""
    return Markup("".join(escaped(content) for content in contents if content is not None))


def element(name: str, *contents: object, **attributes: object) -> Markup:
    """Returns one HTML or SVG element.

    Args:
        name: The tag.
        *contents: Text (escaped) or markup; None is left out.
        **attributes: Underscores become hyphens and a trailing one is dropped (`class_`, `stroke_width`); numbers are
            written with at most two decimals; None is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in ("img", "meta", "br"):
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{joined(*contents)}</{name}>")


def _value(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
