"""`samevoice export FOLDER -o model.onnx`: a network with its weights to ONNX, through the parity gate."""

from pathlib import Path
from typing import Annotated

import typer

from samevoice.cli.output import JsonOption, print_json, stdout


def export(
    folder: Annotated[Path, typer.Argument(help="A model's folder, with card.yaml and model.safetensors.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    half: Annotated[bool, typer.Option("--half", help="Keep the weights as float16, in half the bytes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write ONNX with free batch and length; refused if it differs from torch by more than 1e-4 on several lengths."""
    from samevoice.hub.convert import load_network
    from samevoice.hub.export import export as write

    difference = write(load_network(folder), output, half)
    if as_json:
        print_json({"output": str(output), "largest_difference": difference})
    else:
        text = f"{output} written; largest difference from torch {difference:.1e}"
        stdout.print(text, markup=False, highlight=False, soft_wrap=True)
