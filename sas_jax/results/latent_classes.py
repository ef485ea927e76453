"""The table of latent-class methods as shown to readers. A new method needs one line here."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to make latent classes.

    Attributes:
        about: The source of the classes, in words.
        embedded: Whether the classes are made from `config.latent_classes.embeddings`.
        clusters: Whether the classes are clusters of these embeddings.
        labels: Whether the classes are the labels themselves.
    """

    about: str
    embedded: bool = False
    clusters: bool = False
    labels: bool = False


_TABLE = {
    "kmeans": Method("clusters", embedded=True, clusters=True),
    "few_labels": Method("few labels", embedded=True),
    "clip_zeroshot": Method("CLIP"),
    "labels": Method("the labels", labels=True),
    "file": Method("a file"),
}


def named(name: str | None) -> Method:
    """Returns the method of `config.latent_classes.method`; an unknown one is described by its name."""
    return _TABLE.get(name or "") or Method(name or "")
