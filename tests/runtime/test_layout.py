"""The layout of a world: names, properties, environment, errors and mesh of Accelerate."""

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import accelerate.utils
import pytest
import torch
from torch import distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

from runtime import Accelerator, FullyShardedDataParallelPlugin, ParallelismConfig
from runtime.config.parsing import patch_environment
from runtime.config.settings import Settings
from runtime.parallel.mesh import layout_of
from runtime.state import AcceleratorState
from runtime.utils import TorchContextParallelConfig, TorchTensorParallelConfig

NAMES = ("dp_replicate", "dp_shard", "tp", "cp")
SIZES = [  # of these dimensions: all of Accelerate's own tests
    *((1, 1, 1, 1), (8, 1, 1, 1), (1, 8, 1, 1), (2, 4, 1, 1), (1, 4, 2, 1), (2, 2, 2, 1)),
    *((1, 1, 8, 1), (1, 1, 1, 4), (1, 4, 1, 2), (1, 2, 2, 2), (2, 2, 2, 2)),
]
ASKED = (
    *("dp_replicate_size", "dp_shard_size", "tp_size", "cp_size", "sp_size", "total_size"),
    *("data_parallel_size", "non_data_parallel_size", "dp_replicate_enabled", "dp_shard_enabled"),
    *("tp_enabled", "cp_enabled", "sp_enabled", "active_mesh_dims", "dp_dim_names"),
    *("non_dp_dim_names", "dp_shard_cp_dim_names", "dp_cp_dim_names", "fsdp_dim_names"),
    *("cp_backend", "sp_backend", "sp_handler", "device_mesh"),
)
PLUGIN = FullyShardedDataParallelPlugin()
FROM_RANK_0 = FullyShardedDataParallelPlugin(cpu_ram_efficient_loading=True)
JOINED = ("dp", "dp_shard_cp", "dp_cp")
STRATEGY = "PARALLELISM_CONFIG_CP_COMM_STRATEGY"


def named(sizes: tuple[int, ...]) -> dict[str, Any]:
    return {f"{name}_size": size for name, size in zip(NAMES, sizes, strict=True)}


def both(said: dict[str, Any], env: dict[str, str]) -> list[Any]:
    with patch_environment(**env):
        return [kind(**said) for kind in (ParallelismConfig, accelerate.utils.ParallelismConfig)]


@pytest.fixture
def world() -> Iterator[Any]:
    """Make this process rank 0 of a world in which nothing is sent."""

    def begin(size: int) -> None:
        distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=size)

    yield begin
    if distributed.is_initialized():
        distributed.destroy_process_group()


