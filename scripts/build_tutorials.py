"""Tutorials and gallery from examples: runs each and writes it as a page with its output and pictures.

An example is a Python script in jupytext's percent format. The page of examples/<name>.py goes to
docs/tutorials/<name>.md, its pictures to docs/tutorials/<name>_files/; that of examples/gallery/<name>.py likewise to
docs/gallery/, where a page of its own shows all pictures. A page says in its front matter which text of the example it
was made from, so that an example that has not changed is not run again; `--force` runs all.
"""

import argparse
import base64
import hashlib
import re
import shutil
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
PAGES = ROOT / "docs" / "tutorials"
SECONDS_PER_CELL = 600
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def main() -> None:
    """Make the pages that are not up to date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--force", action="store_true", help="run every example, changed or not")
    force = parser.parse_args().force
    gallery = PAGES.with_name("gallery")
    for examples, pages in ((EXAMPLES, PAGES), (EXAMPLES / "gallery", gallery)):
        for example in sorted(examples.glob("*.py")):
            page = pages / f"{example.stem}.md"
            digest = hashlib.sha256(example.read_bytes()).hexdigest()
            if force or not page.exists() or made_from(page) != digest:
                started = time.perf_counter()
                write_page(run(example), page, example, digest)
                print(f"{page.relative_to(ROOT)}: {time.perf_counter() - started:.0f} s")
    shown = [gallery / f"{example.stem}.md" for example in sorted((EXAMPLES / "gallery").glob("*.py"))]
    if shown:
        write_index(shown)


def made_from(page: Path) -> str | None:
    """Digest of the example's text that a page was made from."""
    found = re.search(r"^made_from: (\w+)$", page.read_text(), re.MULTILINE)
    return found[1] if found else None


def run(example: Path) -> nbformat.NotebookNode:
    """The example as a notebook with its outputs, run in an empty folder so that what it writes goes nowhere."""
    notebook = jupytext.read(example)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=SECONDS_PER_CELL,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
        )
        return client.execute()


def write_page(notebook: nbformat.NotebookNode, page: Path, example: Path, digest: str) -> None:
    """One Markdown page, with the pictures beside it."""
    pictures = page.with_name(f"{page.stem}_files")
    shutil.rmtree(pictures, ignore_errors=True)
    parts = [f"---\nmade_from: {digest}\n---"]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source.strip())
        elif cell.cell_type == "code" and cell.source.strip():
            parts.append(f"```python\n{cell.source.strip()}\n```")
            parts += [part for output in cell.outputs if (part := _shown(output, pictures))]
    where = example.relative_to(ROOT).as_posix()
    parts.append(f"*This page was made by running `{where}`; times are those of the machine that ran it.*")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n\n".join(parts) + "\n")


def write_index(pages: list[Path]) -> None:
    """The page of the gallery that shows the picture of each of the others."""
    text = [
        "# Gallery",
        "One short script per picture, run when this documentation was built. All are functions of `posterion.plots`, "
        "which draw on axes of yours as well (`ax=`).",
        '<div class="grid" markdown>',
    ]
    for page in pages:
        found = re.search(r"^# (.+)$", page.read_text(), re.MULTILINE)
        title = found[1] if found else page.stem
        picture = f"[![{title}]({page.stem}_files/1.png)]({page.name})"
        text.append(f'<figure markdown="span">\n{picture}\n<figcaption>{title}</figcaption>\n</figure>')
    pages[0].with_name("index.md").write_text("\n\n".join([*text, "</div>"]) + "\n")


def _shown(output: nbformat.NotebookNode, pictures: Path) -> str | None:
    """One output of a cell in Markdown; errors never get here, since they stop the run."""
    if output.output_type == "stream":
        # What goes to the error stream is progress and notices of the machine at hand, not the example's result.
        return _text(output.text) if output.name == "stdout" else None
    data = output.get("data", {})
    if "image/png" in data:
        pictures.mkdir(parents=True, exist_ok=True)
        picture = pictures / f"{len(list(pictures.iterdir())) + 1}.png"
        picture.write_bytes(base64.b64decode(data["image/png"]))
        return f"![]({pictures.name}/{picture.name})"
    if any("widget" in kind for kind in data):  # a live view of something, which its text cannot show
        return None
    return _text(data["text/plain"]) if "text/plain" in data else None


def _text(text: str) -> str | None:
    plain = _ESCAPES.sub("", text).rstrip()
    return f"```text\n{plain}\n```" if plain else None


if __name__ == "__main__":
    main()
