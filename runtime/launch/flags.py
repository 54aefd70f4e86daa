"""The flags of `python -m runtime.launch`: those of torchrun and of `accelerate launch`.

Each flag is a row of a table. Its words may be separated by dashes or underscores.
"""

import argparse
import difflib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from runtime.alias.path import PYTHONPATH, with_alias

DEFAULT_ADDR = "127.0.0.1"
DEFAULT_PORT = 29500
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class WorldFlag:
    """A flag that describes the processes and this pod's place among all pods.

    Attributes:
        name: the name in torchrun.
        theirs: the name in `accelerate launch`; None if it has no such flag.
        variable: the environment variable of the default, which torchrun reads as well.
        default: the default without that variable.
        text: the description.
    """

    name: str
    theirs: str | None
    variable: str
    default: str
    text: str

    @property
    def dest(self) -> str:
        """The attribute of the parsed arguments that has the value."""
        return self.name.replace("-", "_")


WORLD_FLAGS = (
    WorldFlag(
        "nproc-per-node", None, "PET_NPROC_PER_NODE", "1", "processes per pod; or auto, gpu, cpu"
    ),
    WorldFlag("nnodes", "num-machines", "PET_NNODES", "1", "number of pods or machines"),
    WorldFlag("node-rank", "machine-rank", "PET_NODE_RANK", "0", "index of this pod, from 0"),
    WorldFlag(
        *("master-addr", "main-process-ip", "PET_MASTER_ADDR", DEFAULT_ADDR),
        "host name or IP address of rank 0",
    ),
    WorldFlag(
        *("master-port", "main-process-port", "PET_MASTER_PORT", AUTO),
        f"port of rank 0; or {AUTO}: any free port for one pod, {DEFAULT_PORT} for several",
    ),
)
TORCHRUN = {  # flags that only torchrun implements, so that it starts a single process, too
    "max-restarts": "number of restarts of all processes of this pod after a failure",
    "monitor-interval": "seconds between two checks of the processes",
    "rdzv-backend": "backend of the rendezvous of the pods",
    "rdzv-endpoint": "address of the rendezvous, as HOST:PORT",
    "rdzv-id": "name of this run in the rendezvous",
    "rdzv-conf": "further settings of the rendezvous: a=1,b=2",
    "start-method": "start method of Python's multiprocessing",
    "role": "role of the processes",
    "log-dir": "directory of log files",
    "redirects": "streams that are written to log files only: 1 stdout, 2 stderr, 3 both",
    "tee": "streams that are written to log files and shown: 1 stdout, 2 stderr, 3 both",
    "local-ranks-filter": "local ranks whose output is shown",
    "local-addr": "address of this pod",
    "log-line-prefix-template": "prefix of each line that is shown",
    "duplicate-stdout-filters": "stdout lines to copy from all processes to one file",
    "duplicate-stderr-filters": "stderr lines to copy from all processes to one file",
    "logs-specs": "name of the entry point that handles the logs",
    "event-log-handler": "name of the handler of torchrun's events",
    "numa-binding": "how processes are bound to NUMA nodes",
    "signals-to-handle": "signals that are passed on to the processes",
    "shutdown-timeout": "seconds that processes have to exit after a signal",
}
SHORT = {"redirects": ["-r"], "tee": ["-t"]}
SWITCHES = {  # flags of torchrun without a value
    "virtual-local-rank": "each process has local rank 0 and sees only its own device",
    "run-path": "run the script with runpy",
}
DEVICES = "CUDA_VISIBLE_DEVICES"
ALIAS = "the script and its libraries get this library where they import `accelerate`"
_SET = "true"
# flag -> its variable, and the value that a flag without a value sets
SETTINGS: dict[str, tuple[str, str | None]] = {
    "mixed-precision": ("ACCELERATE_MIXED_PRECISION", None),
    "fp8-backend": ("ACCELERATE_FP8_BACKEND", None),
    "fp8-pad-inner-dim": ("ACCELERATE_FP8_PAD_INNER_DIM", None),
    "fp8-enable-fsdp-float8-all-gather": ("ACCELERATE_FP8_ENABLE_FSDP_FLOAT8_ALL_GATHER", None),
    "gradient-accumulation-steps": ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", None),
    "cpu": ("ACCELERATE_USE_CPU", _SET),
    "debug": ("ACCELERATE_DEBUG_MODE", _SET),
    "gpu-ids": (DEVICES, None),
    "num-cpu-threads-per-process": ("OMP_NUM_THREADS", None),
    "dynamo-backend": ("ACCELERATE_DYNAMO_BACKEND", None),
    "dynamo-mode": ("ACCELERATE_DYNAMO_MODE", None),
    "dynamo-use-fullgraph": ("ACCELERATE_DYNAMO_USE_FULLGRAPH", _SET),
    "dynamo-use-dynamic": ("ACCELERATE_DYNAMO_USE_DYNAMIC", _SET),
    "dynamo-use-regional-compilation": ("ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION", _SET),
    "use-fsdp": ("ACCELERATE_USE_FSDP", _SET),
    "fsdp-version": ("FSDP_VERSION", None),
    "fsdp-offload-params": ("FSDP_OFFLOAD_PARAMS", None),
    "fsdp-min-num-params": ("FSDP_MIN_NUM_PARAMS", None),
    "fsdp-sharding-strategy": ("FSDP_SHARDING_STRATEGY", None),
    "fsdp-reshard-after-forward": ("FSDP_RESHARD_AFTER_FORWARD", None),
    "fsdp-auto-wrap-policy": ("FSDP_AUTO_WRAP_POLICY", None),
    "fsdp-transformer-layer-cls-to-wrap": ("FSDP_TRANSFORMER_CLS_TO_WRAP", None),
    "fsdp-backward-prefetch": ("FSDP_BACKWARD_PREFETCH", None),
    "fsdp-state-dict-type": ("FSDP_STATE_DICT_TYPE", None),
    "fsdp-forward-prefetch": ("FSDP_FORWARD_PREFETCH", None),
    "fsdp-use-orig-params": ("FSDP_USE_ORIG_PARAMS", None),
    "fsdp-cpu-ram-efficient-loading": ("FSDP_CPU_RAM_EFFICIENT_LOADING", None),
    "fsdp-sync-module-states": ("FSDP_SYNC_MODULE_STATES", None),
    "fsdp-activation-checkpointing": ("FSDP_ACTIVATION_CHECKPOINTING", None),
    "fsdp-activation-checkpointing-offload": ("FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD", None),
    "use-parallelism-config": ("ACCELERATE_USE_PARALLELISM_CONFIG", _SET),
    "parallelism-config-dp-replicate-size": ("PARALLELISM_CONFIG_DP_REPLICATE_SIZE", None),
    "parallelism-config-dp-shard-size": ("PARALLELISM_CONFIG_DP_SHARD_SIZE", None),
    "parallelism-config-tp-size": ("PARALLELISM_CONFIG_TP_SIZE", None),
}
NOTHING = ("quiet", "same-network", "downcast-bf16")  # of `accelerate launch`; without effect here
OUT = {  # the beginning of a flag of `accelerate launch` -> what to do instead
    "config-file": "no file is read: pass flags, or set ACCELERATE_ variables (spec.runtime)",
    "use-deepspeed": "DeepSpeed is not supported; use --use-fsdp to shard models",
    "deepspeed": "DeepSpeed is not supported; use --use-fsdp to shard models",
    "zero": "DeepSpeed is not supported; use --use-fsdp to shard models",
    "offload": "DeepSpeed is not supported; use --fsdp-offload-params to keep weights on the CPU",
    "gradient-clipping": "call accelerator.clip_grad_norm_ in the script",
    "use-megatron": "Megatron-LM is not supported; use --use-fsdp to shard models",
    "megatron": "Megatron-LM is not supported; use --use-fsdp to shard models",
    "parallelism-config": "context and sequence parallelism are not supported",
    "fp8": "torchao computes in fp8, and has no such setting; pass AORecipeKwargs in the script",
    "enable-cpu-affinity": "processes are not bound to CPUs; use torchrun's --numa-binding",
    "tpu": "TPUs are not supported; use their own launcher",
    "no-tpu": "TPUs are not supported; use their own launcher",
    "vm": "TPUs are not supported; use their own launcher",
    "env": "TPUs are not supported; use their own launcher",
    "main-training-function": "TPUs are not supported; use their own launcher",
    "aws": "nothing is started in a cloud; the operator starts jobs on Kubernetes",
    "mpirun": "MPI is not supported; use --nproc-per-node",
}


