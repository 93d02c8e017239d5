import logging
import os
import threading

import numpy as np
import pyarrow as pa
import pytest
import soundfile

torch = pytest.importorskip("torch")

from samevoice.audio import RATE, read  # noqa: E402
from samevoice.audio.fbank import FbankSettings, fbank  # noqa: E402
from samevoice.evaluation import metrics, protocols  # noqa: E402
from samevoice.evaluation import trials as lists  # noqa: E402
from samevoice.models.base import SpeakerNetwork  # noqa: E402
from samevoice.training import validation  # noqa: E402
from samevoice.training.validation import Validation, held_out  # noqa: E402

FEATURES = FbankSettings(mels=24)


class Tiny(SpeakerNetwork):
    """A random layer, and the mean over time; remembers what it was given."""

    embedding_dim = 16

    def __init__(self, width=24):
        super().__init__()
        self.layer = torch.nn.Linear(width, 16)
        self.norm = torch.nn.BatchNorm1d(16)
        torch.nn.init.normal_(self.layer.weight, generator=torch.Generator().manual_seed(0))
        torch.nn.init.zeros_(self.layer.bias)
        self.seen = []

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        assert not self.training
        assert len(x) == 1 or x[:, -1].abs().amax(-1).gt(0).all()  # no row is filled up with zeros
        torch.rand(3)  # as transformers does in evaluation mode too
        return self.norm(torch.tanh(self.layer(x)).mean(1))


class Padded(Tiny):
    takes_lengths = True

    def forward(self, x, lengths=None):
        if lengths is None:
            return super().forward(x)
        self.seen.append(tuple(x.shape))
        real = torch.arange(x.shape[1])[None] < lengths[:, None]
        return self.norm((torch.tanh(self.layer(x)) * real[..., None]).sum(1) / lengths[:, None])


