"""`samevoice prepare ...`: from corpora as they are downloaded to manifests, shards and banks for training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from samevoice.cli.output import BadInput, JsonOption, OfflineOption, bad_input, print_json, say, stderr, stdout, track
from samevoice.data.corpora import CORPORA

SHOWN = 10  # bad recordings, missing speakers: the file or the JSON has them all

app = typer.Typer(no_args_is_help=True, help="Prepare corpora for training: manifests, shards, noise, a preview.")

FolderArgument = Annotated[Path | None, typer.Argument(help="Where it is; without it, how to get it is told.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="The manifest to write (.parquet).")]
JobsOption = Annotated[int | None, typer.Option(min=0, help="Processes (one for each core; 0: this one alone).")]
ConvertOption = Annotated[str | None, typer.Option(help="flac: write 16 kHz copies, and use those.")]
PrefixOption = Annotated[str, typer.Option(help="Put before the names of speakers, to tell corpora apart.")]
RecheckOption = Annotated[bool, typer.Option("--recheck", help="Decode again what an earlier run has decoded.")]
SpeakerColumnOption = Annotated[str | None, typer.Option(help="The column with the speaker, if its name is unusual.")]
SeedOption = Annotated[int, typer.Option(help="Another seed gives another choice.")]


def _plain(name: str) -> Callable[..., None]:
    """The command of a corpus that has no options of its own."""

    def command(
        folder: FolderArgument = None,
        output: OutputOption = None,
        jobs: JobsOption = None,
        convert: ConvertOption = None,
        prefix: PrefixOption = "",
        recheck: RecheckOption = False,
        as_json: JsonOption = False,
    ) -> None:
        _prepare(name, folder, output, jobs, convert, prefix, recheck, as_json)

    return command


for _name in ("voxceleb1", "voxceleb2", "librispeech", "cnceleb", "musan", "folder", "kaldi"):
    app.command(_name, help=CORPORA[_name] + ".")(_plain(_name))


@app.command(help=CORPORA["rirs"] + "; or --simulate.")
def rirs(
    folder: FolderArgument = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The manifest (.parquet); simulated: the banks' folder.")
    ] = None,
    simulate: Annotated[bool, typer.Option("--simulate", help="Make rooms and coloured noise up instead.")] = False,
    rooms: Annotated[int, typer.Option(min=1, help="How many, simulated.")] = 200,
    noises: Annotated[int, typer.Option(min=1, help="How many, simulated.")] = 200,
    seed: SeedOption = 0,
    jobs: JobsOption = None,
    convert: ConvertOption = None,
    prefix: PrefixOption = "",
    recheck: RecheckOption = False,
    as_json: JsonOption = False,
) -> None:
    if not simulate:
        _prepare("rirs", folder, output, jobs, convert, prefix, recheck, as_json)
        return
    if folder is not None or output is None:
        raise BadInput("--simulate reads nothing and needs a folder to write to: prepare rirs --simulate -o BANKS")
    from samevoice.data import simulate as simulated

    with bad_input():
        made = simulated.simulate(output, rooms, noises, seed, lambda items: track(items, rooms + noises, "simulating"))
    if as_json:
        print_json({"output": str(output), "simulated": True, "rooms": len(made[0]), "noises": len(made[1])})
    else:
        say(simulated.NOTICE.strip())
        _print(f"{output}: banks of {len(made[0])} simulated rooms and {len(made[1])} simulated noises")


@app.command("csv", help=CORPORA["csv"] + ".")
def csv_table(
    folder: Annotated[Path | None, typer.Argument(metavar="[TABLE]", help="The CSV or TSV.")] = None,
    output: OutputOption = None,
    root: Annotated[Path | None, typer.Option(help="What its paths are relative to (its own folder).")] = None,
    path_column: Annotated[str | None, typer.Option(help="The column with the path, if its name is unusual.")] = None,
    speaker_column: SpeakerColumnOption = None,
    jobs: JobsOption = None,
    convert: ConvertOption = None,
    prefix: PrefixOption = "",
    recheck: RecheckOption = False,
    as_json: JsonOption = False,
) -> None:
    options = {"root": root, "path_column": path_column, "speaker_column": speaker_column}
    _prepare("csv", folder, output, jobs, convert, prefix, recheck, as_json, **options)


@app.command(help=CORPORA["hf"] + ".")
def hf(
    folder: Annotated[Path | None, typer.Argument(help="Its folder, or OWNER/NAME, which is downloaded.")] = None,
    output: OutputOption = None,
    speaker_column: SpeakerColumnOption = None,
    offline: OfflineOption = False,
    jobs: JobsOption = None,
    convert: ConvertOption = None,
    prefix: PrefixOption = "",
    recheck: RecheckOption = False,
    as_json: JsonOption = False,
) -> None:
    copies = output.parent / f"{output.stem}-audio" if output else None
    options = {"copies": copies, "offline": offline, "speaker_column": speaker_column}
    _prepare("hf", folder, output, jobs, convert, prefix, recheck, as_json, **options)


@app.command()
def shards(
    manifest: Annotated[Path, typer.Argument(help="A manifest.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write the shards to.")],
    size: Annotated[int, typer.Option(min=1, help="Of a shard, in MB.")] = 512,
    seed: SeedOption = 0,
    mix: Annotated[bool, typer.Option(help="Spread each speaker over all shards, or keep the order.")] = True,
    convert: ConvertOption = None,
    jobs: JobsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pack a manifest's recordings into webdataset tars, for clusters and object storage."""
    from samevoice.data import manifest as manifests
    from samevoice.data import shards as tars

    with _told():
        table = manifests.read(manifest)
        packed = tars.pack(table, output, size, seed, mix, _converts(convert), jobs, track)
    if as_json:
        print_json({"output": str(output), **asdict(packed)})
        return
    was_there = packed.shards - packed.written
    earlier = f", {was_there} of them by an earlier run" if was_there else ""
    _print(f"{output}: {packed.utterances:,} utterances in {packed.shards} shards{earlier}")
    _failures(packed.failed, None)


