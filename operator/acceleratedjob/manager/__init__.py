"""The operator's process: flags, leader election, HTTP server, log format, shutdown."""
