import inspect
import subprocess
import sys
from pathlib import Path

import accelerate
import pytest
from accelerate.commands.launch import launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env
from torch.distributed.run import get_args_parser

import runtime
from runtime.config.settings import Settings
from runtime.launch import flags
from runtime.launch.__main__ import plan

RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")


@pytest.mark.parametrize(
    ("arguments", "script"),
    [
        pytest.param(["train.py", "--lr", "1"], ["train.py", "--lr", "1"], id="a script"),
        pytest.param(["-m", "my.train", "-x"], ["-m", "my.train", "-x"], id="a module"),
    ],
)
def test_one_process_is_the_script_itself(arguments: list[str], script: list[str]) -> None:
    start = plan(arguments, {"PET_NNODES": "3", "PET_NODE_RANK": "2", "PET_MASTER_ADDR": "a"})
    assert start.argv == [sys.executable, *script]
    assert [start.env[name] for name in RANKS] == ["2", "3", "0", "1", "2", "3"]
    assert start.env["MASTER_ADDR"] == "a"


def test_what_is_set_already_stays() -> None:
    assert plan(["t.py"], {"RANK": "1", "WORLD_SIZE": "4"}).env["WORLD_SIZE"] == "4"


TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
PLACES = [
    *("--nproc-per-node=1", "--nnodes=1", "--node-rank=0"),
    *("--master-addr=127.0.0.1", "--master-port=29500"),
]


def places(*others: str) -> list[str]:
    """Where this is, as torchrun is told it."""
    instead = {other.split("=")[0]: other for other in others}
    return [instead.get(place.split("=")[0], place) for place in PLACES]


@pytest.mark.parametrize(
    ("typed", "handed_on"),
    [
        pytest.param("--nproc-per-node 4", places("--nproc-per-node=4"), id="several"),
        pytest.param("--nproc_per_node=4", places("--nproc-per-node=4"), id="torchrun's old names"),
        pytest.param(
            "--num_processes 8 --num_machines 2 --machine_rank 1 --main_process_ip a "
            "--main-process-port 1",
            places(
                *("--nproc-per-node=4", "--nnodes=2", "--node-rank=1"),
                *("--master-addr=a", "--master-port=1"),
            ),
            id="accelerate's names: its processes are those of all machines",
        ),
        pytest.param("--multi_gpu", places("--nproc-per-node=gpu"), id="one for each GPU"),
        pytest.param(
            "--multi_gpu --num_processes 2", places("--nproc-per-node=2"), id="on two of the GPUs"
        ),
        pytest.param(
            "--standalone --nproc-per-node 2",
            [*places("--nproc-per-node=2"), "--standalone"],
            id="standalone",
        ),
        pytest.param(
            "--num_processes 2 --main_process_port 0",
            [*places("--nproc-per-node=2", "--master-port=0"), "--standalone"],
            id="port 0: any that is free",
        ),
        pytest.param(
            "--max-restarts 3 --tee=3 -r 1 --log_dir d --rdzv-id=x",
            [
                *places(),
                "--max-restarts=3",
                "--tee=3",
                "--redirects=1",
                "--log-dir=d",
                "--rdzv-id=x",
            ],
            id="what torchrun alone can do: it starts the one process, too",
        ),
        pytest.param(
            "--nnodes 1:4 --rdzv-backend c10d --rdzv_endpoint a:1",
            [*places("--nnodes=1:4"), "--rdzv-backend=c10d", "--rdzv-endpoint=a:1"],
            id="a number of pods that may change",
        ),
        pytest.param(
            "--nproc-per-node 2 --no-python",
            [*places("--nproc-per-node=2"), "--no-python"],
            id="a program",
        ),
    ],
)
def test_torchrun_is_handed(typed: str, handed_on: list[str]) -> None:
    start = plan([*typed.split(), "t.py", "-v", "--lr=1"], {})
    assert start.argv == [*TORCHRUN, *handed_on, "t.py", "-v", "--lr=1"]
    understood = get_args_parser().parse_args(start.argv[3:])
    assert understood.training_script_args == ["-v", "--lr=1"]


def test_what_is_handed_on_is_what_torchrun_knows() -> None:
    (_, *known) = get_args_parser()._actions
    names = {name for action in known for name in action.option_strings if "_" not in name}
    ours = [place.name for place in flags.WORLD_FLAGS] + [*flags.TORCHRUN, *flags.SWITCHES]
    assert names - {f"--{name}" for name in ours} <= {
        *("-m", "--module", "-r", "-t", "--no-python", "--standalone", "--print-completion")
    }


def test_pods_that_meet_without_torchrun() -> None:
    start = plan(["--num_processes", "2", "t.py"], {"PET_NNODES": "2", "PET_NODE_RANK": "1"})
    assert start.argv == [sys.executable, "t.py"]
    assert (start.env["RANK"], start.env["WORLD_SIZE"]) == ("1", "2")