@app.command()
def banks(
    sources: Annotated[list[str], typer.Argument(help="Manifests of musan and rirs, or KIND=FOLDER.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The banks' folder.")],
    as_json: JsonOption = False,
) -> None:
    """Put noise, music, speech and impulse responses into the arrays that training reads.

    KIND is noise, music, speech or rir: `prepare banks musan.parquet rir=my-rooms/ -o banks`.
    """
    from samevoice.data import banks as bank_files

    recordings: dict[str, list] = {}
    with bad_input():
        for source in sources:
            kind, equals, place = source.partition("=")
            found = {kind: bank_files.in_directory(Path(place))} if equals else bank_files.in_manifest(Path(source))
            if not any(found.values()):
                raise BadInput(f"{source}: holds no noise, music, speech or rir")
            for kind, some in found.items():
                recordings.setdefault(kind, []).extend(some)
        made = {}
        for kind, some in recordings.items():
            count = len(some)
            made[kind] = bank_files.build(kind, some, output, lambda items, n=count: track(items, n, "reading"))
    if as_json:
        told = {k: {"recordings": len(bank), "failed": [str(e) for e in failed]} for k, (bank, failed) in made.items()}
        print_json({"output": str(output), "banks": told})
        return
    for kind, (bank, failed) in made.items():
        _print(f"{output / kind}: {len(bank):,} recordings")
        for error in failed:
            stderr.print(f"left out: {error}", style="yellow", markup=False, highlight=False, soft_wrap=True)


