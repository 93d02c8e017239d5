import errno
import io
import os
import sys

import pytest
from rich.console import Console

from samevoice.training import watching
from samevoice.training.watching import Log, PhasePlan, Watching, duration, read

PLAN = [PhasePlan("frozen", 4, 400), PhasePlan("joint", 0.5, 100)]


def step(number, time, phase="frozen", epoch=0, **values):
    return {"kind": "step", "phase": phase, "epoch": epoch, "step": number, "loss": 4.0, "time": time, **values}


def validation(number, eer, phase="frozen", epoch=0):
    return {"kind": "validation", "phase": phase, "epoch": epoch, "step": number, "eer": eer, "trials": 10}


def console(terminal=False):
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None, legacy_windows=False)


def text(renderable):
    page = Console(file=io.StringIO(), width=100)
    page.print(renderable)
    return page.file.getvalue()


def cells(watch):
    """The table's rows as {first word(s): the rest}."""
    lines = [line.strip() for line in text(watch.table()).splitlines()]
    return {line[:15].strip(): line[15:].strip() for line in lines if line}


def test_table_shows_everything_the_record_says():
    watch = Watching(console(), PLAN)
    lr = {"network": 1e-3, "loss": 2.5e-2}
    record = step(120, 60.0, epoch=1, accuracy=0.25, margin=0.15, penalty=0.03, lr=lr)
    watch.step({**record, "step": 20, "time": 10.0})
    watch.step({**record, "utterances_per_s": 512.4, "gpu_gib": 10.25})
    watch.validation(validation(100, 0.0231))
    rows = cells(watch)
    assert rows["phase"] == "frozen (1 of 2)"
    assert rows["epoch"] == "2 of 4"
    assert rows["step"] == "120 of 500"
    assert rows["loss"] == "4.000"
    assert rows["accuracy"] == "25.0%"
    assert (rows["margin"], rows["penalty"]) == ("0.150", "0.030")
    assert rows["learning rate"] == "network 1.00e-03, loss 2.50e-02"
    assert rows["speed"] == "512 utterances/s"
    assert rows["GPU memory"] == "10.2 GiB"
    assert rows["validation"] == "EER 2.31%, best 2.31% at step 100"
    # 0.5 s a step: 280 of the phase and 380 of the run are left
    assert rows["this phase"].endswith("30%, 0:02:20 left")
    assert rows["the run"].endswith("24%, 0:03:10 left")
    watch.step({**record, "accuracy": None})  # distillation alone
    assert "accuracy" not in cells(watch)


def test_speed_is_that_of_the_phase_and_of_this_process():
    watch = Watching(console(), PLAN)
    watch.step(step(390, 1000.0))
    assert "left" not in cells(watch)["the run"]  # nobody can know from one record
    watch.step(step(400, 1010.0))
    watch.step(step(410, 1050.0, "joint"))
    assert cells(watch)["phase"] == "joint (2 of 2)"
    assert cells(watch)["epoch"] == "1 of 0.5"
    watch.step(step(420, 1090.0, "joint"))  # 4 s a step, though the phase before took 1
    assert cells(watch)["this phase"].endswith("20%, 0:05:20 left")


def test_loss_is_smoothed_and_not_over_phases():
    watch = Watching(console(), PLAN)
    for number, loss in enumerate((8.0, 2.0)):
        watch.step(step(number, 1.0 * number, loss=loss))
    share = 1 - 1 / watching.SMOOTHED
    assert cells(watch)["loss"] == f"{(share * 8 + 2) / (share + 1):.3f}"
    watch.step(step(2, 2.0, loss=float("nan")))
    assert cells(watch)["loss"] == "nan"
    watch.step(step(3, 3.0, loss=5.0))
    expected = (share**2 * 8 + share * 2 + 5) / (share**2 + share + 1)  # without what was no number
    assert cells(watch)["loss"] == f"{expected:.3f}"
    watch.step(step(401, 4.0, "joint", loss=1.0))
    assert cells(watch)["loss"] == "1.000"


def test_best_eer_is_the_lowest_also_from_before():
    before = [step(10, 1.0), validation(100, 0.05), validation(200, 0.03)]
    watch = Watching(console(), PLAN, before)
    watch.step(step(300, 1.0))
    assert cells(watch)["validation"] == "EER 3.00%, best 3.00% at step 200"
    watch.validation(validation(300, 0.04))
    assert cells(watch)["validation"] == "EER 4.00%, best 3.00% at step 200"


