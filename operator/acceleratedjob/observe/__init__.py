"""What has been seen of a job's pods, as facts; pure."""
