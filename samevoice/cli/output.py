"""What all commands share: consoles, JSON, the model option."""

import json
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

Item = TypeVar("Item")

stdout = Console()
stderr = Console(stderr=True)


class BadInput(ValueError):  # noqa: N818
    """A user's mistake that the command itself notices; ends in exit status 2."""


ModelOption = Annotated[str, typer.Option("--model", "-m", help="A card's name, a model's folder, or a hub id.")]
DeviceOption = Annotated[str, typer.Option(help="cpu or cuda.")]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Touch no network.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
MaxHoursOption = Annotated[float, typer.Option(help="Refuse longer recordings.")]


def print_json(value: Any) -> None:
    """One JSON document on standard output; dataclasses become objects."""

    def plain(item: Any) -> Any:
        return asdict(item) if is_dataclass(item) and not isinstance(item, type) else str(item)

    print(json.dumps(value, default=plain, ensure_ascii=False))


@contextmanager
def bad_input():
    """Turn the ValueError of a wrong option's value into a message for the user."""
    try:
        yield
    except ValueError as error:
        raise error if isinstance(error, BadInput) else BadInput(str(error)) from None


def load_verifier(model: str, device: str, offline: bool, max_hours: float):
    """The Verifier, saying on standard error what is fetched from where when the model isn't in the cache."""
    from samevoice.hub import find_model
    from samevoice.runtime import Verifier

    with bad_input():
        return Verifier(*find_model(model, offline, say=say), device, max_hours)


def say(message: str) -> None:
    stderr.print(message, style="dim", markup=False, highlight=False)


def track(items: Iterable[Item], total: int, what: str = "embedding") -> Iterable[Item]:
    """A progress bar on standard error over so many items (0: nobody knows), where somebody sees it."""
    from rich.progress import track as bar

    return bar(items, what, total or None, console=stderr, disable=not stderr.is_terminal, transient=True)
