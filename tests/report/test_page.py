"""A page is one well-formed file that needs no other, and says what it was given."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from posterion.plots import new_figure
from posterion.report import Page, Picture, Section, Table

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Reader(HTMLParser):
    """Reads a document; `problems` are tags that do not match."""

    def __init__(self):
        super().__init__()
        self.open, self.problems, self.tags, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def read(document):
    reader = Reader()
    reader.feed(document)
    assert not reader.problems
    assert not reader.open
    return reader


@pytest.fixture(scope="module")
def picture():
    figure = new_figure(3, 2)
    figure.subplots().plot([1, 3, 2])
    return Picture.of(figure, "line", alt='A "line" & more', caption="Up, then <down>.")


def page(picture):
    sections = [
        Section("First <b>", ["a & b"], ["one point"], [Table(("", "value"), [("x", "1 < 2")], "A table")], [picture]),
        Section("Second", code="if a < b:\n    pass"),
    ]
    return Page("Title & more", "What was <found>.", sections, "made today")


def test_picture_knows_its_size(picture, tmp_path):
    assert (picture.width, picture.height) == (450, 300)
    assert picture.write(tmp_path).read_bytes() == picture.png
    from matplotlib.image import imread

    assert imread(tmp_path / "line.png").shape[:2] == (300, 450)


def test_page_is_well_formed_and_escaped(picture):
    reader = read(page(picture).to_html())
    text = "".join(reader.text)
    for said in (
        "Title & more",
        "What was <found>.",
        "First <b>",
        "a & b",
        "one point",
        "1 < 2",
        "A table",
        "if a < b:",
    ):
        assert said in text
    assert "Up, then <down>." in text
    assert not any(tag == "b" for tag, _ in reader.tags)


def test_page_needs_nothing_else(picture):
    document = page(picture).to_html()
    reader = read(document)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in reader.tags}
    sources = [attrs["src"] for _, attrs in reader.tags if "src" in attrs]
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert base64.b64decode(sources[0].partition(",")[2]) == picture.png
    assert not re.search(r"https?://|@import|url\(", document)
    assert all(attrs["href"].startswith("#") for tag, attrs in reader.tags if tag == "a")


def test_page_is_accessible(picture):
    reader = read(page(picture).to_html())
    identifiers = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))
    targets = [attrs["href"][1:] for tag, attrs in reader.tags if tag == "a"]
    assert set(targets) <= set(identifiers)
    assert dict(reader.tags)["html"] == {"lang": "en"}
    images = [attrs for tag, attrs in reader.tags if tag == "img"]
    assert [image["alt"] for image in images] == ['A "line" & more']
    assert all({"width", "height"} <= set(image) for image in images)
    headings = [tag for tag, _ in reader.tags if re.fullmatch(r"h\d", tag)]
    assert headings == ["h1", "h2", "h2"]
    assert {attrs["scope"] for tag, attrs in reader.tags if tag == "th"} == {"col", "row"}


def luminance(colour):
    rgb = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def test_text_contrasts_with_its_ground_in_light_and_dark(picture):
    """The ratio that the Web Content Accessibility Guidelines ask for text of this size."""
    document = page(picture).to_html()
    schemes = re.findall(
        r"--ink: (#\w{6}); --muted: (#\w{6});.*?--paper: (#\w{6}); --wash: (#\w{6}); --accent: (#\w{6})", document
    )
    assert len(schemes) == 2
    for ink, muted, paper, wash, accent in schemes:
        for text, ground in [(ink, paper), (ink, wash), (muted, paper), (accent, paper)]:
            dark, light = sorted((luminance(text), luminance(ground)))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def test_headings_of_a_table_are_left_out_if_there_are_none():
    assert "<thead>" not in Table(("", ""), [("a", "b")]).to_html()


def test_two_pictures_stand_side_by_side(picture):
    assert 'class="pictures pair"' in Section("x", pictures=[picture, picture]).to_html("a")
    assert 'class="pictures"' in Section("x", pictures=[picture]).to_html("a")
