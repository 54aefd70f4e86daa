"""The one kind of global state that this package has.

`PartialState`, `AcceleratorState` and `GradientState` may be made anywhere, as often as one likes:
all instances of a class are views of one state, which the first one made. This is Accelerate's
contract.
"""

from typing import Any, ClassVar, NoReturn


class Shared:
    """A class whose instances share one state."""

    _shared_state: ClassVar[dict[str, Any]]
    _known_attrs: ClassVar[tuple[str, ...]] = ()  # what is missing after a reset only

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._shared_state = {}

    def __init__(self) -> None:
        self.__dict__ = self._shared_state

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, or what is unpickled, is a view of the state of the process that it is in."""
        return _view, (type(self),)

    @property
    def initialized(self) -> bool:
        """Whether the state is there."""
        return bool(self._shared_state)

    @classmethod
    def is_made(cls) -> bool:
        """Whether the state is there; does not make it."""
        return bool(cls._shared_state)

    @classmethod
    def _reset_state(cls) -> None:
        """Forget the state: the next instance makes a new one (for tests and notebooks)."""
        cls._shared_state.clear()

    def __getattr__(self, name: str) -> Any:
        """Say why an attribute is missing."""
        self._refuse(name)

    def _refuse(self, name: str) -> NoReturn:
        kind = type(self).__name__
        if name in self._known_attrs:
            sentence = (
                f"`{kind}` object has no attribute `{name}`. This happens if "
                f"`{kind}._reset_state()` was called and an `Accelerator` or `PartialState` was "
                "not reinitialized."
            )
            raise AttributeError(sentence)
        sentence = f"'{kind}' object has no attribute '{name}'"
        raise AttributeError(sentence)


def _view(kind: type[Shared]) -> Shared:
    view = kind.__new__(kind)
    Shared.__init__(view)
    return view