@app.command()
def preview(
    recipe: Annotated[Path, typer.Argument(help="A YAML file with a block `augmentation`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to.")] = Path("preview"),
    manifest: Annotated[Path | None, typer.Option(help="Whose recordings (the recipe's; else our samples).")] = None,
    banks: Annotated[Path | None, typer.Option(help="Whose noise and rooms (the recipe's).")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many examples.")] = 10,
    seconds: Annotated[float | None, typer.Option(help="How long (the recipe's, or 3).")] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Write augmented examples as wav, and a picture of their filter banks: what the network hears."""
    from samevoice.data.preview import preview as write

    with bad_input():
        made = write(recipe, output, manifest, banks, count, seconds, seed)
    if as_json:
        print_json({"output": str(output), "examples": made})
        return
    for example in made:
        _print(f"{example.path}: {example.text} ({example.utterance})")
    _print(str(output / "examples.png"))


def _prepare(
    name: str,
    folder: Path | None,
    output: Path | None,
    jobs: int | None,
    convert: str | None,
    prefix: str,
    recheck: bool,
    as_json: bool,
    **options,
) -> None:
    from samevoice.data import corpora
    from samevoice.data.prepare import prepare

    corpus = corpora.find(name)
    if folder is None:
        _print(f"{CORPORA[name]}.\n{corpus.get}".strip())
        _print(f"Then: samevoice prepare {name} DIR -o {name}.parquet\nDIR holds {corpus.layout}")
        return
    if output is None:
        raise BadInput(f"say where the manifest goes, such as -o {name}.parquet")
    if output.suffix != ".parquet":
        raise BadInput(f"{output}: the manifest's name must end in .parquet")
    if name != "hf" and not folder.exists():
        raise BadInput(
            f"{folder}: no such {'file' if name == 'csv' else 'folder'}" + f"\n{corpus.get}" * bool(corpus.get)
        )
    try:
        with _told():
            summary = prepare(corpus, folder, output, jobs, _converts(convert), prefix, recheck, track=track, **options)
    except KeyboardInterrupt:
        say("what has been decoded is kept: the same command goes on from there")
        raise
    if as_json:
        print_json({**asdict(summary), "output": str(output), "complete": summary.complete})
    else:
        _report(summary)


def _report(summary) -> None:
    from rich.table import Column, Table

    numbers = [Column(name, justify="right") for name in ("speakers", "of", "utterances", "of", "hours")]
    table = Table("part", *numbers)
    for part in summary.parts:
        there = part.published
        cells = (part.speakers, there and there.speakers, part.utterances, there and there.utterances)
        short = there is not None and part.utterances < there.utterances
        table.add_row(
            part.split or "all", *(f"{n:,}" if n is not None else "" for n in cells), f"{part.hours:,.1f}",
            style="yellow" if short else None,
        )  # fmt: skip
    stdout.print(table)
    if absent := [part.split for part in summary.parts if not part.utterances]:
        _print(f"not there: {', '.join(absent)}")
    for part in summary.parts:
        if part.published and 0 < part.utterances < part.published.utterances:
            lacking = part.published.utterances - part.utterances
            _print(f"{part.split}: {lacking:,} of {part.published.utterances:,} published utterances are missing")
        if part.missing_speakers:
            names = ", ".join(part.missing_speakers[:SHOWN])
            more = f" and {len(part.missing_speakers) - SHOWN:,} more" if len(part.missing_speakers) > SHOWN else ""
            _print(f"{part.split}: nothing of {len(part.missing_speakers):,} speakers: {names}{more}")
    for trials in summary.trials:
        counted = "" if trials.trials == trials.published else f" (published: {trials.published:,})"
        _print(f"{trials.name}: {trials.trials:,} trials{counted}, {trials.missing:,} of their utterances are missing")
    _failures(summary.failed, summary.output.with_suffix(".failed.csv"))
    _print(f"{summary.output}: {sum(part.utterances for part in summary.parts):,} utterances")


def _failures(failed: list, place: Path | None) -> None:
    for failure in failed[:SHOWN]:
        text = f"left out: {failure.path}: {failure.problem}"
        stderr.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if len(failed) > SHOWN:
        stderr.print(f"... and {len(failed) - SHOWN:,} more", style="yellow", highlight=False)
    if failed and place:
        stderr.print(f"all that was left out: {place}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def _converts(convert: str | None) -> bool:
    if convert not in (None, "flac"):
        raise BadInput(f"--convert {convert}: only flac can be written")
    return convert is not None


@contextmanager
def _told() -> Iterator[None]:
    """What is wrong with the user's corpus or manifest, as a message; our own mistakes keep their traceback."""
    from samevoice.data.corpora import CorpusError
    from samevoice.data.manifest import ManifestError

    try:
        yield
    except (CorpusError, ManifestError) as error:
        raise BadInput(str(error)) from None


def _print(text: str) -> None:
    stdout.print(text, markup=False, highlight=False, soft_wrap=True)
