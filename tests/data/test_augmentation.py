import dataclasses
import io
from fractions import Fraction

import numpy as np
import pytest
import soundfile
import soxr

torch = pytest.importorskip("torch")
from samevoice.data.augment import (  # noqa: E402  # noqa: E402
    LAP,
    NAMED,
    THREE_D_SPEAKER,
    WILD,
    Augmentation,
    Plan,
    Planner,
    Source,
    from_mapping,
    mixture,
    spec,
    waveform,
)
from samevoice.data.augment.codecs import encode_decode  # noqa: E402
from samevoice.data.augment.examples import assemble, augmented, masked, one_thread  # noqa: E402
from samevoice.data.augment.telephone import from_8khz, g711, telephone, to_8khz  # noqa: E402
from samevoice.data.banks import BankError, Banks, Recording, build  # noqa: E402

RATE = 16000


def decibels(signal, noise) -> float:
    signal, noise = np.asarray(signal, np.float64), np.asarray(noise, np.float64)
    return 10 * np.log10(np.square(signal).mean() / np.square(noise).mean())


@pytest.fixture(scope="module")
def banks(tmp_path_factory) -> Banks:
    """Eight recordings of each kind: noise whose power changes from second to second, two rooms."""
    folder = tmp_path_factory.mktemp("banks")
    for number, kind in enumerate(("noise", "music", "speech")):
        recordings = []
        for item in range(8):
            generator = np.random.default_rng([number, item])
            level = np.repeat(generator.uniform(0.01, 0.2, 6), RATE)
            path = folder / f"{kind}{item}.wav"
            soundfile.write(path, level * generator.standard_normal(6 * RATE) * 0.3, RATE)
            recordings.append(Recording(str(path)))
        build(kind, recordings, folder / "banks")
    for number in range(2):
        generator = np.random.default_rng(number)
        room = generator.standard_normal(6000) * 10 ** (-3 * np.arange(6000) / 5000) * 0.2
        room[:200] = 0
        room[200] = 1.0
        soundfile.write(folder / f"room{number}.wav", room, RATE, subtype="FLOAT")
    build("rir", [Recording(str(folder / f"room{number}.wav")) for number in range(2)], folder / "banks")
    return Banks(folder / "banks")


@pytest.fixture(scope="module")
def clean(speech_samples) -> torch.Tensor:
    return torch.from_numpy(speech_samples[: 3 * RATE])


@pytest.fixture(scope="module")
def speech_samples(samples) -> np.ndarray:
    from samevoice.audio import read

    return read(samples / "allison-smith-en" / "queue-periodic-announce.flac")


# Settings


def test_published_settings():
    assert LAP.drawn_speeds == (1.0, 1.0, 1.0, 0.9, 1.1)
    assert (LAP.probability, LAP.talkers) == (0.6, (4, 7))
    assert LAP.kinds == ("reverb", "noise", "music", "babble", "television")
    assert (LAP.noise_snr, LAP.music_snr, LAP.babble_snr) == ((0, 15), (5, 15), (13, 20))
    assert THREE_D_SPEAKER.drawn_speeds == (1.0, 0.9, 1.1)
    assert THREE_D_SPEAKER.probability == 0.8
    assert set(THREE_D_SPEAKER.kinds) == {"noise", "reverb", "reverb+noise"}
    assert THREE_D_SPEAKER.noise_snr == (0, 15)
    assert Augmentation().talkers == (3, 8)


def test_labels_of_sped_up_speakers():
    assert LAP.factors == (1.0, 0.9, 1.1)
    assert LAP.speakers(5994) == 17982
    assert [LAP.label(7, speed, 5994) for speed in (1.0, 0.9, 1.1)] == [7, 6001, 11995]
    same = dataclasses.replace(LAP, new_speakers=False)
    assert (same.label(7, 1.1, 5994), same.speakers(5994)) == (7, 5994)


