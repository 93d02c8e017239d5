import io
import subprocess
import urllib.error
import urllib.request
import zipfile

import huggingface_hub
import pytest

from samevoice.hub import HubError
from samevoice.hub.cards import Source
from samevoice.hub.fetch import fetch

WHEEL = "parcel-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"
WHEEL_META = "Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\nRequires-Dist: nothing-of-this-name\n"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index that is a folder, with one wheel that asks for CPython 3.11 on 64-bit Linux."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr("parcel/models/a.pt", b"weights")
        archive.writestr("parcel-1.0.dist-info/METADATA", WHEEL_META)
        archive.writestr("parcel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_28_x86_64\n")
        archive.writestr("parcel-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def test_a_member_of_a_wheel_for_any_platform(index, target):
    path = fetch(Source("pypi", "parcel/models/a.pt", "parcel==1.0"), target)
    assert path == target / "a.pt"
    assert path.read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("file", "requirement", "why"),
    [
        ("parcel/models/a.pt", "parcel==2.0", r"pip download parcel==2\.0: .*No matching distribution"),
        ("parcel/models/b.pt", "parcel==1.0", "parcel-1.0-.*no item named 'parcel/models/b.pt'"),
    ],
)
def test_what_a_wheel_lacks_is_told(file, requirement, why, index, target):
    with pytest.raises(HubError, match=why):
        fetch(Source("pypi", file, requirement), target)


def test_without_pip_the_way_to_it_is_told(target, monkeypatch):
    answer = subprocess.CompletedProcess([], 1, "", "/venv/bin/python: No module named pip\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    with pytest.raises(HubError, match="No module named pip; `python -m ensurepip` installs pip"):
        fetch(Source("pypi", "a.pt", "parcel==1.0"), target)


class Answer(io.BytesIO):
    """What urlopen returns."""

    def __init__(self, content: bytes, length: int | None):
        super().__init__(content)
        self.headers = {"Content-Length": None if length is None else str(length)}


def answering(monkeypatch, answer):
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        assert 0 < timeout < 60
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


@pytest.mark.parametrize("length", [7, None])
def test_modelscope(length, target, monkeypatch):
    asked = answering(monkeypatch, Answer(b"weights", length))
    path = fetch(Source("modelscope", "sub/a.pt", "iic/model", "v1.0.0"), target)
    assert asked == ["https://www.modelscope.cn/models/iic/model/resolve/v1.0.0/sub/a.pt"]
    assert path.read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (urllib.error.URLError("Name or service not known"), "Name or service not known"),
        (urllib.error.HTTPError("", 404, "Not Found", {}, None), "Not Found"),  # type: ignore[arg-type]
        (TimeoutError("timed out"), "timed out"),
        (ConnectionResetError("reset by peer"), "reset by peer"),
        (Answer(b"weig", 7), "ended after 4 of 7 bytes"),
    ],
)
def test_modelscope_failures_name_the_address(answer, why, target, monkeypatch):
    answering(monkeypatch, answer)
    with pytest.raises(HubError, match=rf"https://www\.modelscope\.cn/models/x/resolve/master/a\.pt: .*{why}"):
        fetch(Source("modelscope", "a.pt", "x"), target)


def test_huggingface(target, monkeypatch):
    def download(repo, file, revision, local_dir, **_):
        assert (repo, file, revision) == ("Wespeaker/x", "a.onnx", None)
        (local_dir / file).write_bytes(b"weights")
        return str(local_dir / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert fetch(Source("huggingface", "a.onnx", "Wespeaker/x"), target).read_bytes() == b"weights"


class ReadTimeout(Exception):  # noqa: N818
    """An error of an HTTP library, which is no OSError."""


@pytest.mark.parametrize(
    ("error", "why"),
    [(OSError("no route\nmore"), "no route"), (ReadTimeout(), "ReadTimeout"), (ValueError("bad id"), "bad id")],
)
def test_huggingface_failures_of_every_kind(error, why, target, monkeypatch):
    def download(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(HubError, match=f"^huggingface.co/Wespeaker/x: {why}$"):
        fetch(Source("huggingface", "a.onnx", "Wespeaker/x"), target)


def test_a_local_file_stays_where_it_is(target, tmp_path):
    (tmp_path / "a.pt").write_bytes(b"weights")
    assert fetch(Source("file", str(tmp_path / "a.pt")), target) == tmp_path / "a.pt"
    with pytest.raises(HubError, match="no such file"):
        fetch(Source("file", str(tmp_path / "b.pt")), target)


def test_unknown_kinds_of_source_are_told(target):
    with pytest.raises(HubError, match="unknown kind of source 'ftp'; valid: modelscope, huggingface, pypi, file"):
        fetch(Source("ftp", "a.pt", "x"), target)
