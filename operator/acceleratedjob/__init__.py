"""The operator: watches AcceleratedJobs and makes their Service and pods."""
