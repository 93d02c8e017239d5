"""`samevoice evaluate MODEL --protocol NAME -o report/`, `evaluate trials make`, `evaluate compare`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from samevoice.cli.output import (
    BadInput,
    DeviceOption,
    JsonOption,
    OfflineOption,
    bad_input,
    print_json,
    say,
    stdout,
    track,
)


class _ModelFirst(TyperGroup):
    """`evaluate MODEL ...` and `evaluate --protocol ...` mean `evaluate run ...`."""

    def parse_args(self, ctx, args):
        first = args[0] if args else "--help"
        return super().parse_args(ctx, args if first in {*self.commands, "-h", "--help"} else ["run", *args])


app = typer.Typer(cls=_ModelFirst, help="Error rates with intervals, on a protocol or your own trials.")
trials_app = typer.Typer(help="Trial lists.", no_args_is_help=True)
app.add_typer(trials_app, name="trials")


@app.command("run")
def run(
    model: Annotated[str, typer.Argument(help="A card's name, a model's folder, or a hub id.")] = "default",
    protocol: Annotated[str | None, typer.Option(help="voxceleb1-o, -e, -h, librispeech-mini, ...")] = None,
    trials: Annotated[Path | None, typer.Option(help="A list of your own.")] = None,
    recordings: Annotated[Path | None, typer.Option(help="Of that list: manifest, CSV or folder.")] = None,
    enrolments: Annotated[Path | None, typer.Option(help="The utterances of each model in that list.")] = None,
    data: Annotated[Path | None, typer.Option(help="Where protocols lie (or $SAMEVOICE_DATA).")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The report's folder.")] = Path("report"),
    conditions: Annotated[bool, typer.Option("--conditions", help="Also 3, 2 and 1.5 s, and noise.")] = False,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Leave trials out.")] = False,
    cache: Annotated[Path | None, typer.Option(help="The file of kept embeddings.")] = None,
    replicates: Annotated[int, typer.Option(min=0, help="Of the bootstrap; 0 for no intervals.")] = 1000,
    device: DeviceOption = "cpu",
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a model; `samevoice evaluate MODEL` is this. Scores are cosines."""
    from samevoice.evaluation import protocols
    from samevoice.evaluation import trials as lists

    with bad_input():
        if protocol:
            table, listed = protocols.load(protocols.find(protocol), data)
        elif trials and recordings:
            listed = lists.read(trials, enrolments)
            table = protocols.recordings(recordings)
        else:
            raise BadInput("give --protocol NAME, or --trials LIST with --recordings")
        problems = lists.check(listed, set(table["utterance"].to_pylist()))
        for line in problems.lines():
            say(line)
        if problems.contradictory or (problems.missing and not allow_missing):
            raise BadInput("; ".join(problems.lines()))
        if problems.missing:
            listed = lists.without(listed, set(problems.missing))
        every = [protocols.Condition(s, n) for n in protocols.NOISES_DB for s in protocols.LENGTHS]
        chosen = every if conditions else every[:1]
        name = protocol or str(trials)
        report = evaluated(model, name, table, listed, chosen, data, cache, replicates, device, offline)
    _write(output, [report])
    if as_json:
        print_json(report)
    else:
        _show([report])
        stdout.print(f"{output}/report.html", markup=False, highlight=False, soft_wrap=True)


