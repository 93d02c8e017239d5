import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samevoice.data import sampling
from samevoice.data.sampling import ShardBatches, ShuffledBatches, SpeakerBatches


def manifest(counts, sessions: int = 0, shards: int = 1) -> pa.Table:
    """Speaker i with counts[i] utterances, spread over this many sessions; men and women alternate."""
    rows = [
        {
            "utterance": f"s{i}/{j}",
            "speaker": f"s{i}",
            "session": f"s{i}-{j % sessions}" if sessions else "",
            "gender": "fm"[i % 2],
            "shard": f"{(i + j) % shards:06d}.tar",
        }
        for i, n in enumerate(counts)
        for j in range(n)
    ]
    return pa.Table.from_pylist(rows)


def rows(batches) -> list[int]:
    return [row for batch in batches for row, _ in batch]


def test_keys_never_change():
    assert sampling.key(0, 0, "id10001/1zcIwhmdeo4/00001.wav") == 15495814373591433651
    assert sampling.key(0, 1, "id10001/1zcIwhmdeo4/00001.wav") == 5818656129907597318
    assert sampling.below(0, 2**64) == 0xE220A8397B1DCDAF  # the first number of splitmix64 from state 0
    assert [sampling.below(12345, 1000, stream) for stream in range(4)] == [133, 204, 119, 176]


def test_draws_are_even_and_streams_independent():
    keys = [sampling.key(0, 0, str(i)) for i in range(4000)]
    counts = np.histogram2d([sampling.below(k, 4, 0) for k in keys], [sampling.below(k, 4, 1) for k in keys], bins=4)[0]
    assert np.abs(counts - 250).max() < 6 * np.sqrt(250 * 15 / 16) * 0.8  # five standard deviations


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 2**64 - 1))
def test_a_crop_is_a_piece_and_a_short_recording_starts_again(samples, length, key):
    recording = np.arange(samples, dtype=np.float32)
    crop = sampling.crop(recording, length, key)
    assert crop.dtype == np.float32
    assert len(crop) == length
    start = int(crop[0])
    assert (crop == (start + np.arange(length)) % samples).all()
    assert start == 0 if samples <= length else start + length <= samples


def test_crops_reach_every_place():
    starts = {sampling.crop_start(10, 7, sampling.key(0, epoch, "a")) for epoch in range(100)}
    assert starts == {0, 1, 2, 3}


def test_nothing_can_be_repeated():
    with pytest.raises(ValueError, match="without samples"):
        sampling.crop(np.zeros(0, np.float32), 5, 0)


def test_an_epoch_has_every_utterance_once_and_the_next_another_order():
    batches = ShuffledBatches(manifest([5, 1, 9, 3]), 4, drop_last=False)
    first = rows(batches)
    assert sorted(first) == list(range(18))
    batches.resume(1)
    second = rows(batches)
    assert sorted(second) == list(range(18))
    assert second != first


def test_the_order_is_the_utterances_not_the_rows():
    table = manifest([5, 1, 9, 3])
    mixed = table.take(pa.array(np.random.default_rng(0).permutation(18)))

    def names(table):
        return [table["utterance"][row].as_py() for row in rows(ShuffledBatches(table, 4))]

    assert names(table) == names(mixed)


def test_speakers_are_numbered_by_their_names():
    batches = ShuffledBatches(manifest([1, 1, 1]).take(pa.array([2, 0, 1])), 1)
    assert batches.speakers.tolist() == [2, 0, 1]  # labels of a classifier, so no matter which row comes first


def test_keys_are_those_of_the_utterance():
    table = manifest([5, 4])
    batches = ShuffledBatches(table, 3, seed=7)
    batches.resume(2)
    assert all(k == sampling.key(7, 2, table["utterance"][row].as_py()) for batch in batches for row, k in batch)


def test_at_most_n_of_a_speaker_and_others_next_time():
    table = manifest([50, 2, 20])
    batches = ShuffledBatches(table, 1, per_speaker=5)
    heard = set()
    for epoch in range(12):
        batches.resume(epoch)
        epoch_rows = rows(batches)
        counts = np.bincount(batches.speakers[epoch_rows])
        assert counts.tolist() == [5, 2, 5]
        heard |= set(epoch_rows)
    assert len(heard & set(range(50))) > 25


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_are_disjoint_and_their_union_is_the_epoch(drop_last, world):
    table = manifest([7, 11, 13, 6])  # 37
    each = [ShuffledBatches(table, 4, rank=r, world=world, drop_last=drop_last) for r in range(world)]
    parts = [rows(batches) for batches in each]
    assert len({len(batches) for batches in each}) == 1
    everything = sorted(itertools.chain(*parts))
    assert len(set(everything)) == len(everything) == (37 // (4 * world) * 4 * world if drop_last else 37)
    if not drop_last:
        sizes = [len(batch) for batches in each for batch in batches]
        assert max(sizes) - min(sizes) <= 2


def test_global_batches_do_not_depend_on_the_number_of_processes():
    table = manifest([20, 30, 14])
    one = [sorted(row for row, _ in batch) for batch in ShuffledBatches(table, 8)]
    two = [
        sorted(row for batch in pair for row, _ in batch)
        for pair in zip(*(ShuffledBatches(table, 4, rank=r, world=2) for r in range(2)), strict=True)
    ]
    assert one == two


@pytest.mark.parametrize("make", [
    lambda: ShuffledBatches(manifest([20, 30, 14]), 4, seed=3),
    lambda: SpeakerBatches(manifest([20, 30, 14]), 2, 3, seed=3),
    lambda: ShardBatches(manifest([20, 30, 14], shards=5), 4, seed=3, window=2),
])  # fmt: skip
def test_resuming_gives_the_rest(make):
    whole = make()
    whole.resume(4)
    half = make()
    half.resume(4, 2)
    assert list(half) == list(whole)[2:]
    assert len(half) == len(whole) - 2 > 0
    assert list(half) == list(half)  # iterating moves nothing


def test_a_share_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="rank 2 of 2"):
        ShuffledBatches(manifest([4]), 2, rank=2, world=2)
    with pytest.raises(ValueError, match="1 utterances can't be shared by 2"):
        list(ShuffledBatches(manifest([1]), 2, world=2))


