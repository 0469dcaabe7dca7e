"""A page as data, and as HTML: sections of paragraphs, tables, pictures and code in one file that needs no other.

Pictures are embedded, styles are inline, there are no scripts and no addresses to fetch. All text is escaped.
"""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

_SHOWN = 96 / 150
"""Pixels on the page per pixel of a picture: one inch of a figure is shown as one inch, and is sharp in print."""


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Parameters
    ----------
    name
        Its file name without the ending; also its anchor in the page.
    png
        The image.
    alt
        What it shows, for those who do not see it.
    caption
        What to look at in it.
    width, height
        In pixels; so that a page keeps its place while it loads.
    """

    name: str
    png: bytes = field(repr=False)
    alt: str
    caption: str
    width: int
    height: int

    @classmethod
    def of(cls, figure: Any, name: str, *, alt: str, caption: str, dpi: float = 150.0) -> "Picture":
        """Render a Matplotlib figure."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
        png = buffer.getvalue()
        # A PNG begins with 8 bytes of signature and the header chunk: length, "IHDR", width, height.
        width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
        return cls(name, png, alt, caption, width, height)

    def write(self, folder: str | PathLike) -> Path:
        """Write it as ``<name>.png`` into a folder."""
        path = Path(folder) / f"{self.name}.png"
        path.write_bytes(self.png)
        return path

    def to_html(self) -> str:
        """A figure with its caption."""
        data = base64.b64encode(self.png).decode()
        shown_width, shown_height = (round(size * _SHOWN) for size in (self.width, self.height))
        return (
            f'<figure id="{html.escape(self.name)}"><img src="data:image/png;base64,{data}" '
            f'alt="{html.escape(self.alt)}" width="{shown_width}" height="{shown_height}">'
            f"<figcaption>{html.escape(self.caption)}</figcaption></figure>"
        )


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Parameters
    ----------
    columns
        Headings; empty texts for none.
    rows
        Cells, as text; the first of each row names it.
    caption
        What it holds.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def to_html(self) -> str:
        """A table whose first column are row headings."""
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        columns = "".join(f'<th scope="col">{html.escape(c)}</th>' for c in self.columns)
        head = f"<thead><tr>{columns}</tr></thead>" if any(self.columns) else ""
        body = "".join(
            f'<tr><th scope="row">{html.escape(first)}</th>'
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in rest)
            + "</tr>"
            for first, *rest in self.rows
        )
        return f'<div class="scroll"><table>{caption}{head}<tbody>{body}</tbody></table></div>'


@dataclass(frozen=True)
class Section:
    """A section of a page, in the order text, bullets, tables, pictures, code.

    Parameters
    ----------
    heading
        Its heading.
    text
        Paragraphs.
    bullets
        Points of a list.
    tables, pictures
        What it shows.
    code
        Something to copy.
    """

    heading: str
    text: Sequence[str] = ()
    bullets: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    code: str = ""

    def to_html(self, anchor: str) -> str:
        """A section with its heading."""
        parts = [f'<h2 id="{anchor}">{html.escape(self.heading)}</h2>']
        parts += [f"<p>{html.escape(paragraph)}</p>" for paragraph in self.text]
        if self.bullets:
            parts.append(f"<ul>{''.join(f'<li>{html.escape(point)}</li>' for point in self.bullets)}</ul>")
        parts += [table.to_html() for table in self.tables]
        if self.pictures:
            kind = "pictures pair" if len(self.pictures) > 1 else "pictures"
            parts.append(f'<div class="{kind}">{"".join(p.to_html() for p in self.pictures)}</div>')
        if self.code:
            parts.append(f"<pre><code>{html.escape(self.code)}</code></pre>")
        return f'<section aria-labelledby="{anchor}">{"".join(parts)}</section>'


@dataclass(frozen=True)
class Page:
    """A whole report.

    Parameters
    ----------
    title
        Heading of the page and title of the window.
    lead
        One paragraph that says what was found.
    sections
        Its parts.
    footer
        The last line: versions, date.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    footer: str = ""

    def to_html(self) -> str:
        """The page as one HTML document."""
        style = resources.files("posterion.report").joinpath("page.css").read_text(encoding="utf-8")
        anchors = [f"section-{k}" for k in range(1, len(self.sections) + 1)]
        contents = "".join(
            f'<li><a href="#{anchor}">{html.escape(section.heading)}</a></li>'
            for anchor, section in zip(anchors, self.sections, strict=True)
        )
        body = "\n".join(s.to_html(anchor) for anchor, s in zip(anchors, self.sections, strict=True))
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            f"<title>{html.escape(self.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
            f'<header><h1>{html.escape(self.title)}</h1><p class="lead">{html.escape(self.lead)}</p></header>\n'
            f'<nav aria-label="Contents"><ol>{contents}</ol></nav>\n<main>\n{body}\n</main>\n'
            f"<footer>{html.escape(self.footer)}</footer>\n</body>\n</html>\n"
        )

    def write(self, path: str | PathLike) -> Path:
        """Write the document to a file."""
        path = Path(path)
        path.write_text(self.to_html(), encoding="utf-8")
        return path
