"""`samevoice demo`: the default model on the sample recordings, every pair compared."""

import shutil
import sys
from collections import Counter, defaultdict
from itertools import combinations, combinations_with_replacement
from pathlib import Path

import samevoice
from samevoice.cli.output import (
    BadInput,
    JsonOption,
    ModelOption,
    OfflineOption,
    bad_input,
    load_verifier,
    print_json,
    stdout,
)


def demo(model: ModelOption = "default", offline: OfflineOption = False, as_json: JsonOption = False) -> None:
    """Compare all pairs of the sample recordings and count the wrong decisions."""
    from samevoice.evaluation.metrics import eer

    folder = samples()
    verifier = load_verifier(model, "cpu", offline, max_hours=2.0)
    with bad_input():
        threshold, reason = verifier.threshold()
    embedded = _embed_samples(verifier, folder)
    pairs = []
    for (a, first), (b, second) in combinations(embedded.items(), 2):
        result = verifier.decide(first, second, threshold, reason)
        truth = person(a) == person(b)
        pairs.append({"a": a, "b": b, "score": result.score, "llr": result.llr, "same": result.same, "truth": truth})
    wrong = [pair for pair in pairs if pair["same"] != pair["truth"]]
    rate = eer([pair["score"] for pair in pairs], [pair["truth"] for pair in pairs])
    if as_json:
        totals = {"wrong": len(wrong), "eer": rate}
        print_json({"model": verifier.card.name, "threshold": threshold, "trials": pairs, **totals})
        return
    _show_voices(pairs)
    _show_warnings(embedded)
    accepted = sum(pair["same"] for pair in wrong)
    stdout.print(
        f"{len(embedded)} recordings, {len(pairs)} pairs; EER {rate:.2%}\n"
        f"{len(wrong)} wrong decisions ({len(wrong) / len(pairs):.1%}): {accepted} strangers accepted, "
        f"{len(wrong) - accepted} same voices refused\n"
        f"model {verifier.card.name}, same voice from {threshold:.3f}: {reason}",
        markup=False,
        highlight=False,
    )
    _show_next(folder)


def _embed_samples(verifier, folder: Path) -> dict:
    """By path below the folder, sorted. Raises the first AudioError."""
    from samevoice.audio import AudioError
    from samevoice.audio.formats import in_folder

    paths = in_folder(folder)
    results = dict(verifier.embed_each(paths))
    for result in results.values():
        if isinstance(result, AudioError):
            raise result
    return {str(Path(path).relative_to(folder)): results[i] for i, path in enumerate(paths)}


def samples() -> Path:
    """The folder of sample recordings: inside an installed package, beside the package in a checkout."""
    package = Path(samevoice.__file__).parent
    for folder in (package / "samples", package.parent / "samples"):
        if folder.is_dir():
            return folder
    raise BadInput("the sample recordings are not installed; name recordings of your own: samevoice verify A B")


def voice(path: str) -> str:
    """The folder that a sample is in: person and language, "allison-smith-es"."""
    return Path(path).parts[0]


def person(path: str) -> str:
    """The voice without its language, since one person may speak two."""
    return voice(path).rsplit("-", 1)[0]


def _show_voices(pairs: list[dict]) -> None:
    """For each two voices: the scores of their pairs, lowest to highest, and what was decided."""
    from rich import box
    from rich.table import Table

    table = Table("voice", "and voice", "scores", "decided same", "wrong", box=box.SIMPLE)
    voices = sorted({voice(pair["a"]) for pair in pairs} | {voice(pair["b"]) for pair in pairs})
    for first, second in combinations_with_replacement(voices, 2):
        group = [pair for pair in pairs if {voice(pair["a"]), voice(pair["b"])} == {first, second}]
        scores = [pair["score"] for pair in group]
        same = sum(pair["same"] for pair in group)
        wrong = sum(pair["same"] != pair["truth"] for pair in group)
        table.add_row(
            first,
            "itself" if first == second else second,
            f"{min(scores):.2f} to {max(scores):.2f}",
            f"{same} of {len(group)}",
            f"[red]{wrong}[/]" if wrong else "",
        )
    stdout.print(table)


def _show_warnings(embedded: dict) -> None:
    """What the quality records say of each voice's recordings."""
    qualities = defaultdict(list)
    for path, result in embedded.items():
        qualities[voice(path)].append(result.quality)
    for name, records in sorted(qualities.items()):
        kinds = Counter(warning.split(":")[0] for record in records for warning in record.warnings)
        if kinds:
            found = ", ".join(f"{kind} ({count} of {len(records)} recordings)" for kind, count in kinds.items())
            stdout.print(f"warning: {name}: {found}", style="yellow", markup=False, highlight=False)


def _show_next(folder: Path) -> None:
    try:
        shown = folder.relative_to(Path.cwd())
    except ValueError:
        shown = folder
    command = "samevoice" if shutil.which("samevoice") else sys.argv[0]  # an environment that is not activated
    stdout.print(
        "\ntry next:\n"
        f"  {command} verify {shown}/allison-smith-en/vm-newuser.flac {shown}/allison-smith-es/vm-newuser.flac\n"
        f"  {command} verify yours.wav another.m4a --operating-point far=0.1%\n"
        f"  {command} embed FOLDER -o voices.npz\n"
        f"  {command} models list",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
