"""The clients: how each is run, and what it is expected to do where that differs from all others.

What stands here is what docs/clients.md says; tests/clients/test_matrix.py asks the clients themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tests.clients.matrix.scenarios import ANSWER, CUT_WORDS, OBJECT, QUESTIONS, RESULT

Runtime = Literal["python", "node", "program"]
# By a tool that a library makes up for the object that is wanted.
BY_TOOL: Final = '[[tool={} args={{"city":"Berlin","degrees":7}}]]'


@dataclass(frozen=True)
class Client:
    """`place` is an environment: of Python a folder with a lock ("" is the tests' own), of node a folder.

    `cut` and `refused` are the classes of its errors in mid-stream and before the stream. `lacks` says why
    a scenario is not one of this client's. `told` is what it shows where that is not what all others show.
    """

    name: str
    package: str
    script: str
    place: str = ""
    runtime: Runtime = "python"
    address: str = "/v1"
    options: Mapping[str, Any] = field(default_factory=dict)
    cut: str = "APIError"
    refused: str = "RateLimitError"
    # What its errors say: our sentence, unless it has none of an answer that breaks off (text/plain).
    cut_words: str = CUT_WORDS
    questions: Mapping[str, str] = field(default_factory=dict)
    told: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)
    core: bool = False
    # For the page: what its row does not tell.
    note: str = ""
    # Whether what its tool returned is sent to the provider: instructor takes the arguments and is done.
    returns_results: bool = True

    @property
    def id(self) -> str:
        """Its name, and where it calls: one library may be here twice."""
        return f"{self.name} {self.address}"

    def asked(self) -> dict[str, str]:
        """The questions by scenario, without those that this client has no way to ask."""
        return {
            name: self.questions.get(name, usual)
            for name, usual in QUESTIONS.items()
            if name not in self.lacks
        }


# What DSPy's adapter reads; its brackets are escaped, since those of the double's directives are the same.
FIELD: Final = "[[ ## answer ## ]]\nIt rains in Berlin.\n\n[[ ## completed ## ]]\n"
BEGIN, END = r"\u005b\u005b", r"\u005d\u005d"
OPENAI: Final = {"library": "openai"}
GROQ: Final = {"library": "groq"}
AT_GROQ: Final = "/openai/v1"

PYTHON: Final = (
    Client("openai (Python)", "openai", "openai_sdk", options=OPENAI, core=True),
    Client("groq (Python)", "groq", "openai_sdk", address=AT_GROQ, options=GROQ, core=True),
    Client(
        "LangChain, ChatOpenAI",
        "langchain-openai",
        "langchain_chat",
        options=OPENAI,
        refused="OpenAIRateLimitError",
        core=True,
    ),
    Client(
        "LangChain, ChatGroq",
        "langchain-groq",
        "langchain_chat",
        "langchain",
        address=AT_GROQ,
        options=GROQ,
    ),
    Client(
        "pydantic-ai, OpenAIChatModel",
        "pydantic-ai-slim",
        "pydantic_ai_agent",
        "pydantic_ai",
        options=OPENAI,
        cut="ModelServerError",
        refused="ModelRateLimitError",
        questions={"structured": BY_TOOL.format("final_result")},
        core=True,
    ),
    Client(
        "pydantic-ai, GroqModel",
        "pydantic-ai-slim",
        "pydantic_ai_agent",
        "pydantic_ai",
        address=AT_GROQ,
        options=GROQ,
        cut="ModelServerError",
        refused="ModelRateLimitError",
        questions={"structured": BY_TOOL.format("final_result")},
    ),
    Client(
        "LiteLLM, openai/",
        "litellm",
        "litellm_completion",
        "litellm",
        options=OPENAI,
        cut="MidStreamFallbackError",
    ),
    Client(
        "LiteLLM, groq/",
        "litellm",
        "litellm_completion",
        "litellm",
        address=AT_GROQ,
        options=GROQ,
        cut="ValueError",
        cut_words="upstream_unavailable",
        note="it takes the `code` of an error in mid-stream for a number, which Groq's are not either.",
    ),
    Client(
        "DSPy",
        "dspy",
        "dspy_program",
        "litellm",
        cut="LMServerError",
        refused="LMRateLimitError",
        questions={"stream": f"[[rate=20 say={json.dumps(FIELD).replace('[[', BEGIN).replace(']]', END)}]]"},
        # Slowly: what comes in one chunk its listener takes for a cached answer.
        note="its listener shows a field of the answer; of one that is cut off before that, nothing.",
        told={
            "stream": {"text": "It rains in Berlin."},
            "tools": {"called": ["Berlin"], "answer": RESULT},
            "cut": {},
        },
        returns_results=False,
    ),
    Client(
        "LlamaIndex, OpenAILike",
        "llama-index-llms-openai-like",
        "llama_index_llm",
        "llama_index",
        options=OPENAI,
    ),
    Client(
        "LlamaIndex, Groq",
        "llama-index-llms-groq",
        "llama_index_llm",
        "llama_index",
        address=AT_GROQ,
        options=GROQ,
        questions={"structured": BY_TOOL.format("Weather")},
    ),
    Client("OpenAI Agents SDK", "openai-agents", "openai_agents_run", "agents"),
    Client(
        "instructor",
        "instructor",
        "instructor_create",
        "agents",
        cut="InstructorRetryException",
        refused="InstructorRetryException",
        questions={
            "stream": '[[say={"words":"It rains."}]]',
            "tools": BY_TOOL.format("Weather"),
            "cut": '[[fault=cut after=5 say={"words":"one two three four five six seven eight"}]]',
        },
        note="an answer by a schema comes in one piece, so that of one that is cut off nothing was shown.",
        told={
            "stream": {"text": ANSWER},
            "tools": {"called": ["Berlin"], "answer": OBJECT},
            "cut": {},
        },
        returns_results=False,
    ),
    Client("llm", "llm", "llm_model", "agents"),
)


def _ai_sdk(version: int, provider: str) -> Client:
    package = "groq" if provider == "groq" else "openai-compatible" if "-" in provider else "openai"
    return Client(
        f"AI SDK {version}, {provider}",
        f"@ai-sdk/{package}" if version == 7 else f"@ai-sdk/{package}-{version}",
        "aisdk",
        "frameworks",
        "node",
        AT_GROQ if provider == "groq" else "/v1",
        {"version": version, "provider": provider},
        cut="AI_StreamProviderError" if version == 7 else "Object",
        refused="AI_APICallError",
    )


def _use_chat(version: str, name: str, *, core: bool = False) -> Client:
    return Client(
        name,
        "ai" if version == "react" else version,
        "usechat",
        runtime="node",
        address="/api/chat",
        options={"version": version},
        cut="Error",
        refused="AI_APICallError" if version == "react" else "Error",
        core=core,
    )


NO_OBJECTS: Final = "no objects: it shows messages."
NODE: Final = (
    Client("openai (node)", "openai", "completions", runtime="node", options=OPENAI, core=True),
    Client("groq (node)", "groq-sdk", "completions", "", "node", AT_GROQ, GROQ, core=True),
    Client(
        "LangChain.js, ChatOpenAI", "@langchain/openai", "langchain", "frameworks", "node", options=OPENAI
    ),
    Client("LangChain.js, ChatGroq", "@langchain/groq", "langchain", "frameworks", "node", AT_GROQ, GROQ),
    *(
        _ai_sdk(version, provider)
        for version in (5, 6, 7)
        for provider in ("openai-compatible", "groq", "openai.chat")
    ),
    _use_chat("react", "AI SDK 7, useChat", core=True),
    _use_chat("ai-6", "AI SDK 6, useChat"),
    _use_chat("ai-5", "AI SDK 5, useChat"),
    Client(
        "assistant-ui, useChatRuntime",
        "@assistant-ui/react-ai-sdk",
        "assistant-ui",
        "frameworks",
        "node",
        "/api/chat",
        cut="Error",
        refused="Error",
        lacks={"structured": NO_OBJECTS},
    ),
)

PROGRAMS: Final = tuple(
    Client(
        name,
        program,
        "over_the_wire",
        program,
        "program",
        "/chat, /v1",
        {"program": program},
        cut=cut,
        refused="429",
        cut_words="",
        note="streams `/chat`, whose only sign of a failure is a broken connection.",
        core=program == "curl",
    )
    for name, program, cut in (
        ("curl --http2", "curl", "curl: (18)"),
        ("JDK HttpClient", "java", "IOException"),
    )
)


def _responses(name: str, package: str, script: str, place: str = "", **more: Any) -> Client:
    options = {"library": "openai", "responses": True, **more.pop("options", {})}
    return Client(name, package, script, place, address=AT_RESPONSES, options=options, **more)


AT_RESPONSES: Final = "/v1/responses"
RESPONSES: Final = (
    _responses("openai (Python)", "openai", "responses_sdk", options={"helper": False}),
    _responses("openai (Python), .stream()", "openai", "responses_sdk", options={"helper": True}),
    _responses(
        "LangChain, use_responses_api", "langchain-openai", "langchain_chat", refused="OpenAIRateLimitError"
    ),
    _responses(
        "pydantic-ai, OpenAIResponsesModel",
        "pydantic-ai-slim",
        "pydantic_ai_agent",
        "pydantic_ai",
        cut="ModelServerError",
        refused="ModelRateLimitError",
        questions={"structured": BY_TOOL.format("final_result")},
    ),
    _responses("OpenAI Agents SDK", "openai-agents", "openai_agents_run", "agents"),
    _responses("openai (node)", "openai", "responses_sdk", runtime="node", options={"helper": False}),
    _responses(
        "openai (node), .stream()", "openai", "responses_sdk", runtime="node", options={"helper": True}
    ),
    _responses(
        "LangChain.js, useResponsesApi", "@langchain/openai", "langchain", "frameworks", runtime="node"
    ),
    *(
        _responses(
            f"AI SDK {version}, openai()",
            "@ai-sdk/openai" if version == 7 else f"@ai-sdk/openai-{version}",
            "aisdk",
            "frameworks",
            runtime="node",
            options={"version": version, "provider": "openai"},
            cut="AI_StreamProviderError" if version == 7 else "Object",
            refused="AI_APICallError",
        )
        for version in (6, 7)
    ),
)

CLIENTS: Final = (*PYTHON, *NODE, *PROGRAMS, *RESPONSES)
