"""The table of commands, and the one place where errors become messages and exit statuses."""

import json
import sys
import traceback

import typer

from samevoice.cli import analyze, demo, embed, evaluate, export, models, prepare, runs, train, verify
from samevoice.cli.output import BadInput, stderr

TRAIN_PACKAGES = {
    *("accelerate", "matplotlib", "onnx", "onnxscript", "peft", "pydantic", "pyroomacoustics", "safetensors"),
    *("sklearn", "tensorboard", "torch", "transformers", "webdataset"),
}
DEFECT = 70  # EX_SOFTWARE: Python's own 1 would tell a program that the voices differ

app = typer.Typer(
    name="samevoice",
    help="Is this the same voice? Exit status: 0 done or same voice, 1 different voice, 2 bad input or usage.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("verify")(verify.verify)
app.command("embed")(embed.embed)
app.command("demo")(demo.demo)
app.command("export")(export.export)
app.add_typer(models.app, name="models")
app.add_typer(prepare.app, name="prepare")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(analyze.app, name="analyze")
app.add_typer(train.app, name="train")
app.add_typer(runs.app, name="runs")


def main() -> None:
    """Run the command line; bad input ends in one clear line and exit status 2, a defect of ours in 70."""
    try:
        app()
    except KeyboardInterrupt:
        stderr.print("interrupted")
        sys.exit(130)
    except BrokenPipeError:  # `samevoice ... | head`
        sys.stderr.close()
        sys.exit(128 + 13)  # as a shell tells a SIGPIPE; 1 would say "different voices"
    except Exception as error:
        message = _for_user(error)
        if message is None:
            traceback.print_exc()
            sys.exit(DEFECT)
        if "--json" in sys.argv:
            print(json.dumps({"error": message}, ensure_ascii=False))
        stderr.print("error:", message, style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)


def _for_user(error: Exception) -> str | None:
    """The message of an error that is the user's to mend; None for one of ours, which keeps its traceback."""
    from samevoice.audio import AudioError
    from samevoice.hub import HubError

    if isinstance(error, AudioError | HubError | BadInput):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in TRAIN_PACKAGES:
        return f"this command needs {error.name}; install it with: pip install 'samevoice[train]'"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return None
