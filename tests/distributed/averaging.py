"""A world whose ranks train on different data; each rank prints the weights that it ends with.

A script is right if all ranks have the same weights, and wrong if they have not.
"""

import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from runtime import Accelerator, FullyShardedDataParallelPlugin
from runtime.local_sgd import LocalSGD
from runtime.parallel.unaveraged import Unaveraged
from tests.states import fresh

Forward = Callable[[torch.Tensor], torch.Tensor]
Script = Callable[[Accelerator, nn.Module], tuple[Forward, Any]]  # what is trained, by what
STEPS = 2


def net() -> nn.Module:
    """Two layers; `net[0]` and `net[1]`."""
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def sgd(parameters: Iterable[Any]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)


class Headed(nn.Module):
    """The script's own wrapper: a body, and a head of its own."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.body(x))
        return y


def together(a: Accelerator, model: nn.Module) -> Any:
    optimizer, model = a.prepare(sgd(model.parameters()), model)
    return model, optimizer


def model_later(a: Accelerator, model: nn.Module) -> Any:
    optimizer = a.prepare(sgd(model.parameters()))
    return a.prepare(model), optimizer


def model_before(a: Accelerator, model: nn.Module) -> Any:
    model = a.prepare(model)
    return model, a.prepare(sgd(model.parameters()))


def compiled_before(a: Accelerator, model: nn.Module) -> Any:
    return together(a, torch.compile(model, backend="eager"))  # type: ignore[arg-type]  # a Module


def compiled_after(a: Accelerator, model: nn.Module) -> Any:
    model = a.prepare(model)
    return torch.compile(model, backend="eager"), a.prepare(sgd(model.parameters()))


def own_ddp(a: Accelerator, model: nn.Module) -> Any:
    return together(a, DistributedDataParallel(model))


def own_compiled_ddp(a: Accelerator, model: nn.Module) -> Any:
    return compiled_before(a, DistributedDataParallel(model))


def own_wrapper(a: Accelerator, model: nn.Module) -> Any:
    return together(a, Headed(model))


def own_head(a: Accelerator, model: nn.Module) -> Any:
    """A wrapper around the prepared body: its head is prepared by itself."""
    whole = Headed(a.prepare(model))
    whole.head = a.prepare(whole.head)
    return whole, a.prepare(sgd(whole.parameters()))


def frozen_group(a: Accelerator, model: Any) -> Any:
    model[0].requires_grad_(requires_grad=False)
    groups = [{"params": list(part.parameters())} for part in model]
    optimizer, model = a.prepare(sgd(groups), model)
    return model, optimizer


def group_added(a: Accelerator, model: Any) -> Any:
    first, last = model
    optimizer = a.prepare(sgd(first.parameters()))
    model = a.prepare(model)
    optimizer.add_param_group({"params": list(last.parameters())})
    return model, optimizer


def unfrozen_and_prepared_again(a: Accelerator, model: Any) -> Any:
    model[0].requires_grad_(requires_grad=False)
    prepared = a.prepare(model)
    model[0].requires_grad_(requires_grad=True)
    return together(a, a.unwrap_model(prepared))


def teacher(a: Accelerator, model: nn.Module) -> Any:
    """A model in evaluation mode, which is not trained."""
    judge = a.prepare_model(net(), evaluation_mode=True)
    model, optimizer = together(a, model)
    return lambda x: model(x) - judge(x).detach(), optimizer


def two_models(a: Accelerator, model: nn.Module) -> Any:
    model, other = a.prepare(model, nn.Linear(2, 1))
    return lambda x: other(model(x)), a.prepare(sgd([*model.parameters(), *other.parameters()]))


def of_another_accelerator(a: Accelerator, model: nn.Module) -> Any:
    model = Accelerator(cpu=True).prepare(model)
    return model, a.prepare(sgd(model.parameters()))


def forgotten(a: Accelerator, model: nn.Module) -> Any:
    model = a.prepare(model)
    a.free_memory()
    return model, a.prepare(sgd(model.parameters()))


def in_hooks(a: Accelerator, model: nn.Module) -> Any:
    """The script averages by itself."""

    def average(parameter: torch.Tensor) -> None:
        assert parameter.grad is not None  # torch calls it then
        distributed.all_reduce(parameter.grad)
        parameter.grad /= a.num_processes

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(average)  # type: ignore[no-untyped-call]
    return model, a.prepare(sgd(model.parameters()))


def local_sgd(a: Accelerator, model: nn.Module) -> Any:
    """Ranks train apart, and their weights are averaged at each step."""
    model, optimizer = together(a, model)
    local = LocalSGD(a, model, local_sgd_steps=1)
    local.__enter__()
    optimizer.optimizer.register_step_post_hook(lambda *_: local.step())
    return model, optimizer


def sharded_then_optimizer(a: Accelerator, model: nn.Module) -> Any:
    model = a.prepare_model(model)
    return model, a.prepare_optimizer(sgd(model.parameters()))


LEGAL: dict[str, Script] = {
    "a model and its optimizer together": together,
    "a model after its optimizer": model_later,
    "a model before its optimizer is made": model_before,
    "a model that the script has compiled": compiled_before,
    "a prepared model that the script compiles": compiled_after,
    "a model in the script's own DDP": own_ddp,
    "a model in the script's own DDP, compiled": own_compiled_ddp,
    "a wrapper of the script's own": own_wrapper,
    "a wrapper around prepared parts": own_head,
    "groups of which one is frozen": frozen_group,
    "a group of a prepared model that is added later": group_added,
    "a model that is prepared again when it is unfrozen": unfrozen_and_prepared_again,
    "a model beside one in evaluation mode": teacher,
    "two models with one optimizer": two_models,
    "a model that another Accelerator has prepared": of_another_accelerator,
    "a prepared model that free_memory has forgotten": forgotten,
    "gradients that the script averages in hooks": in_hooks,
    "LocalSGD": local_sgd,
    "sharded, a model and its optimizer together": together,
    "sharded, the model compiled by the script": compiled_before,
    "sharded, groups of which one is frozen": frozen_group,
    "sharded, an optimizer of the sharded model": sharded_then_optimizer,
}


def apart(a: Accelerator, model: nn.Module) -> Any:
    return model, a.prepare(sgd(model.parameters()))


def evaluated(a: Accelerator, model: nn.Module) -> Any:
    optimizer = a.prepare(sgd(model.parameters()))
    return a.prepare_model(model, evaluation_mode=True), optimizer


def unfrozen(a: Accelerator, model: Any) -> Any:
    inner = model
    inner[0].requires_grad_(requires_grad=False)
    optimizer, model = a.prepare(sgd(model.parameters()), model)
    inner[0].requires_grad_(requires_grad=True)
    return model, optimizer


def all_unfrozen(a: Accelerator, model: nn.Module) -> Any:
    model.requires_grad_(requires_grad=False)
    optimizer, model = a.prepare(sgd(model.parameters()), model)
    return model.requires_grad_(requires_grad=True), optimizer


def layer_added(a: Accelerator, model: Any) -> Any:
    """As an adapter is, to a model that is prepared already."""
    inner, model = model, a.prepare(model)
    inner.append(nn.Linear(2, 2))
    return model, a.prepare(sgd(model.parameters()))


def strange_group(a: Accelerator, model: nn.Module) -> Any:
    other = nn.Linear(2, 1)
    model, optimizer = together(a, model)
    a.backward(model(torch.ones(2, 3)).sum())
    optimizer.zero_grad()
    optimizer.add_param_group({"params": list(other.parameters())})
    return lambda x: other(model(x)), optimizer


def of_no_model(a: Accelerator, model: nn.Module) -> Any:
    scale = nn.Parameter(torch.ones(2))
    optimizer, model = a.prepare(sgd([scale, *model.parameters()]), model)
    return lambda x: scale * model(x), optimizer


def head_apart(a: Accelerator, model: nn.Module) -> Any:
    whole = Headed(a.prepare(model))
    return whole, a.prepare(sgd(whole.parameters()))


ILLEGAL: dict[str, Script] = {
    "an optimizer without its model": apart,
    "a model that is trained in evaluation mode": evaluated,
    "a layer that is unfrozen after its model was prepared": unfrozen,
    "a model that is unfrozen as a whole after it was prepared": all_unfrozen,
    "a layer that is added to a prepared model": layer_added,
    "a group of another model that is added later": strange_group,
    "a parameter of no model": of_no_model,
    "a wrapper's own head around a prepared body": head_apart,
}


def accelerator_of(case: str, **options: Any) -> Accelerator:
    plugin = FullyShardedDataParallelPlugin() if case.startswith("sharded") else None
    torch.manual_seed(5)
    return Accelerator(cpu=True, fsdp_plugin=plugin, **options)


def whole(tensor: torch.Tensor) -> list[Any]:
    found = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    values: list[Any] = found.detach().tolist()
    return values


def trained(case: str, script: Script, *, checked: bool = True) -> Any:
    """The weights after some steps on this rank's data; the error if there was one."""
    accelerator = accelerator_of(case)
    try:
        forward, optimizer = script(accelerator, net())
        if not checked:
            accelerator._preparer._unaveraged = Unaveraged()
        for step in range(STEPS):
            x = torch.full((2, 3), 1.0 + step + accelerator.process_index)
            accelerator.backward(forward(x).square().mean())
            optimizer.step()
            optimizer.zero_grad()
        return [whole(one) for one in optimizer.parameters()]
    except ValueError as error:
        return str(error)
    finally:
        fresh(world=False)  # the next script is as of a new process


