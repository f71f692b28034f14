"""Renders the HTML templates of this folder."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(name: str, **values: object) -> str:
    """Renders a template.

    Args:
        name: of a file in this folder, such as 'report.html.j2'.
        values: of the template's variables; text is escaped.
    """
    environment = Environment(
        loader=PackageLoader("ffdi.pages", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**values)
