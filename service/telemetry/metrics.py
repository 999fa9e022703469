"""Every metric of the service. docs/metrics.md lists them; a test compares the two.

Labels are bounded: routes, models of the catalogue, outcomes, kinds; never an id and never
anything a client sent. Series with known labels exist from the start, so that rates begin at 0.
Nothing here is touched per token, only per request, per turn and per flush.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final

import prometheus_client
from prometheus_client import Gauge, Histogram

from service.telemetry.multiprocess import count_together

count_together()


class Counter(prometheus_client.Counter):
    """Without prometheus_client's checks at each call: are there labels, is the amount negative?"""

    def inc(self, amount: float = 1) -> None:  # type: ignore[override]  # there are no exemplars
        self._value.inc(amount)


_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_ANSWER: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)
_TURN: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

# HTTP
http_requests = Counter(
    "chat_http_requests_total", "Requests, counted when their response ends.", ["route", "method", "status"]
)
http_first_byte = Histogram(
    "chat_http_time_to_first_byte_seconds", "From the request to its first byte.", ["route"], buckets=_ANSWER
)

# Turns
turns_started = Counter("chat_turns_started_total", "Turns begun; attached repeats begin none.")
turns_ended = Counter("chat_turns_ended_total", "Turns sealed.", ["outcome"])
turns_running = Gauge("chat_turns_running", "Turns that a worker runs now.", multiprocess_mode="livesum")
turn_duration = Histogram("chat_turn_duration_seconds", "From begin to seal.", ["outcome"], buckets=_TURN)
first_token = Histogram(
    "chat_time_to_first_token_seconds", "From begin to the first logged delta.", buckets=_ANSWER
)
tokens = Counter("chat_tokens_total", "Tokens billed to turns.", ["direction"])
model_tokens = Counter(
    "chat_model_tokens_total", "Tokens billed to turns, per model.", ["model", "direction"]
)
cached_tokens = Counter(
    "chat_cached_tokens_total", "Of the input tokens, those from the provider's prompt cache.", ["model"]
)
reasoning_tokens = Counter(
    "chat_reasoning_tokens_total", "Of the output tokens, those that were thinking.", ["model"]
)
cost = Counter(
    "chat_cost_total", "What turns have cost, where their models have prices.", ["model", "currency"]
)
unpriced_turns = Counter("chat_unpriced_turns_total", "Turns whose cost nobody knows.", ["model"])
takeovers = Counter("chat_takeovers_total", "Turns taken over from a lapsed lease.")
takeover_delay = Histogram(
    "chat_takeover_delay_seconds", "From the lapse of a lease to its takeover.", buckets=_ANSWER
)
restarts = Counter("chat_turn_restarts_total", "Answers begun again after something had been shown.")
fenced = Counter("chat_writes_fenced_total", "Writes refused because another worker owns the turn.")
logs_lost = Counter(
    "chat_logs_lost_total", "Turns ended because the store had lost acknowledged events of their logs."
)
stops = Counter("chat_stops_total", "Stops that users asked for.")
stop_duration = Histogram("chat_stop_duration_seconds", "From the call to the sealed turn.", buckets=_FAST)
orphans = Counter("chat_turns_orphaned_total", "Stateless answers stopped because nobody read them.")
idempotent_repeats = Counter("chat_idempotent_repeats_total", "Sends that attached to a known turn.")

# Log and readers
events_appended = Counter("chat_events_appended_total", "Events written to logs.")
append_duration = Histogram(
    "chat_event_append_seconds", "One flush: a round trip for all turns of a worker.", buckets=_FAST
)
readers_open = Gauge(
    "chat_readers_open", "Readers following a turn.", ["dialect"], multiprocess_mode="livesum"
)
reader_resumes = Counter("chat_reader_resumes_total", "Readers that came back with a cursor.")
events_replayed = Counter("chat_events_replayed_total", "Events read back from logs for readers.")

