"""What every route takes and answers, for the OpenAPI document: the table that openapi.py reads.

Routes take a Request and parse by hand, so what FastAPI would read off their signatures stands
here. Data only; a test fails for a route that is not in the table, and a property-based one for
an answer that is not. Statuses of errors follow from their codes (service/errors.py).
"""

from __future__ import annotations

from typing import Final

from service.api import examples
from service.api.operation import (
    ADMIN,
    GUARDED,
    HOLDS,
    READS_BODY,
    RESUMES,
    SEND_HEADERS,
    SENDING,
    SENDS,
    STREAMS,
    Answer,
    Operation,
    plain,
)
from service.api.routes.conversations import ConversationBody, ConversationPatch
from service.api.routes.keys import KeyBody, RotateBody
from service.dialects import aisdk, native, openai_request, text
from service.dialects.responses_request import ResponseBody

_SESSION = plain("Session", examples.SESSION, "The session")
_TURN = plain("Turn", examples.TURN, "The turn")
_TEXT = Answer(
    "The answer's text as it is generated; a failure breaks the connection",
    {"text/plain": (None, "Rayleigh scattering: blue light is scattered most.")},
    SEND_HEADERS,
)
_EVENTS = Answer(
    "Server-Sent Events from the cursor on (docs/events.md)",
    {"text/event-stream": ("TurnEvent", examples.EVENTS)},
    (*SEND_HEADERS, "Location"),
)
_CHUNKS = Answer(
    "The UI message stream; every chunk has an id to resume from",
    {"text/event-stream": ("UIMessageEvent", examples.UI_CHUNKS)},
    (*SEND_HEADERS, "x-vercel-ai-ui-message-stream"),
)
_COMPLETION = Operation(
    "openai",
    {
        200: Answer(
            "One object, or with `stream` a chunk per `data:` line and `[DONE]`",
            {
                "application/json": ("ChatCompletion", examples.COMPLETION),
                "text/event-stream": ("CompletionEvent", examples.COMPLETION_CHUNKS),
            },
            SEND_HEADERS,
        )
    },
    (*SENDS, *HOLDS),
    (*SENDING, "X-Session-Id"),
    openai_request.CompletionBody,
    examples.COMPLETION_BODIES,
    description="The messages are the whole context. A session (`session_id` or `X-Session-Id`) keeps the "
    "last message of the user and the answer. What a model cannot do is 400 `unsupported_parameter`. A "
    'failure in mid-stream is `data: {"error": ...}` without `[DONE]`.',
)
_MODELS = Operation(
    "openai",
    {200: plain("Models", examples.MODELS, "The models")},
    GUARDED,
)
_MODEL = Operation(
    "openai",
    {200: plain("Model", examples.MODEL, "The model")},
    (*GUARDED, "model_not_found"),
    ("model_id",),
)
_RESPONSE = plain("Response", examples.RESPONSE, "The response")
_CONVERSATION = plain("Conversation", examples.CONVERSATION, "The conversation")
_ITEMS = plain("Items", examples.ITEMS, "A page")
_DELETED = plain("Deleted", examples.DELETED, "Deleted")
_OF_RESPONSE = (*GUARDED, "response_not_found")
_OF_CONVERSATION = (*GUARDED, "invalid_request", "session_not_found")
_ITEM_PAGE = ("limit_items", "after_item", "order_items")
# OpenAI's stateful API, below /v1 and below /openai/v1.
_STATEFUL: Final[dict[str, Operation]] = {
    "POST /v1/responses": Operation(
        "openai",
        {
            200: Answer(
                "The response, or with `stream` its events and `[DONE]`",
                {
                    "application/json": ("Response", examples.RESPONSE),
                    "text/event-stream": ("ResponseEvent", examples.RESPONSE_EVENTS),
                },
                SEND_HEADERS,
            )
        },
        (*SENDS, *HOLDS, "previous_response_not_found", "not_found"),
        SENDING,
        ResponseBody,
        examples.RESPONSE_BODIES,
        description="Without `previous_response_id` and `conversation` the input is the whole context. With "
        "`background` the answer runs on without readers, and every failure is told by the response.",
    ),
    "GET /v1/responses/{response_id}": Operation(
        "openai",
        {
            200: Answer(
                "As it stands, or with `stream=true` its events behind `starting_after`",
                {
                    "application/json": ("Response", examples.RESPONSE),
                    "text/event-stream": ("ResponseEvent", examples.RESPONSE_EVENTS),
                },
                SEND_HEADERS,
            )
        },
        (*_OF_RESPONSE, *STREAMS, *RESUMES, "turn_not_found"),
        ("response_id", "stream", "starting_after"),
    ),
    "DELETE /v1/responses/{response_id}": Operation(
        "openai",
        {200: _DELETED},
        (*_OF_RESPONSE, "turn_in_progress", "turn_not_found", "session_not_found"),
        ("response_id",),
        description="A session that was made for it alone goes with it; in any other the messages stay.",
    ),
    "POST /v1/responses/{response_id}/cancel": Operation(
        "openai",
        {200: _RESPONSE},
        (*_OF_RESPONSE, "turn_not_found"),
        ("response_id",),
        description="One that has ended stays as it is.",
    ),
    "GET /v1/responses/{response_id}/input_items": Operation(
        "openai", {200: _ITEMS}, (*_OF_RESPONSE, "invalid_request"), ("response_id", *_ITEM_PAGE)
    ),
    "POST /v1/conversations": Operation(
        "openai",
        {200: _CONVERSATION},
        (*GUARDED, *READS_BODY, "unsupported_parameter", "storage_full"),
        (),
        ConversationBody,
        examples.CONVERSATION_BODIES,
        body_required=False,
    ),
    "GET /v1/conversations/{conversation_id}": Operation(
        "openai", {200: _CONVERSATION}, _OF_CONVERSATION, ("conversation_id",)
    ),
    "POST /v1/conversations/{conversation_id}": Operation(
        "openai",
        {200: _CONVERSATION},
        (*_OF_CONVERSATION, *READS_BODY, "storage_full"),
        ("conversation_id",),
        ConversationPatch,
        examples.CONVERSATION_BODIES,
    ),
    "DELETE /v1/conversations/{conversation_id}": Operation(
        "openai", {200: _DELETED}, (*_OF_CONVERSATION, "turn_in_progress"), ("conversation_id",)
    ),
    "GET /v1/conversations/{conversation_id}/items": Operation(
        "openai", {200: _ITEMS}, (*_OF_CONVERSATION, "not_found"), ("conversation_id", *_ITEM_PAGE)
    ),
    "GET /v1/conversations/{conversation_id}/items/{item_id}": Operation(
        "openai",
        {200: plain("Item", examples.ITEM, "The item")},
        (*_OF_CONVERSATION, "not_found"),
        ("conversation_id", "item_id"),
    ),
}
_PAGE = ("limit", "cursor")
_OF_SESSION = (*GUARDED, "invalid_request", "session_not_found")
_OF_TURN = (*GUARDED, "invalid_request", "turn_not_found")

