"""`samevoice verify A B`: do two recordings hold the same voice?"""

from typing import Annotated

import typer

from samevoice.cli.output import (
    DeviceOption,
    JsonOption,
    MaxHoursOption,
    ModelOption,
    OfflineOption,
    bad_input,
    load_verifier,
    print_json,
    stderr,
    stdout,
)


def verify(
    a: Annotated[str, typer.Argument(help="A recording.", metavar="A")],
    b: Annotated[str, typer.Argument(help="Another one.", metavar="B")],
    model: ModelOption = "default",
    threshold: Annotated[float | None, typer.Option(help="The cosine from which two voices are the same.")] = None,
    operating_point: Annotated[
        str | None, typer.Option(help="The threshold for a false-alarm rate, such as far=0.1%.")
    ] = None,
    device: DeviceOption = "cpu",
    max_hours: MaxHoursOption = 2.0,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two recordings. Exit status 0: same voice, 1: different voice, 2: bad input."""
    verifier = load_verifier(model, device, offline, max_hours)
    with bad_input():
        verifier.threshold(threshold, operating_point)  # a wrong option is told before any work
    with stderr.status("listening"):  # hours of audio take minutes
        result = verifier.verify(a, b, threshold, operating_point)
    if as_json:
        print_json({**vars(result), "warnings": result.warnings})
    else:
        _show(result, a, b)
    raise typer.Exit(0 if result.same else 1)


def _show(result, a: str, b: str) -> None:
    from rich.table import Table
    from rich.text import Text

    verdict = Text("same voice", "bold green") if result.same else Text("different voices", "bold red")
    stdout.print(verdict)
    facts = Table.grid(padding=(0, 2))
    facts.add_row("score", f"{result.score:.3f}  (cosine; same from {result.threshold:.3f})")
    if result.llr is not None:
        facts.add_row("llr", f"{result.llr:+.1f}  ({odds(result.llr)})")
    facts.add_row("threshold", Text(result.threshold_reason))
    facts.add_row("model", Text(result.model))
    for label, path, quality in (("first", a, result.a), ("second", b, result.b)):
        facts.add_row(label, Text(f"{path}: {describe(quality)}"))
    stdout.print(facts)
    for warning in result.warnings:
        stdout.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)


def odds(llr: float) -> str:
    """A log-likelihood ratio in words."""
    import math

    times = math.exp(min(abs(llr), 50))
    count = f"{times:,.0f}" if times < 1000 else "over 1,000"  # further out no calibration has enough trials to tell
    return f"{count} times likelier from {'one voice' if llr > 0 else 'two voices'}"


def describe(quality) -> str:
    """A quality record in a line."""
    snr = "" if quality.snr_db is None else f", SNR {quality.snr_db:.0f} dB"
    return f"{quality.seconds:.1f} s, {quality.speech_seconds:.1f} s of speech{snr}"
