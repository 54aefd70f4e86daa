"""Distributed training in a pod, and on a laptop."""
