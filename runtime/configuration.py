"""How data loaders are prepared: what the script says, else the job's environment, else a default.

The class has Accelerate's name and fields. A field that is not honoured yet is refused by name.
"""

from dataclasses import dataclass
from typing import Any

from runtime.settings import Settings


@dataclass(kw_only=True)
class DataLoaderConfiguration:
    """How data loaders are prepared; None leaves it to the job's environment, then the default.

    Raises:
        ValueError: `dispatch_batches=True`, which is not implemented.
    """

    split_batches: bool | None = None  # default False
    dispatch_batches: bool | None = None  # each process reads for itself; True is refused
    even_batches: bool | None = None  # default True
    use_seedable_sampler: bool | None = None  # default False
    data_seed: int | None = None  # default: rank 0's torch seed
    non_blocking: bool = False

    def __post_init__(self) -> None:
        """Refuse what is not implemented."""
        if self.dispatch_batches:
            sentence = (
                "dispatch_batches=True is not implemented: every process reads its own batches; "
                "leave it out, or set it to False"
            )
            raise ValueError(sentence)

    def filled(
        self, settings: Settings, split_batches: bool | None = None
    ) -> "DataLoaderConfiguration":
        """The same with every open question answered.

        Args:
            settings: what the job's environment says.
            split_batches: Accelerator's own argument, which comes before the configuration's.
        """
        return DataLoaderConfiguration(
            split_batches=first(split_batches, self.split_batches, settings.split_batches, False),
            even_batches=first(self.even_batches, settings.even_batches, True),
            use_seedable_sampler=first(
                self.use_seedable_sampler, settings.use_seedable_sampler, False
            ),
            data_seed=self.data_seed,
            non_blocking=self.non_blocking,
        )


def first(*values: Any) -> Any:
    """The first value that is not None.

    >>> first(None, False, True)
    False
    """
    return next(value for value in values if value is not None)
