"""A double of Groq's chat API: the demo model and its text, and all that can go wrong at a provider.

`create_double()` is the ASGI application, `run()` and `running()` serve it (a process, a thread),
`expected_text(n, seed)` is what `[[tokens=n seed=seed]]` answers. Directives are listed in
`script`, faults in `faults`, the side door for tests in `admin`. Its own tests are beside it.
"""

from service.demo.text import expected_tokens
from tests.double.app import Double, create_double
from tests.double.server import run, running

__all__ = ["Double", "create_double", "expected_text", "expected_tokens", "run", "running"]


def expected_text(n: int, seed: int = 0) -> str:
    """The text of `[[tokens=n seed=seed]]`, for tests to compare with."""
    return "".join(expected_tokens(n, seed))