class Wave(Tiny):
    input_kind = "waveform"

    def __init__(self):
        super().__init__(100)

    def forward(self, x):
        return super().forward(x[:, : x.shape[1] // 100 * 100].unflatten(1, (-1, 100)))


@pytest.fixture(scope="module")
def table(samples):
    return protocols.recordings(samples)


@pytest.fixture(scope="module")
def trials(table):
    return lists.all_pairs(table["utterance"].to_pylist(), table["speaker"].to_pylist())


def by_hand(network, table, trials, inputs):
    """The error rates with one recording at a time. inputs: from a path to the network's input."""
    network = type(network)().eval()
    with torch.no_grad():
        rows = [network(torch.from_numpy(inputs(path))[None])[0].numpy() for path in table["path"].to_pylist()]
    rows = dict(zip(table["utterance"].to_pylist(), (row / np.linalg.norm(row) for row in rows), strict=True))
    pairs = zip(trials.enrol, trials.test, strict=True)
    scores = [rows[trials.enrolments[a]] @ rows[trials.tests[b]] for a, b in pairs]
    return metrics.eer(scores, trials.labels), metrics.min_dcf(scores, trials.labels, 0.01)


@pytest.mark.parametrize("kind", [Tiny, Padded])
def test_figures_are_those_of_one_recording_at_a_time(table, trials, kind):
    network = kind()
    found = Validation(table, trials, FEATURES).run(network, "cpu")
    eer, cost = by_hand(network, table, trials, lambda path: fbank(read(path), FEATURES))
    assert found == {
        "eer": pytest.approx(eer),
        "min_dcf_0.01": pytest.approx(cost),
        "trials": len(trials),
        "skipped": 0,
    }
    assert 0.01 < eer < 0.5  # a random layer hears something
    assert sum(shape[0] for shape in network.seen) == len(table)
    if kind is Padded:
        assert len(network.seen) < len(table)  # several together


def test_waveforms_and_only_the_first_seconds(table, trials):
    network = Wave()
    found = Validation(table, trials, None, seconds=1.5).run(network, "cpu")
    eer, cost = by_hand(network, table, trials, lambda path: read(path)[: RATE * 3 // 2])
    assert (found["eer"], found["min_dcf_0.01"]) == (pytest.approx(eer), pytest.approx(cost))
    assert {shape[1] for shape in network.seen} == {RATE * 3 // 2 // 100}
    assert len(network.seen) == 1  # all are of one length


def test_longest(table, trials):
    network = Tiny()
    Validation(table, trials, FEATURES, longest=2.0).run(network, "cpu")
    assert max(shape[1] for shape in network.seen) == 198


def test_batches_hold_no_more_than_they_should(table, trials, monkeypatch):
    monkeypatch.setattr(validation, "BATCH_SECONDS", 5.0)
    network = Tiny()
    Validation(table, trials, FEATURES, seconds=1.0).run(network, "cpu")
    assert {shape[0] for shape in network.seen} == {5, len(table) % 5}


def test_modes_and_random_numbers_are_as_before(table, trials):
    network = Tiny()
    network.train()
    network.norm.eval()  # frozen
    torch.manual_seed(1)
    expected = torch.rand(4)
    torch.manual_seed(1)
    Validation(table, trials, FEATURES).run(network, "cpu")
    assert torch.equal(torch.rand(4), expected)
    assert (network.training, network.layer.training, network.norm.training) == (True, True, False)


def test_modes_come_back_after_an_error(table, trials):
    network = Tiny().train()
    with torch.no_grad():
        network.layer.weight[0] = float("nan")
    with pytest.raises(ValueError, match=r"of 24 of 24 recordings .* such as of .*flac: training has diverged"):
        Validation(table, trials, FEATURES).run(network, "cpu")
    assert network.training


def test_processes_share_the_recordings(table, trials):
    one = Validation(table, trials, FEATURES).run(Tiny(), "cpu")
    world = 5  # 24 recordings: one of the processes has fewer
    lists_given, found = {}, {}
    networks = [Tiny() for _ in range(world)]
    barrier = threading.Barrier(world, timeout=60)

    def process(rank):
        def gather(items):
            lists_given[rank] = items
            barrier.wait()
            together = [item for other in range(world) for item in lists_given[other]]
            barrier.wait()
            return together

        found[rank] = Validation(table, trials, FEATURES).run(networks[rank], "cpu", rank, world, gather)

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[rank] for rank in range(world)] == [one] * world
    turns = [len(network.seen) for network in networks]
    assert len(set(turns)) == 1  # as sharded networks need
    heard = [sum(shape[0] for shape in network.seen) for network in networks]
    assert max(heard) < len(table) / 3


@pytest.fixture
def broken(tmp_path, samples):
    """Six good recordings of three speakers, and three that can't be used."""
    rows = []
    for speaker in sorted(samples.iterdir())[1:4]:
        for path in sorted(speaker.glob("*.flac"))[:2]:
            copy = tmp_path / f"{speaker.name}-{path.name}"
            copy.write_bytes(path.read_bytes())
            rows.append({"utterance": copy.name, "speaker": speaker.name, "path": str(copy)})
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "short.wav", np.full(399, 0.1), RATE)
    for name in ("silent.wav", "short.wav", "missing.wav"):
        rows.append({"utterance": name, "speaker": rows[0]["speaker"], "path": str(tmp_path / name)})
    return pa.Table.from_pylist(rows)


def test_what_cannot_be_used_is_left_out_by_name(broken, caplog):
    table = broken
    trials = lists.all_pairs(table["utterance"].to_pylist(), table["speaker"].to_pylist())
    checked = Validation(table, trials, FEATURES)
    with caplog.at_level(logging.WARNING):
        found = checked.run(Tiny(), "cpu")
    assert (found["skipped"], found["trials"]) == (3, 6 * 5 // 2)
    told = "\n".join(sorted(record.getMessage() for record in caplog.records))
    assert "leaves missing.wav out" in told
    assert "leaves short.wav out" in told
    assert "399 samples" in told
    assert "leaves silent.wav out" in told
    assert "digital silence" in told
    caplog.clear()
    for path in table["path"].to_pylist()[:6]:
        os.unlink(path)
    assert checked.run(Tiny(), "cpu") == found  # from memory, and no second warning
    assert not caplog.records


def test_beyond_the_memory_it_reads_again(table, trials, monkeypatch):
    kept = Validation(table, trials, FEATURES).run(Tiny(), "cpu")
    monkeypatch.setattr(validation, "KEPT_BYTES", 100_000)
    checked = Validation(table, trials, FEATURES)
    assert checked.run(Tiny(), "cpu") == kept
    assert sum(item.nbytes for item in checked._kept.values()) <= 100_000
    assert 0 < len(checked._kept) < len(table)
    assert checked.run(Tiny(), "cpu") == kept


def test_utterances_inside_a_file(tmp_path, table):
    """A manifest's offsets: two utterances of one file are what two files would be."""
    paths = table["path"].to_pylist()[::6][:4]
    parts = [read(path)[: RATE * 2] for path in paths]
    soundfile.write(tmp_path / "all.wav", np.concatenate(parts), RATE, subtype="FLOAT")
    names = [f"u{i}" for i in range(4)]
    apart = [{"utterance": n, "speaker": n[-1], "path": p} for n, p in zip(names, paths, strict=True)]
    places = [{"path": str(tmp_path / "all.wav"), "offset": 2.0 * i, "duration": 2.0} for i in range(4)]
    inside = [{**row, **place} for row, place in zip(apart, places, strict=True)]
    rows = [(a, b, i == 0) for i, (a, b) in enumerate((a, b) for a in names for b in names if a < b)]
    trials = lists.of_rows(rows)
    network = Tiny()
    found = Validation(pa.Table.from_pylist(inside), trials, FEATURES).run(network, "cpu")
    assert network.seen == [(4, 198, 24)]
    assert found == Validation(pa.Table.from_pylist(apart), trials, FEATURES, seconds=2.0).run(Tiny(), "cpu")


def test_enrolments_of_several_utterances(table, trials):
    names, speakers = table["utterance"].to_pylist(), table["speaker"].to_pylist()
    models = {s: [n for n, other in zip(names, speakers, strict=True) if other == s][:2] for s in set(speakers)}
    rows = [(s, n, s == o) for s in sorted(models) for n, o in zip(names, speakers, strict=True) if n not in models[s]]
    found = Validation(table, lists.of_rows(rows, models), FEATURES).run(Tiny(), "cpu")
    assert found["trials"] == len(rows)
    assert 0 <= found["eer"] < 0.5


def test_trials_over_other_recordings_are_refused(table):
    with pytest.raises(ValueError, match="validation trials: 1 recordings are missing, .*: nobody.wav"):
        Validation(table, lists.of_rows([(table["utterance"][0].as_py(), "nobody.wav", True)]), FEATURES)


def people(counts, reverse=False):
    rows = [{"utterance": f"{s}/{i}", "speaker": s, "path": f"{s}/{i}", "session": "", "gender": ""}
            for s, n in counts.items() for i in range(n)]  # fmt: skip
    return pa.Table.from_pylist(rows[::-1] if reverse else rows)


COUNTS = {f"speaker{i}": 1 + i % 4 for i in range(40)}


def speakers(table):
    return set(table["speaker"].to_pylist())


def test_held_out_splits_by_speaker():
    table = people(COUNTS)
    train, held = held_out(table, 5)
    assert not speakers(train) & speakers(held)
    assert len(train) + len(held) == len(table)
    assert len(speakers(held)) == 5
    assert min(COUNTS[s] for s in speakers(held)) > 1
    # names alone decide: written down here, so that another release or machine can't choose others
    assert sorted(speakers(held)) == ["speaker22", "speaker25", "speaker3", "speaker37", "speaker5"]
    assert speakers(held_out(people(COUNTS, reverse=True), 5)[1]) == speakers(held)
    assert speakers(held_out(table, 5, seed=1)[1]) != speakers(held)
    assert speakers(held_out(table, 4)[1]) < speakers(held)


def test_held_out_takes_a_share():
    assert len(speakers(held_out(people(COUNTS), 0.2)[1])) == 8
    assert len(speakers(held_out(people(COUNTS), 0.001)[1])) == 2  # one makes no trials


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        (COUNTS, 1),  # makes no nontargets
        (COUNTS, 0),
        (COUNTS, 31),  # 30 have two recordings
        (COUNTS, 0.9),
        ({"a": 5, "b": 5, "c": 9}, 2),  # one is left to train on
        ({"a": 9, "b": 1, "c": 1, "d": 1}, 2),
    ],
)
def test_held_out_refuses_to_pretend(counts, wanted):
    with pytest.raises(ValueError, match=r"speakers can't be held out.*add recordings, or change held_out"):
        held_out(people(counts), wanted)


def test_few_recordings_make_every_pair():
    held = people({"a": 3, "b": 2})
    made = validation.trials(held)
    assert len(made) == 10
    assert made.labels.sum() == 4


def test_many_recordings_make_as_many_of_both_kinds():
    held = people({f"s{i}": 6 for i in range(12)})
    made = validation.trials(held, seed=0, count=100)
    assert (made.labels.sum(), len(made)) == (100, 200)
    again = validation.trials(people({f"s{i}": 6 for i in range(12)}, reverse=True), seed=0, count=100)

    def pairs(trials):
        return {
            frozenset((trials.enrolments[a], trials.tests[b])) for a, b in zip(trials.enrol, trials.test, strict=True)
        }

    assert pairs(again) == pairs(made)
    assert pairs(validation.trials(held, seed=1, count=100)) != pairs(made)


@pytest.mark.parametrize("counts", [{"a": 5}, {"a": 1, "b": 1, "c": 1}])
def test_trials_need_both_kinds(counts):
    with pytest.raises(ValueError, match="an error rate needs two speakers"):
        validation.trials(people(counts))
