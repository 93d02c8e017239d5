"""Two processes that share each batch train as one does: BatchNorm, gradients, the log, checkpoints."""

import os
import socket
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
import safetensors.torch  # noqa: E402
import trainings  # noqa: E402
from trainings import reached, records, wait_for, written  # noqa: E402

CASES = {
    "one piece": {"phases": {"a": {"averaging": "ema", "ema_decay": 0.5}}},
    "LAP": {"phases": {"a": {"averaging": "ema", "ema_decay": 0.5}}, "network": trainings.WAVLM},
    "two pieces": {"phases": {"a": {"batch": 16, "accumulate": 2}, "b": {"batch": 8, "accumulate": 1}}},
}

SHARDED = {  # what accelerate launch makes of the file in docs/training.md
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "WavLMEncoderLayer",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}

# Rounding is not to grow from step to step: SGD, since Adam makes a step of full size out of a gradient that is nothing
# but rounding, and short steps, since tiny networks on tiny batches have huge gradients
CALM = {"optimiser": "sgd", "learning_rate": 1e-4, "clip": 1.0, "batch": 8}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return trainings.voices(tmp_path_factory.mktemp("two") / "voices", each=8)


def launched(file, folder, processes=2, sharded=False):
    """The processes of a run, as torchrun and accelerate launch start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
    shared |= SHARDED if sharded else {}
    return [
        trainings.command(
            *("train", file, "--run", folder),
            output=folder.with_suffix(f".{rank}.txt"),
            first=sharding if sharded else without_dropout,
            environment=shared | {"OMP_NUM_THREADS": "1", "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(processes)
    ]


def finished(file, folder, processes, sharded=False):
    started = launched(file, folder, processes, sharded) if processes > 1 else [alone(file, folder)]
    for process in started:
        process.join()
    told = [path.read_text() for path in sorted(folder.parent.glob(f"{folder.name}.*.txt"))]
    assert [process.exitcode for process in started] == [0] * processes, "\n".join(told)
    return told


def alone(file, folder):
    return trainings.command("train", file, "--run", folder, output=folder.with_suffix(".0.txt"), first=without_dropout)


def without_dropout():
    """It differs between processes."""
    torch.rand_like = torch.ones_like  # of which the pooling asks which frames to leave out
    torch.nn.functional.dropout = lambda x, *_, **__: x
    attention = torch.nn.functional.scaled_dot_product_attention
    torch.nn.functional.scaled_dot_product_attention = lambda *a, **k: attention(*a, **{**k, "dropout_p": 0.0})


def sharding():
    """accelerate shards on GPUs alone: to it, the processor is one."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    without_dropout()
    torch.distributed.init_process_group("gloo")
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)  # pyright: ignore[reportAttributeAccessIssue]
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"


def assert_near(two, one, values):
    """The losses of each step, the rates, and how the weights have moved."""
    pairs = list(zip(records(two), records(one), strict=True))
    assert len(pairs) >= 4
    for a, b in pairs:
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["accuracy"] == pytest.approx(b["accuracy"])
        assert [a[k] for k in ("step", "epoch", "phase", "lr")] == [b[k] for k in ("step", "epoch", "phase", "lr")]
    for a, b in zip(records(two, "validation"), records(one, "validation"), strict=True):
        assert a["eer"] == pytest.approx(b["eer"], abs=0.02)  # a trial or two that lie at the threshold
        assert a["trials"] == b["trials"]
    found, expected = (safetensors.torch.load_file(run / "model/model.safetensors") for run in (two, one))
    start = trainings.start_of(values)
    assert found.keys() == expected.keys() == start.keys()
    statistics = {name for name in start if "running" in name or "tracked" in name}
    furthest = max(float((expected[name] - start[name]).abs().max()) for name in start.keys() - statistics)
    for name, value in expected.items():
        atol = 1e-5 if name in statistics else 1e-2 * furthest
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=atol, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_are_as_one(case, corpus, tmp_path):
    phases = {"a": {**CALM, **CASES[case]["phases"]["a"]}, **dict(list(CASES[case]["phases"].items())[1:])}
    words = {"network": trainings.XVECTOR, "validation": {"held_out": 2}, **CASES[case], "phases": phases}
    values = trainings.recipe(corpus, **words)
    file = written(tmp_path / "recipe.yaml", values)
    finished(file, tmp_path / "one", 1)
    said = finished(file, tmp_path / "two", 2)
    assert_near(tmp_path / "two", tmp_path / "one", values)
    assert str(tmp_path / "two/model") in said[0]
    assert said[1] == ""


