import gc
from typing import Any

import pytest
from torch.utils.data import DataLoader

from runtime import Accelerator
from runtime.config.plugins import DataLoaderConfiguration


@pytest.mark.parametrize("dispatched", [False, True])
def test_a_pass_behind_the_first_batches_is_an_epoch_of_the_whole(dispatched: bool) -> None:
    accelerator, loader = prepared(dispatched)
    part = accelerator.skip_first_batches(loader, 2)
    states = [loader.state_dict() for _ in part]
    assert [state["position"] for state in states] == [12, 16, 0]
    assert [state["epoch"] for state in states] == [0, 0, 1]
    assert loader.iteration == part.iteration == 1


def test_a_checkpoint_of_the_whole_has_the_parts_position() -> None:
    """Also the next pass, by the part or by the whole, begins at the beginning."""
    accelerator, loader = prepared(False)
    expected = list(loader)
    _, again = prepared(False)
    part = accelerator.skip_first_batches(loader, 1)
    for _ in part:
        break
    again.load_state_dict(loader.state_dict())
    assert [x.tolist() for x in again] == [x.tolist() for x in expected[2:]]
    del part
    gc.collect()
    assert len(list(loader)) == 5


def prepared(dispatched: bool) -> tuple[Accelerator, Any]:
    config = DataLoaderConfiguration(dispatch_batches=dispatched)
    accelerator = Accelerator(dataloader_config=config)
    return accelerator, accelerator.prepare(DataLoader(range(20), batch_size=4))  # type: ignore[arg-type]  # a range is a dataset
