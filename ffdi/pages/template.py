"""Renders the HTML templates of this folder, in the user's language."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from ffdi.core.translation import choose_language, translate, translate_name, translate_template


def render(name: str, **values: object) -> str:
    """Renders a template.

    Args:
        name: of a file in this folder, such as 'report.html.j2'.
        values: of the template's variables; text is escaped. The filters `tr` and `tr_name` translate messages.
    """
    environment = Environment(
        loader=PackageLoader("ffdi.pages", "."),
        extensions=["jinja2.ext.i18n"],
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["ext.i18n.trimmed"] = True
    environment.install_gettext_callables(  # type: ignore[attr-defined]  # of the extension
        translate_template, lambda one, many, count: translate_template(one if count == 1 else many), newstyle=True
    )
    environment.filters.update(tr=translate, tr_name=translate_name)
    return environment.get_template(name).render(language=choose_language(), **values)
