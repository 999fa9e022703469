"""Every client that is said to work, each asked the same questions: `python -m tests.clients`."""