def test_a_range_of_speeds_gives_a_speaker_for_each_hundredth():
    settings = Augmentation(speed_range=(0.8, 1.25))
    assert len(settings.drawn_speeds) == len(settings.factors) == 46
    assert settings.factors[:3] == (1.0, 0.8, 0.81)
    labels = {settings.label(speaker, speed, 10) for speaker in range(10) for speed in settings.factors}
    assert labels == set(range(460))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"probabilty": 0.5}, "'probabilty'; did you mean 'probability'"),
        ("lab", "'lab'; did you mean 'lap'"),
        ({"base": "lap", "kinds": ["bable"]}, "'bable'; did you mean 'babble'"),
        ({"probability": 1.5}, "from 0 to 1"),
        ({"probability": "often"}, "probability must be a number"),
        ({"noise_snr": 5}, "noise_snr must be two numbers"),
        ({"noise_snr": [15, 0]}, "lower to the higher"),
        ({"speeds": [0.0]}, "between 0.5 and 2"),
        ({"time_masks": 1.5}, "whole number"),
        ({"kinds": []}, "is empty"),
        ([1], "name or settings"),
    ],
)
def test_settings_that_are_wrong_are_told(block, message):
    with pytest.raises(ValueError, match=message):
        from_mapping(block)


def test_a_block_starts_from_its_base():
    block = {"base": "lap", "probability": 1, "spans": [[0.5, 0.5]], "speeds": [1, 0.9], "speed_range": None}
    settings = from_mapping(block)
    assert settings == dataclasses.replace(LAP, probability=1.0, spans=((0.5, 0.5),), speeds=(1.0, 0.9))
    assert from_mapping(None) == NAMED["none"]
    assert from_mapping("wild") is WILD


# Plans


def test_plans_depend_on_the_key_alone(banks):
    planner = Planner(WILD, banks)
    keys = [int(key) for key in np.random.default_rng(0).integers(0, 2**64, 200, np.uint64)]
    first = [planner.plan(key, 32000) for key in keys]
    again = [Planner(WILD, Banks(banks.folder)).plan(key, 32000) for key in reversed(keys)][::-1]
    assert first == again
    assert len({repr(plan) for plan in first}) == 200


def test_what_happens_is_as_likely_as_the_settings_say(banks):
    planner = Planner(LAP, banks)
    plans = [planner.plan(key, 32000) for key in range(4000)]
    share = {kind: sum(plan.kind == kind for plan in plans) / 4000 for kind in (*LAP.kinds, None)}
    assert share.pop(None) == pytest.approx(0.4, abs=0.03)
    assert all(value == pytest.approx(0.12, abs=0.02) for value in share.values())
    speeds = [plan.speed for plan in plans]
    assert speeds.count(1.0) / 4000 == pytest.approx(0.6, abs=0.03)
    assert speeds.count(0.9) / 4000 == pytest.approx(0.2, abs=0.03)
    babble = [plan for plan in plans if plan.kind == "babble"]
    assert {len(plan.sources) for plan in babble} == {4, 5, 6, 7}
    assert all(13 <= source.snr <= 20 for plan in babble for source in plan.sources)
    whole = sum(source.length == 32000 for plan in babble for source in plan.sources[:1]) / len(babble)
    assert whole == pytest.approx(1 / 3, abs=0.08)
    for plan in plans:
        if plan.kind == "television":
            assert {source.bank for source in plan.sources} == {"speech", "music"}
            assert all(source.length == 32000 for source in plan.sources)
        assert all(source.at + source.length <= 32000 for source in plan.sources)
        assert (plan.rir is not None) == (plan.kind == "reverb")


def test_settings_that_need_a_missing_bank_are_refused(tmp_path):
    with pytest.raises(BankError, match="no bank of music, noise, rir, speech"):
        Planner(LAP, Banks(tmp_path))
    with pytest.raises(BankError):
        Planner(LAP, None)
    Planner(Augmentation(speeds=(0.9,)), None).plan(1, 100)


# Noise


@pytest.mark.parametrize("kind", ["noise", "music", "babble", "television", "reverb+noise"])
def test_mixed_examples_have_the_ratio_that_was_asked(kind, banks, clean):
    settings = Augmentation(probability=1.0, kinds=(kind,))
    planner = Planner(settings, banks)
    for key in range(12):
        plan = planner.plan(key, len(clean))
        dry = augmented(assemble([clean.numpy()], [dataclasses.replace(plan, sources=())], banks, len(clean)))[0]
        wet = augmented(assemble([clean.numpy()], [plan], banks, len(clean)))[0]
        asked = -10 * np.log10(sum(10 ** (-source.snr / 10) for source in plan.sources))
        assert decibels(dry, wet - dry) == pytest.approx(asked, abs=0.1)
        if len(plan.sources) == 1:
            assert asked == pytest.approx(plan.sources[0].snr)


