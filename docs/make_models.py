"""Write docs/models.md: `make docs`. A test fails when the file no longer says what this script would write."""

from pathlib import Path
from typing import NamedTuple

import torch

from samevoice.models import create, names

PAGE = Path(__file__).with_name("models.md")


class Row(NamedTuple):
    paper: str  # what the paper calls it
    name: str  # what we call it
    published: str  # parameters as printed, in millions; "front end + head" for self-supervised systems
    parity: str  # the public code whose outputs ours equals
    note: str = ""


SPEAKER3D, WESPEAKER, LAP, NEXT = "3D-Speaker", "WeSpeaker", "the LAP authors' code", "the NeXt-TDNN authors' code"
COUNT_ONLY = "none found: built from what is public of the paper, to its parameter count"
BACKBONE = "the paper counts the backbone; the 10,240 -> 192 embedding layer adds 1.97M"

OWN_BLOCKS = f"{WESPEAKER}'s block counts; no outputs were at hand"
HALF = f"head: {LAP} (at 768 hidden)"
FRONT_ENDS = {
    "wav2vec 2.0": "wav2vec2_base",
    "HuBERT": "hubert_base",
    "WavLM": "wavlm_base",
    "WavLM BASE+": "wavlm_base_plus",
    "WavLM LARGE": "wavlm_large",
}
TABLE_2 = [
    ("SUPERB", "superb_astp", f"head: {LAP}"),
    ("LAP (Softmax-Sum)", "lap_softmax_sum_astp", "none found"),
    ("LAP (Sigmoid-Max)", "lap_astp", f"head: {LAP}"),
]
REDIMNET = [
    ("1.0", ""),
    ("2.2", ""),
    ("4.7", "the released file has ours"),
    ("3.0", ""),
    ("6.3", ""),
    ("9.2", "the released file has ours"),
    ("15.0", ""),
]

