"""Formulas become MathML when the site is built, which browsers draw by themselves: no script, nothing fetched."""

import html
import re

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)

_NAMED_FUNCTION = re.compile(r"<mi>(?:log|exp|det)</mi>(?!<mo stretchy)")


def on_page_content(page_html: str, **_: object) -> str:
    """Replace what `pymdownx.arithmatex` marked as a formula."""
    return _FORMULA.sub(_to_mathml, page_html)


def _to_mathml(match: re.Match) -> str:
    display = "block" if match[2] == "[" else "inline"
    formula = convert(html.unescape(match[3]).strip(), display=display)
    return _NAMED_FUNCTION.sub(r'\g<0><mspace width="0.17em"/>', formula)