def test_each_talker_has_its_own_level(banks, clean):
    sources = tuple(Source("speech", item, 1000 * item, 0, len(clean), snr) for item, snr in enumerate((13, 16, 20)))
    together = mixture(sources, banks, len(clean))
    assert together is not None
    pieces = np.stack([banks["speech"].slice(s.item, s.start, s.length) for s in sources]).astype(np.float64)
    gains = np.linalg.lstsq(pieces.T, together.samples.astype(np.float64), rcond=None)[0]
    levels = [decibels(np.ones(1), gain * piece) for gain, piece in zip(gains, pieces, strict=True)]
    np.testing.assert_allclose(levels, (13, 16, 20), atol=0.1)


def test_a_source_that_covers_a_part_has_its_ratio_there(banks, clean):
    source = Source("noise", 2, 500, at=8000, length=16000, snr=6.0)
    noise = mixture((source,), banks, len(clean))
    assert noise is not None
    mixed = waveform.mix(clean[None], torch.from_numpy(noise.samples)[None], torch.tensor([noise.snr]))[0]
    added = (mixed - clean).numpy()
    assert not np.abs(added[:8000]).max() > 1e-6
    assert not np.abs(added[24000:]).max() > 1e-6
    assert decibels(clean, added[8000:24000]) == pytest.approx(6.0, abs=0.1)


def test_silence_stays_silent_and_finite():
    silent = torch.zeros(1, 1000)
    noise, response = torch.randn(1, 1000), torch.ones(1, 10)
    assert waveform.mix(silent, noise, torch.tensor([5.0])).abs().max() < 1e-8
    assert not waveform.reverberate(silent, response, torch.tensor([0])).any()
    assert torch.equal(waveform.mix(noise, silent, torch.tensor([5.0])), noise)


# Rooms


def test_reverberation_keeps_the_energy_and_the_place(banks, clean):
    hiss = torch.randn(len(clean), generator=torch.Generator().manual_seed(0))
    for item in range(2):
        response, direct = banks["rir"].impulse_response(item)
        for dry in (clean, hiss):
            wet = waveform.reverberate(dry[None], torch.from_numpy(response)[None], torch.tensor([direct]))[0]
            assert decibels(wet, dry) == pytest.approx(0, abs=1e-3)
        spectrum = torch.fft.rfft(wet, 2**18) * torch.fft.rfft(hiss, 2**18).conj()
        assert int(torch.fft.irfft(spectrum).argmax()) == 0  # neither later nor earlier


def test_reverberation_is_convolution(clean):
    generator = np.random.default_rng(0)
    responses = generator.standard_normal((3, 500)).astype(np.float32)
    direct = torch.tensor([0, 30, 499])
    rows = torch.stack([clean[:4000], clean[4000:8000], clean[9000:13000]])
    wet = waveform.reverberate(rows, torch.from_numpy(responses), direct).numpy()
    for row, response, start, found in zip(rows.numpy(), responses, direct.tolist(), wet, strict=True):
        expected = np.convolve(row.astype(np.float64), response)[start : start + 4000]
        expected *= np.sqrt(np.square(row).sum() / np.square(expected).sum())
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_sizes_of_ffts_have_small_factors():
    for least in (1, 997, 59999, 64001, 64801):
        size = rest = waveform.fast_size(least)
        assert least <= size <= 1.07 * least
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        assert rest == 1


# Speed


@pytest.mark.parametrize("speed", [0.9, 1.1, 0.8, 1.25, 0.87])
def test_speed_moves_a_tone_and_the_time(speed):
    time = torch.arange(24000) / RATE
    tone = torch.sin(2 * torch.pi * 500 * time)[None]
    length = int(24000 / speed)
    found = waveform.change_speed(tone, speed, length)[0]
    expected = torch.sin(2 * torch.pi * 500 * speed * torch.arange(length) / RATE)
    assert found.shape == (length,)
    assert (found - expected)[200:-200].abs().max() < 2e-3


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_speed_equals_a_good_resampler(speed, speech_samples):
    ratio = Fraction(speed).limit_denominator(100)
    expected = soxr.resample(speech_samples, ratio.numerator, ratio.denominator, quality="VHQ")[:30000]
    found = waveform.change_speed(torch.from_numpy(speech_samples)[None], speed, 30000)[0].numpy()
    assert decibels(expected, found - expected) > 40


