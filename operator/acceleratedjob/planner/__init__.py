"""Decides what to do for a job, from its spec and its observed state; pure."""
