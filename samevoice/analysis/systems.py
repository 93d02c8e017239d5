"""Which of our networks is which row of the papers' tables."""

from samevoice.evaluation import published

FRONT_ENDS = {
    "wav2vec2_base": "wav2vec 2.0 BASE",
    "hubert_base": "HuBERT BASE",
    "wavlm_base": "WavLM BASE",
    "wavlm_base_plus": "WavLM BASE+",
    "wavlm_large": "WavLM LARGE",
}
# (front end, system) as published.yaml prints them, for each table
_ON_FILTER_BANKS = {
    "eres2net-table3": {
        "res2net": "Res2Net",
        "res2net_lff": "Res2Net + LFF",
        "res2net_gff": "Res2Net + GFF",
        "eres2net": "ERes2Net",
    },
    "eres2net-table4": {
        "resnet34_fpm": "ResNet34-FPM",
        "res2net_mwa": "Res2Net-MWA",
        "res2net_26w8s": "Res2Net-26w8s",
        "resnet34_skdfe": "ResNet34-SKDFE",
        "d_tdnn": "D-TDNN",
        "dfresnet56": "DF-ResNet56",
        "eres2net": "ERes2Net",
    },
    "lap-table1": {
        "xvector": "x-vector",
        "ecapa_tdnn_c1024": "ECAPA-TDNN (C=1024)",
        "nexttdnn": "NeXt-TDNN (C=256, B=3)",
    },
}
_HEADS = {
    "lap-table1": {
        "xvector": ("x-vector",),
        "ecapa_tdnn": ("ECAPA-TDNN (C=512)",),
        "mhfa": ("MHFA", "MHFA (64 heads)"),
        "dbe": ("DBE (C=512)",),
        "lap_astp": ("LAP (h=12) + ASTP", "LAP (h=16) + ASTP"),
    },
    "lap-table2": {
        "superb_astp": ("SUPERB",),
        "lap_softmax_sum_astp": ("LAP (Softmax-Sum)",),
        "lap_astp": ("LAP (Sigmoid-Max)",),
    },
}


def architecture_of(table: str, row: published.Row) -> str | None:
    """The registry's name of a published row's network; None where the registry has none.

    >>> [architecture_of("lap-table1", row) for row in published.tables()["lap-table1"].rows[:4]]
    ['xvector', 'ecapa_tdnn_c1024', 'nexttdnn', 'wavlm_base_xvector']
    """
    for name, system in _ON_FILTER_BANKS.get(table, {}).items():
        if row.system == system and row.frontend not in FRONT_ENDS.values():
            return name
    for front_end, printed in FRONT_ENDS.items():
        for head, systems in _HEADS.get(table, {}).items():
            if row.frontend == printed and row.system in systems:
                return f"{front_end}_{head}"
    return None


def mean_eers() -> dict[str, float]:
    """The mean of the three published EERs, in percent, of every network in the LAP paper's Table 1 (Figure 2)."""
    found = {}
    for row in published.tables()["lap-table1"].rows:
        eers = [result["eer"] for result in row.results.values() if "eer" in result]
        name = architecture_of("lap-table1", row)
        if name and len(eers) == len(published.PROTOCOLS):
            found[name] = sum(eers) / len(eers)
    return found
