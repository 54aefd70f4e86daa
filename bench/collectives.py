"""Collectives: the cost of a call depends on its number of messages."""

import functools
from typing import Any

import torch
from torch import distributed, nn

from bench.case import Case, Goal, Side
from bench.libraries import TORCH, Timed, accelerator, digest, joined, module, timed
from runtime.collectives.packing import pack, unpack

CALLS = 10  # per measurement


def gathered(library: str, *, processes: int) -> Timed:
    """Gather a dict of 20 small tensors."""
    del processes  # the world already has this size
    tensors = {f"metric{number}": torch.full((8,), float(number)) for number in range(20)}
    if library == TORCH:
        _, size = joined()
        flat = torch.cat(list(tensors.values()))
        out = torch.empty(size * len(flat))
        return Timed(
            lambda: None,
            lambda: timed(lambda: distributed.all_gather_into_tensor(out, flat), CALLS),
        )
    made = accelerator(library)
    own = {name: tensor + made.process_index for name, tensor in tensors.items()}
    return Timed(
        lambda: {name: tensor.tolist() for name, tensor in made.gather(own).items()},
        lambda: timed(lambda: made.gather(own), CALLS),
    )


def compared(library: str, *, processes: int, tensors: int) -> Timed:
    """Gather small tensors, and check that all processes have sent the same structure.

    Args:
        library: the library; the floor sends the same messages without the data to compare.
        processes: the world size.
        tensors: the number of tensors in the dict.
    """
    del processes
    made = accelerator("runtime")
    own = {f"metric{n}": torch.full((8,), float(n + made.process_index)) for n in range(tensors)}

    def unseen() -> dict[str, torch.Tensor]:
        sent = pack(list(own.values()), 0)
        received = sent.new_empty(made.num_processes * len(sent))
        distributed.all_gather_into_tensor(received, sent)
        parts = unpack(received.view(made.num_processes, -1), list(own.values()))
        return dict(zip(own, parts, strict=True))

    gather = unseen if library == TORCH else functools.partial(made.gather, own)
    return Timed(
        lambda: {name: tensor.tolist() for name, tensor in gather().items()},
        lambda: timed(gather, CALLS),
    )


def averaged(library: str, *, processes: int) -> Timed:
    """Average 100 parameters, as LocalSGD does between its rounds."""
    del processes
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(64, 64) for _ in range(50)])
    if library == TORCH:
        joined()
        weights = [parameter.data for parameter in model.parameters()]
        return Timed(lambda: None, lambda: timed(lambda: _flat_mean(weights)))
    made = accelerator(library)
    prepared = made.prepare(model)
    local = module(library, "local_sgd").LocalSGD(made, prepared, local_sgd_steps=1)

    def answer() -> str:
        with torch.no_grad():
            for parameter in prepared.parameters():
                parameter.fill_(2.0**made.process_index)  # so the mean is exact
        local.step()
        return digest(torch.cat([parameter.flatten() for parameter in prepared.parameters()]))

    return Timed(answer, lambda: timed(local.step))


def _flat_mean(weights: list[torch.Tensor]) -> None:
    flat = torch.cat([weight.flatten() for weight in weights])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    means = torch.split(flat, [weight.numel() for weight in weights])
    for weight, mean in zip(weights, means, strict=True):
        weight.copy_(mean.view_as(weight))


def synchronized(library: str, *, processes: int, kinds: list[str]) -> Timed:
    """Broadcast the random state of rank 0, as at the start of an epoch."""
    del processes
    generator = torch.Generator()
    if library == TORCH:
        rank, _ = joined()
        state = generator.manual_seed(rank).get_state()
        return Timed(
            lambda: None,
            lambda: timed(lambda: distributed.broadcast(state, 0), CALLS),
        )
    generator.manual_seed(accelerator(library).process_index)
    synchronize = module(library, "utils").synchronize_rng_states

    def answer() -> Any:
        synchronize(kinds, generator)
        return digest(generator.get_state())

    return Timed(answer, lambda: timed(lambda: synchronize(kinds, generator), CALLS))


_WORLDS = [{"processes": 2}, {"processes": 4}]
CASES = [
    Case(
        name="gather",
        theme="collectives",
        what="Gather a dict of 20 small tensors",
        program=gathered,
        unit="s",
        sizes=_WORLDS,
        quick=_WORLDS[:1],
        floor_is="one all_gather of the same number of bytes",
        goal=Goal(kind="faster", limit=15, at=_WORLDS[1]),
    ),
    Case(
        name="structure",
        theme="collectives",
        what="Gather a dict of small tensors, and compare their structures",
        program=compared,
        unit="s",
        sizes=[{"processes": 2, "tensors": tensors} for tensors in (1, 20, 200)],
        quick=[{"processes": 2, "tensors": 20}],
        theirs=None,
        floor_is="the same messages without the roll call, the paths and the checksum",
    ),
    Case(
        name="local-sgd",
        theme="collectives",
        what="LocalSGD: the mean of 100 parameters",
        program=averaged,
        unit="s",
        sizes=_WORLDS,
        quick=_WORLDS[:1],
        floor_is="one all_reduce of all parameters, and the copies",
        goal=Goal(kind="faster", limit=50, at=_WORLDS[1]),
    ),
    *(
        Case(
            name=f"rng-{'-'.join(kinds)}",
            theme="collectives",
            what=f"Synchronize random generators at the start of an epoch: {', '.join(kinds)}",
            program=synchronized,
            unit="s",
            sizes=_WORLDS,
            quick=_WORLDS[:1],
            theirs=Side("accelerate", {"kinds": kinds}),
            ours=Side("runtime", {"kinds": kinds}),
            floor=Side("torch", {"kinds": kinds}),
            floor_is="one broadcast of the state of one generator",
        )
        for kinds in (["generator"], ["torch", "generator"])
    ),
]
