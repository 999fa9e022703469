"""`python -m tests.double`: serve the double on a port or a socket."""

from __future__ import annotations

import argparse

from tests.double.server import run


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.double", description="A local double of Groq's chat API."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000, help="0 for any free one")
    parser.add_argument("--uds", help="serve on this unix socket instead")
    parser.add_argument("--rate", type=float, default=50.0, help="tokens a second, 0 as fast as possible")
    parser.add_argument("--first-delay", type=float, default=0.0, help="seconds before the first token")
    parser.add_argument("--require-key", action="store_true", help="answer 401 to calls without a key")
    parser.add_argument("--parent-pid", type=int, help="end when this process ends")
    wishes = parser.parse_args()
    run(
        wishes.host,
        wishes.port,
        uds=wishes.uds,
        rate=wishes.rate,
        first_delay=wishes.first_delay,
        require_key=wishes.require_key,
        parent_pid=wishes.parent_pid,
    )


if __name__ == "__main__":
    main()
