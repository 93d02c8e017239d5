import copy
import multiprocessing
import socket

import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, distributed, nn  # noqa: E402

from samevoice.training.sync_batch_norm import SyncBatchNorm, convert  # noqa: E402

WORLD = 2


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.BatchNorm1d(6),
        nn.Conv1d(6, 5, 3),
        nn.ModuleDict({"norm": nn.BatchNorm1d(5, momentum=None)})["norm"],
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(40, 4),
        nn.BatchNorm1d(4, affine=False),
    ).double()


def given() -> Tensor:
    return 3 + torch.randn(6, 6, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def passed(model: nn.Module, rows: Tensor) -> tuple[Tensor, dict, dict]:
    """Two steps' last embeddings, gradients of a loss that is the mean over rows, and the state."""
    for x in (rows, 2 * rows):
        model.zero_grad()
        y = model(x)
        (y.cos() * torch.arange(4)).sum(1).mean().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return y.detach(), gradients, model.state_dict()


def share(rank: int, port: int, results) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD)
    y, gradients, state = passed(convert(network()), given()[rank::WORLD])
    for gradient in gradients.values():
        distributed.all_reduce(gradient)
        gradient /= WORLD
    results.put((rank, y.numpy(), *({k: v.numpy() for k, v in d.items()} for d in (gradients, state))))
    distributed.destroy_process_group()


def test_two_processes_have_the_statistics_and_gradients_of_the_whole_batch():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    results = context.Queue()
    processes = [context.Process(target=share, args=(rank, port, results)) for rank in range(WORLD)]
    for process in processes:
        process.start()
    found = sorted((results.get(timeout=120) for _ in processes), key=lambda result: result[0])
    for process in processes:
        process.join()
    y, gradients, state = passed(network(), given())
    for rank, ours, our_gradients, our_state in found:
        torch.testing.assert_close(torch.from_numpy(ours), y[rank::WORLD], rtol=1e-6, atol=1e-6)
        for expected, mine in ((gradients, our_gradients), (state, our_state)):
            assert expected.keys() == mine.keys()
            for name, value in expected.items():
                torch.testing.assert_close(torch.as_tensor(mine[name]), value, rtol=1e-5, atol=1e-6, msg=name)


def test_alone_and_at_inference_it_is_batch_norm():
    plain = network()
    ours = convert(copy.deepcopy(plain))
    assert sum(isinstance(module, SyncBatchNorm) for module in ours.modules()) == 3
    for expected, found in zip(passed(plain, given()), passed(ours, given()), strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours.eval()(given()), plain.eval()(given()))


def test_a_module_keeps_its_mode():
    model = network()
    model[2].eval()
    convert(model)
    assert [module.training for module in model] == [True, True, False, True, True, True, True]


def test_what_is_no_batch_is_refused():
    with pytest.raises(ValueError, match="not 1 dimensions"):
        SyncBatchNorm(3)(torch.randn(3))