# Upstream
upstream_attempts = Counter("chat_upstream_attempts_total", "Calls to the provider.", ["model"])
upstream_errors = Counter("chat_upstream_errors_total", "Attempts that failed.", ["kind"])
upstream_first_chunk = Histogram(
    "chat_upstream_time_to_first_chunk_seconds",
    "From the call to the first token.",
    ["model"],
    buckets=_ANSWER,
)
upstream_time_per_token = Histogram(
    "chat_upstream_time_per_token_seconds",
    "Mean time between tokens of an attempt.",
    ["model"],
    buckets=_FAST,
)
governor_waits = Counter(
    "chat_governor_waits_total", "Attempts held back by what is known of limits.", ["model"]
)
governor_failovers = Counter(
    "chat_governor_failovers_total", "Attempts moved to a fallback model.", ["model"]
)
circuit_open = Gauge(
    "chat_upstream_circuit_open",
    "1 while no call to the provider can succeed.",
    ["reason"],
    multiprocess_mode="livemostrecent",
)

provider_key_up = Gauge(
    "chat_provider_key_up",
    "1 while calls with this API key of the provider may succeed, by its name; -1 once it is none of ours.",
    ["key"],
    multiprocess_mode="livemostrecent",
)
provider_key_calls = Counter(
    "chat_provider_key_calls_total",
    "Calls by API key: answered, limited (429), refused (the key or its account).",
    ["key", "outcome"],
)

# Limits
auth_refusals = Counter("chat_auth_refusals_total", "Credentials refused.", ["reason"])
limit_rejections = Counter("chat_limit_rejections_total", "Requests refused.", ["limit"])
budget_reserved = Counter("chat_budget_reserved_tokens_total", "Tokens reserved against budgets.")
budget_settled = Counter("chat_budget_settled_tokens_total", "Tokens settled against budgets.")
admission_waits = Counter("chat_admission_waits_total", "Sends that waited for a free place.")
bypassed = Counter("chat_control_bypassed_total", "Controls that let a request pass unchecked.", ["control"])

# Store
redis_operations = Counter("chat_redis_operations_total", "Scripts and commands sent.", ["operation"])
redis_errors = Counter("chat_redis_errors_total", "Scripts and commands that failed.", ["operation"])
redis_memory = Gauge(
    "chat_redis_memory_bytes",
    "Memory that Redis uses; of a Cluster, its fullest node.",
    multiprocess_mode="livemostrecent",
)
redis_memory_limit = Gauge(
    "chat_redis_memory_limit_bytes",
    "The maxmemory of that Redis, 0 for none.",
    multiprocess_mode="livemostrecent",
)
store_refuses_writes = Gauge(
    "chat_store_refuses_writes",
    "1 while Redis answers and refuses to write.",
    ["reason"],
    multiprocess_mode="livemostrecent",
)
store_holds = Counter("chat_store_holds_total", "Times that running turns had to hold their deltas.")

# Process
loop_lag = Histogram("chat_event_loop_lag_seconds", "How late the event loop runs timers.", buckets=_FAST)
internal_errors = Counter("chat_internal_errors_total", "Exceptions that nobody expected.", ["where"])
drains = Counter("chat_drains_total", "Workers that began to drain.")
released = Counter("chat_turns_released_total", "Turns left for takeover when a drain ended.")
webhooks = Counter("chat_webhooks_total", "Tries to tell the webhook's receiver of a turn.", ["outcome"])
workers = Gauge("chat_workers", "Worker processes that serve.", multiprocess_mode="livesum")
# Counted by the master (worker_deaths.py); with several processes multiprocess.py shows it.
worker_deaths = Counter("chat_worker_deaths_total", "Workers that ended before they were told to.")
cpu = Counter("chat_process_cpu_seconds_total", "Processor time of the workers.")
resident = Gauge("chat_process_resident_bytes", "Memory that the workers hold.", multiprocess_mode="livesum")
build_info = Gauge(
    "chat_build_info", "1, labelled with the version.", ["version"], multiprocess_mode="livemax"
)


def _remember_series(metrics: Iterable[object]) -> None:
    """Cache `labels`: a turn asks for a dozen series, and prometheus_client takes 5 us for each.

    The values of labels are bounded, and so are the caches.
    """
    for metric in metrics:
        if isinstance(metric, Counter | Gauge | Histogram):
            metric.labels = cache(metric.labels)  # type: ignore[assignment,method-assign]  # the same call


_remember_series(tuple(globals().values()))

