"""The flags of `python -m runtime.launch`: torchrun's, and those of `accelerate launch`.

Each is a row of a table here, and is read with dashes or with underscores between its words.
"""

import argparse
import difflib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

DEFAULT_ADDR = "127.0.0.1"
DEFAULT_PORT = "29500"


@dataclass(frozen=True, slots=True)
class Place:
    """A flag that says where this is; torchrun finds its default in a variable, too."""

    name: str  # torchrun's
    theirs: str | None  # what `accelerate launch` calls it
    variable: str
    default: str
    text: str

    @property
    def dest(self) -> str:
        """Where its value is found."""
        return self.name.replace("-", "_")


PLACES = (
    Place("nproc-per-node", None, "PET_NPROC_PER_NODE", "1", "processes here, or auto, gpu, cpu"),
    Place("nnodes", "num-machines", "PET_NNODES", "1", "pods or machines in all"),
    Place("node-rank", "machine-rank", "PET_NODE_RANK", "0", "which of them this is, from 0"),
    Place(
        *("master-addr", "main-process-ip", "PET_MASTER_ADDR", DEFAULT_ADDR),
        "where the first of them can be reached",
    ),
    Place("master-port", "main-process-port", "PET_MASTER_PORT", DEFAULT_PORT, "and at which port"),
)
TORCHRUN = {  # what torchrun alone can do: with one of these, it starts one process as well
    "max-restarts": "of all processes here, when one of them fails",
    "monitor-interval": "seconds between two looks at the processes",
    "rdzv-backend": "how pods meet",
    "rdzv-endpoint": "where they meet",
    "rdzv-id": "of this run",
    "rdzv-conf": "more for the rendezvous: a=1,b=2",
    "start-method": "of Python's multiprocessing",
    "role": "a name for these processes",
    "log-dir": "where what they say is written",
    "redirects": "what is written only: 1 stdout, 2 stderr, 3 both",
    "tee": "what is written and shown, in the same way",
    "local-ranks-filter": "whose is shown",
    "local-addr": "of this pod",
    "log-line-prefix-template": "in front of what is shown",
    "duplicate-stdout-filters": "lines of stdout that one file gets of all processes",
    "duplicate-stderr-filters": "lines of stderr that one file gets of all processes",
    "logs-specs": "who takes care of what they say",
    "event-log-handler": "who is told what happens",
    "numa-binding": "how processes are bound to memory",
    "signals-to-handle": "what is handed on to the processes",
    "shutdown-timeout": "seconds that they have to end",
}
SHORT = {"redirects": ["-r"], "tee": ["-t"]}
SWITCHES = {  # the same, without a value
    "virtual-local-rank": "each process sees its own device as the first",
    "run-path": "run the script by runpy",
}
DEVICES = "CUDA_VISIBLE_DEVICES"
_SET = "true"
SETTINGS: dict[str, tuple[str, str | None]] = {  # -> variable; what a switch sets it to
    "mixed-precision": ("ACCELERATE_MIXED_PRECISION", None),
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
    "use-parallelism-config": ("ACCELERATE_USE_PARALLELISM_CONFIG", _SET),
    "parallelism-config-dp-replicate-size": ("PARALLELISM_CONFIG_DP_REPLICATE_SIZE", None),
    "parallelism-config-dp-shard-size": ("PARALLELISM_CONFIG_DP_SHARD_SIZE", None),
    "parallelism-config-tp-size": ("PARALLELISM_CONFIG_TP_SIZE", None),
}
NOTHING = ("quiet", "same-network", "downcast-bf16")  # of `accelerate launch`; nothing to do here
OUT = {  # how a flag of `accelerate launch` begins -> what to do without it
    "config-file": "no file is read: give flags, or set ACCELERATE_ variables (spec.runtime)",
    "use-deepspeed": "DeepSpeed is left out; --use-fsdp shards models",
    "deepspeed": "DeepSpeed is left out; --use-fsdp shards models",
    "zero": "DeepSpeed is left out; --use-fsdp shards models",
    "offload": "DeepSpeed is left out; --fsdp-offload-params keeps weights on the CPU",
    "gradient-clipping": "call accelerator.clip_grad_norm_ in the script",
    "fsdp-activation-checkpointing-offload": "activations are not offloaded",
    "use-megatron": "Megatron-LM is left out; --use-fsdp shards models",
    "megatron": "Megatron-LM is left out; --use-fsdp shards models",
    "parallelism-config": "context and sequence parallelism are left out",
    "fp8": "fp8 is left out; --mixed-precision bf16",
    "enable-cpu-affinity": "processes are not bound; --numa-binding is torchrun's way to do it",
    "tpu": "TPUs are started by their own launcher",
    "no-tpu": "TPUs are started by their own launcher",
    "vm": "TPUs are started by their own launcher",
    "env": "TPUs are started by their own launcher",
    "main-training-function": "TPUs are started by their own launcher",
    "aws": "nothing is started in a cloud; the operator starts jobs on Kubernetes",
    "mpirun": "MPI is left out; give --nproc-per-node",
}


