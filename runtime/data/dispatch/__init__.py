"""A data loader that only rank 0 reads; it sends each rank its part of each step."""