def test_faster_speech_has_nothing_folded_back():
    tone = torch.sin(2 * torch.pi * 7800 * torch.arange(RATE) / RATE)[None]
    assert waveform.change_speed(tone, 1.25, 12000).square().mean().sqrt() < 0.01  # would be at 9750 Hz


def test_rows_of_other_speeds_are_read_at_their_own_length(banks, speech_samples):
    plans = [Plan(speed=speed) for speed in (0.9, 1.1, 1.0)]
    crops = [speech_samples[: plan.source_length(16000)] for plan in plans]
    assert [len(crop) for crop in crops] == [14400, 17600, 16000]
    together = augmented(assemble(crops, plans, None, 16000))
    for row, (crop, plan) in enumerate(zip(crops, plans, strict=True)):
        alone = augmented(assemble([crop], [plan], None, 16000))  # shorter than the example, or longer
        torch.testing.assert_close(alone[0], together[row])
    assert torch.equal(together[2], torch.from_numpy(crops[2]))


# Telephone and codecs


@pytest.mark.parametrize(("law", "subtype"), [("a", "ALAW"), ("mu", "ULAW")])
def test_g711_is_exact_for_every_value(law, subtype):
    linear = np.arange(-32768, 32768).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, linear, 8000, format="WAV", subtype=subtype)
    file.seek(0)
    expected = soundfile.read(file, dtype="int16")[0]
    found = g711(torch.from_numpy(linear.astype(np.float32) / 32768), law).numpy() * 32768
    np.testing.assert_array_equal(found, expected)


def test_g711_knows_two_laws():
    with pytest.raises(ValueError, match="'a' and 'mu'"):
        g711(torch.zeros(1), "b")


