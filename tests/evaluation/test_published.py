import pytest

from samevoice.evaluation import published


def values(table: str, system: str, variant: str, metric: str, frontend: str = "") -> list[float]:
    """O, E and H of one printed row."""
    rows = [r for r in published.tables()[table].rows if (r.frontend, r.system) == (frontend, system)]
    row = next(r for r in rows if r.variant == variant)
    return [row.results[protocol][metric] for protocol in published.PROTOCOLS.values()]


def gains(before: list[float], after: list[float]) -> list[float]:
    return [100 * (1 - b / a) for a, b in zip(before, after, strict=True)]


def test_every_row_is_there():
    assert [len(table.rows) for table in published.tables().values()] == [8, 7, 16, 15]
    for table in published.tables().values():
        assert table.source.endswith(("Table 1", "Table 2", "Table 3", "Table 4"))
        assert len({row.name for row in table.rows}) == len(table.rows)


def test_a_row_is_as_printed():
    rows = {row.name: row for table, row in published.with_protocol("voxceleb1-h") if table.paper == "LAP"}
    best = rows["WavLM LARGE LAP (h=16) + ASTP (the paper's own)"]
    assert best.results["voxceleb1-h"] == {"eer": 1.01, "min_dcf_0.01": 0.099, "min_dcf_0.05": 0.061}
    assert (best.params, best.head_params) == (315.5, 2.3)
    assert published.with_protocol("librispeech-mini") == []


@pytest.mark.parametrize(
    ("system", "metric", "printed"),
    [
        ("Res2Net + LFF", "eer", [31.1, 22.5, 19.2]),
        ("ERes2Net", "eer", [39.1, 28.3, 20.0]),
        ("ERes2Net", "min_dcf_0.01", [36.5, 25.0, 19.2]),
    ],
)
def test_the_gains_that_the_eres2net_paper_tells_follow_from_its_rows(system, metric, printed):
    """Section 4.3, relative to Res2Net, as printed to a decimal."""
    before, after = (values("eres2net-table3", name, "Standard", metric) for name in ("Res2Net", system))
    assert gains(before, after) == pytest.approx(printed, abs=0.06)


def test_the_gains_that_the_lap_paper_tells_follow_from_its_rows():
    """Section 4.1: 14 to 40 % on Vox-H against MHFA."""
    found = []
    for frontend, mhfa, said, heads in (
        ("WavLM BASE", "MHFA", "Peng et al. 2023", 12),
        ("WavLM BASE+", "MHFA (64 heads)", "Peng et al. 2023", 12),
        ("WavLM LARGE", "MHFA (64 heads)", "Peng et al. 2023; the open model has 2.37M", 16),
    ):
        theirs = values("lap-table1", mhfa, said, "eer", frontend)
        own = values("lap-table1", f"LAP (h={heads}) + ASTP", "the paper's own", "eer", frontend)
        found.append(gains(theirs, own)[2])
    assert min(found) == pytest.approx(14, abs=0.5)
    assert max(found) == pytest.approx(40, abs=0.7)
