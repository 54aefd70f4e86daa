"""The names of Accelerate's `utils`; other packages of the runtime define them."""

import importlib
from typing import TYPE_CHECKING, Any

from runtime.config import left_out
from runtime.parallel.mesh import ParallelismConfig
from runtime.utils import imports
from runtime.utils.constants import (
    MODEL_NAME,
    OPTIMIZER_NAME,
    PROFILE_PATTERN_NAME,
    RNG_STATE_NAME,
    SAFE_MODEL_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    SAFE_WEIGHTS_PATTERN_NAME,
    SAMPLER_NAME,
    SCALER_NAME,
    SCHEDULER_NAME,
    STR_OPERATION_TO_FUNC,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
    WEIGHTS_PATTERN_NAME,
)
from runtime.utils.dataclasses import (
    AutocastKwargs,
    BaseEnum,
    DataLoaderConfiguration,
    DDPCommunicationHookType,
    DistributedDataParallelKwargs,
    DistributedType,
    DynamoBackend,
    FP8BackendType,
    GradientAccumulationPlugin,
    GradScalerKwargs,
    InitProcessGroupKwargs,
    KwargsHandler,
    LoggerType,
    PrecisionType,
    ProfileKwargs,
    ProjectConfiguration,
    RNGType,
    TensorInformation,
    TorchContextParallelConfig,
    TorchDynamoPlugin,
    TorchTensorParallelConfig,
)
from runtime.utils.environment import (
    are_libraries_initialized,
    check_cuda_fp8_capability,
    clear_environment,
    convert_dict_to_env_variables,
    get_int_from_env,
    parse_choice_from_env,
    parse_flag_from_env,
    patch_environment,
    purge_accelerate_environment,
    str_to_bool,
)
from runtime.utils.imports import (
    is_bf16_available,
    is_fp16_available,
    is_habana_gaudi1,
)
from runtime.utils.launch import (
    PrepareForLaunch,
)
from runtime.utils.memory import (
    clear_device_cache,
    find_executable_batch_size,
    release_memory,
    should_reduce_batch_size,
)
from runtime.utils.modeling import (
    convert_file_size_to_int,
    dtype_byte_size,
    find_tied_parameters,
    id_tensor_storage,
    load_checkpoint_in_model,
    load_state_dict,
    retie_parameters,
)
from runtime.utils.operations import (
    CannotPadNestedTensorWarning,
    DistributedOperationException,
    broadcast,
    broadcast_object_list,
    chained_operation,
    concatenate,
    convert_outputs_to_fp32,
    convert_to_fp32,
    copy_tensor_to_devices,
    find_batch_size,
    find_device,
    gather,
    gather_object,
    get_data_structure,
    get_shape,
    honor_type,
    ignorant_find_batch_size,
    initialize_tensors,
    is_namedtuple,
    is_tensor_information,
    is_torch_tensor,
    listify,
    pad_across_processes,
    pad_input_tensors,
    recursively_apply,
    reduce,
    send_to_device,
    slice_tensors,
    verify_operation,
)
from runtime.utils.other import (
    check_os_kernel,
    clean_state_dict_for_safetensors,
    compile_regions,
    convert_bytes,
    extract_model_from_parallel,
    get_free_port,
    get_pretty_name,
    is_compiled_module,
    is_port_in_use,
    load,
    merge_dicts,
    recursive_getattr,
    save,
    wait_for_everyone,
)
from runtime.utils.random import (
    set_seed,
    synchronize_rng_state,
    synchronize_rng_states,
)
from runtime.utils.tqdm import (
    tqdm,
)
from runtime.utils.versions import (
    compare_versions,
    is_torch_version,
)

if TYPE_CHECKING:
    from runtime.parallel.fsdp.plugin import FullyShardedDataParallelPlugin
    from runtime.utils.fsdp_utils import (
        load_fsdp_model,
        load_fsdp_optimizer,
        merge_fsdp_weights,
        save_fsdp_model,
        save_fsdp_optimizer,
    )

