"""Names of Accelerate that stand for what this runtime leaves out.

They can be imported, as many scripts do whether they use them or not, and compared with; to use one
is an error that says so at once.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from runtime.errors import no_attribute

_ENGINES = {  # what is left out -> its names in Accelerate
    "DeepSpeed": (
        *("DeepSpeedPlugin", "DeepSpeedSequenceParallelConfig", "DummyOptim", "DummyScheduler"),
        "get_active_deepspeed_plugin",
    ),
    "Megatron-LM": (
        *("MegatronLMPlugin", "MegatronLMDummyDataLoader", "MegatronLMDummyScheduler"),
        *("AbstractTrainStep", "BertTrainStep", "GPTTrainStep", "T5TrainStep"),
        "avg_losses_across_data_parallel_group",
    ),
    "fp8": ("AORecipeKwargs", "FP8RecipeKwargs", "MSAMPRecipeKwargs", "TERecipeKwargs"),
    "bitsandbytes quantisation": ("BnbQuantizationConfig", "load_and_quantize_model"),
    "context and sequence parallelism": (
        *("TorchContextParallelConfig", "TorchTensorParallelConfig", "TorchTensorParallelPlugin"),
    ),
    "inference of models that one device cannot hold": (
        *("cpu_offload", "cpu_offload_with_hook", "disk_offload", "dispatch_model"),
        *("infer_auto_device_map", "load_checkpoint_and_dispatch", "prepare_pippy"),
        *("AlignDevicesHook", "CpuOffload", "ModelHook", "SequentialHook", "UserCpuOffloadHook"),
        *("add_hook_to_module", "attach_align_device_hook", "attach_layerwise_casting_hooks"),
        *("has_offloaded_params", "remove_hook_from_module", "remove_hook_from_submodules"),
        *("align_module_device", "get_balanced_memory", "get_max_memory"),
        *("extract_submodules_state_dict", "get_state_dict_from_offload", "load_offloaded_weight"),
        *("offload_state_dict", "offload_weight", "OffloadedWeightsLoader", "PrefixedDataset"),
    ),
}
_ENGINES["this vendor's tracker: pass a GeneralTracker of your own"] = (
    *("AimTracker", "ClearMLTracker", "CometMLTracker", "DVCLiveTracker", "SwanLabTracker"),
    "TrackioTracker",
)
NAMES = {name: engine for engine, names in _ENGINES.items() for name in names}


def stand_in(name: str) -> type:
    """A class for one of the `NAMES`; creating an instance is an error."""
    return type(name, (LeftOut,), {"__doc__": f"Left out: {NAMES[name]}."})


def stand_ins(module: str, known: Iterable[str] = ()) -> Callable[[str], type]:
    """A module's `__getattr__` (PEP 562), which returns stand-ins.

    Args:
        module: the name of the module.
        known: its other names, which the error for an unknown name may suggest.
    """

    def find(name: str) -> type:
        if name not in NAMES:
            raise no_attribute(module, name, [*known, *NAMES])
        return stand_in(name)

    return find


def refuse(plugins: Mapping[str, Any]) -> None:
    """See that nothing was given for an engine that is left out.

    Args:
        plugins: what was given for each engine, or None.

    Raises:
        NotImplementedError: there is something.
    """
    for engine, plugin in plugins.items():
        if plugin is not None:
            sentence = f"{engine} is not supported by this runtime: pass no plugin for it"
            raise NotImplementedError(sentence)


class LeftOut:
    """The base of all stand-ins.

    Raises:
        NotImplementedError: one is made.
    """

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        name = type(self).__name__
        sentence = (
            f"{name} is not supported by this runtime, which leaves out {NAMES[name]}. Models that "
            "one device cannot hold are sharded by FSDP2 (`FullyShardedDataParallelPlugin`), and "
            "computed in bf16 (`mixed_precision`); for anything else import accelerate itself"
        )
        raise NotImplementedError(sentence)