@pytest.mark.parametrize("is_env", [False, True], ids=["the script's", "the environment's"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_layout_is_that_of_accelerate(sizes: tuple[int, ...], is_env: bool) -> None:
    said = named(sizes)
    env = {f"PARALLELISM_CONFIG_{name.upper()}": str(size) for name, size in said.items()}
    ours, theirs = both({}, env) if is_env else both(said, {})
    assert [getattr(ours, name) for name in ASKED] == [getattr(theirs, name) for name in ASKED]
    assert ours._get_mesh() == theirs._get_mesh()
    for name in ("tp_handler", "cp_handler"):
        assert (getattr(ours, name) is None) == (getattr(theirs, name) is None)


def test_the_script_is_asked_before_the_environment() -> None:
    for one in both({"dp_shard_size": 2}, {"PARALLELISM_CONFIG_DP_SHARD_SIZE": "3"}):
        assert one.dp_shard_size == 2


@pytest.mark.parametrize("shards", [False, True], ids=["replicas", "shards"])
@pytest.mark.parametrize("size", [1, 4])
def test_a_layout_without_sizes_gets_those_of_the_world(size: int, shards: bool) -> None:
    """Accelerate does so with replicas; it refuses to shard over a layout without sizes."""
    ours, theirs = both({}, {})
    ours.fill(world_size=size, shards=shards)
    ours.check(world_size=size, plugin=PLUGIN if shards else None)
    if not shards:
        theirs._validate_accelerator(
            SimpleNamespace(num_processes=size, multi_device=size > 1, is_fsdp2=False)
        )
        assert [getattr(ours, name) for name in ASKED] == [getattr(theirs, name) for name in ASKED]
    assert ours.data_parallel_size == ours.total_size == size
    assert ours.dp_dim_names == ([] if size == 1 else ["dp_shard" if shards else "dp_replicate"])


def test_sizes_that_the_script_gives_stay() -> None:
    layout = ParallelismConfig(tp_size=2)
    layout.fill(world_size=4, shards=False)
    assert layout.total_size == 2


@pytest.mark.parametrize(
    ("value", "is_said"),
    [pytest.param("2", True, id="2"), pytest.param("1", False, id="1"), ("", False)],
)
def test_sizes_that_are_set_in_vain_are_warned_of(
    value: str, is_said: bool, recwarn: pytest.WarningsRecorder
) -> None:
    with patch_environment(PARALLELISM_CONFIG_TP_SIZE=value):
        assert layout_of(None, Settings()) is None
        given = ParallelismConfig(tp_size=1)
        assert layout_of(given, Settings()) is given
    said = [str(one.message) for one in recwarn]
    assert len(said) == is_said
    assert all(
        "PARALLELISM_CONFIG_TP_SIZE=2 has no effect: set ACCELERATE_USE_" in one for one in said
    )


def test_what_is_refused_is_forgotten() -> None:
    with pytest.raises(ValueError, match="does not match num_processes"):
        Accelerator(cpu=True, parallelism_config=ParallelismConfig(tp_size=2))
    assert not AcceleratorState.is_made()
    assert Accelerator(cpu=True).parallelism_config is None


@pytest.mark.filterwarnings("ignore:Slicing a flattened dim")  # torch means to end it
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_mesh_is_that_of_accelerate(sizes: tuple[int, ...], world: Any) -> None:
    world(math.prod(sizes))
    ours, theirs = (one.build_device_mesh("cpu") for one in both(named(sizes), {}))
    if theirs is None:
        assert ours is None
        return
    assert torch.equal(ours.mesh, theirs.mesh)
    assert ours.mesh_dim_names == theirs.mesh_dim_names
    for name in JOINED:
        assert size_of(ours, name) == size_of(theirs, name)


def size_of(mesh: Any, name: str) -> int | None:
    """The size of a joined mesh; None if there is none."""
    try:
        size: int = mesh[name].size()
    except KeyError:
        return None
    return size


def test_a_mesh_is_made_once_and_for_one_device(world: Any) -> None:
    world(2)
    layout = ParallelismConfig(tp_size=2)
    with pytest.raises(ValueError, match="needs a device_type"):
        layout.get_device_mesh()
    mesh = layout.get_device_mesh("cpu")
    assert layout.get_device_mesh() is mesh
    with pytest.raises(ValueError, match="created for cpu, not cuda"):
        layout.get_device_mesh("cuda")


WRONG: dict[str, dict[str, Any]] = {
    **{f"no {name}": {f"{name}_size": 0} for name in (*NAMES, "sp")},
    "replicas of what tensor parallelism divides": {"dp_replicate_size": 2, "tp_size": 2},
    "replicas of what context parallelism divides": {"dp_replicate_size": 2, "cp_size": 2},
    "another backend of context parallelism": {"cp_backend": "deepspeed"},
    "another backend of sequence parallelism": {"sp_backend": "torch"},
    "a handler of another kind": {"cp_size": 2, "cp_handler": object()},
}


@pytest.mark.parametrize("said", WRONG.values(), ids=list(WRONG))
def test_what_accelerate_refuses_is_refused(said: dict[str, Any]) -> None:
    for kind in (ParallelismConfig, accelerate.utils.ParallelismConfig):
        with pytest.raises(ValueError, match=r"must be|requires|cannot be used"):
            kind(**said)


def test_a_handler_for_tensor_parallelism_must_be_one() -> None:
    with pytest.raises(ValueError, match="tp_handler must be a TorchTensorParallelConfig"):
        ParallelismConfig(tp_size=2, tp_handler={"plan": {}})


def test_sequence_parallelism_is_left_out() -> None:
    with pytest.raises(NotImplementedError, match="sp_size must be 1, but got 2"):
        ParallelismConfig(sp_size=2)


@pytest.mark.parametrize(
    "kind", [TorchContextParallelConfig, accelerate.utils.TorchContextParallelConfig]
)
def test_sequences_are_exchanged_in_one_of_two_ways(kind: Any) -> None:
    assert kind().cp_comm_strategy == "allgather"
    with patch_environment(**{STRATEGY: "alltoall"}):
        assert kind().cp_comm_strategy == "alltoall"
        assert kind(cp_comm_strategy="allgather").cp_comm_strategy == "allgather"
    with pytest.raises(ValueError, match="Invalid cp_comm_strategy: other"):
        kind(cp_comm_strategy="other")
    with (
        patch_environment(**{STRATEGY: "other"}),
        pytest.raises(ValueError, match="Invalid cp_comm_strategy: other"),
    ):
        kind()


def test_an_option_without_effect_says_so() -> None:
    with pytest.warns(UserWarning, match="Async tensor parallelism"):
        TorchTensorParallelConfig(enable_async_tp=True)


def test_a_layout_can_be_written_as_json() -> None:
    said = ParallelismConfig(cp_size=2).to_json()
    assert said["cp_size"] == 2
    assert said["cp_handler"] == {"cp_comm_strategy": "allgather"}


@pytest.mark.parametrize(
    ("said", "shards", "sentence"),
    [
        pytest.param({"dp_shard_size": 3}, True, "does not match num_processes", id="size"),
        pytest.param({"tp_size": 2}, False, "does not match num_processes", id="size of tp"),
        pytest.param({"dp_replicate_size": 4}, True, "dp_shard_size is 1", id="nothing to shard"),
        pytest.param({"tp_size": 4}, True, "dp_shard_size is 1", id="nothing to shard with tp"),
        pytest.param({"dp_shard_size": 4}, False, "needs an fsdp_plugin", id="no plugin"),
        pytest.param({"dp_replicate_size": 4}, False, None, id="copies only"),
        pytest.param({"dp_replicate_size": 2, "dp_shard_size": 2}, True, None, id="hybrid"),
        pytest.param({"dp_shard_size": 2, "tp_size": 2}, True, None, id="shards and tp"),
        pytest.param({"tp_size": 4}, False, None, id="tp only"),
    ],
)
def test_a_layout_is_for_one_world(
    said: dict[str, Any], shards: bool, sentence: str | None
) -> None:
    layout, plugin = ParallelismConfig(**said), PLUGIN if shards else None
    if sentence is None:
        layout.check(world_size=4, plugin=plugin)
        return
    with pytest.raises(ValueError, match=sentence):
        layout.check(world_size=4, plugin=plugin)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"precision": "fp16"}, "mixed_precision='fp16': use bf16"),
        ({"precision": "fp8"}, "mixed_precision='fp8': use bf16"),
        ({"plugin": FROM_RANK_0}, "cpu_ram_efficient_loading: load the weights on all ranks"),
    ],
    ids=["a scaler", "fp8", "weights that only rank 0 has"],
)
def test_what_tensor_parallelism_does_not_support_is_refused(
    settings: dict[str, Any], sentence: str
) -> None:
    size = 2 if "plugin" in settings else 1
    layout = ParallelismConfig(tp_size=2, dp_shard_size=size)
    with pytest.raises(NotImplementedError, match=f"tp_size=2 does not support {sentence}"):
        layout.check(world_size=layout.total_size, **settings)


