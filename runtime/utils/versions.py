"""The names of Accelerate's `utils.versions`: comparisons of versions."""

from runtime.config.availability import STR_OPERATION_TO_FUNC, compare_versions, is_torch_version

__all__ = ["STR_OPERATION_TO_FUNC", "compare_versions", "is_torch_version"]
