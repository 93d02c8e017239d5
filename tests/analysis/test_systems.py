import pytest

from samevoice.analysis.systems import architecture_of, mean_eers
from samevoice.evaluation import published
from samevoice.models import names


@pytest.mark.parametrize("table", published.tables())
def test_every_published_row_has_a_network_of_its_own(table):
    rows = published.tables()[table].rows
    found = [architecture_of(table, row) for row in rows]
    assert set(found) <= set(names())
    assert len({(name, row.variant) for name, row in zip(found, rows, strict=True)}) == len(rows)


def test_a_row_is_its_network():
    found = {row.name: architecture_of("lap-table1", row) for row in published.tables()["lap-table1"].rows}
    assert found["WavLM BASE MHFA (Peng et al. 2023)"] == "wavlm_base_mhfa"
    assert found["WavLM LARGE LAP (h=16) + ASTP (the paper's own)"] == "wavlm_large_lap_astp"
    assert found["WavLM BASE+ DBE (C=512) (S. Peng et al. 2024; parameters estimated)"] == "wavlm_base_plus_dbe"
    assert found["Fbank-80 x-vector (reproduced)"] == "xvector"


def test_mean_eers_are_the_means_of_table_1():
    assert mean_eers()["wavlm_base_plus_lap_astp"] == pytest.approx((0.61 + 0.77 + 1.49) / 3)
    assert mean_eers()["wavlm_base_plus_dbe"] == pytest.approx((0.63 + 0.81 + 1.64) / 3)