@given(st.lists(st.integers(0, 12), min_size=6, max_size=20), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2))
def test_speaker_batches(counts, speakers, each, world):
    counts += [each] * speakers * world
    table = manifest(counts)
    share = [SpeakerBatches(table, speakers, each, rank=r, world=world) for r in range(world)]
    seen = []
    for parts in zip(*share, strict=True):
        heard = [[int(share[0].speakers[row]) for row, _ in batch] for batch in parts]
        assert all(len(batch) == speakers * each for batch in heard)
        groups = [tuple(batch[i : i + each]) for batch in heard for i in range(0, len(batch), each)]
        assert all(len(set(group)) == 1 for group in groups)
        assert len({group[0] for group in groups}) == speakers * world
        seen += [row for batch in parts for row, _ in batch]
    assert len(seen) == len(set(seen)) > 0


def test_speaker_batches_lose_little():
    batches = SpeakerBatches(manifest([10] * 30 + [200]), 5, 2)
    used = sorted(np.bincount(batches.speakers[rows(batches)]).tolist())
    assert used[:30] == [10] * 30  # 150 groups, and nearly as many of the big speaker's as there are batches
    assert len(batches) == 37
    assert used[30] == 2 * (37 * 5 - 150)


def test_speakers_with_too_few_utterances_are_counted():
    assert SpeakerBatches(manifest([3, 1, 4, 2]), 2, 3).left_out == 2
    with pytest.raises(ValueError, match="1 speakers have 4 utterances or more"):
        SpeakerBatches(manifest([3, 1, 4, 2]), 2, 4)
    with pytest.raises(ValueError, match="groups of 3"):
        SpeakerBatches(manifest([3, 3]), 2, 3, per_speaker=2)


@pytest.mark.parametrize("drop_last", [True, False])
def test_processes_read_their_own_shards(drop_last):
    table = manifest([40] * 12, shards=7)
    shard = np.array(table["shard"].to_pylist())
    of_first = []
    for epoch in range(3):
        share = [ShardBatches(table, 5, drop_last=drop_last, rank=r, world=2) for r in range(2)]
        for batches in share:
            batches.resume(epoch)
        parts = [rows(batches) for batches in share]
        assert not set(shard[parts[0]]) & set(shard[parts[1]])
        assert len({len(batches) for batches in share}) == 1
        together = parts[0] + parts[1]
        assert len(set(together)) == len(together)
        if not drop_last:
            assert len(together) == 480
        of_first.append(frozenset(shard[parts[0]]))
    assert len(set(of_first)) > 1  # epochs deal the shards anew


def test_few_shards_are_open_at_a_time():
    table = manifest([40] * 12, shards=12)
    shard = np.array(table["shard"].to_pylist())
    order = shard[rows(ShardBatches(table, 1, window=3))]
    windows = [set(order[i : i + 120]) for i in range(0, 480, 120)]
    assert [len(window) for window in windows] == [3, 3, 3, 3]
    assert len(set().union(*windows)) == 12
    with pytest.raises(ValueError, match="1 shards can't be shared by 2"):
        ShardBatches(manifest([3]), 1, world=2)


def test_pairs_are_of_two_sessions_and_balanced():
    table = manifest([6] * 5 + [60], sessions=3)
    left, right, same = sampling.pairs(table, 36, 60)
    speakers = np.array(table["speaker"].to_pylist())
    sessions = np.array(table["session"].to_pylist())
    assert same.sum() == 36
    assert len(same) == 96
    assert ((speakers[left] == speakers[right]) == same).all()
    assert (sessions[left] != sessions[right]).all()
    assert len({frozenset(pair) for pair in zip(left, right, strict=True)}) == 96
    assert set(np.unique(speakers[left[same]], return_counts=True)[1]) == {6}
    of_nontargets = np.unique(np.concatenate([speakers[left[~same]], speakers[right[~same]]]), return_counts=True)[1]
    assert set(of_nontargets) == {20}


def test_all_pairs_come_before_there_are_fewer():
    table = manifest([4, 5, 1], sessions=2)
    _, _, same = sampling.pairs(table, 1000, 1000)
    assert same.sum() == 2 * 2 + 3 * 2  # of the 4: 2 + 2 in two sessions; of the 5: 3 + 2
    assert (~same).sum() == 4 * 5 + 4 + 5


def test_unknown_sessions_are_their_own():
    left, _, same = sampling.pairs(manifest([3, 1]), 10, 0)
    assert len(left) == same.sum() == 3


def test_pairs_of_one_gender():
    table = manifest([2] * 6)
    genders = np.array(table["gender"].to_pylist())
    left, right, _ = sampling.pairs(table, 0, 1000, same_gender=True)
    assert (genders[left] == genders[right]).all()
    assert len(left) == 2 * (3 * 4)


def test_two_speakers_in_one_video_are_no_nontarget_pair():
    table = manifest([1, 1, 1])
    table = table.set_column(table.column_names.index("session"), "session", pa.array(["v", "v", "w"]))
    left, right, _ = sampling.pairs(table, 0, 10)
    assert {frozenset(p) for p in zip(left.tolist(), right.tolist(), strict=True)} == {
        frozenset({0, 2}),
        frozenset({1, 2}),
    }
