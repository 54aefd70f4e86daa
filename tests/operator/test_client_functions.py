"""A function is shipped as its source, or refused with the name that it would miss."""

import functools
import os
import os.path as paths
import runpy
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acceleratedjob.client.code import read_code
from acceleratedjob.client.free_names import free_names
from acceleratedjob.errors import NotShippable

RATE = 0.1


def helper() -> int:
    return 1


class Trainer:
    def fit(self) -> None:
        pass

    @staticmethod
    def go() -> None:
        pass


def whole(lr: float, sizes: list[int] | None = None) -> None:
    """Use what is inside only."""
    import math

    class Net:
        width = 2

    def inner(x: float) -> float:
        return math.floor(x) + lr

    total = sum(inner(n) for n in sizes or [1])
    print(total, Net.width, [name for name in (__name__,)])


def in_strings() -> None:
    text = """
first column
    indented"""
    print(repr(text))


def uses_variable() -> None:
    print(RATE)


def uses_two() -> None:
    print(RATE, os.getcwd())


def uses_alias() -> None:
    print(paths.sep)


def uses_class() -> None:
    print(OrderedDict())


def uses_helper() -> None:
    helper()


def uses_in_default(lr: float = RATE) -> None:
    print(lr)


def uses_deep() -> None:
    def inner() -> list[int]:
        return [helper() for _ in range(2)]

    inner()


def uses_nothing_there() -> None:
    print(nowhere)  # type: ignore[name-defined]  # noqa: F821


def uses_display() -> None:
    display(1)  # type: ignore[name-defined]  # noqa: F821


@functools.lru_cache
def decorated() -> None:
    pass


def decorate(function: Callable[[], None]) -> Callable[[], None]:
    @functools.wraps(function)
    def wrapper() -> None:
        function()

    return wrapper


@decorate
def wrapped() -> None:
    pass


def relative() -> None:
    from . import somewhere  # type: ignore[attr-defined]

    print(somewhere)


async def coroutine() -> None:
    pass


def generator() -> Any:
    yield 1


def around() -> Callable[[], None]:
    lr = 0.1

    def closure() -> None:
        print(lr)

    return closure


def without_source() -> Callable[[], None]:
    scope: dict[str, Any] = {}
    exec("def made(): pass", scope)  # noqa: S102
    found: Callable[[], None] = scope["made"]
    return found


def ship(function: Any, **args: Any) -> str:
    code = read_code(function, args)
    return code.files[code.script].decode()


