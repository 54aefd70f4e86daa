"""Environment variables for a while, and the questions that are asked of them."""

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
    """1 or 0 (True or False, if asked) for the usual words.

    Raises:
        ValueError: another word.
    """
    word = value.lower()
    if word not in (*_TRUE, *_FALSE):
        sentence = f"invalid truth value {value}: it must be true or false, yes or no, 1 or 0"
        raise ValueError(sentence)
    return word in _TRUE if to_bool else int(word in _TRUE)


def whole_number(name: str, text: str, at_least: int | None = None) -> int:
    """The number that a variable has.

    Raises:
        ValueError: it has something else, or a number that is too small; the message names it.
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
    """Within, an error about a value is said to come from this variable; None: from none.

    Raises:
        ValueError: the value is wrong; the message begins with the variable and its value.
        NotImplementedError: the value is one that this runtime does not support.
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
    """The first variable of some that has a number that is not negative."""
    found = (whole_number(name, os.environ.get(name, "-1")) for name in env_keys)
    return next((number for number in found if number >= 0), default)


def parse_flag_from_env(key: str, default: bool = False) -> bool:
    """Whether a variable says yes.

    Raises:
        ValueError: it says neither yes nor no; the message names it.
    """
    with naming(key):
        return bool(str_to_bool(os.environ.get(key, str(default))))


def parse_choice_from_env(key: str, default: str = "no") -> str:
    """A variable's text."""
    return os.environ.get(key, str(default))


@contextlib.contextmanager
def clear_environment() -> Iterator[None]:
    """Within, there are no environment variables; afterwards there are those of before."""
    before = dict(os.environ)
    os.environ.clear()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def patch_environment(**kwargs: Any) -> Iterator[None]:
    """Within, some variables are set; their names are given in any case."""
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
    """Whether something listens at a port of this machine; default: 29500."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(("localhost", 29500 if port is None else port)) == 0


def get_free_port() -> int:
    """A port of this machine at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def convert_dict_to_env_variables(current_env: Mapping[str, str]) -> list[str]:
    r"""Lines for a file of variables; what such a file cannot hold is left out, with a warning.

    >>> convert_dict_to_env_variables({"ACCELERATE_DEBUG_MODE": "1"})
    ['ACCELERATE_DEBUG_MODE=1\n']
    """
    fit = {key: value for key, value in current_env.items() if _fits_a_line(key, value)}
    for key in current_env.keys() - fit:
        logger.warning("left out %s: it is empty, or has a blank or one of ; < >", key)
    return [f"{key}={value}\n" for key, value in fit.items()]


def _fits_a_line(key: str, value: str) -> bool:
    return bool(key and value) and not re.search(r"[;<>\n ]", key + value)


_OURS = "ACCELERATE_"  # what a script's configuration may leave behind


@contextlib.contextmanager
def _own_variables() -> Iterator[None]:
    """Afterwards the ACCELERATE_ variables are those of before."""
    before = {name: value for name, value in os.environ.items() if name.startswith(_OURS)}
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith(_OURS)]:
            del os.environ[name]
        os.environ.update(before)


def purge_accelerate_environment(func_or_cls: Decorated) -> Decorated:
    """Decorate a function, or a class of tests, whose ACCELERATE_ variables are not to stay."""
    if not isinstance(func_or_cls, type):
        return _purged(func_or_cls)

    def purge_tests(kind: type, /, **_options: Any) -> None:
        for name in [name for name in dir(kind) if name.startswith("test")]:
            method = getattr(kind, name)
            if callable(method) and not hasattr(method, "_leaves_no_variables"):
                setattr(kind, name, _purged(method))

    purge_tests(func_or_cls)
    func_or_cls.__init_subclass__ = classmethod(purge_tests)  # type: ignore[assignment]  # as Python calls it
    return func_or_cls


def _purged(function: Decorated) -> Decorated:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with _own_variables():
            return function(*args, **kwargs)

    wrapper._leaves_no_variables = True  # type: ignore[attr-defined]  # noqa: SLF001  # its mark
    return wrapper  # type: ignore[return-value]  # the same signature


def are_libraries_initialized(*library_names: str) -> list[str]:
    """Those of some packages that were imported."""
    return [name for name in library_names if name in sys.modules]


OLDEST_KERNEL = (5, 5)  # before it, training processes have hung (huggingface/accelerate#1929)


def check_os_kernel() -> None:
    """Warn of a Linux kernel on which training processes have hung."""
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
