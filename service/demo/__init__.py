"""The demo model: an API like Groq's with made-up answers, for who starts the service without a key.

It runs as a process of its own (`python -m service demo`, a container in compose) and is asked over
HTTP like any provider. Nothing of the service is imported here, and the service imports nothing from
here. It does not fail on purpose: the tests have a double of Groq, with faults, in tests/double.
"""