__all__ = [
    "MODEL_NAME",
    "OPTIMIZER_NAME",
    "PROFILE_PATTERN_NAME",
    "RNG_STATE_NAME",
    "SAFE_MODEL_NAME",
    "SAFE_WEIGHTS_INDEX_NAME",
    "SAFE_WEIGHTS_NAME",
    "SAFE_WEIGHTS_PATTERN_NAME",
    "SAMPLER_NAME",
    "SCALER_NAME",
    "SCHEDULER_NAME",
    "STR_OPERATION_TO_FUNC",
    "WEIGHTS_INDEX_NAME",
    "WEIGHTS_NAME",
    "WEIGHTS_PATTERN_NAME",
    "AutocastKwargs",
    "BaseEnum",
    "CannotPadNestedTensorWarning",
    "DDPCommunicationHookType",
    "DataLoaderConfiguration",
    "DistributedDataParallelKwargs",
    "DistributedOperationException",
    "DistributedType",
    "DynamoBackend",
    "FP8BackendType",
    "FullyShardedDataParallelPlugin",
    "GradScalerKwargs",
    "GradientAccumulationPlugin",
    "InitProcessGroupKwargs",
    "KwargsHandler",
    "LoggerType",
    "ParallelismConfig",
    "PrecisionType",
    "PrepareForLaunch",
    "ProfileKwargs",
    "ProjectConfiguration",
    "RNGType",
    "TensorInformation",
    "TorchContextParallelConfig",
    "TorchDynamoPlugin",
    "TorchTensorParallelConfig",
    "are_libraries_initialized",
    "broadcast",
    "broadcast_object_list",
    "chained_operation",
    "check_cuda_fp8_capability",
    "check_os_kernel",
    "clean_state_dict_for_safetensors",
    "clear_device_cache",
    "clear_environment",
    "compare_versions",
    "compile_regions",
    "concatenate",
    "convert_bytes",
    "convert_dict_to_env_variables",
    "convert_file_size_to_int",
    "convert_outputs_to_fp32",
    "convert_to_fp32",
    "copy_tensor_to_devices",
    "dtype_byte_size",
    "extract_model_from_parallel",
    "find_batch_size",
    "find_device",
    "find_executable_batch_size",
    "find_tied_parameters",
    "gather",
    "gather_object",
    "get_data_structure",
    "get_free_port",
    "get_int_from_env",
    "get_pretty_name",
    "get_shape",
    "honor_type",
    "id_tensor_storage",
    "ignorant_find_batch_size",
    "initialize_tensors",
    "is_bf16_available",
    "is_compiled_module",
    "is_fp16_available",
    "is_habana_gaudi1",
    "is_namedtuple",
    "is_port_in_use",
    "is_tensor_information",
    "is_torch_tensor",
    "is_torch_version",
    "listify",
    "load",
    "load_checkpoint_in_model",
    "load_fsdp_model",
    "load_fsdp_optimizer",
    "load_state_dict",
    "merge_dicts",
    "merge_fsdp_weights",
    "pad_across_processes",
    "pad_input_tensors",
    "parse_choice_from_env",
    "parse_flag_from_env",
    "patch_environment",
    "purge_accelerate_environment",
    "recursive_getattr",
    "recursively_apply",
    "reduce",
    "release_memory",
    "retie_parameters",
    "save",
    "save_fsdp_model",
    "save_fsdp_optimizer",
    "send_to_device",
    "set_seed",
    "should_reduce_batch_size",
    "slice_tensors",
    "str_to_bool",
    "synchronize_rng_state",
    "synchronize_rng_states",
    "tqdm",
    "verify_operation",
    "wait_for_everyone",
]

_LAZY = {  # names whose import takes long in torch -> their submodule
    "FullyShardedDataParallelPlugin": "dataclasses",
    "load_fsdp_model": "fsdp_utils",
    "load_fsdp_optimizer": "fsdp_utils",
    "merge_fsdp_weights": "fsdp_utils",
    "save_fsdp_model": "fsdp_utils",
    "save_fsdp_optimizer": "fsdp_utils",
}


_stand_in = left_out.stand_ins(__name__, [*__all__, *_LAZY])


def __getattr__(name: str) -> Any:
    """Return a name of `_LAZY`, a function `is_<name>_available`, or a stand-in."""
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    if name in left_out.NAMES or not name.startswith("is_"):
        return _stand_in(name)
    return imports.__getattr__(name)


def __dir__() -> list[str]:
    return sorted({*__all__, *_LAZY})