class Parser(argparse.ArgumentParser):
    """An argument parser that accepts flags with dashes and with underscores; help shows dashes."""

    def flag(self, name: str, *more: str, group: str, **options: Any) -> None:
        """Add a flag.

        Args:
            name: the name, with dashes.
            *more: other names.
            group: the heading in the help.
            **options: arguments of `add_argument`. They must include `dest`, which all names share.
        """
        home = next((one for one in self._action_groups if one.title == group), None)
        home = home or self.add_argument_group(group)
        if "action" not in options or options["action"] == "append":
            options["metavar"] = "VALUE"
        home.add_argument(f"--{name}", *SHORT.get(name, ()), **options)
        others = {f"--{one}" for one in more} | {f"--{one.replace('-', '_')}" for one in more}
        if "-" in name:
            others.add(f"--{name.replace('-', '_')}")
        options |= {"help": argparse.SUPPRESS, "default": argparse.SUPPRESS}
        if others:
            home.add_argument(*sorted(others), **options)

    def refuse(self, unknown: str) -> NoReturn:
        """End the program with an error that suggests an alternative to an unknown flag.

        Args:
            unknown: the flag, with its value if that follows a `=`.
        """
        name = unknown.partition("=")[0]
        plain = name.lstrip("-").replace("_", "-")
        for beginning, instead in OUT.items():
            if plain.startswith(beginning):
                self.error(f"{name}: {instead}")
        known = [one for one in self._option_string_actions if one.startswith("--")]
        close = difflib.get_close_matches(name, known, 1, 0.7)
        hint = (
            f"did you mean {close[0]}?" if close else "flags of the script must follow the script"
        )
        self.error(f"unknown flag {name}; {hint}")