class Parser(argparse.ArgumentParser):
    """Reads a flag in both spellings; the help shows one."""

    def flag(self, name: str, *more: str, group: str, **options: Any) -> None:
        """Add a flag.

        Args:
            name: with dashes.
            more: other names.
            group: its heading in the help.
            **options: of add_argument; `dest` among them, as several names share it.
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
        """Say what to do instead of a flag that is not one of these."""
        name = unknown.partition("=")[0]
        plain = name.lstrip("-").replace("_", "-")
        for beginning, instead in OUT.items():
            if plain.startswith(beginning):
                self.error(f"{name}: {instead}")
        known = [one for one in self._option_string_actions if one.startswith("--")]
        close = difflib.get_close_matches(name, known, 1, 0.7)
        hint = f"did you mean {close[0]}?" if close else "the script's flags stand behind it"
        self.error(f"there is no {name}; {hint}")


def parser(env: Mapping[str, str]) -> Parser:
    """The flags, with defaults from the environment."""
    made = Parser(
        prog="python -m runtime.launch",
        usage="%(prog)s [FLAGS] SCRIPT [ITS ARGUMENTS]",
        description="Start the training processes of this pod or machine. In an AcceleratedJob's "
        "pod no flag is needed: `python -m runtime.launch train.py`.",
        epilog="Flags are read with dashes or underscores. Each sets the variable in brackets, or "
        "takes its default from there.",
        allow_abbrev=False,
    )
    made.add_argument("script", help="the training script")
    made.add_argument("args", nargs=argparse.REMAINDER, help="its arguments")
    made.add_argument("-m", "--module", action="store_true", help="the script is a module's name")
    _places(made, env)
    switch: dict[str, Any] = {"dest": "torchrun", "action": "append_const", "group": "torchrun's"}
    for name, text in TORCHRUN.items():
        hand_on = functools.partial(f"--{name}={{}}".format)
        made.flag(name, **switch | {"action": "append", "type": hand_on, "help": text})
    for name, text in SWITCHES.items():
        made.flag(name, const=f"--{name}", help=text, **switch)
    switch |= {"dest": "settings", "group": "settings, as of `accelerate launch`"}
    for name, (variable, value) in SETTINGS.items():
        if value is None:
            pair = functools.partial(_pair, variable)
            made.flag(name, **switch | {"action": "append", "type": pair, "help": f"[{variable}]"})
        else:
            made.flag(name, const=(variable, value), help=f"[{variable}]", **switch)
    for name in NOTHING:
        made.flag(name, const=("", ""), help="nothing, here", **switch | {"dest": "nothing"})
    return made


def _places(made: Parser, env: Mapping[str, str]) -> None:
    """Where this is, and what is started here."""
    group = "where this is"
    for place in PLACES:
        text = f"{place.text} (default: {place.default}) [{place.variable}]"
        names = [] if place.theirs is None else [place.theirs]
        default = env.get(place.variable, place.default)
        made.flag(place.name, *names, default=default, help=text, dest=place.dest, group=group)
    total: dict[str, Any] = {
        "dest": "num_processes",
        "type": int,
        "help": "processes of all pods together",
    }
    made.flag("num-processes", group=group, **total)
    for name, dest, const, text in (
        ("multi-gpu", "nproc_per_node", "gpu", "as --nproc-per-node gpu"),
        ("standalone", "standalone", True, "this pod alone, at any free port"),
        ("no-python", "no_python", True, "the script is a program"),
    ):
        options = {"dest": dest, "const": const, "help": text, "default": argparse.SUPPRESS}
        made.flag(name, action="store_const", group=group, **options)
    made.set_defaults(standalone=False, no_python=False)


def _pair(variable: str, value: str) -> tuple[str, str]:
    return variable, value


def read(arguments: Sequence[str], env: Mapping[str, str]) -> argparse.Namespace:
    """The flags' values. `nproc_per_node` is what all ways to say it come to.

    A mistake ends the program: exit code 2.
    """
    made = parser(env)
    options, unknown = made.parse_known_args(arguments)
    if unknown:
        made.refuse(unknown[0])
    settings = dict(options.settings or ())
    if settings.get(DEVICES) == "all":  # accelerate's word for leaving them as they are
        del settings[DEVICES]
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
