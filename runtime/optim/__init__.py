"""Optimizers, schedulers, gradient accumulation and the gradient scaler."""