DIRECTIONS: Final = ("input", "output")
CIRCUITS: Final = ("auth", "blocked")
#: Redis is at maxmemory, is a replica, cannot write its disk, has too few replicas, forbids it by ACL
REFUSALS: Final = ("full", "read_only", "disk", "no_replicas", "forbidden")
OUTCOMES: Final = ("completed", "stopped", "failed")
DIALECTS: Final = ("text", "native", "openai", "aisdk", "responses")
AUTH_REFUSALS: Final = ("missing", "unknown", "expired", "revoked", "token", "ticket", "scope")
LIMITS: Final = (
    "sends",
    "reads",
    "turns",
    "streams",
    "budget",
    "storage",
    "admission",
    "refused_bodies",
)
#: budgets and places are never bypassed: without the store no turn begins
CONTROLS: Final = ("limits", "governor")
#: why an attempt failed; `held` and `circuit` are attempts that the governor did not let go
KINDS: Final = (
    "auth",
    "blocked",
    "bad_output",
    "capacity",
    "circuit",
    "connect",
    "cut",
    "empty",
    "forbidden",
    "garbled",
    "held",
    "model_gone",
    "redirect",
    "rejected",
    "server_error",
    "streaming",
    "timeout",
    "too_large",
    "too_long",
    "unknown_url",
    "first_token_timeout",
    "idle_timeout",
    "turn_timeout",
    "limit_rpm",
    "limit_rpd",
    "limit_tpm",
    "limit_tpd",
    "limit_itpm",
    "limit_otpm",
)
#: where unexpected exceptions are caught: a request, a turn, a background loop
PLACES: Final = (
    "request",
    "runner",
    "renew",
    "tick",
    "sweep",
    "tail",
    "pulse",
    "process_stats",
    "circuit",
    "clock",
    "health",
    "webhooks",
    "webhooks_of_keys",
)
#: commands of the store; `silence` and `subscribe` are only ever errors
COMMANDS: Final = (
    "account",
    "attended",
    "disown",
    "forget",
    "get_key",
    "get_session",
    "get_turn",
    "image",
    "info",
    "known",
    "list",
    "list_keys",
    "message",
    "messages",
    "note",
    "own_limits",
    "ping",
    "read",
    "ring",
    "scan",
    "secret",
    "silence",
    "subscribe",
    "tail",
    "time",
    "turns",
    "usage",
    "webhook_keys",
)
#: statuses that a route's series begin with; others appear when they happen
STATUSES: Final = ("200", "500", "503")


def prepare(
    version: str,
    models: Iterable[str],
    routes: Iterable[tuple[str, str]] = (),
    prices: Iterable[tuple[str, str]] = (),
    scripts: Iterable[str] = (),
) -> None:
    """Create the series whose labels are known.

    `prices` are models that have one, and its currency; `scripts` are those of store/lua.
    """
    build_info.labels(version=version).set(1)
    known, operations = list(models), [*COMMANDS, *scripts]
    of_models = (
        *(cached_tokens, reasoning_tokens, unpriced_turns, governor_waits, governor_failovers),
        *(upstream_attempts, upstream_first_chunk, upstream_time_per_token),
    )
    series: list[tuple[Counter | Gauge | Histogram, str, Iterable[str]]] = [
        *((metric, "model", known) for metric in of_models),
        (turns_ended, "outcome", OUTCOMES),
        (turn_duration, "outcome", OUTCOMES),
        (tokens, "direction", DIRECTIONS),
        (upstream_errors, "kind", KINDS),
        (readers_open, "dialect", DIALECTS),
        (auth_refusals, "reason", AUTH_REFUSALS),
        (limit_rejections, "limit", LIMITS),
        (bypassed, "control", CONTROLS),
        (redis_operations, "operation", operations),
        (redis_errors, "operation", operations),
        (internal_errors, "where", PLACES),
        (webhooks, "outcome", ("delivered", "failed", "given_up", "full")),
    ]
    for metric, label, names in series:
        for name in names:
            metric.labels(**{label: name})
    for reason in CIRCUITS:
        circuit_open.labels(reason=reason).set(0)  # the newest value counts: there has to be one
    for reason in REFUSALS:
        store_refuses_writes.labels(reason=reason).set(0)
    for model in known:
        for direction in DIRECTIONS:
            model_tokens.labels(model=model, direction=direction)
    for model, currency in prices:
        cost.labels(model=model, currency=currency)
    for route, method in routes:
        http_first_byte.labels(route=route)
        for status in STATUSES:
            http_requests.labels(route=route, method=method, status=status)
