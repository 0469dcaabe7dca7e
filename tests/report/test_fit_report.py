"""The page about one posterior says what the posterior says."""

import pytest

import posterion as po
from posterion.report import fit_section, footer, verdict_section, write_report
from tests.hand_written import network
from tests.report.test_page import read


@pytest.fixture(scope="module")
def posterior():
    return po.fit(network(num_rows=60), n=300, batch_size=20, random_seed=1, progress=False)


def test_fit_section_tells_how_it_was_fitted(posterior):
    facts = dict(fit_section(posterior).tables[0].rows)
    assert facts["stop"] == posterior.record.sentence
    assert facts["rows per step"] == "20 of 60"
    assert facts["random seed"] == "1"
    assert f"{posterior.elbo:,.2f}" in facts["ELBO"]
    assert facts["parameters"].startswith("40 in w_in_1")


def test_rounds_are_tabled_when_there_were_any():
    posterior = po.fit(network(num_rows=60), stop=po.Rounds(max_steps=3000, first=500), random_seed=1, progress=False)
    facts, rounds = fit_section(posterior).tables
    assert len(rounds.rows) == len(posterior.record.comparisons) >= 1
    assert rounds.rows[0][0] == f"{posterior.record.comparisons[0].step:,}"


def test_verdict_section_has_every_reason(posterior):
    section = verdict_section(posterior)
    verdict = posterior.diagnose()
    assert ("Trustworthy" in section.text[0]) == verdict.trustworthy
    for said in (*verdict.reasons, *verdict.advice):
        assert any(said[1:] in point for point in section.bullets)


def test_write_report(posterior, tmp_path):
    path = write_report(posterior, tmp_path / "fit.html", title="A fit")
    reader = read(path.read_text())
    assert sum(tag == "img" for tag, _ in reader.tags) == 2
    assert posterior.record.sentence in "".join(reader.text)
    assert path.stat().st_size < 1_000_000


def test_footer_names_versions():
    assert po.__version__ in footer()
    assert "jax" in footer()
