"""Parts of sequences, as one process sees them; test_sequences in tests/distributed has worlds."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from runtime import Accelerator
from runtime.parallel.context.buffers import check_buffers, divided
from runtime.parallel.context.parts import PIECES, in_order, part_of, pieces_of

SIZES = st.integers(1, 5)


@given(size=SIZES, piece=st.integers(1, 3), dimension=st.integers(-2, 1))
def test_the_parts_of_all_processes_are_the_whole(size: int, piece: int, dimension: int) -> None:
    length = PIECES * size * piece
    whole = torch.arange(length * length).reshape(length, length)
    parts = [part_of(whole, dimension, rank, size) for rank in range(size)]
    assert torch.equal(in_order(parts, dimension), whole)


@given(size=SIZES)
def test_all_processes_have_equal_work_in_causal_attention(size: int) -> None:
    """Piece n attends to n + 1 pieces."""
    work = {sum(number + 1 for number in pieces_of(rank, size)) for rank in range(size)}
    assert len(work) == 1


def halves(dtype: torch.dtype = torch.long) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A batch, and inputs and targets that share its memory."""
    batch = torch.arange(18, dtype=dtype).reshape(2, 9)
    return batch, batch[:, :-1], batch[:, 1:]


def test_buffers_that_share_memory_do_not_disturb_each_other() -> None:
    batch, inputs, targets = halves()
    before = batch.clone()
    with divided([inputs, targets], [1, 1], [targets], rank=0, size=2):
        assert inputs[0].tolist() == [0, 1, 6, 7]
        assert targets[0].tolist() == [1, 2, 7, 8]
        assert torch.equal(batch, before)
    assert torch.equal(inputs, before[:, :-1])
    assert targets[0].tolist() == [1, 2, 7, 8]  # it stays divided
    assert torch.equal(batch, before)


def test_buffers_are_whole_again_after_an_error() -> None:
    _, inputs, _ = halves()
    with pytest.raises(ZeroDivisionError), divided([inputs], [1], [], rank=1, size=2):
        _ = 1 / 0
    assert inputs.shape == (2, 8)


@pytest.mark.parametrize("is_inference", [False, True])
def test_a_backward_that_needs_parts_which_are_gone_raises_an_error(is_inference: bool) -> None:
    """What inference_mode has made has no version, and no backward."""
    with torch.inference_mode(is_inference):
        _, inputs, _ = halves(torch.float)
        weight = torch.ones(4, requires_grad=not is_inference)
        with divided([inputs], [1], [], rank=0, size=2):
            loss = (inputs * weight).sum()
    if not is_inference:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()  # type: ignore[no-untyped-call]  # torch has not typed it


BATCH, INPUTS, TARGETS = halves()
WRONG: dict[str, tuple[list[Any], list[int], list[Any], type[Exception], str]] = {
    "no dimension": ([INPUTS], [], [], ValueError, "0 dimensions and 1 buffers"),
    "no tensor": (["x"], [1], [], TypeError, r"buffers\[0\] must be a tensor, got str"),
    "twice": ([INPUTS, INPUTS], [1, 1], [], ValueError, r"buffers\[1\] is in the list twice"),
    "another kept": ([INPUTS], [1], [TARGETS], ValueError, "must be a subset of `buffers`"),
    "lengths": ([INPUTS, BATCH], [1, 1], [], ValueError, "same number of positions, but got 8, 9"),
    "a length": ([BATCH], [1], [], ValueError, "a multiple of 4 .* but is 9: pad"),
    "no such dimension": ([INPUTS], [2], [], ValueError, r"is 2, but buffers\[0\] has 2 dim"),
    "a weight": ([torch.nn.Parameter(torch.ones(8))], [0], [], ValueError, "requires a gradient"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_buffers_are_refused(name: str) -> None:
    buffers, dimensions, kept, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        check_buffers(buffers, dimensions, kept, 2)


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def test_without_context_parallelism_the_context_does_nothing(accelerator: Accelerator) -> None:
    _, inputs, _ = halves(torch.float)
    with accelerator.maybe_context_parallel(buffers=[inputs], buffer_seq_dims=[1]):
        assert inputs.shape == (2, 8)
        query = inputs.reshape(2, 8, 1)
        functional.scaled_dot_product_attention(query, query, query)
