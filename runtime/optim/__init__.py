"""Optimizers, schedulers, gradient accumulation."""
