"""The one table of latent-class methods as readers meet them. A new method needs one line here."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to make latent classes.

    Attributes:
        about: What they come from, in words.
        embedded: Whether they are made from `config.latent_classes.embeddings`.
        clusters: Whether they are clusters of these.
        labels: Whether they are the labels themselves.
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
    """A method by `config.latent_classes.method`; one that the table does not know goes by its name."""
    return _TABLE.get(name or "") or Method(name or "")