def test_lines_where_there_is_no_terminal():
    page = console()
    with Watching(page, PLAN) as watch:
        for number in range(1, 8):
            watch.step(step(number * 10, number * 10.0, epoch=number // 6))  # an epoch ends after 50
        watch.validation(validation(70, 0.0123, epoch=1))
        watch.note("checkpoint [bold] written")
        watch.step(step(80, 80.0, epoch=1))
        watch.step(step(85, 85.0, epoch=1))
    lines = page.file.getvalue().splitlines()
    told = [line.partition(":")[0].rpartition(", ")[2] for line in lines]
    # the first; 30 s later; the end of the epoch; what came before the validation, and it; the note; the last one
    assert told[:4] == ["step 10 of 500", "step 40 of 500", "step 50 of 500", "step 70 of 500"]
    assert lines[2].startswith("frozen, epoch 1 of 4, step 50 of 500: loss 4.000, 0:07:30 left")
    assert lines[3].startswith("frozen, epoch 2 of 4, step 70 of 500: loss")
    assert lines[4] == "frozen, epoch 2 of 4, step 70 of 500: EER 1.23%, best 1.23% at step 70"
    assert lines[5] == "checkpoint [bold] written"
    assert told[6:] == ["step 85 of 500"]


def test_one_table_in_a_terminal():
    page = console(terminal=True)
    with Watching(page, PLAN) as watch:
        for number in range(1, 50):
            watch.step(step(number, 1.0 * number))
        watch.note("a warning")
        watch.validation(validation(49, 0.5))
    shown = page.file.getvalue()
    assert "a warning" in shown
    last = shown.rpartition("(1 of 2)")[2]
    assert "49 of 500" in last
    assert "EER 50.00%" in last
    assert shown.count("step  ") < 10  # not a table for each record


def test_a_quiet_process_swallows_nobodys_warnings(capsys):
    page = console(terminal=True)
    page.quiet = True
    with Watching(page, PLAN) as watch:
        watch.step(step(1, 1.0))
        print("a warning", file=sys.stderr)
    assert page.file.getvalue() == ""
    assert capsys.readouterr().err == "a warning\n"


def test_table_before_the_first_step():
    assert cells(Watching(console(), PLAN)) == {"phase": "frozen: starting"}


def test_the_table_survives_an_error_in_training():
    page = console(terminal=True)

    def train():
        with Watching(page, PLAN) as watch:
            watch.step(step(7, 1.0))
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        train()
    assert "7 of 500" in page.file.getvalue()


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0:00:00"), (59.6, "0:01:00"), (90061, "1 d 1:01:01")])
def test_duration(seconds, shown):
    assert duration(seconds) == shown


def test_log_comes_back(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    records = [step(1, 0.5, lr={"network": 1e-3}), validation(1, 0.25), {"kind": "note", "text": "Zoë\nsays"}]
    for count, record in enumerate(records, 1):
        log.append(record)
        assert read(log.path) == records[:count]  # on the disk at once


def test_log_cut_anywhere_loses_the_last_record_at_most(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    for number in range(3):
        log.append({"kind": "step", "step": number, "text": "é"})
    whole = log.path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole) + 1):
        log.path.write_bytes(whole[:length])
        found = [record["step"] for record in read(log.path)]
        assert found == list(range(sum(length >= end - 1 for end in ends)))  # whole even without its line's end


def test_zeros_after_a_power_cut_are_half_a_line(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n' + bytes(100))
    assert read(path) == [{"step": 1}]


@pytest.mark.parametrize("middle", [b"{", b"", b"[1]", b"\xff", b"12"])
def test_a_log_damaged_in_the_middle_is_refused(tmp_path, middle):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n' + middle + b'\n{"step": 2}\n')
    with pytest.raises(ValueError, match="log.jsonl, line 2: not a record"):
        read(path)


def test_rewind_forgets_what_came_later_and_half_a_line(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    records = [{"kind": "start"}, step(10, 1.0), validation(10, 0.5), step(20, 2.0), validation(20, 0.4)]
    for record in records:
        log.append(record)
    with log.path.open("a") as file:
        file.write('{"kind": "st')
    assert log.rewind(10) == records[:3]
    log.append(step(15, 1.5))
    assert read(log.path) == [*records[:3], step(15, 1.5)]
    assert os.listdir(tmp_path) == ["log.jsonl"]


def test_rewind_of_no_log(tmp_path):
    assert Log(tmp_path / "log.jsonl").rewind(10) == []
    assert not list(tmp_path.iterdir())


def test_rewind_is_all_or_nothing(tmp_path, monkeypatch):
    log = Log(tmp_path / "log.jsonl")
    for number in range(5):
        log.append(step(number, 1.0))
    before = log.path.read_bytes()
    monkeypatch.setattr(watching.Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "power cut")))
    with pytest.raises(OSError, match="power cut"):
        log.rewind(2)
    assert log.path.read_bytes() == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_names_the_log():
    with pytest.raises(OSError, match="/dev/full") as told:
        Log(watching.Path("/dev/full")).append({"step": 1})
    assert told.value.errno == errno.ENOSPC
    assert told.value.filename == "/dev/full"
