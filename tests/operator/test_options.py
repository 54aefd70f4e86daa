import pytest

from acceleratedjob.cli import main
from acceleratedjob.cli.operator import options_of
from acceleratedjob.manager.flags import Options
from acceleratedjob.manager.lease import Terms


def options(*arguments: str) -> Options:
    return options_of(arguments)


def test_what_kubernetes_components_have_is_the_default() -> None:
    told = options()
    assert told.terms == Terms(duration=15, deadline=10, retry=2)
    assert (told.leader_elect, told.http_port, told.namespaces) == (False, None, ())
    assert (told.lease_name, told.lease_namespace) == ("acceleratedjob-operator", "default")


def test_operators_of_different_namespaces_have_different_leases() -> None:
    given: tuple[list[str], ...] = (
        [],
        ["red"],
        ["blue"],
        ["red", "blue"],
        [f"n{i:060}" for i in range(9)],
    )
    names = [options(*(f"--namespace={one}" for one in each)).lease_name for each in given]
    assert len(set(names)) == len(given)
    assert max(map(len, names)) <= 253


def test_the_order_of_namespaces_does_not_matter() -> None:
    first = options("--namespace=red", "--namespace=blue", "--namespace=red")
    assert first == options("--namespace=blue", "--namespace=red")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(
            ["--lease-duration=10s"], "duration > deadline > retry", id="no room to give up in"
        ),
        pytest.param(["--lease-duration=soon"], "must be a duration", id="not a duration"),
        pytest.param(["--retry-period=0s"], "must be a duration", id="no pause at all"),
        pytest.param(["--log-level=loud"], "is not one of", id="a level that logging has not"),
    ],
)
def test_a_wrong_flag_is_a_wrong_command(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["operator", *arguments]) == 2
    assert told in capsys.readouterr().err
