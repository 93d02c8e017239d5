"""`samevoice embed FILES -o out.npz`: embeddings of recordings, for other programs."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from samevoice.cli.output import (
    BadInput,
    DeviceOption,
    JsonOption,
    MaxHoursOption,
    ModelOption,
    OfflineOption,
    load_verifier,
    print_json,
    stderr,
    stdout,
)


def embed(
    files: Annotated[list[str], typer.Argument(help="Recordings, or folders that are searched for them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write: .npz or .parquet.")],
    model: ModelOption = "default",
    batch_size: Annotated[int, typer.Option(min=1, help="Recordings of equal length embedded together.")] = 16,
    device: DeviceOption = "cpu",
    max_hours: MaxHoursOption = 2.0,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the embedding of each recording. Bad ones are listed at the end, and then the exit status is 2."""
    if output.suffix not in _WRITERS:
        raise BadInput(f"{output}: the ending must be one of {', '.join(_WRITERS)}")
    paths = recordings(files)
    verifier = load_verifier(model, device, offline, max_hours)
    embedded, failed = _embed_all(verifier, paths, batch_size)
    if embedded:
        _WRITERS[output.suffix](output, verifier.card.name, embedded)
    if as_json:
        written = [{"path": path, "quality": result.quality} for path, result in embedded]
        problems = [{"path": e.name, "problem": e.problem} for e in failed]
        place = str(output) if embedded else None
        print_json({"output": place, "model": verifier.card.name, "embedded": written, "failed": problems})
    elif embedded:
        stdout.print(f"{len(embedded)} embeddings written to {output}", markup=False, highlight=False, soft_wrap=True)
    for error in failed:
        stderr.print(f"failed: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
    if failed:
        stderr.print(f"{len(failed)} of {len(paths)} recordings could not be embedded", style="red")
    if missing := len(paths) - len(embedded) - len(failed):
        stderr.print(f"interrupted: {missing} of {len(paths)} recordings were not reached", style="red")
        raise typer.Exit(130)
    if failed:
        raise typer.Exit(2)


def recordings(files: list[str]) -> list[str]:
    """The files themselves, and for each folder every recording in it, sorted; BadInput if a folder has none."""
    from samevoice.audio.formats import SUFFIXES, in_folder

    paths = []
    for name in files:
        if os.path.isdir(name):
            if not (found := in_folder(name)):
                raise BadInput(f"{name}: no recordings in this folder (looked for {' '.join(sorted(SUFFIXES))})")
            paths += found
        else:
            paths.append(name)
    return list(dict.fromkeys(paths))


def _embed_all(verifier, paths: list[str], batch_size: int):
    """(path, Embedded) in the order of the paths, and the errors; after Ctrl-C those that were finished."""
    from rich.progress import track

    from samevoice.audio import AudioError

    results = verifier.embed_each(paths, batch_size)
    quiet = len(paths) < 5 or not stderr.is_terminal
    found = {}
    with suppress(KeyboardInterrupt):  # what is finished is written
        for index, result in track(results, "embedding", len(paths), console=stderr, disable=quiet, transient=True):
            found[index] = result
    ordered = [(paths[i], found[i]) for i in sorted(found)]
    failed = [result for _, result in ordered if isinstance(result, AudioError)]
    return [(path, result) for path, result in ordered if not isinstance(result, AudioError)], failed


def _write_npz(output: Path, model: str, embedded: list) -> None:
    import numpy as np

    from samevoice.files import replacing

    with replacing(output) as temporary:
        np.savez(
            temporary,
            paths=np.array([path for path, _ in embedded]),
            embeddings=np.stack([result.embedding for _, result in embedded]),
            speech_seconds=np.array([result.quality.speech_seconds for _, result in embedded]),
            model=np.array(model),
        )


def _write_parquet(output: Path, model: str, embedded: list) -> None:
    from dataclasses import asdict

    import pyarrow
    import pyarrow.parquet

    from samevoice.files import replacing

    rows = [
        {"path": path, "model": model, **asdict(result.quality), "embedding": result.embedding.tolist()}
        for path, result in embedded
    ]
    dim = len(rows[0]["embedding"])
    table = pyarrow.Table.from_pylist(rows)
    column = pyarrow.array([row["embedding"] for row in rows], pyarrow.list_(pyarrow.float32(), dim))
    table = table.set_column(table.schema.get_field_index("embedding"), "embedding", column)
    with replacing(output) as temporary:
        pyarrow.parquet.write_table(table, temporary)


_WRITERS = {".npz": _write_npz, ".parquet": _write_parquet}