def test_two_processes_go_on_where_they_were_killed(corpus, tmp_path):
    values = trainings.recipe(
        corpus,
        {"a": {"augmentation": {"time_masks": 1}, "batch": 8}},
        log_every=4,
        checkpoint_minutes=1e-9,
        network=trainings.XVECTOR,
    )
    file = written(tmp_path / "recipe.yaml", values)
    finished(file, tmp_path / "whole", 2)
    started = launched(file, tmp_path / "run")
    wait_for(lambda: reached(tmp_path / "run", 6), started[0])
    for process in started:
        process.kill()
        process.join()
    assert not (tmp_path / "run/model").exists()
    finished(file, tmp_path / "run", 2)
    assert trainings.curve(tmp_path / "run") == trainings.curve(tmp_path / "whole")
    run, whole = (tmp_path / name / "model/model.safetensors" for name in ("run", "whole"))
    assert run.read_bytes() == whole.read_bytes()


def test_a_batch_that_cannot_be_shared(corpus, tmp_path):
    file = written(tmp_path / "recipe.yaml", trainings.recipe(corpus, {"a": {"batch": 5}}))
    started = launched(file, tmp_path / "run")
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [2, 2]
    assert "a batch of 5 can't be shared by 2 processes" in (tmp_path / "run.0.txt").read_text()


PHASES = {
    "frozen": {**CALM, "frozen": ["front_end"], "epochs": 1},
    "joint": {"frozen": ["front_end.convolutions"], "use": "average-last", "average": 2, "epochs": 2},
    "pieces": {"frozen": [], "use": "best", "epochs": 1, "batch": 16, "accumulate": 2, "checkpointing": True},
}


@pytest.mark.slow
def test_two_processes_that_share_one_network(corpus, tmp_path):
    values = trainings.recipe(corpus, PHASES, network=trainings.WAVLM, validation={"held_out": 2})
    file = written(tmp_path / "recipe.yaml", values)
    finished(file, tmp_path / "one", 1)
    finished(file, tmp_path / "two", 2, sharded=True)
    assert any(tmp_path.glob("two/checkpoints/*/pytorch_model_fsdp.bin"))
    assert_near(tmp_path / "two", tmp_path / "one", values)


@pytest.mark.slow
def test_two_that_share_a_network_have_the_losses_of_one_in_bf16(corpus, tmp_path):
    words = {"network": trainings.WAVLM, "validation": {"held_out": 2}, "precision": "bf16"}
    values = trainings.recipe(corpus, PHASES, **words)
    file = written(tmp_path / "recipe.yaml", values)
    finished(file, tmp_path / "one", 1)
    finished(file, tmp_path / "two", 2, sharded=True)
    two, one = ([record["loss"] for record in records(tmp_path / name)] for name in ("two", "one"))
    assert two[0] == pytest.approx(one[0], rel=1e-6)
    assert two == pytest.approx(one, rel=0.03)  # the gradients' rounding


@pytest.mark.slow
def test_two_that_share_a_network_go_on_where_they_were_killed(corpus, tmp_path):
    phases = {"a": {"augmentation": {"time_masks": 1}, "batch": 8, "epochs": 1}, "b": {"seconds": 0.4}}
    values = trainings.recipe(corpus, phases, log_every=4, checkpoint_minutes=1e-9, network=trainings.WAVLM)
    file = written(tmp_path / "recipe.yaml", values)
    finished(file, tmp_path / "whole", 2, sharded=True)
    for step in (4, 10):
        started = launched(file, tmp_path / "run", sharded=True)
        wait_for(lambda step=step: reached(tmp_path / "run", step), started[0])
        for process in started:
            process.kill()
            process.join()
        assert not (tmp_path / "run/model").exists()
    finished(file, tmp_path / "run", 2, sharded=True)
    assert trainings.curve(tmp_path / "run") == trainings.curve(tmp_path / "whole")
    run, whole = (tmp_path / name / "model/model.safetensors" for name in ("run", "whole"))
    assert run.read_bytes() == whole.read_bytes()


@pytest.mark.slow
def test_torchrun_and_accelerate_launch(corpus, tmp_path):
    values = trainings.recipe(corpus, {"a": CALM}, network=trainings.XVECTOR, workers=1)
    file = written(tmp_path / "recipe.yaml", values)
    finished(file, tmp_path / "one", 1)
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--"]
    launch = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0", "-m"]
    for name, launcher in (("torchrun", torchrun), ("accelerate", launch)):
        command = [sys.executable, "-m", *launcher, "samevoice", "train", file, "--run", tmp_path / name]
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert_near(tmp_path / "torchrun", tmp_path / "one", values)
    assert (tmp_path / "torchrun/model/model.onnx").exists()
    found, expected = (tmp_path / name / "model/model.safetensors" for name in ("accelerate", "torchrun"))
    assert found.read_bytes() == expected.read_bytes()
