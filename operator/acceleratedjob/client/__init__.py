"""The Python client: `from acceleratedjob import Client`."""
