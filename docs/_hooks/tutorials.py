"""The sections "Tutorials" and "Gallery" of the navigation: every page that `scripts/build_tutorials.py` has made."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the tutorials and the gallery after the home page, if there are any."""
    root = Path(config.docs_dir)
    for section, folder in (("Gallery", "gallery"), ("Tutorials", "tutorials")):
        found = sorted(root.glob(f"{folder}/*.md"), key=lambda path: (path.name != "index.md", path.name))
        pages = [path.relative_to(root).as_posix() for path in found]
        if pages and config.nav is not None:
            config.nav.insert(1, {section: pages})
    return config
