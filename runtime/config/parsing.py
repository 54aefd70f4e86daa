"""Reading the values of environment variables, and changing variables temporarily."""

import contextlib
import functools
import logging
import os
import platform
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

logger = logging.getLogger(__name__)
Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_TRUE = ("y", "yes", "t", "true", "on", "1")
_FALSE = ("n", "no", "f", "false", "off", "0")


def str_to_bool(value: str, to_bool: bool = False) -> int | bool:
    """Return 1 for `y`, `yes`, `t`, `true`, `on` and `1`, and 0 for their opposites.

    Args:
        value: the word, in upper or lower case.
        to_bool: whether to return True or False instead.

    Raises:
        ValueError: the word is unknown.
    """
    word = value.lower()
    if word not in (*_TRUE, *_FALSE):
        sentence = f"invalid truth value {value}: it must be true or false, yes or no, 1 or 0"
        raise ValueError(sentence)
    return word in _TRUE if to_bool else int(word in _TRUE)


def whole_number(name: str, text: str, at_least: int | None = None) -> int:
    """Return the value of a variable as a number.

    Args:
        name: the name of the variable, for the error.
        text: the value of the variable.
        at_least: the smallest allowed number.

    Raises:
        ValueError: the value is not a whole number, or too small; the message names the variable.
    """
    try:
        number = int(text)
    except ValueError as error:
        sentence = f"{name} must be a whole number, got {text!r}"
        raise ValueError(sentence) from error
    if at_least is not None and number < at_least:
        sentence = f"{name} must be at least {at_least}, got {text!r}"
        raise ValueError(sentence)
    return number


@contextlib.contextmanager
def naming(variable: str | None) -> Iterator[None]:
    """Return a context in which errors name the variable whose value caused them.

    Args:
        variable: the name of the variable; None leaves errors unchanged.

    Raises:
        ValueError: the value is wrong; the message begins with the variable and its value.
        NotImplementedError: this runtime does not support the value.
    """
    try:
        yield
    except (ValueError, NotImplementedError) as error:
        if variable is None:
            raise
        kind = ValueError if isinstance(error, ValueError) else NotImplementedError
        sentence = f"{variable}={os.environ.get(variable)!r} is wrong: {error}"
        raise kind(sentence) from error


def get_int_from_env(env_keys: Sequence[str], default: int) -> int:
    """Return the first number >= 0 among the values of some variables.

    Args:
        env_keys: the names of the variables.
        default: the result if no variable has such a number.

    Raises:
        ValueError: a value is not a whole number.
    """
    found = (whole_number(name, os.environ.get(name, "-1")) for name in env_keys)
    return next((number for number in found if number >= 0), default)


def parse_flag_from_env(key: str, default: bool = False) -> bool:
    """Whether the value of a variable is true.

    Args:
        key: the name of the variable.
        default: the result if the variable is missing.

    Raises:
        ValueError: the value is neither true nor false; the message names the variable.
    """
    with naming(key):
        return bool(str_to_bool(os.environ.get(key, str(default))))


def parse_choice_from_env(key: str, default: str = "no") -> str:
    """Return the value of a variable.

    Args:
        key: the name of the variable.
        default: the result if the variable is missing.
    """
    return os.environ.get(key, str(default))


@contextlib.contextmanager
def clear_environment() -> Iterator[None]:
    """Remove all environment variables inside the context, and restore them afterwards."""
    before = dict(os.environ)
    os.environ.clear()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def patch_environment(**kwargs: Any) -> Iterator[None]:
    """Set environment variables inside the context, and restore them afterwards.

    Args:
        **kwargs: names, in upper or lower case, and values.
    """
    before = {name.upper(): os.environ.get(name.upper()) for name in kwargs}
    os.environ.update({name.upper(): str(value) for name, value in kwargs.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def is_port_in_use(port: int | None = None) -> bool:
    """Whether a program listens at a port of this machine.

    Args:
        port: the port; by default 29500.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(("localhost", 29500 if port is None else port)) == 0


def get_free_port() -> int:
    """Return a port of this machine that no program uses."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def convert_dict_to_env_variables(current_env: Mapping[str, str]) -> list[str]:
    r"""Return a line `NAME=VALUE` for each variable.

    Variables with an empty value, or with characters that such a file cannot contain, are left out
    with a warning.

    >>> convert_dict_to_env_variables({"ACCELERATE_DEBUG_MODE": "1"})
    ['ACCELERATE_DEBUG_MODE=1\n']

    Args:
        current_env: the environment variables.
    """
    fit = {key: value for key, value in current_env.items() if _fits_a_line(key, value)}
    for key in current_env.keys() - fit:
        logger.warning("skipped %s: it is empty, or contains white space or one of ; < >", key)
    return [f"{key}={value}\n" for key, value in fit.items()]


def _fits_a_line(key: str, value: str) -> bool:
    return bool(key and value) and not re.search(r"[;<>\n ]", key + value)


_OURS = "ACCELERATE_"


@contextlib.contextmanager
def _own_variables() -> Iterator[None]:
    """Restore the ACCELERATE_ variables at the end of the context."""
    before = {name: value for name, value in os.environ.items() if name.startswith(_OURS)}
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith(_OURS)]:
            del os.environ[name]
        os.environ.update(before)


def purge_accelerate_environment(func_or_cls: Decorated) -> Decorated:
    """Decorate a function or a test class, so that ACCELERATE_ variables are restored after it.

    Args:
        func_or_cls: the function; or the class, whose methods that begin with `test` are decorated,
            also in subclasses.
    """
    if not isinstance(func_or_cls, type):
        return _purged(func_or_cls)

    def purge_tests(kind: type, /, **_options: Any) -> None:
        for name in [name for name in dir(kind) if name.startswith("test")]:
            method = getattr(kind, name)
            if callable(method) and not hasattr(method, "_leaves_no_variables"):
                setattr(kind, name, _purged(method))

    purge_tests(func_or_cls)
    func_or_cls.__init_subclass__ = classmethod(purge_tests)  # type: ignore[assignment]  # mypy expects an instance method
    return func_or_cls


def _purged(function: Decorated) -> Decorated:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with _own_variables():
            return function(*args, **kwargs)

    wrapper._leaves_no_variables = True  # type: ignore[attr-defined]  # noqa: SLF001  # marks it as decorated
    return wrapper  # type: ignore[return-value]  # the same signature


def are_libraries_initialized(*library_names: str) -> list[str]:
    """Return the names of those packages that are imported already.

    Args:
        *library_names: the names of packages.
    """
    return [name for name in library_names if name in sys.modules]


OLDEST_KERNEL = (5, 5)  # processes can hang on older kernels (huggingface/accelerate#1929)


def check_os_kernel() -> None:
    """Warn if the Linux kernel is one on which training processes can hang."""
    system = platform.uname()
    found = re.match(r"(\d+)\.(\d+)", system.release)
    if system.system != "Linux" or found is None:
        return
    if (int(found[1]), int(found[2])) < OLDEST_KERNEL:
        sentence = (
            f"Detected kernel version {system.release}, which is below the recommended minimum of "
            "5.5.0; this can cause the process to hang. It is recommended to upgrade the kernel to "
            "the minimum version or higher."
        )
        logger.warning(sentence)
