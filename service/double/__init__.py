"""A local double of Groq's chat API: the demo's model, the tests' upstream, a source of load.

`create_double()` is the ASGI application, `run()` and `running()` serve it (a process, a thread),
`expected_text(n, seed)` is what `[[tokens=n seed=seed]]` answers. Directives are listed in
`script`, faults in `faults`, the side door for tests in `admin`. Nothing of the service is
imported here and nothing here is imported by the service but to start it.
"""

from service.double.app import Double, create_double
from service.double.server import run, running
from service.double.text import expected_text, expected_tokens

__all__ = ["Double", "create_double", "expected_text", "expected_tokens", "run", "running"]
