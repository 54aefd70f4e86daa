"""Accelerate's `utils.versions`: what it has, from the room where it lives."""

from runtime.config.availability import STR_OPERATION_TO_FUNC, compare_versions, is_torch_version

__all__ = ["STR_OPERATION_TO_FUNC", "compare_versions", "is_torch_version"]
