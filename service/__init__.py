"""A stateless chat microservice: every token is in Redis before anyone sees it."""

__version__ = "0.1.0"
