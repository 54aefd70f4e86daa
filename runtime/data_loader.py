"""The names of Accelerate's `data_loader`: prepared data loaders and their samplers."""

from runtime.data.adapter import DataLoaderAdapter
from runtime.data.batch_samplers import BatchSamplerShard, SkipBatchSampler
from runtime.data.choosing import get_sampler
from runtime.data.dispatch.loader import DataLoaderDispatcher
from runtime.data.iterable import IterableDatasetShard
from runtime.data.loader import DataLoaderShard, DataLoaderStateMixin, SkipDataLoader
from runtime.data.order import KeyedRandomSampler, SeedableRandomSampler
from runtime.data.prepare import prepare_data_loader, skip_first_batches

__all__ = [
    "BatchSamplerShard",
    "DataLoaderAdapter",
    "DataLoaderDispatcher",
    "DataLoaderShard",
    "DataLoaderStateMixin",
    "IterableDatasetShard",
    "KeyedRandomSampler",
    "SeedableRandomSampler",
    "SkipBatchSampler",
    "SkipDataLoader",
    "get_sampler",
    "prepare_data_loader",
    "skip_first_batches",
]