def test_context_parallelism_shards_the_model_as_well() -> None:
    ParallelismConfig(cp_size=4).check(world_size=4, plugin=PLUGIN)
    with pytest.raises(ValueError, match="cp_size=4 needs an fsdp_plugin"):
        ParallelismConfig(cp_size=4).check(world_size=4)


def test_a_way_to_exchange_keys_and_values_that_is_not_built_is_refused() -> None:
    layout = ParallelismConfig(cp_size=4, cp_handler=TorchContextParallelConfig("alltoall"))
    with pytest.raises(NotImplementedError, match="cp_comm_strategy='alltoall' is not supported"):
        layout.check(world_size=4, plugin=PLUGIN)


def test_a_handler_that_has_nothing_to_do_says_so() -> None:
    layout = ParallelismConfig(tp_handler=TorchTensorParallelConfig())
    with pytest.warns(UserWarning, match="tp_handler is set, but tp_size is set to 1"):
        layout.check(world_size=1)


def test_the_environment_shards_by_itself_and_lays_out() -> None:
    with patch_environment(
        ACCELERATE_USE_FSDP="true", ACCELERATE_USE_PARALLELISM_CONFIG="true", FSDP_VERSION="2"
    ):
        accelerator = Accelerator(cpu=True)
    assert isinstance(accelerator.state.fsdp_plugin, FullyShardedDataParallelPlugin)
    assert isinstance(accelerator.parallelism_config, ParallelismConfig)
    assert not accelerator.is_fsdp2  # a world of one has nothing to share
    assert accelerator.data_parallel_shard_rank == 0
    assert accelerator.tensor_parallel_rank == 0
