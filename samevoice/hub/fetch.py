"""Bring one published file: from ModelScope, Hugging Face, a wheel on the package index, or this machine."""

import http.client
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from samevoice.hub.cards import Source
from samevoice.hub.errors import HubError

TIMEOUT = 20  # seconds without an answer before the next source is tried


def fetch(source: Source, folder: Path) -> Path:
    """Download the source's file into `folder` and return its path. HubError says why not."""
    if source.kind not in _FETCHERS:
        raise HubError(f"unknown kind of source {source.kind!r}; valid: {', '.join(_FETCHERS)}")
    return _FETCHERS[source.kind](source, folder)


def _modelscope(source: Source, folder: Path) -> Path:
    revision = source.revision or "master"
    url = f"https://www.modelscope.cn/models/{source.id}/resolve/{revision}/{source.file}"
    target = folder / Path(source.file).name
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, target.open("wb") as file:
            while block := answer.read(1 << 20):
                file.write(block)
            promised = answer.headers["Content-Length"]
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise HubError(f"{url}: {getattr(error, 'reason', None) or error}") from None
    if promised and target.stat().st_size != int(promised):
        raise HubError(f"{url}: the connection ended after {target.stat().st_size} of {promised} bytes")
    return target


def _huggingface(source: Source, folder: Path) -> Path:
    import huggingface_hub

    try:
        path = huggingface_hub.hf_hub_download(
            source.id, source.file, revision=source.revision or None, local_dir=folder, etag_timeout=TIMEOUT
        )
    except Exception as error:  # its own errors and those of its HTTP library, which differs from release to release
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise HubError(f"huggingface.co/{source.id}: {reason}") from None
    return Path(path)


def _pypi(source: Source, folder: Path) -> Path:
    """One member of a wheel. The wheel is only a parcel, so one for another platform or Python than ours will do."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--implementation", "cp"]
    command += ["--abi", "cp311", "--timeout", str(TIMEOUT), "--retries", "1", "--dest", str(folder), source.id]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        hint = "; `python -m ensurepip` installs pip" if "No module named pip" in done.stderr else ""
        raise HubError(f"pip download {source.id}: {errors[-1] if errors else 'failed without a message'}{hint}")
    wheel = next(folder.glob("*.whl"))
    target = folder / Path(source.file).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.file) as member, target.open("wb") as file:
            while block := member.read(1 << 20):
                file.write(block)
    except (zipfile.BadZipFile, KeyError) as error:
        raise HubError(f"{wheel.name}: {error}") from None
    return target


def _file(source: Source, folder: Path) -> Path:
    path = Path(source.file).expanduser()
    if not path.is_file():
        raise HubError(f"{path}: no such file")
    return path


_FETCHERS = {"modelscope": _modelscope, "huggingface": _huggingface, "pypi": _pypi, "file": _file}
NETWORK = {"modelscope", "huggingface", "pypi"}
