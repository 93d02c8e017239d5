from functools import partial

import numpy as np
import pytest

from samevoice.evaluation import metrics
from samevoice.evaluation.bootstrap import breakdown, in_ranges, interval, intervals, paired, replicate_values


def trials(seed, speakers=40, gap=2.5):
    """Every pair of two recordings a speaker; scores move with the speakers, so trials are not independent."""
    random = np.random.default_rng(seed)
    who = np.repeat(np.arange(speakers), 2)
    e, t = np.triu_indices(len(who), 1)
    shift = 0.7 * random.standard_normal(speakers)
    labels = who[e] == who[t]
    scores = gap * labels + shift[who[e]] + shift[who[t]] + 0.5 * random.standard_normal(len(e))
    return scores, labels, who[e], who[t]


def mean_difference(scores, labels):
    return scores[labels].mean() - scores[~labels].mean()


def test_intervals_cover_the_truth_at_the_stated_rate():
    covered = 0
    for seed in range(100):
        low, high = interval(mean_difference, *trials(seed), replicates=100, confidence=0.9)
        covered += low <= 2.5 <= high
    assert 80 <= covered <= 98  # 90 expected; drawing trials in place of speakers covers far less


def test_weights_and_repeats_give_the_same_replicates():
    data = trials(0)
    fast = replicate_values(metrics.eer, *data, replicates=20)
    slow = replicate_values(lambda s, l: metrics.eer(s, l), *data, replicates=20)  # noqa: E741
    np.testing.assert_allclose(fast, slow, atol=1e-12)
    assert fast.std() > 0


def test_the_same_seed_is_the_same_interval():
    data, statistic = trials(0), partial(metrics.min_dcf, p_target=0.05)
    assert interval(statistic, *data, replicates=50) == interval(statistic, *data, replicates=50)
    assert interval(statistic, *data, replicates=50) != interval(statistic, *data, replicates=50, seed=1)


def test_paired_differences_are_narrower_than_two_intervals():
    scores, *rest = trials(0)
    worse = scores + 0.3 * np.random.default_rng(9).standard_normal(len(scores)) - 0.5 * rest[0]
    found = paired(metrics.eer, scores, worse, *rest, replicates=200)
    assert found.low <= found.value <= found.high
    assert found.distinct
    assert not paired(metrics.eer, scores, scores, *rest, replicates=20).distinct
    low, high = interval(metrics.eer, worse, *rest, replicates=200)
    assert found.high - found.low < high - low


def test_breakdown_fills_up_groups_of_one_kind():
    scores, labels, e, t = trials(0)
    groups = np.where(labels, "targets", np.where(e % 2, "odd", "even"))
    groups[labels & (e % 2 == 1)] = "odd"
    even, odd, targets = breakdown(metrics.eer, scores, labels, groups, e, t, replicates=50)
    assert (odd.targets + odd.nontargets, odd.targets) == ((groups == "odd").sum(), (labels & (e % 2 == 1)).sum())
    assert odd.interval[0] <= odd.value <= odd.interval[1]
    assert (even.targets, even.nontargets) == (labels.sum(), (groups == "even").sum())
    assert even.value == metrics.eer(scores[labels | (groups == "even")], labels[labels | (groups == "even")])
    assert (targets.targets, targets.nontargets) == ((groups == "targets").sum(), (~labels).sum())


def test_ranges_come_in_their_order_and_a_few_trials_are_no_group():
    scores, labels, e, t = trials(0, speakers=120)
    seconds = np.random.default_rng(0).choice([1, 3, 7, 12, np.nan], len(labels))
    groups = in_ranges(seconds, [2, 5, 10], "s")
    groups[np.flatnonzero(labels)[:4]] = "a few"
    groups[np.flatnonzero(~labels)[:20]] = "a few"
    parts = list(breakdown(metrics.eer, scores, labels, groups, e, t, replicates=0))
    assert [part.group for part in parts] == ["under 2 s", "2-5 s", "5-10 s", "10 s and over", "unknown"]
    assert parts[0].interval is None


def test_several_statistics_have_the_intervals_that_each_has_alone():
    scores, labels, e, t = trials(1)
    both = {"eer": metrics.eer, "difference": mean_difference}  # one weighs, one repeats
    found = intervals(both, scores, labels, e, t, replicates=30)
    assert found == {name: interval(s, scores, labels, e, t, replicates=30) for name, s in both.items()}


def test_too_few_speakers_have_no_interval():
    with pytest.raises(ValueError, match="too few speakers"):
        interval(metrics.eer, [1.0, 0.0], [1, 0], ["a", "a"], ["a", "b"], replicates=50)
