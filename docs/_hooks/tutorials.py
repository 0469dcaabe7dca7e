"""The section "Tutorials" of the navigation: every page that `scripts/build_tutorials.py` has made."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the tutorials after the home page, if there are any."""
    root = Path(config.docs_dir)
    pages = [path.relative_to(root).as_posix() for path in sorted(root.glob("tutorials/*.md"))]
    if pages and config.nav is not None:
        config.nav.insert(1, {"Tutorials": pages})
    return config
