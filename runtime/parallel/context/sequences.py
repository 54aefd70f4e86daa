"""Divides the sequences of a step among the processes that share them."""

import contextlib
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from runtime.parallel.context.attention import PartialAttention, whole_of
from runtime.parallel.context.buffers import check_buffers, divided
from runtime.parallel.context.models import must_attend_fully, watch
from runtime.parallel.context.parts import part_of
from runtime.parallel.context.recomputing import attend_again
from runtime.parallel.wrap import is_compiled_module


class Sequences:
    """The sequences that the processes of a batch share.

    Attributes:
        size: the number of these processes.
        has_parts: whether the latest results of a model are those of parts of sequences.
    """

    def __init__(self, mesh: DeviceMesh) -> None:
        """Begin with whole sequences.

        Args:
            mesh: the mesh of the processes that share sequences; one-dimensional.
        """
        self._group = mesh.get_group()
        self.size = self._group.size()
        self._attention: PartialAttention | None = None  # while sequences are divided
        self._positions: torch.Tensor | None = None
        self._forwards = 0
        self.has_parts = False

    def prepare(self, model: nn.Module, *, compiles: bool) -> None:
        """Make a model ready for divided sequences.

        Args:
            model: a model that has not been sharded yet.
            compiles: whether it will be compiled.

        Raises:
            NotImplementedError: it is compiled.
            ValueError: its attention cannot be computed over divided sequences.
        """
        if compiles or is_compiled_module(model):
            sentence = (
                "context parallelism does not support torch.compile: leave dynamo_backend and "
                "dynamo_plugin out, or cp_size"
            )
            raise NotImplementedError(sentence)

        def count(_module: nn.Module, _args: object) -> None:
            self.has_parts = self._attention is not None
            self._forwards += self.has_parts

        must_attend_fully(model)
        watch(model, lambda: self._positions, lambda part: whole_of(part, self._group, 1))
        attend_again(model, lambda: self._attention)
        model.register_forward_pre_hook(count)

    @contextlib.contextmanager
    def divided(
        self,
        buffers: Sequence[torch.Tensor],
        dimensions: Sequence[int],
        kept: Collection[torch.Tensor],
    ) -> Iterator[None]:
        """Return a context in which sequences are divided; see `maybe_context_parallel`.

        Raises:
            RuntimeError: sequences are divided already, or a model has computed on a part of them
                without attention to the others.
            TypeError: a buffer is no tensor.
            ValueError: the buffers cannot be divided.
        """
        if self._attention is not None:
            sentence = "maybe_context_parallel() was entered twice: leave the first context before"
            raise RuntimeError(sentence)
        rank, size = self._group.rank(), self.size
        length = check_buffers(buffers, dimensions, list(kept), size)
        positions = torch.arange(length, device=buffers[0].device)
        attention, forwards = PartialAttention(self._group, length // size), self._forwards
        dividing = divided(buffers, dimensions, list(kept), rank=rank, size=size)
        self._attention, self._positions = attention, part_of(positions, 0, rank, size)
        try:
            with dividing, attention:
                yield
        finally:
            self._attention = self._positions = None
        if self._forwards > forwards and not attention.calls:
            sentence = (
                "a model has computed on a part of the sequences, but it never called "
                "torch.nn.functional.scaled_dot_product_attention, so that no position has "
                "attended to those of other processes: use that function in its attention"
            )
            raise RuntimeError(sentence)
