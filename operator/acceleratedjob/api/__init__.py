"""The job as the API has it: names, spec and status, with their readers; pure."""