def run(script: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    (folder / "script.py").write_text(script)
    runpy.run_path(str(folder / "script.py"), run_name="__main__")
    return capsys.readouterr().out


def test_the_script_does_what_a_call_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = ship(whole, lr=0.5, sizes=[1, 2])
    assert run(script, tmp_path, capsys) == "4.0 2 ['__main__']\n"


def test_a_module_that_imports_the_script_does_not_train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker of a data loader that is spawned imports it."""
    (tmp_path / "script.py").write_text(ship(whole, lr=0.5))
    runpy.run_path(str(tmp_path / "script.py"), run_name="__mp_main__")
    assert capsys.readouterr().out == ""


def test_a_function_inside_of_another_is_moved_to_the_first_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(lr: float) -> None:
        print(lr)

    script = ship(train, lr=1)
    assert "\ndef train(lr: float) -> None:\n    print(lr)\n" in script
    assert run(script, tmp_path, capsys) == "1\n"


def test_a_string_of_a_moved_function_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def train() -> None:
        text = """
        SELECT 1
    from it"""
        print(repr(text))

    train()
    expected = capsys.readouterr().out
    assert "        SELECT" in expected
    assert run(ship(train), tmp_path, capsys) == expected


VALUES = {"a": [1, 2.5, None, True, "'\"\n$(x)é\ud800"], "b": {"c": {"d": 1e300}}, "e": -0.0}


def test_every_value_that_json_has_arrives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(**given: Any) -> None:
        print(ascii(given))

    script = ship(train, **VALUES)
    assert run(script, tmp_path, capsys) == f"{VALUES!a}\n"


@pytest.mark.parametrize(
    ("function", "words"),
    [
        pytest.param(
            uses_variable,
            "`RATE` is a variable outside of it: pass it in `args`",
            id="a variable of the module",
        ),
        pytest.param(uses_two, "`RATE` is a var", id="each name is told of: the first"),
        pytest.param(
            uses_two,
            "`os` is a module: write `import os` inside it",
            id="each name is told of: the second",
        ),
        pytest.param(
            uses_alias,
            "`paths` is a module: write `import posixpath as paths` inside it",
            id="a module under another name",
        ),
        pytest.param(
            uses_class,
            "write `from collections import OrderedDict` inside it",
            id="an imported class",
        ),
        pytest.param(
            uses_helper,
            "`helper` is defined outside of it: define it inside it, or ship a script",
            id="a function of the same module",
        ),
        pytest.param(uses_in_default, "`RATE`", id="a default"),
        pytest.param(uses_deep, "`helper`", id="a comprehension in a function inside"),
        pytest.param(uses_nothing_there, "`nowhere` is not defined", id="a misspelt name"),
        pytest.param(uses_display, "`display` is not defined", id="a name of notebooks"),
        pytest.param(decorated, "must be a function", id="a decorator that gives an object"),
        pytest.param(wrapped, "`decorate`", id="a decorator that gives a function"),
        pytest.param(
            relative, "`from . import somewhere` is relative", id="an import from its package"
        ),
        pytest.param(
            around(), "`lr` is a variable of the function around it", id="a closure over a variable"
        ),
        pytest.param(lambda: None, "got a lambda", id="a lambda"),
        pytest.param(Trainer().fit, "got a method", id="a bound method"),
        pytest.param(Trainer.fit, "must not be a method of a class", id="a method"),
        pytest.param(Trainer.go, "must not be a method of a class", id="a static method"),
        pytest.param(Trainer, "must be a function", id="a class"),
        pytest.param(functools.partial(helper), "got a partial", id="a partial function"),
        pytest.param(print, "must be a function", id="a built-in function"),
        pytest.param(5, "got an int: 5", id="a number"),
        pytest.param(coroutine, "without `async`", id="a coroutine"),
        pytest.param(generator, "without `async` and `yield`", id="a generator"),
        pytest.param(without_source(), "the source of made must be found", id="no source"),
    ],
)
def test_a_function_that_needs_more_than_its_source_is_refused(function: Any, words: str) -> None:
    with pytest.raises(NotShippable) as error:
        ship(function)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        pytest.param({}, "missing a required argument: 'lr'", id="one is missing"),
        pytest.param({"lr": 1, "x": 2}, "unexpected keyword argument 'x'", id="one is unknown"),
        pytest.param(
            {"lr": (0.9, 0.99)},
            "args['lr'] must be a list, which a tuple would become, got (0.9, 0.99)",
            id="a tuple",
        ),
        pytest.param({"lr": float("nan")}, "args['lr'] must be finite, got nan", id="no number"),
        pytest.param(
            {"lr": [{"a": Path("x")}]}, "args['lr'][0]['a'] must be text", id="an object inside"
        ),
        pytest.param({"lr": {1: 2}}, "args['lr'] must have text as keys, got 1", id="a number key"),
        pytest.param([1], "must be a mapping of names to values", id="a list"),
    ],
)
def test_arguments_that_would_not_arrive_are_refused(args: Any, words: str) -> None:
    with pytest.raises(NotShippable) as error:
        read_code(whole, args)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        pytest.param("def f():\n  global g\n  g = 1\n  print(g)", [], id="a global it sets itself"),
        pytest.param("def f():\n  print(g)\n  g = 1", [], id="a local that is read too early"),
        pytest.param("def f():\n  class A:\n    x = y", ["y"], id="the body of a class"),
        pytest.param("def f():\n  return lambda a=b: a + c", ["b", "c"], id="a lambda inside"),
        pytest.param("def f():\n  try: pass\n  except E as e: print(e)", ["E"], id="an exception"),
        pytest.param("def f(x: T) -> R: pass", [], id="annotations"),
        pytest.param("def f():\n  class A:\n    x: T = y", ["y"], id="annotations of a class"),
        pytest.param("def f():\n  with o() as x: x\n  for i in r: i", ["o", "r"], id="statements"),
        pytest.param("def f():\n  f()", [], id="itself"),
        pytest.param("def f():\n  print(f'{x!r:{w}}')", ["w", "x"], id="a formatted string"),
        pytest.param("def f():\n  def g():\n    nonlocal_ = a\n  a = 1", [], id="a closure inside"),
        pytest.param("def f():\n  del a", [], id="a local that is deleted"),
        pytest.param("def f():\n  a.b = c[d] = 1", ["a", "c", "d"], id="objects that are changed"),
        pytest.param("def f():\n  print(ValueError, len)", [], id="built-in names"),
    ],
)
def test_free_names(source: str, names: list[str]) -> None:
    assert free_names(source) == names
