"""Divides the layers of a model among the processes of tensor parallelism."""

from typing import Any

from torch import nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import parallelize_module

from runtime.parallel.alike import begin_alike, must_be_alike
from runtime.parallel.tensor.plan import must_divide, styles_of
from runtime.world.state import AcceleratorState


def divide(model: nn.Module, state: AcceleratorState) -> nn.Module:
    """Divide a model in place, by the plan of the layout or by its own.

    A model that the script has divided stays as it is.

    Args:
        model: the script's model, with all weights. If weights or buffers differ between ranks,
            all ranks get those of rank 0.
        state: the state of this process.

    Returns:
        The same object; some of its parameters are now DTensors.

    Raises:
        ValueError: the model cannot be divided, or the script has divided it among another number
            of processes, or with other weights in each data-parallel rank.
        NotImplementedError: the model's own plan has a style that is not supported.
    """
    layout: Any = state.parallelism_config
    if (own := _size_of(model)) is not None:
        _must_fit(own, layout.tp_size)
        must_be_alike(model, layout.tp_size)
        return model
    handler = layout.tp_handler  # None if a script sets tp_size after it has made the layout
    styles = styles_of(model, handler and handler.plan, layout.tp_size)
    begin_alike(model, state.device)
    for name, style in styles.items():
        parallelize_module(model.get_submodule(name), state.model_mesh["tp"], style)
    must_divide(model, layout.tp_size)
    return model


def _size_of(model: nn.Module) -> int | None:
    """Return among how many processes the script has divided a model; None if it has not."""
    found = (one.device_mesh for one in model.parameters() if isinstance(one, DTensor))
    mesh = next(found, None)
    return None if mesh is None else mesh.size()


def _must_fit(size: int, tp_size: int) -> None:
    if size != tp_size:
        sentence = (
            f"the model is divided among {size} processes already, but tp_size is {tp_size}: both "
            "must be the same, or divide the model by prepare() alone"
        )
        raise ValueError(sentence)
