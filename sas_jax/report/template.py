"""The page around the report's sections: its style in both themes, and a policy that blocks loading and scripts."""

from importlib import resources

from sas_jax.results.markup import Markup, element

# Nothing is fetched and no script runs, whatever a name in the data may contain.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_STYLE = resources.files(__package__) / "report.css"


def page(title: str, content: Markup) -> str:
    """Returns the whole document.

    Args:
        title: The title of the browser's tab.
        content: The body.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name_="generator", content="sas_jax"),
        element("title", title),
        element("style", Markup(_STYLE.read_text())),
    )
    return "<!doctype html>\n" + element("html", head, element("body", element("main", content)), lang="en") + "\n"
