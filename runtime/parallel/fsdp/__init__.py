"""Sharded models (FSDP2)."""