TABLES: dict[str, list[Row]] = {
    "ERes2Net paper, Table 3 (Chen et al., Interspeech 2023)": [
        Row("Res2Net", "res2net", "", SPEAKER3D),
        Row("Res2Net + LFF", "res2net_lff", "", "the ERes2Net classes with the fusion across stages off"),
        Row("Res2Net + GFF", "res2net_gff", "", "the ERes2Net classes with Res2Net's blocks"),
        Row("ERes2Net", "eres2net", "4.64", f"{SPEAKER3D} and {WESPEAKER}", BACKBONE),
    ],
    "ERes2Net paper, Table 4": [
        Row("ResNet34-FPM", "resnet34_fpm", "5.85", COUNT_ONLY),
        Row("Res2Net-MWA", "res2net_mwa", "5.50", COUNT_ONLY, "a reading of the title, not a reproduction"),
        Row("Res2Net-26w8s", "res2net_26w8s", "9.30", COUNT_ONLY),
        Row("ResNet34-SKDFE", "resnet34_skdfe", "5.98", COUNT_ONLY, "40 mels; `SelfDistillation` trains it"),
        Row("D-TDNN", "d_tdnn", "4.00", COUNT_ONLY, "deepened from the authors' 2.8M, see the docstring"),
        Row("DF-ResNet56", "dfresnet56", "4.49", COUNT_ONLY),
        Row("ERes2Net", "eres2net", "4.64", f"{SPEAKER3D} and {WESPEAKER}", BACKBONE),
    ],
    "LAP paper, Table 1 (Kim et al., Interspeech 2025)": [
        Row("FBank, x-vector", "xvector", "4.6", WESPEAKER),
        Row("FBank, ECAPA-TDNN (C=1024)", "ecapa_tdnn_c1024", "14.7", f"{WESPEAKER} (at C=512) and {SPEAKER3D}"),
        Row("FBank, NeXt-TDNN (C=256, B=3)", "nexttdnn", "7.1", NEXT),
        Row("WavLM BASE, x-vector", "wavlm_base_xvector", "94.4 + 6.4", f"head: {LAP}"),
        Row("WavLM BASE, ECAPA-TDNN (C=512)", "wavlm_base_ecapa_tdnn", "94.4 + 8.0", f"head: {LAP}"),
        Row("WavLM BASE, MHFA", "wavlm_base_mhfa", "94.4 + 0.4", f"head: {LAP} (at 64 heads)"),
        Row("WavLM BASE, LAP (h=12) + ASTP", "wavlm_base_lap_astp", "94.4 + 1.7", f"head: {LAP}"),
        Row("WavLM BASE+, x-vector", "wavlm_base_plus_xvector", "94.4 + 6.4", f"head: {LAP}"),
        Row("WavLM BASE+, ECAPA-TDNN (C=512)", "wavlm_base_plus_ecapa_tdnn", "94.4 + 8.0", f"head: {LAP}"),
        Row("WavLM BASE+, MHFA (64 heads)", "wavlm_base_plus_mhfa", "94.4 + 2.2", f"head: {LAP}"),
        Row("WavLM BASE+, DBE (C=512)", "wavlm_base_plus_dbe", "94.4 + 14.3", "none found", "14.3 is an estimate"),
        Row("WavLM BASE+, LAP (h=12) + ASTP", "wavlm_base_plus_lap_astp", "94.4 + 1.7", f"head: {LAP}"),
        Row("WavLM LARGE, x-vector", "wavlm_large_xvector", "315.5 + 7.0", HALF),
        Row("WavLM LARGE, ECAPA-TDNN (C=512)", "wavlm_large_ecapa_tdnn", "315.5 + 8.6", HALF),
        Row(
            "WavLM LARGE, MHFA (64 heads)", "wavlm_large_mhfa", "315.5 + 2.2", HALF, "footnote 2: 2.37M in open source"
        ),
        Row("WavLM LARGE, LAP (h=16) + ASTP", "wavlm_large_lap_astp", "315.5 + 2.3", f"head: {LAP}"),
    ],
    "LAP paper, Table 2": [
        Row(f"{title}, {pooling}", f"{front_end}_{head}", "", parity)
        for title, front_end in FRONT_ENDS.items()
        for pooling, head, parity in TABLE_2
    ],
    "Beyond the tables": [
        Row("ERes2NetV2", "eres2netv2", "17.86", SPEAKER3D),
        Row("CAM++", "campplus", "7.18", SPEAKER3D),
        Row("ResNet34", "resnet34", "6.63", WESPEAKER),
        Row("ResNet152", "resnet152", "", OWN_BLOCKS),
        Row("ResNet221", "resnet221", "23.79", OWN_BLOCKS),
        Row("ResNet293", "resnet293", "28.62", OWN_BLOCKS),
        Row("ECAPA-TDNN (C=512)", "ecapa_tdnn", "6.19", WESPEAKER),
        Row("NeXt-TDNN (C=384, B=1)", "nexttdnn_c384_b1", "", "the code of the C=256, B=3 form"),
        Row("NeXt-TDNN (C=192, B=1)", "nexttdnn_c192_b1", "", "the code of the C=256, B=3 form"),
        Row("NeXt-TDNN (C=128, B=3)", "nexttdnn_c128_b3", "1.9", "the code of the C=256, B=3 form"),
        Row("NeXt-TDNN-l (C=256, B=3)", "nexttdnn_light", "6.0", "none found"),
        Row("NeXt-TDNN-l (C=384, B=1)", "nexttdnn_light_c384_b1", "", "none found"),
        Row("NeXt-TDNN-l (C=192, B=1)", "nexttdnn_light_c192_b1", "", "none found"),
        Row("NeXt-TDNN-l (C=128, B=3)", "nexttdnn_light_c128_b3", "1.6", "none found"),
        Row("SimAM-ResNet34", "simam_resnet34", "25.2", WESPEAKER),
        Row("SimAM-ResNet100", "simam_resnet100", "50.2", WESPEAKER),
        Row("Gemini DF-ResNet60", "gemini_dfresnet60", "4.05", WESPEAKER),
        Row("Gemini DF-ResNet114", "gemini_dfresnet114", "6.53", WESPEAKER),
        *(
            Row(f"ReDimNet-B{i}", f"redimnet_b{i}", millions, f"{WESPEAKER}'s ReDimNet", note)
            for i, (millions, note) in enumerate(REDIMNET)
        ),
        *(Row(f"ReDimNet2-B{i}", f"redimnet2_b{i}", "", f"{WESPEAKER}'s ReDimNet2") for i in range(7)),
        Row("w2v-BERT 2.0, layer adapter + MFA", "w2v_bert_2_layer_adapter_mfa", "", "none found"),
    ],
    "Heads alone, over hidden states": [
        Row("LAP (h=12) + ASTP", "lap_astp", "1.7", LAP),
        Row("LAP (Softmax-Sum) + ASTP", "lap_softmax_sum_astp", "", "none found"),
        Row("SUPERB + ASTP", "superb_astp", "", LAP),
        Row("SUPERB + x-vector", "superb_xvector", "6.4", LAP),
        Row("SUPERB + ECAPA-TDNN (C=512)", "superb_ecapa_tdnn", "8.0", LAP),
        Row("MHFA (64 heads)", "superb_mhfa", "2.3", LAP),
        Row("layer adapter + MFA", "layer_adapter_mfa", "", "none found"),
    ],
}

HEAD = """# Networks

Generated by `make docs`; do not edit. Each name is one that `samevoice.models.create` takes. "Parity" names the public
implementation whose stored outputs ours equals within 1e-4 of the largest value (asserted in `tests/models`, where the
outputs are at hand); "none found" means that none was at hand: the network is built from what is public of its paper.
Lengths: yes, if padded rows of a batch get the embedding that they get alone; else batch equal lengths only, as
`Verifier` does.
"""


def page() -> str:
    lines = [HEAD]
    for title, rows in TABLES.items():
        lines += [
            f"## {title}\n",
            "| row | name | parameters | published | parity | lengths | note |",
            "|" + "---|" * 7,
        ]
        lines += [_line(row) for row in rows] + [""]
    missing = sorted(set(names()) - {row.name for rows in TABLES.values() for row in rows})
    assert not missing, f"not in any table: {missing}"
    return "\n".join(lines)


def _line(row: Row) -> str:
    with torch.device("meta"):
        network = create(row.name)
    total = sum(parameter.numel() for parameter in network.parameters())
    ours = f"{total:,}"
    front_end = getattr(network, "front_end", None)
    if front_end is not None:
        front = sum(parameter.numel() for parameter in front_end.parameters())
        ours = f"{front:,} + {total - front:,}"
    published = f"{row.published}M" if row.published else ""
    lengths = "yes" if network.takes_lengths else "no"
    return f"| {row.paper} | `{row.name}` | {ours} | {published} | {row.parity} | {lengths} | {row.note} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
