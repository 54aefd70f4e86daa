"""Prepared data loaders that are instances of torchdata's StatefulDataLoader, too.

They read and resume as all prepared loaders do: every method that torchdata's class defines is
replaced. Importing this module needs torchdata.
"""

from torchdata.stateful_dataloader import StatefulDataLoader

from runtime.data.dispatch.loader import DataLoaderDispatcher
from runtime.data.loader import DataLoaderShard


class StatefulDataLoaderShard(DataLoaderShard, StatefulDataLoader):  # type: ignore[misc]  # torchdata is not typed
    """A DataLoaderShard for code that expects a StatefulDataLoader."""


class StatefulDataLoaderDispatcher(DataLoaderDispatcher, StatefulDataLoader):  # type: ignore[misc]
    """A DataLoaderDispatcher for code that expects a StatefulDataLoader."""
