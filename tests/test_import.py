import os
import resource
import subprocess
import sys

import pytest

import samevoice


def imported(*arguments: str) -> set[str]:
    """The modules that a fresh Python imports to run this."""
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True)
    return {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def test_import_is_light():
    modules = imported("-c", "import samevoice")
    assert "samevoice" in modules
    assert not modules & {"torch", "onnxruntime", "numpy", "soundfile", "huggingface_hub", "samevoice.runtime"}


def test_help_is_light():
    modules = imported("-m", "samevoice", "--help")
    assert "samevoice.cli.app" in modules
    assert not modules & {"torch", "onnxruntime", "numpy", "soundfile", "av", "huggingface_hub", "yaml"}


def test_loading_a_model_needs_no_torch():
    modules = imported("-c", "import samevoice; samevoice.load; samevoice.hub.find_model; samevoice.audio.read")
    assert "samevoice.runtime.verifier" in modules
    assert not modules & {"torch", "onnx", "sklearn", "scipy", "av", "transformers"}


def test_help_takes_less_than_half_a_second_of_work():
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "samevoice", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.5


def test_everything_public_is_there():
    for name in samevoice.__all__:
        assert getattr(samevoice, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        samevoice.nothing  # noqa: B018


NO_TORCH = """
import sys
for name in ("torch", "onnx", "sklearn", "transformers", "safetensors"):
    sys.modules[name] = None  # importing it is an ImportError
import samevoice
result = samevoice.load(sys.argv[1]).verify(sys.argv[2], sys.argv[2])
print(result.same)
"""


def test_verify_runs_without_torch(tiny_model, samples):
    recording = samples / "carlo-flora-it" / "vm-newuser.flac"
    command = [sys.executable, "-c", NO_TORCH, str(tiny_model), str(recording)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "SAMEVOICE_OFFLINE": "1"}
    )
    assert done.stdout == "True\n"
