"""What to do for a job, from what is wanted and what is observed; pure."""