OPERATIONS: Final[dict[str, Operation]] = {
    "POST /chat": Operation(
        "text",
        {200: _TEXT},
        (*SENDS, *HOLDS),
        SENDING,
        text.ChatBody,
        examples.CHAT_BODIES,
        description="Without `session_id` a new session, whose id is in `X-Session-Id`.",
    ),
    "POST /chat-with-history": Operation(
        "text",
        {200: _TEXT},
        (*SENDS, *HOLDS, "session_has_history"),
        SENDING,
        text.ChatWithHistoryBody,
        examples.CHAT_WITH_HISTORY_BODIES,
        description="`history` seeds a new or empty session; one that has messages is 409.",
    ),
    "GET /v1/sessions": Operation(
        "sessions",
        {200: plain("Sessions", examples.SESSIONS, "A page")},
        (*GUARDED, "invalid_request"),
        _PAGE,
    ),
    "POST /v1/sessions": Operation(
        "sessions",
        {
            201: plain("Session", examples.SESSION, "The new session", "Location"),
            200: plain("Session", examples.SESSION, "It exists already, unchanged", "Location"),
        },
        (*GUARDED, *READS_BODY, "model_not_found", "storage_full"),
        (),
        native.SessionBody,
        examples.SESSION_BODIES,
        body_required=False,
    ),
    "GET /v1/sessions/{session_id}": Operation("sessions", {200: _SESSION}, _OF_SESSION, ("session_id",)),
    "PATCH /v1/sessions/{session_id}": Operation(
        "sessions",
        {200: _SESSION},
        (*_OF_SESSION, *READS_BODY, "model_not_found", "storage_full"),
        ("session_id",),
        native.SessionPatch,
        examples.SESSION_PATCHES,
        description="null takes a value away.",
    ),
    "DELETE /v1/sessions/{session_id}": Operation(
        "sessions",
        {204: Answer("Deleted, with all its turns")},
        (*_OF_SESSION, "turn_in_progress"),
        ("session_id",),
    ),
    "GET /v1/sessions/{session_id}/messages": Operation(
        "sessions",
        {200: plain("Messages", examples.MESSAGES, "A page")},
        _OF_SESSION,
        ("session_id", "limit_messages", "cursor", "order"),
    ),
    "GET /v1/sessions/{session_id}/export": Operation(
        "sessions",
        {200: plain("Export", examples.EXPORT, "Everything", "Content-Disposition")},
        _OF_SESSION,
        ("session_id",),
    ),
    "POST /v1/sessions/{session_id}/turns": Operation(
        "sessions",
        {
            200: _EVENTS,
            202: plain("Turn", examples.TURN, "With `Prefer: respond-async`", *SEND_HEADERS, "Location"),
            204: Answer("A repeat whose `Last-Event-ID` was the last event", {}, SEND_HEADERS),
        },
        (*SENDS, *RESUMES, "session_not_found", "message_not_found"),
        ("session_id", *SENDING, "Last-Event-ID", "after", "Prefer"),
        native.TurnBody,
        examples.TURN_BODIES,
        description="One of `content`, `regenerate` and `edit`. The stream begins at once and tells failures "
        "by `turn.failed`. Also with `Accept: application/json` the answer is 202 and the turn.",
    ),
    "GET /v1/sessions/{session_id}/turns/{turn_id}": Operation(
        "sessions", {200: _TURN}, _OF_TURN, ("session_id", "turn_id")
    ),
    "GET /v1/sessions/{session_id}/turns/{turn_id}/events": Operation(
        "sessions",
        {200: _EVENTS, 204: Answer("The cursor was the last event: there is nothing more")},
        (*_OF_TURN, *STREAMS, *RESUMES),
        ("session_id", "turn_id", "Last-Event-ID", "after"),
        ticket=True,
    ),
    "POST /v1/sessions/{session_id}/turns/{turn_id}/ticket": Operation(
        "sessions",
        {200: plain("Ticket", examples.TICKET, "The URL")},
        _OF_TURN,
        ("session_id", "turn_id"),
        description="EventSource cannot send credentials; this URL carries its own.",
    ),
    "POST /v1/sessions/{session_id}/turns/{turn_id}/stop": Operation(
        "sessions",
        {200: _TURN},
        _OF_TURN,
        ("session_id", "turn_id"),
        description="What was said so far is kept. A turn that has ended stays as it is.",
    ),
    "POST /v1/chat/completions": _COMPLETION,
    "POST /openai/v1/chat/completions": _COMPLETION,
    **_STATEFUL,
    **{name.replace(" /", " /openai/"): one for name, one in _STATEFUL.items()},
    "GET /v1/models": _MODELS,
    "GET /openai/v1/models": _MODELS,
    "GET /v1/models/{model_id}": _MODEL,
    "GET /openai/v1/models/{model_id}": _MODEL,
    "POST /api/chat": Operation(
        "aisdk",
        {200: _CHUNKS, 204: Answer("A repeat whose `Last-Event-ID` was the last chunk", {}, SEND_HEADERS)},
        (*SENDS, *HOLDS, "message_not_found", "bad_cursor", "cursor_ahead"),
        (*SENDING, "Last-Chunk-ID", "X-Accept-Chunks"),
        aisdk.UseChatBody,
        examples.USE_CHAT_BODIES,
        description="The server's texts count: of `messages` it takes the last one of the user, and the "
        "texts before it only where it has nothing. What the list has cut off before it is cut off here. A "
        "running answer is interrupted. Without an `Idempotency-Key` the message's id is the key. Errors are "
        "one plain sentence.",
    ),
    "GET /api/chat/{session_id}/stream": Operation(
        "aisdk",
        {200: _CHUNKS, 204: Answer("Nothing is running, and the last end was sent to somebody")},
        (*_OF_TURN, *STREAMS, *HOLDS, "bad_cursor", "cursor_ahead", "draining"),
        ("session_id", "Last-Chunk-ID", "X-Accept-Chunks"),
        description="A replay from `start`, or with `Last-Event-ID` exactly what follows that chunk. While a "
        "turn runs the head comes at once, and a failure as an `error` part.",
    ),
    "POST /api/chat/{session_id}/stop": Operation(
        "aisdk",
        {200: Answer("A sentence for people", {"text/plain": (None, "The answer was stopped.")})},
        (*_OF_SESSION, "turn_not_found"),
        ("session_id",),
    ),
    "GET /api/chat/{session_id}/messages": Operation(
        "aisdk",
        {200: plain("HistoryMessages", examples.HISTORY_MESSAGES, "What `useChat` begins with")},
        _OF_SESSION,
        ("session_id",),
    ),
    "GET /client/resumable-fetch.js": Operation(
        "aisdk",
        {
            200: Answer("The module", {"text/javascript": (None, None)}, ("ETag", "Cache-Control")),
            304: Answer("The caller has it", {}, ("ETag", "Cache-Control")),
        },
        parameters=("If-None-Match",),
        public=True,
    ),
    "GET /v1/usage": Operation(
        "usage",
        {200: plain("Usage", examples.USAGE, "Days and budgets")},
        (*ADMIN, "invalid_request"),
        ("days", "principal"),
    ),
    "GET /v1/usage/principals": Operation(
        "usage", {200: plain("Principals", examples.PRINCIPALS, "All principals")}, ADMIN
    ),
    "GET /v1/keys": Operation("keys", {200: plain("Keys", examples.KEYS, "All keys")}, ADMIN),
    "POST /v1/keys": Operation(
        "keys",
        {201: plain("NewKey", examples.NEW_KEY, "The key")},
        (*ADMIN, *READS_BODY),
        (),
        KeyBody,
        examples.KEY_BODIES,
    ),
    "POST /v1/keys/{key_id}/rotate": Operation(
        "keys",
        {200: plain("RotatedKey", examples.ROTATED_KEY, "The new secret")},
        (*ADMIN, *READS_BODY, "not_found"),
        ("key_id",),
        RotateBody,
        examples.ROTATE_BODIES,
        body_required=False,
    ),
    "DELETE /v1/keys/{key_id}": Operation(
        "keys", {204: Answer("Revoked")}, (*ADMIN, "not_found"), ("key_id",)
    ),
    "GET /": Operation(
        "operating",
        {
            200: Answer(
                "A sign of life, for browsers the chat page",
                {"application/json": ("Greeting", examples.GREETING), "text/html": (None, None)},
            ),
            304: Answer("The browser has the page"),
        },
        public=True,
    ),
    "GET /livez": Operation(
        "operating", {200: plain("Alive", {"status": "alive"}, "It serves")}, public=True
    ),
    "GET /readyz": Operation(
        "operating",
        {
            200: plain("Readiness", examples.READY, "It can begin turns"),
            503: plain("Readiness", examples.UNREADY, "It cannot, and the checks say why", "Retry-After"),
        },
        parameters=("exclude",),
        public=True,
    ),
    "GET /health": Operation("operating", {200: plain("Health", examples.HEALTH, "It serves")}, public=True),
    "GET /metrics": Operation(
        "operating",
        {200: Answer("Prometheus' text format", {"text/plain": (None, examples.METRICS)})},
        ("unauthenticated", "not_found", "internal"),
        public=True,
        description="404 where the metrics have a port of their own (`CHAT_METRICS_PORT`), 401 without the "
        "bearer token where one is set (`CHAT_METRICS_TOKEN`).",
    ),
}
