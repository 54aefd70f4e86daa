"""Stand-ins for the names of Accelerate that this runtime does not support.

Many scripts import such names without using them. A stand-in can be imported and compared; creating
an instance raises an error that says what is not supported.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from runtime.errors import no_attribute

_SHARD = (
    "To train a model that does not fit on one device, shard it with FSDP2 "
    "(`FullyShardedDataParallelPlugin`) and compute in bf16 (`mixed_precision`); for anything "
    "else, use accelerate itself"
)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of Accelerate that is not supported.

    Attributes:
        name: what it is.
        names: its names in Accelerate.
        instead: what to do instead, as a sentence without the period.
    """

    name: str
    names: tuple[str, ...]
    instead: str = _SHARD


PARTS = (
    Part(
        "DeepSpeed",
        (
            *("DeepSpeedPlugin", "DeepSpeedSequenceParallelConfig", "DummyOptim", "DummyScheduler"),
            *("get_active_deepspeed_plugin", "DeepSpeedEngineWrapper", "DeepSpeedOptimizerWrapper"),
            *("DeepSpeedSchedulerWrapper", "HfDeepSpeedConfig"),
        ),
    ),
    Part(
        "Megatron-LM",
        (
            *("MegatronLMPlugin", "MegatronLMDummyDataLoader", "MegatronLMDummyScheduler"),
            *("AbstractTrainStep", "BertTrainStep", "GPTTrainStep", "T5TrainStep"),
            "avg_losses_across_data_parallel_group",
        ),
    ),
    Part(
        "Transformer Engine and MS-AMP",
        ("FP8RecipeKwargs", "MSAMPRecipeKwargs", "TERecipeKwargs"),
        "Compute in fp8 by torchao, with mixed_precision='fp8' and AORecipeKwargs",
    ),
    Part(
        "bitsandbytes quantization",
        ("BnbQuantizationConfig", "load_and_quantize_model"),
        "Let the library of the model quantize it, as transformers does by `quantization_config`",
    ),
    Part(
        "this plugin, which Accelerate deprecates",
        ("TorchTensorParallelPlugin",),
        "Use ParallelismConfig(tp_size=...)",
    ),
    Part(
        "inference with models that do not fit on one device",
        (
            *("cpu_offload", "cpu_offload_with_hook", "disk_offload", "dispatch_model"),
            *("infer_auto_device_map", "load_checkpoint_and_dispatch", "prepare_pippy"),
            *("AlignDevicesHook", "CpuOffload", "ModelHook", "SequentialHook"),
            *("UserCpuOffloadHook", "add_hook_to_module", "attach_align_device_hook"),
            *("attach_layerwise_casting_hooks", "has_offloaded_params", "align_module_device"),
            *("get_balanced_memory", "get_max_memory", "get_max_layer_size", "clean_device_map"),
            *("extract_submodules_state_dict", "get_state_dict_from_offload"),
            *("load_offloaded_weight", "load_offloaded_weights", "save_offload_index"),
            *("offload_state_dict", "offload_weight", "OffloadedWeightsLoader", "PrefixedDataset"),
        ),
    ),
    Part(
        "this vendor's tracker: pass a GeneralTracker of your own",
        (
            *("AimTracker", "ClearMLTracker", "CometMLTracker", "DVCLiveTracker"),
            *("SwanLabTracker", "TrackioTracker"),
        ),
    ),
    Part(
        "Accelerate's config files",
        ("load_config_from_file",),
        "Pass flags to `python -m runtime.launch`, or set ACCELERATE_ environment variables",
    ),
    Part(
        "Accelerate's command line",
        ("launch_command", "launch_command_parser"),
        "Start the script by `python -m runtime.launch --as-accelerate SCRIPT`, or a module such "
        "as trl.scripts.sft by `python -m runtime.launch --as-accelerate -m MODULE`",
    ),
)
NAMES = {name: part for part in PARTS for name in part.names}


def stand_in(name: str) -> type:
    """Return a class for one of the `NAMES`; creating an instance raises an error."""
    return type(name, (LeftOut,), {"__doc__": f"Left out: {NAMES[name].name}."})


def stand_ins(module: str, known: Iterable[str] = ()) -> Callable[[str], type]:
    """Return a module's `__getattr__` (PEP 562) that returns stand-ins.

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
    """Check that no plugin was given for an engine that is not supported.

    Args:
        plugins: the name of each engine -> its plugin, or None.

    Raises:
        NotImplementedError: a plugin was given.
    """
    for engine, plugin in plugins.items():
        if plugin is not None:
            sentence = f"{engine} is not supported by this runtime: do not pass a plugin for it"
            raise NotImplementedError(sentence)


class LeftOut:
    """The base class of all stand-ins.

    Raises:
        NotImplementedError: always.
    """

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        name = type(self).__name__
        part = NAMES[name]
        sentence = (
            f"{name} is not supported by this runtime, which does not include {part.name}. "
            f"{part.instead}"
        )
        raise NotImplementedError(sentence)
