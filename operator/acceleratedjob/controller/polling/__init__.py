"""Asks the processes of running jobs for their progress."""
