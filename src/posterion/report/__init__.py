"""Reports: one self-contained HTML page, readable offline, on paper, in the dark and by a screen reader."""

from posterion.report.fit import (
    ELBO_CAPTION,
    PARAMETERS_CAPTION,
    fit_section,
    footer,
    verdict_section,
    write_report,
)
from posterion.report.page import Page, Picture, Section, Table

__all__ = [
    "ELBO_CAPTION",
    "PARAMETERS_CAPTION",
    "Page",
    "Picture",
    "Section",
    "Table",
    "fit_section",
    "footer",
    "verdict_section",
    "write_report",
]
