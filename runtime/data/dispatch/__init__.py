"""A data loader that only rank 0 reads."""
