import inspect
import os
import subprocess
import sys
from pathlib import Path

import accelerate
import pytest
from accelerate.commands.launch import launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env
from torch.distributed.run import determine_local_world_size, get_args_parser

import runtime
from runtime.config.availability import is_present
from runtime.config.settings import Settings
from runtime.launch import flags
from runtime.launch.counting import count
from runtime.launch.plan import Pod, Replacement, arguments, environments, plan


def pod(typed: list[str], env: dict[str, str]) -> Pod:
    """What is to be started, if torchrun has no part in it."""
    found = plan(typed, env)
    assert isinstance(found, Pod)
    return found


RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")


@pytest.mark.parametrize(
    ("typed", "script"),
    [
        pytest.param(["train.py", "--lr", "1"], ["train.py", "--lr", "1"], id="a script"),
        pytest.param(["-m", "my.train", "-x"], ["-m", "my.train", "-x"], id="a module"),
    ],
)
def test_one_process_is_the_script_itself(typed: list[str], script: list[str]) -> None:
    start = pod(typed, {"PET_NNODES": "3", "PET_NODE_RANK": "2", "PET_MASTER_ADDR": "a"})
    (env,) = environments(start, processes=1, port=start.master_port)
    assert start.argv == [sys.executable, *script]
    assert start.processes == "1"
    assert [env[name] for name in RANKS] == ["2", "3", "0", "1", "2", "3"]
    assert (env["MASTER_ADDR"], env["MASTER_PORT"]) == ("a", "29500")


def test_what_is_set_already_stays() -> None:
    start = pod(["t.py"], {"RANK": "1", "WORLD_SIZE": "4", "MASTER_PORT": "7"})
    (env,) = environments(start, processes=1, port=start.master_port)
    assert (env["RANK"], env["WORLD_SIZE"], env["MASTER_PORT"]) == ("1", "4", "7")


def test_several_processes_get_the_ranks_that_torchrun_would_give_them() -> None:
    env = {"PET_NNODES": "3", "PET_NODE_RANK": "2", "RANK": "9", "MASTER_PORT": "7"}
    start = pod(["--nproc-per-node", "2", "--master-port", "8", "t.py"], env)
    found = environments(start, processes=2, port=start.master_port)
    assert [[env[name] for name in RANKS] for env in found] == [
        ["4", "6", "0", "2", "2", "3"],
        ["5", "6", "1", "2", "2", "3"],
    ]
    assert {env["MASTER_PORT"] for env in found} == {"8"}


@pytest.mark.parametrize(
    ("processes", "given", "threads"),
    [
        pytest.param(1, {}, None, id="one process may use all cores"),
        pytest.param(2, {}, "1", id="several share them"),
        pytest.param(2, {"OMP_NUM_THREADS": "3"}, "3", id="a number that is set stays"),
    ],
)
def test_threads_of_openmp(processes: int, given: dict[str, str], threads: str | None) -> None:
    for env in environments(pod(["t.py"], given), processes=processes, port=1):
        assert env.get("OMP_NUM_THREADS") == threads


@pytest.mark.parametrize(
    ("typed", "processes", "port"),
    [
        pytest.param("", "1", 0, id="the default: any free port"),
        pytest.param("--nproc-per-node 4", "4", 0, id="several"),
        pytest.param("--nproc_per_node=4", "4", 0, id="torchrun's old names"),
        pytest.param("--multi_gpu", "gpu", 0, id="one for each GPU"),
        pytest.param("--nproc-per-node auto", "auto", 0, id="what torchrun would choose"),
        pytest.param("--multi_gpu --num_processes 2", "2", 0, id="on two of the GPUs"),
        pytest.param("--master-port 29500", "1", 29500, id="a port that is told"),
        pytest.param("--standalone --nproc-per-node 2", "2", 0, id="standalone: any free port"),
        pytest.param("--num_processes 2 --main_process_port 0", "2", 0, id="port 0: any free port"),
        pytest.param("--nproc-per-node 1 --standalone", "1", 0, id="one process, standalone"),
    ],
)
def test_the_launcher_starts_the_processes_itself(typed: str, processes: str, port: int) -> None:
    start = pod([*typed.split(), "t.py", "-v", "--lr=1"], {})
    assert start.argv == [sys.executable, "t.py", "-v", "--lr=1"]
    assert (start.processes, start.master_addr, start.master_port) == (
        processes,
        "127.0.0.1",
        port,
    )


@pytest.mark.parametrize(
    ("typed", "port"),
    [
        pytest.param("--nnodes 2", 29500, id="several pods: torchrun's default"),
        pytest.param("--nnodes 2 --master-port auto", 29500, id="auto"),
        pytest.param("--nnodes 2 --master-port 7", 7, id="a port that is told"),
        pytest.param("--master-port auto", 0, id="auto of one pod: any free port"),
    ],
)
def test_several_pods_meet_at_a_port_that_all_know(typed: str, port: int) -> None:
    assert pod([*typed.split(), "t.py"], {}).master_port == port


