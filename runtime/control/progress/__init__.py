"""What `/progress`, `/metrics` and `/` show of a training; pure: each time is an argument."""
