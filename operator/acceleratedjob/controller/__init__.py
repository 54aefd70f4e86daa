"""Which job to reconcile and when, and one reconcile of it."""
