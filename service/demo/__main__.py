"""`python -m service.demo`: serve the demo model on a port."""

from __future__ import annotations

import argparse

from service.demo.app import create_demo
from service.demo.server import configured, serve


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m service demo", description="A model with made-up answers behind an API like Groq's."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000, help="0 for any free one")
    parser.add_argument("--rate", type=float, default=50.0, help="tokens a second, 0 as fast as possible")
    parser.add_argument("--first-delay", type=float, default=0.0, help="seconds before the first token")
    parser.add_argument("--parent-pid", type=int, help="end when this process ends")
    wishes = parser.parse_args()
    app = create_demo(rate=wishes.rate, first_delay=wishes.first_delay)
    serve(configured(app, wishes.host, wishes.port), name="demo", parent_pid=wishes.parent_pid)


if __name__ == "__main__":
    main()
