"""Decides which job to reconcile and when, and reconciles it."""
