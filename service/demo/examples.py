"""Canned answers of the demo model to the chat page's example prompts.

Who starts the service without a key and clicks an example sees prose, code and a table as a
real model would write them. The prompts stand in web/js/frame.js too; a test compares the two.
"""

from __future__ import annotations

from typing import Final

_FOOTER: Final = (
    "\n\n*This is a canned answer of the local demo model. Set `GROQ_API_KEY` and start again to talk"
    " to a real one.*"
)

_RAINBOW: Final = """\
A rainbow needs two things at once: **sun behind you** and **raindrops in front of you**. Each drop \
bends the light as it enters, mirrors it at its back, and bends it again on the way out. Every colour \
is bent by a slightly different amount, so one drop sends red to your eye while the drops just below \
it send orange, then yellow, green, blue and violet. All drops at the same angle from the point \
opposite the sun show you the same colour, which is why the bow is part of a circle. And because that \
point lies along your own line of sight, nobody else sees exactly *your* rainbow."""

_INTERVALS: Final = '''\
One pass is enough once the intervals are **sorted by their start**:

```python
def merge(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Overlapping and touching intervals as one, in order."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def test_overlapping_intervals_become_one() -> None:
    assert merge([(1, 3), (2, 6), (8, 10)]) == [(1, 6), (8, 10)]


def test_an_interval_inside_another_disappears() -> None:
    assert merge([(1, 9), (2, 3)]) == [(1, 9)]
```

1. Sorting costs `O(n log n)`, the pass after it `O(n)`.
2. Intervals that only *touch* are merged as well; write `<` instead of `<=` if they should not be.'''

_STREAMS: Final = """\
All three keep messages for readers that come later; they differ in what happens after that.

| | Redis Streams | Kafka | RabbitMQ |
|---|---|---|---|
| **Ordering** | per stream | per partition | per queue, with one consumer |
| **Replay** | by entry id, while it is kept | by offset, for days or for ever | streams only; queues forget |
| **Operations** | one process you may have already | a cluster that wants care | one broker, easy to start |
| **Good at** | short logs, low latency | long logs, many readers | routing and work queues |

For a log per chat answer, which is short, read at once and dropped after a day, *Redis Streams* is \
the smallest thing that works. For an event history that other teams build on, take Kafka."""

_LISBON: Final = """\
Rain suits Lisbon: the pavements shine, and the best rooms are empty.

### Saturday

- **Morning:** the *Museu Nacional do Azulejo*. Go straight up to the blue panorama of the city from \
before the earthquake; it is 23 metres long.
- **Noon:** grilled sea bass in one of the small rooms around Rua dos Correeiros.
- **Afternoon:** *Livraria Bertrand* in Chiado, open since 1732. Ask for the stamp in your book.
- **Evening:** tinned fish, taken seriously, at a counter in Cais do Sodré.

### Sunday

1. Tram 28 from Martim Moniz before nine, while there are seats.
2. The tiles of *São Vicente de Fora*: 38 fables, one per panel.
3. Ler Devagar at LX Factory, a bookshop with a printing press in it.

> If it stops: walk up to Senhora do Monte. The light after rain is why people move here."""

ANSWERS: Final[dict[str, str]] = {
    prompt: answer + _FOOTER
    for prompt, answer in (
        ("Explain how a rainbow forms, without formulas.", _RAINBOW),
        ("Write a Python function that merges overlapping intervals, with two tests.", _INTERVALS),
        ("Compare Redis Streams, Kafka and RabbitMQ in a table: ordering, replay, operations.", _STREAMS),
        ("Plan a rainy weekend in Lisbon for two people who like tiles, books and fish.", _LISBON),
    )
}