def test_a_program_takes_over() -> None:
    assert plan(["--no_python", "prog", "-x"], {}).argv == ["prog", "-x"]


def theirs() -> list[list[str]]:
    """The names of each flag of `accelerate launch`."""
    actions = launch_command_parser()._actions
    return [action.option_strings for action in actions if action.option_strings]


@pytest.mark.parametrize("names", theirs(), ids=lambda names: names[0])
def test_each_flag_of_accelerate_is_known_or_there_is_a_sentence(
    names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    long = [name for name in names if name.startswith("--")]
    known = {name for action in flags.parser({})._actions for name in action.option_strings}
    if not set(long) <= known:
        with pytest.raises(SystemExit, match="2"):
            plan([long[0], "t.py"], {})
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"python -m runtime.launch: error: {long[0]}: ")


SETTINGS = [
    pytest.param("--cpu --mixed_precision bf16 --num_cpu_threads_per_process 2", id="on a CPU"),
    pytest.param(
        "--dynamo_backend inductor --dynamo_mode max-autotune --dynamo_use_fullgraph --debug",
        id="compiled",
    ),
    pytest.param("--gpu_ids 1,2", id="some GPUs"),
    pytest.param("--gpu_ids all", id="all GPUs: nothing is set"),
    pytest.param(
        "--use_fsdp --fsdp_version 2 --fsdp_offload_params true --fsdp_min_num_params 7 "
        "--fsdp_reshard_after_forward false --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP "
        "--fsdp_transformer_layer_cls_to_wrap Block --fsdp_state_dict_type FULL_STATE_DICT "
        "--fsdp_activation_checkpointing true --fsdp_cpu_ram_efficient_loading false "
        "--fsdp_activation_checkpointing_offload true",
        id="sharded",
    ),
    pytest.param(
        "--use_parallelism_config --parallelism_config_dp_shard_size 2 "
        "--parallelism_config_dp_replicate_size 3 --parallelism_config_tp_size 4",
        id="laid out",
    ),
]
NEEDED = [  # what accelerate takes from its config file else
    *("--mixed_precision=no", "--num_processes=1", "--num_machines=1", "--dynamo_backend=no"),
    *("--num_cpu_threads_per_process=1", "--main_process_port=1"),
]


@pytest.mark.parametrize("typed", SETTINGS)
def test_settings_reach_the_script_under_accelerates_names(typed: str) -> None:
    arguments = [*typed.split(), "t.py"]
    start = plan(arguments, {})
    asked = launch_command_parser().parse_args([*NEEDED, *arguments])
    asked.use_cpu = False
    sharded = asked.use_fsdp or asked.use_parallelism_config
    env = prepare_multi_gpu_env(asked) if sharded else prepare_simple_launcher_cmd_env(asked)[1]
    ours = {name: start.env[name] for name in start.env.keys() - plan(["t.py"], {}).env.keys()}
    assert bool(ours) == (typed != "--gpu_ids all")
    assert {name: value.lower() for name, value in ours.items()} == {
        name: env[name].lower() for name in ours
    }


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--num_procs 2", "unknown flag --num_procs; did you mean --num_processes?"),
        ("--lr=2", "unknown flag --lr; flags of the script must follow the script"),
        (
            "--num_processes 3 --num_machines 2",
            "--num-processes must be a multiple of --nnodes (--num-machines), got 3 and 2",
        ),
    ],
)
def test_a_mistake_is_told(typed: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        plan([*typed.split(), "t.py"], {})
    assert capsys.readouterr().err.splitlines()[-1] == f"python -m runtime.launch: error: {said}"


@pytest.mark.parametrize("name", ["notebook_launcher", "debug_launcher"])
def test_launchers_have_accelerates_parameters(name: str) -> None:
    parameters = [
        [(one.name, one.default) for one in inspect.signature(launcher).parameters.values()]
        for launcher in (getattr(runtime, name), getattr(accelerate, name))
    ]
    assert [p[0] for p in parameters[0]] == [p[0] for p in parameters[1]]
    differing = {a[0] for a, b in zip(*parameters, strict=True) if a[1] != b[1]}
    assert differing <= ({"rdzv_conf"} if name == "notebook_launcher" else set())


def test_the_launcher_and_its_script_start_without_torch(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("import os, sys; print(os.environ['RANK'], 'torch' in sys.modules)")
    command = [sys.executable, "-m", "runtime.launch", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["0", "False"]


def test_settings_are_read() -> None:
    env = {"ACCELERATE_USE_CPU": "yes", "ACCELERATE_RNG_TYPES": "torch, cuda"}
    found = Settings.from_env(env | {"ACCELERATE_SEED": ""})
    assert found == Settings(use_cpu=True, rng_types=("torch", "cuda"))


@pytest.mark.parametrize("name", ["ACCELERATE_USE_CPU", "ACCELERATE_SEED"])
def test_a_setting_of_the_wrong_kind_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        Settings.from_env({name: "perhaps"})