def parser(env: Mapping[str, str]) -> Parser:
    """Create the parser, with defaults from the environment."""
    made = Parser(
        prog="python -m runtime.launch",
        usage="%(prog)s [FLAGS] SCRIPT [SCRIPT ARGUMENTS]",
        description="Start the training processes of this pod or machine. In an AcceleratedJob's "
        "pod no flag is needed: `python -m runtime.launch train.py`.",
        epilog="The words of a flag may be separated by dashes or underscores. A flag sets the "
        "environment variable in brackets, or has its default from that variable.",
        allow_abbrev=False,
    )
    made.add_argument("script", help="the training script")
    made.add_argument("args", nargs=argparse.REMAINDER, help="the arguments of the script")
    made.add_argument("-m", "--module", action="store_true", help="SCRIPT is the name of a module")
    _places(made, env)
    switch: dict[str, Any] = {"dest": "torchrun", "action": "append_const", "group": "for torchrun"}
    for name, text in TORCHRUN.items():
        hand_on = functools.partial(f"--{name}={{}}".format)
        made.flag(name, **switch | {"action": "append", "type": hand_on, "help": text})
    for name, text in SWITCHES.items():
        made.flag(name, const=f"--{name}", help=text, **switch)
    switch |= {"dest": "settings", "group": "settings of `accelerate launch`"}
    for name, (variable, value) in SETTINGS.items():
        if value is None:
            pair = functools.partial(_pair, variable)
            made.flag(name, **switch | {"action": "append", "type": pair, "help": f"[{variable}]"})
        else:
            made.flag(name, const=(variable, value), help=f"[{variable}]", **switch)
    for name in NOTHING:
        made.flag(name, const=("", ""), help="without effect", **switch | {"dest": "nothing"})
    return made


def _places(made: Parser, env: Mapping[str, str]) -> None:
    """Add the flags for the number and the place of processes and pods."""
    group = "processes and pods"
    for place in WORLD_FLAGS:
        text = f"{place.text} (default: {place.default}) [{place.variable}]"
        names = [] if place.theirs is None else [place.theirs]
        default = env.get(place.variable, place.default)
        made.flag(place.name, *names, default=default, help=text, dest=place.dest, group=group)
    total: dict[str, Any] = {
        "dest": "num_processes",
        "type": int,
        "help": "number of processes of all pods together",
    }
    made.flag("num-processes", group=group, **total)
    for name, dest, const, text in (
        ("multi-gpu", "nproc_per_node", "gpu", "the same as --nproc-per-node gpu"),
        ("standalone", "standalone", True, "start processes of this pod only, at any free port"),
        ("no-python", "no_python", True, "SCRIPT is a program, not a Python file"),
        ("as-accelerate", "as_accelerate", True, ALIAS),
    ):
        options = {"dest": dest, "const": const, "help": text, "default": argparse.SUPPRESS}
        made.flag(name, action="store_const", group=group, **options)
    made.set_defaults(standalone=False, no_python=False, as_accelerate=False)


def _pair(variable: str, value: str) -> tuple[str, str]:
    return variable, value


def read(arguments: Sequence[str], env: Mapping[str, str]) -> argparse.Namespace:
    """Parse the arguments; `nproc_per_node` combines all flags for the number of processes.

    A wrong argument ends the program with exit code 2.

    Args:
        arguments: the arguments of the command line.
        env: the environment variables, which have defaults.
    """
    made = parser(env)
    options, unknown = made.parse_known_args(arguments)
    if unknown:
        made.refuse(unknown[0])
    settings = dict(options.settings or ())
    if settings.get(DEVICES) == "all":  # the value in accelerate for leaving them unchanged
        del settings[DEVICES]
    if options.as_accelerate:
        settings[PYTHONPATH] = with_alias(env.get(PYTHONPATH))
    options.settings = settings
    total = options.num_processes
    if total is not None:
        if not options.nnodes.isdecimal() or total < 1 or total % int(options.nnodes):
            made.error(
                f"--num-processes must be a multiple of --nnodes (--num-machines), "
                f"got {total} and {options.nnodes}"
            )
        options.nproc_per_node = str(total // int(options.nnodes))
    return options
