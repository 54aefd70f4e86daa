"""Context parallelism: several processes compute on one batch, each on a part of its sequences."""
