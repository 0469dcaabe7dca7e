"""Docstrings are numpydoc, whose markup is reStructuredText; the site is Markdown. This translates what we use."""

import re
import textwrap
from typing import Any

import griffe

_MATH_BLOCK = re.compile(r"^([ ]*)\.\. math::(.*(?:\n(?:\1[ ]+\S.*|[ ]*(?=\n\1[ ]+\S)))*)", re.MULTILINE)
_REFERENCE = re.compile(r"^([ ]*)\.\. \[(\w+)\][ ]+(.*(?:\n\1[ ]+\S.*)*)", re.MULTILINE)


def to_markdown(text: str) -> str:
    """Formulas, references and citations of a docstring in Markdown's spelling."""
    text = _MATH_BLOCK.sub(lambda m: f"{m[1]}$$\n{m[1]}{_one_line(m[2])}\n{m[1]}$$", text)
    text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
    text = _REFERENCE.sub(lambda m: f"{m[1]}- \\[{m[2]}\\] {_one_line(m[3])}", text)
    return re.sub(r"\[(\w+)\]_(?!\w)", r"\\[\1\\]", text)


def _one_line(text: str) -> str:
    return " ".join(textwrap.dedent(text).split())


class NumpydocMarkup(griffe.Extension):
    """Translates every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Translate one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
