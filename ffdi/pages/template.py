"""Pages of HTML, which need nothing beside them."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(name: str, **values: object) -> str:
    """The text of a page.

    Args:
        name: of a file beside this one, as 'report.html.j2'.
        values: what it shows; text is escaped.
    """
    environment = Environment(
        loader=PackageLoader("ffdi.pages", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**values)
