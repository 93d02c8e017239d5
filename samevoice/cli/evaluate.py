"""`samevoice evaluate MODEL --protocol NAME -o report/`, `evaluate compare`, `evaluate trials make`."""

from pathlib import Path
from typing import Annotated

import typer

from samevoice.cli.groups import RunByDefault
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

app = typer.Typer(cls=RunByDefault, help="Error rates with intervals, on a protocol or your own trials.")
trials_app = typer.Typer(help="Trial lists.", no_args_is_help=True)
app.add_typer(trials_app, name="trials")

ReplicatesOption = Annotated[int, typer.Option(min=0, help="Of the bootstrap; 0 for no intervals.")]
_SCORING = "cosine, mean-subtraction, z-norm, t-norm, s-norm, as-norm, mean-subtraction+as-norm (or another norm), \
plda, adapted-plda; several times for several."


@app.command("run")
def run(
    model: Annotated[str, typer.Argument(help="A card's name, a model's folder, or a hub id.")] = "default",
    protocol: Annotated[str | None, typer.Option(help="voxceleb1-o, -e, -h, librispeech-mini, ...")] = None,
    trials: Annotated[Path | None, typer.Option(help="A list of your own.")] = None,
    recordings: Annotated[Path | None, typer.Option(help="Of that list: manifest, CSV or folder.")] = None,
    enrolments: Annotated[Path | None, typer.Option(help="The utterances of each model in that list.")] = None,
    enrolment: Annotated[str, typer.Option(help="Average a model's embeddings or scores.")] = "embeddings",
    data: Annotated[Path | None, typer.Option(help="Where protocols lie (or $SAMEVOICE_DATA).")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The report's folder.")] = Path("report"),
    scoring: Annotated[list[str], typer.Option(help=_SCORING)] = ["cosine"],  # noqa: B006 (typer's way)
    cohort: Annotated[Path | None, typer.Option(help="Other speakers: manifest, CSV or folder.")] = None,
    top_n: Annotated[int, typer.Option(min=2, help="The nearest of the cohort, for as-norm.")] = 600,
    exclude_own_speakers: Annotated[
        bool, typer.Option("--exclude-own-speakers", help="The cohort may hold speakers of the trials.")
    ] = False,
    adaptation: Annotated[Path | None, typer.Option(help="What adapted-plda adapts to.")] = None,
    qmf: Annotated[bool, typer.Option("--qmf", help="Also calibrated by quality, on the cohort.")] = False,
    conditions: Annotated[bool, typer.Option("--conditions", help="Also 3, 2 and 1.5 s, and noise.")] = False,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Leave trials out.")] = False,
    cache: Annotated[Path | None, typer.Option(help="The file of kept embeddings.")] = None,
    replicates: ReplicatesOption = 1000,
    device: DeviceOption = "cpu",
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a model; `samevoice evaluate MODEL` is this."""
    from functools import partial

    from samevoice.cli import reports
    from samevoice.evaluation import protocols
    from samevoice.evaluation.report.comparison import Report
    from samevoice.evaluation.report.system import Plan, System
    from samevoice.hub import cache as hub_cache
    from samevoice.hub import find_model
    from samevoice.hub.size import parameters
    from samevoice.runtime import Verifier
    from samevoice.runtime.embedding_cache import EmbeddingCache, embed_all, model_key

    with bad_input():
        plan = Plan(list(dict.fromkeys(scoring)), qmf, top_n, enrolment, exclude_own_speakers, replicates)
        plan.check(cohort is not None, adaptation is not None)
        table, listed = _listed(protocol, trials, recordings, enrolments, data, allow_missing)
        others = [_recordings(place, data) if place else None for place in (cohort, adaptation)]
        heard = protocols.CONDITIONS if conditions else protocols.CONDITIONS[:1]
        noise = protocols.noises(data) if conditions else []
        card, path = find_model(model, offline, say=say)
        verifier = Verifier(card, path, device)
        with EmbeddingCache(cache or hub_cache.folder() / "embeddings.sqlite", model_key(card, path)) as kept:
            system = System(partial(embed_all, kept, verifier, track=track), plan, card.calibration)
            system.fit(listed, table, *others)
            entries, scores = system.entries(listed, table, heard, noise, str(data or ""))
    about = reports.about(card.name, card.architecture, parameters(card, path), protocol or str(trials))
    content = about | {"notes": system.notes, "entries": entries}
    reports.finish([Report(content, scores, str(output))], output, as_json)


@app.command("compare")
def compare(
    places: Annotated[list[Path], typer.Argument(metavar="REPORTS", help="Reports' folders.")],
    fuse: Annotated[list[Path], typer.Option(help="Also fused, as fitted on these reports.")] = [],  # noqa: B006
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write a report of all.")] = None,
    replicates: ReplicatesOption = 1000,
    as_json: JsonOption = False,
) -> None:
    """Systems side by side, with differences from the first and the published rows of the same protocols.

    --fuse names a report of each system on other trials, in the same order: there the fusion is fitted.
    """
    from samevoice.cli import reports
    from samevoice.evaluation.report import comparison

    with bad_input():
        found = [report for place in places for report in comparison.read(place)]
        if fuse:
            from samevoice.evaluation.report.fusing import fused

            development = [report for place in fuse for report in comparison.read(place)]
            found.append(fused(found, development, replicates))
        compared = comparison.compared(found, replicates)
    reports.finish(compared, output, as_json, as_list=True)


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


def _listed(
    protocol: str | None,
    trials: Path | None,
    recordings: Path | None,
    enrolments: Path | None,
    data: Path | None,
    allow_missing: bool,
):
    """The recordings and the trials, or BadInput before anything is embedded."""
    from samevoice.evaluation import protocols
    from samevoice.evaluation import trials as lists

    if protocol:
        table, listed = protocols.load(protocols.find(protocol), data)
    elif trials and recordings:
        listed = lists.read(trials, enrolments)
        table = _recordings(recordings, data)
    else:
        raise BadInput("give --protocol NAME, or --trials LIST with --recordings")
    problems = lists.check(listed, set(table["utterance"].to_pylist()))
    if problems.contradictory or (problems.missing and not allow_missing):
        raise BadInput("; ".join(problems.lines()))
    for line in problems.lines():
        say(line)
    return table, lists.without(listed, set(problems.missing)) if problems.missing else listed


def _recordings(place: Path, data: Path | None):
    """A CSV's paths are relative to its own folder or, where they aren't there, to the data folder."""
    from samevoice.evaluation import protocols
    from samevoice.evaluation.trials import TrialError

    try:
        return protocols.recordings(place)
    except TrialError:
        if data is None or place.is_dir() or place.suffix == ".parquet":
            raise
        return protocols.recordings(place, data)