def test_accelerates_processes_are_those_of_all_machines() -> None:
    typed = (
        "--num_processes 8 --num_machines 2 --machine_rank 1 --main_process_ip a "
        "--main-process-port 1"
    )
    start = pod([*typed.split(), "t.py"], {})
    assert (start.processes, start.nodes, start.node_rank) == ("4", 2, 1)
    assert (start.master_addr, start.master_port) == ("a", 1)


def test_a_free_port_replaces_the_one_that_is_set() -> None:
    start = pod(["--standalone", "t.py"], {"MASTER_ADDR": "a", "MASTER_PORT": "7"})
    (env,) = environments(start, processes=1, port=8)
    assert (env["MASTER_ADDR"], env["MASTER_PORT"]) == ("127.0.0.1", "8")


def test_the_local_rank_may_be_an_argument() -> None:
    start = pod(["--nproc-per-node", "2", "t.py", "--log=${local_rank}.txt", "$$"], {})
    assert arguments(start, 1)[1:] == ["t.py", "--log=1.txt", "$$"]


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
        pytest.param(
            "--num_processes 8 --num_machines 2 --machine_rank 1 --main_process_ip a "
            "--main-process-port 1 --role r",
            [
                *places(
                    *("--nproc-per-node=4", "--nnodes=2", "--node-rank=1"),
                    *("--master-addr=a", "--master-port=1"),
                ),
                "--role=r",
            ],
            id="accelerate's names: its processes are those of all machines",
        ),
        pytest.param(
            "--multi_gpu --max-restarts 1",
            [*places("--nproc-per-node=gpu"), "--max-restarts=1"],
            id="one for each GPU",
        ),
        pytest.param(
            "--num_processes 2 --main_process_port 0 --tee 3",
            [*places("--nproc-per-node=2", "--master-port=0"), "--standalone", "--tee=3"],
            id="port 0: any that is free",
        ),
        pytest.param("--nnodes 1:2", places("--nnodes=1:2"), id="a number of pods, alone"),
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
            "--nproc-per-node 2 --role r --no-python",
            [*places("--nproc-per-node=2"), "--role=r", "--no-python"],
            id="a program",
        ),
    ],
)
def test_torchrun_is_handed(typed: str, handed_on: list[str]) -> None:
    start = plan([*typed.split(), "t.py", "-v", "--lr=1"], {"A": "b"})
    assert isinstance(start, Replacement)
    assert start.env == {"A": "b"}
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
    start = pod(["--num_processes", "2", "t.py"], {"PET_NNODES": "2", "PET_NODE_RANK": "1"})
    assert start.argv == [sys.executable, "t.py"]
    (env,) = environments(start, processes=int(start.processes), port=start.master_port)
    assert (env["RANK"], env["WORLD_SIZE"]) == ("1", "2")


def test_a_program_takes_over() -> None:
    assert pod(["--no_python", "prog", "-x"], {}).argv == ["prog", "-x"]


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
    pytest.param(
        "--mixed_precision fp8 --fp8_backend ao --fp8_pad_inner_dim 0 "
        "--fp8_enable_fsdp_float8_all_gather 1",
        id="in fp8",
        marks=pytest.mark.skipif(not is_present("torchao"), reason="torchao is not installed"),
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
    start = pod(arguments, {})
    asked = launch_command_parser().parse_args([*NEEDED, *arguments])
    asked.use_cpu = False
    sharded = asked.use_fsdp or asked.use_parallelism_config
    env = prepare_multi_gpu_env(asked) if sharded else prepare_simple_launcher_cmd_env(asked)[1]
    ours = start.env
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
        ("--nnodes two", "--nnodes must be a whole number, got 'two'"),
        ("--nnodes 0", "--nnodes (--num-machines) must be at least 1, got 0"),
        (
            "--machine_rank 2 --num_machines 2",
            "--node-rank (--machine-rank) must be in [0, 1], got 2",
        ),
        (
            "--master-port 70000",
            "--master-port (--main-process-port) must be in [0, 65535], got 70000",
        ),
        (
            "--standalone --nnodes 2",
            "--standalone, or port 0, is for one pod or machine, got 2",
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


def test_the_launcher_counts_as_torchrun_does() -> None:
    assert count("cpu", os.environ) == determine_local_world_size("cpu")


def test_settings_are_read() -> None:
    env = {"ACCELERATE_USE_CPU": "yes", "ACCELERATE_RNG_TYPES": "torch, cuda"}
    found = Settings.from_env(env | {"ACCELERATE_SEED": ""})
    assert found == Settings(use_cpu=True, rng_types=("torch", "cuda"))


@pytest.mark.parametrize("name", ["ACCELERATE_USE_CPU", "ACCELERATE_SEED"])
def test_a_setting_of_the_wrong_kind_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        Settings.from_env({name: "perhaps"})