def test_a_call_has_the_band_of_a_telephone():
    noise = torch.randn(1, 2 * RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    called = telephone(noise, "a")
    assert called.shape == noise.shape
    power = torch.fft.rfft(called[0]).abs().square() / torch.fft.rfft(noise[0]).abs().square().mean()
    hertz = torch.arange(len(power)) / 2
    inside = power[(hertz > 350) & (hertz < 3350)].mean()
    assert 0.9 < inside < 1.1
    assert power[hertz > 4000].max() < 1e-6
    assert power[(hertz < 140) | ((hertz > 3950) & (hertz < 4000))].mean() < 1e-3  # what G.711 itself adds


@pytest.mark.parametrize("length", [16000, 16001, 16002, 16003])
def test_eight_kilohertz_and_back_keep_time_and_level(length):
    tone = 0.5 * torch.sin(2 * torch.pi * 1000 * torch.arange(length) / RATE)[None]
    narrow = to_8khz(tone)
    assert narrow.shape[-1] == -(-length // 4) * 2
    expected = 0.5 * torch.sin(2 * torch.pi * 1000 * torch.arange(narrow.shape[-1]) / 8000)
    assert (narrow[0] - expected)[500:-500].abs().max() < 0.01
    back = from_8khz(narrow, length)
    assert back.shape == tone.shape
    assert (back - tone)[:, 500:-500].abs().max() < 0.01


@pytest.mark.parametrize(("codec", "poor", "good"), [("opus", 6, 64), ("mp3", 8, 64)])
def test_codecs_keep_time_and_lose_more_at_lower_rates(codec, poor, good, clean):
    samples = clean.numpy()
    ratios = []
    for kbps in (poor, good):
        decoded = encode_decode(samples, codec, kbps)
        assert decoded.shape == samples.shape
        assert decoded.dtype == np.float32
        spectrum = np.fft.rfft(decoded, 2**17) * np.fft.rfft(samples, 2**17).conj()
        lag = int(np.fft.irfft(spectrum).argmax())
        assert min(lag, 2**17 - lag) <= 2
        magnitude = [np.abs(np.fft.rfft(x.reshape(-1, 480))) for x in (samples, decoded)]
        ratios.append(decibels(magnitude[0], magnitude[1] - magnitude[0]))
    assert ratios[1] > ratios[0] + 3
    assert ratios[1] > 10


def test_a_codec_comes_last_and_its_row_is_finished_by_the_worker(banks, clean):
    plan = Plan(kind="noise", sources=(Source("noise", 1, 0, 0, len(clean), 10.0),), law="mu")
    coded = dataclasses.replace(plan, codec=("mp3", 32.0))
    with one_thread():  # as workers do: another last bit, and an encoder decides otherwise
        before = augmented(assemble([clean.numpy()], [plan], banks, len(clean)))[0].numpy()
    examples = assemble([clean.numpy()] * 2, [coded, Plan()], banks, len(clean))
    found = augmented(examples)
    np.testing.assert_array_equal(found[0].numpy(), encode_decode(before / max(1, np.abs(before).max()), "mp3", 32.0))
    assert torch.equal(found[1], clean)
    assert examples.plans[0] == coded


# Level


def test_gain_and_clipping():
    samples = torch.tensor([[0.1, -0.4, 0.2], [0.5, 0.25, -1.0]])
    torch.testing.assert_close(
        waveform.amplify(samples, torch.tensor([20.0, -20.0])), samples * torch.tensor([[10], [0.1]])
    )
    clipped = waveform.clip(samples, torch.tensor([0.5, 0.25]))
    torch.testing.assert_close(clipped, torch.tensor([[0.1, -0.2, 0.2], [0.25, 0.25, -0.25]]))
    quieter = waveform.into_range(torch.tensor([[2.0, -1.0], [0.5, 0.1]]))
    torch.testing.assert_close(quieter, torch.tensor([[1.0, -0.5], [0.5, 0.1]]))


def test_all_steps_of_a_plan_are_done_in_their_order(banks, clean):
    plan = Plan(
        speed=1.1, kind="reverb+noise", rir=1, sources=(Source("noise", 0, 0, 0, 16000, 5.0),), gain=-6.0, clipping=0.5,
        law="a",
    )  # fmt: skip
    crop = clean.numpy()[: plan.source_length(16000)]
    found = augmented(assemble([crop, crop[:16000]], [plan, Plan()], banks, 16000))
    response, direct = banks["rir"].impulse_response(1)
    step = waveform.change_speed(torch.from_numpy(crop)[None], 1.1, 16000)
    step = waveform.reverberate(step, torch.from_numpy(response)[None], torch.tensor([direct]))
    step = waveform.mix(step, torch.from_numpy(banks["noise"].slice(0, 0, 16000))[None], torch.tensor([5.0]))
    step = waveform.clip(waveform.amplify(step, torch.tensor([-6.0])), torch.tensor([0.5]))
    torch.testing.assert_close(found[:1], telephone(step, "a"), atol=2e-3, rtol=0)  # a step of G.711
    assert (found[:1] - telephone(step, "a")).square().mean() < 1e-4 * found[:1].square().mean()
    assert torch.equal(found[1], torch.from_numpy(crop[:16000]))


# SpecAugment


def test_masks_are_where_they_were_drawn():
    features = torch.arange(2 * 50 * 80, dtype=torch.float32).reshape(2, 50, 80)
    draws = torch.tensor([[[0.5, 0.0]], [[0.95, 0.999]]])
    found = spec.mask(features, draws, most=9, axis=2)
    hidden = found != features
    assert hidden[0].any(0).nonzero().flatten().tolist() == [0, 1, 2, 3, 4]
    assert hidden[1].any(0).nonzero().flatten().tolist() == list(range(71, 80))
    torch.testing.assert_close(found[0, :, :5], features[0].mean().expand(50, 5))
    assert torch.equal(spec.mask(features, draws, most=0, axis=1), features)


def test_masks_of_a_plan(banks):
    settings = Augmentation(frequency_masks=2, frequency_width=8, time_masks=1, time_width=30)
    planner = Planner(settings)
    plans = [planner.plan(key, 16000) for key in range(400)]
    features = torch.randn(400, 98, 80, generator=torch.Generator().manual_seed(0)) + 5
    hidden = masked(features, plans, settings) != features
    frames, bands = hidden.all(2).sum(1).float(), hidden.all(1).sum(1).float()
    assert (frames.min(), frames.max()) == (0, 30)
    assert 13.5 < frames.mean() < 16.5
    assert 12 < bands.max() <= 16
    assert 6.5 < bands.mean() < 8
    assert masked(features, [Plan()] * 400, settings) is features
