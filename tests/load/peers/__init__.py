"""Others that stand between clients and a model, measured like the service: `python -m tests.load.peers`."""