def sharded_too_late(prepare: Callable[[Accelerator, Any], Any]) -> str:
    """What is said of an optimizer whose model is sharded after it was prepared."""
    accelerator, model = accelerator_of("sharded"), net()
    try:
        prepare(accelerator, sgd(model.parameters()))
        accelerator.prepare(model)
    except ValueError as error:
        return str(error)
    finally:
        fresh(world=False)  # the next script is as of a new process
    return ""


def two_optimizers(kind: str, *, shared: bool) -> dict[str, Any]:
    """Two optimizers of one model's halves, or of two models; the steps behind a checkpoint twice.

    Four batches, of which each two are accumulated, and a short window at the end of each epoch.
    """
    accelerator = accelerator_of(kind, gradient_accumulation_steps=2)
    parts: Any = (nn.Linear(3, 4), nn.Linear(4, 2))
    models = [nn.Sequential(*parts)] if shared else list(parts)
    optimizers = [
        torch.optim.Adam(part.parameters(), lr=0.01 * n) for n, part in enumerate(parts, 1)
    ]
    schedulers = [torch.optim.lr_scheduler.StepLR(one, 1, 0.5) for one in optimizers]
    rows = torch.arange(18.0).reshape(6, 3) / 10
    data: Any = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(rows), batch_size=1)
    together: Any = accelerator.prepare(data, *models, *optimizers, *schedulers)
    loader, *prepared = together
    count = len(models)
    models, optimizers, schedulers = prepared[:count], prepared[count : count + 2], prepared[-2:]

    def epoch() -> list[Any]:
        for (x,) in loader:
            with accelerator.accumulate(*models):
                loss = nn.Sequential(*models)(x).square().mean()
                accelerator.backward(loss)
                for one in (*optimizers, *schedulers):
                    one.step()
                for one in optimizers:
                    one.zero_grad()
        return [whole(one) for optimizer in optimizers for one in optimizer.parameters()]

    with tempfile.TemporaryDirectory() as folder:
        own = [folder]
        distributed.broadcast_object_list(own)
        first = epoch()
        accelerator.save_state(own[0])
        second = epoch()
        accelerator.load_state(own[0])
        again = epoch()
        accelerator.wait_for_everyone()
    rates = [one.param_groups[0]["lr"] for one in optimizers]
    fresh(world=False)  # the next script is as of a new process
    return {"first": first, "second": second, "again": again, "rates": rates}


TOO_LATE: dict[str, Callable[[Accelerator, Any], Any]] = {
    "by prepare_optimizer": lambda a, optimizer: a.prepare_optimizer(optimizer),
    "by prepare": lambda a, optimizer: a.prepare(optimizer),
    "with another model": lambda a, optimizer: a.prepare(net(), optimizer),
}


def main() -> None:
    """All cases."""
    warnings.simplefilter("ignore", FutureWarning)
    found: dict[str, Any] = {}
    for case, script in (LEGAL | ILLEGAL).items():
        found[case] = trained(case, script)
        sys.stdout.write(f"{case}\n")
    found["unchecked"] = {c: trained(c, script, checked=False) for c, script in ILLEGAL.items()}
    found["too late"] = {case: sharded_too_late(act) for case, act in TOO_LATE.items()}
    for shared in (False, True):
        for kind in ("whole", "sharded"):
            found[f"{kind}, {shared}"] = two_optimizers(kind, shared=shared)
    sys.stdout.write(json.dumps(found) + "\n")
    Accelerator().end_training()


if __name__ == "__main__":
    main()
