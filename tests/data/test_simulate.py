import numpy as np
import pytest
import soundfile

pytest.importorskip("pyroomacoustics")
from samevoice.data.banks import Banks
from samevoice.data.simulate import NOTICE, Room, coloured_noise, impulse_response, random_room, simulate

RATE = 16000


def reverberation_time(response: np.ndarray) -> float:
    """From the slope of Schroeder's backward integral between -5 and -25 dB."""
    left = np.cumsum(np.square(response.astype(np.float64))[::-1])[::-1]
    decibels = 10 * np.log10(left / left[0] + 1e-30)
    first, last = np.searchsorted(-decibels, [5, 25])
    return 3 * (last - first) / RATE


def test_rooms_fit_and_differ():
    rooms = [random_room(np.random.default_rng(seed)) for seed in range(300)]
    for room in rooms:
        assert room.distance >= 0.3
        for place in (room.source, room.microphone):
            assert all(0.3 <= x <= side - 0.3 for x, side in zip(place, room.sides, strict=True))
        assert 2.3 <= room.sides[2] <= 4
        assert 0.02 < room.seconds <= 0.8
    assert len({room.sides for room in rooms}) == 300
    assert random_room(np.random.default_rng(7)) == rooms[7]


def test_the_direct_path_takes_the_time_that_sound_takes():
    room = Room((6.0, 5.0, 3.0), 0.3, (1.0, 2.5, 1.5), (4.43, 2.5, 1.5))
    response = impulse_response(room)
    delay = int(np.abs(response).argmax())
    assert delay == pytest.approx(RATE * 3.43 / 343 + 40, abs=3)  # 40: half the filter that places it


def test_rooms_ring_about_as_long_as_asked():
    for seconds in (0.2, 0.5):
        room = Room((6.0, 5.0, 3.0), seconds, (1.0, 2.0, 1.5), (4.0, 3.0, 1.2))
        assert reverberation_time(impulse_response(room)) == pytest.approx(seconds, rel=0.4)


@pytest.mark.parametrize("colour", [0.0, 1.0, 2.0])
def test_the_colour_of_noise_is_its_slope(colour):
    noise = coloured_noise(np.random.default_rng(0), 10 * RATE, colour)
    assert noise.dtype == np.float32
    assert np.abs(noise).max() == pytest.approx(0.5)
    power = np.square(np.abs(np.fft.rfft(noise)))
    hertz = np.fft.rfftfreq(len(noise), 1 / RATE)
    bands = [(low, power[(hertz >= low) & (hertz < 2 * low)].mean()) for low in (125, 250, 500, 1000, 2000)]
    slope = np.polyfit(np.log(np.array(bands)[:, 0]), np.log(np.array(bands)[:, 1]), 1)[0]
    assert slope == pytest.approx(-colour, abs=0.1)


def test_simulated_banks_say_so_and_are_the_same_again(tmp_path):
    rooms, noises = simulate(tmp_path / "a", rooms=3, noises=2, seed=1)
    again, _ = simulate(tmp_path / "b", rooms=3, noises=2, seed=1)
    other, _ = simulate(tmp_path / "c", rooms=3, noises=2, seed=2)
    assert (len(rooms), len(noises)) == (3, 2)
    np.testing.assert_array_equal(rooms.samples, again.samples)
    assert len(rooms.samples) != len(other.samples) or (rooms.samples != other.samples).any()
    assert (tmp_path / "a" / "recordings" / "SIMULATED.txt").read_text() == NOTICE
    assert all("simulated" in name for name in (*rooms.names, *noises.names))
    Banks(tmp_path / "a").need(["rir", "noise"])
    for item in range(3):
        response, direct = rooms.impulse_response(item)
        assert float(np.square(response.astype(np.float64)).sum()) == pytest.approx(1, abs=2e-3)
        assert int(np.abs(response).argmax()) == direct
    file = next((tmp_path / "a" / "recordings").glob("simulated-room-*.wav"))
    assert soundfile.info(file).samplerate == RATE


def test_nothing_to_simulate_is_refused(tmp_path):
    with pytest.raises(ValueError, match="one or more"):
        simulate(tmp_path, rooms=0)