@app.command("compare")
def compare(
    reports: Annotated[list[Path], typer.Argument(help="Reports' folders.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write a report of all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Systems side by side, with the published rows of the same protocols."""
    import json

    loaded = []
    for place in reports:
        path = place / "report.json" if place.is_dir() else place
        try:
            loaded.append(json.loads(path.read_text(encoding="utf-8")))
        except ValueError:
            raise BadInput(f"{path}: not a report") from None
    if output:
        _write(output, loaded)
    if as_json:
        print_json(loaded)
    else:
        _show(loaded)


@trials_app.command("make")
def make(
    folder: Annotated[Path, typer.Argument(help="A folder, manifest or CSV of recordings.")],
    output: Annotated[Path, typer.Option("--output", "-o", help=".txt, .kaldi, .csv or .parquet.")],
    kind: Annotated[str, typer.Option(help="balanced, same-gender, cross-session, exhaustive.")] = "balanced",
    count: Annotated[int, typer.Option(min=1, help="Targets, and as many nontargets.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Another one draws another list.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw a trial list."""
    from samevoice.evaluation import protocols
    from samevoice.evaluation import trials as lists

    with bad_input():
        made = lists.make(protocols.recordings(folder), kind, count, seed=seed)
        lists.write(made, output)
    told = {"output": str(output), "targets": int(made.labels.sum()), "nontargets": int((~made.labels).sum())}
    if as_json:
        print_json(told)
    else:
        stdout.print(f"{output}: {told['targets']:,} + {told['nontargets']:,} trials", markup=False, soft_wrap=True)


def evaluated(
    model: str, protocol: str, table, listed, conditions, data, cache, replicates, device="cpu", offline=False
) -> dict[str, Any]:
    """report.json's content: one entry for each condition."""
    import platform
    from datetime import date

    import numpy as np

    from samevoice.audio import AudioError
    from samevoice.evaluation import protocols
    from samevoice.evaluation import trials as lists
    from samevoice.evaluation.report.measure import measure
    from samevoice.hub import cache as hub_cache
    from samevoice.hub import find_model
    from samevoice.runtime import Verifier
    from samevoice.runtime.embedding_cache import Clip, EmbeddingCache, embed_all, model_key

    card, path = find_model(model, offline, say=say)
    verifier = Verifier(card, path, device)
    speaker = dict(zip(table["utterance"].to_pylist(), table["speaker"].to_pylist(), strict=True))
    place = dict(zip(table["utterance"].to_pylist(), table["path"].to_pylist(), strict=True))
    noise = protocols.noises(data) if any(c.snr_db is not None for c in conditions) else []
    entries = []
    with EmbeddingCache(cache or hub_cache.folder() / "embeddings.sqlite", model_key(card, path)) as kept:
        for condition in conditions:
            names = listed.utterances
            clips = [Clip(place[n], *protocols.clip(place[n], n, condition, noise, str(data or ""))) for n in names]
            found = dict(zip(names, embed_all(kept, verifier, clips, track), strict=True))
            failed = {n: e for n, e in found.items() if isinstance(e, AudioError)}
            short = sum(protocols.TOO_SHORT in e.problem for e in failed.values())
            used = lists.without(listed, failed)
            good = {n: e.embedding for n, e in found.items() if not isinstance(e, AudioError)}
            unit = {n: embedding / np.linalg.norm(embedding) for n, embedding in good.items()}
            sides = np.stack([np.mean([unit[n] for n in some], axis=0) for some in used.members])
            sides /= np.linalg.norm(sides, axis=1, keepdims=True)
            tests = np.stack([unit[n] for n in used.tests])
            scores = np.concatenate([
                np.einsum("ij,ij->i", sides[used.enrol[i : i + 32768]], tests[used.test[i : i + 32768]])
                for i in range(0, len(used), 32768)
            ])  # fmt: skip
            who = np.array([speaker[some[0]] for some in used.members])[used.enrol]
            tested = np.array([speaker[n] for n in used.tests])[used.test]
            calibration = card.calibration
            llrs = scores * calibration.slope + calibration.offset if calibration else None
            figures = measure(scores, used.labels, who, tested, llrs, replicates)
            about = {"condition": condition.name, "scoring": "cosine", "recordings": len(unit), "too_short": short}
            entries.append(
                {**about, "refused": len(failed) - short, "trials_left_out": len(listed) - len(used), **figures}
            )
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return {"model": card.name, "architecture": card.architecture, "protocol": protocol,
            "date": date.today().isoformat(), "machine": machine, "entries": entries}  # fmt: skip


def _write(output: Path, reports: list[dict[str, Any]]) -> None:
    import json

    from samevoice.evaluation.report import pages
    from samevoice.files import replacing

    content = json.dumps(reports[0] if len(reports) == 1 else reports, ensure_ascii=False, indent=1)
    files = {"report.json": content, "report.html": pages.html(reports), "report.md": pages.markdown(reports),
             "report.tex": pages.latex(reports)}  # fmt: skip
    for name, text in files.items():
        with replacing(output / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _show(reports: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from samevoice.evaluation.report import pages

    table = Table(*pages.HEADS)
    for row in pages.rows(reports):
        table.add_row(*row)
    stdout.print(table)
