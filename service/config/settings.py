"""Settings: typed, from the environment and `.env`, checked at boot.

The only module that reads settings from the environment. Every field is `CHAT_<NAME>` unless it has an
alias; docs/configuration.md lists them all and a test compares the two. A wrong value
raises `SettingsError` with one sentence that says what to change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.config.hosts import host_pattern, is_loopback, origin_pattern
from service.config.identity import check_jwt, check_oidc
from service.config.redis_url import check_redis_url, with_password
from service.config.validators import (
    JWT_ASYMMETRIC,
    JWT_SYMMETRIC,
    check_http_url,
    check_lifetimes,
    check_limit,
    check_network,
    check_secret,
    check_waits,
    each,
    one_of,
    split_commas,
)
from service.config.webhook import check_webhook
from service.money import nanos

DEV_ORIGINS: Final = (
    "http://localhost:5173",  # Vite
    "http://localhost:3000",  # Create React App, Next.js
    "http://localhost:8080",  # Vue CLI
)
#: ten years in seconds: far below what Redis and timers can count to
_LONGEST: Final = 315_360_000
# Settings for which "" is a value, and not the same as unset.
_MAY_BE_EMPTY: Final = ("limit_sends", "limit_reads", "cors_origins")
#: defaults that differ: in local and in production
_BY_ENV: Final[dict[str, tuple[Any, Any]]] = {
    "log_format": ("console", "json"),
    "cors_origins": (DEV_ORIGINS, ()),
    "drain_delay_seconds": (0.0, 5.0),
    "auth": (("none",), ("keys",)),
}
#: defaults where callers are identified; with CHAT_AUTH=none these have no bound
_OF_CALLERS: Final[dict[str, Any]] = {
    "limit_sends": "100/minute",
    "limit_reads": "1200/minute",
    "max_running_turns_per_principal": 20,
    "max_open_streams_per_principal": 100,
    "max_sessions_per_principal": 20_000,  # those of an hour's sends at the default limit are 6,000
    "max_stored_bytes_per_principal": 67_108_864,  # a twelfth of the Redis that compose starts (768 MB)
}

Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_commas)]
HttpUrl = Annotated[str, AfterValidator(check_http_url)]
Limit = Annotated[str, AfterValidator(check_limit)]
Money = Annotated[int, BeforeValidator(nanos)]


class SettingsError(Exception):
    """A setting has a value that the service cannot start with."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="CHAT_",
        env_file=".env",
        extra="ignore",
        populate_by_name=True,
        frozen=True,
        allow_inf_nan=False,
    )

    # Process
    env: Literal["local", "production"] = "local"
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1, le=256)
    max_requests: int = Field(0, ge=0)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = Field(None, validate_default=True)
    hosts: Annotated[Words, each(host_pattern)] = ()
    cors_origins: Annotated[Words, each(origin_pattern)] = Field(None, validate_default=True)
    trusted_proxies: Annotated[Words, each(check_network)] = ()
    docs: bool = True
    metrics_port: int | None = Field(None, ge=1, le=65535)
    metrics_token: SecretStr | None = None
    drain_seconds: float = Field(60, ge=1, le=3600)
    drain_delay_seconds: float = Field(None, validate_default=True, ge=0, le=300)  # until the listener closes

    secrets_dir: Path = Path("/run/secrets")  # one file per secret, named like its variable

    # Store
    redis_password: SecretStr | None = None
    redis_url: SecretStr | None = None
    redis_key_prefix: str = Field("chat", pattern=r"^[A-Za-z0-9_.-]{1,32}$")
    redis_timeout_seconds: float = Field(2, gt=0, le=2.5)
    redis_wait_replicas: int = Field(0, ge=0, le=10)
    redis_wait_seconds: float = Field(0.5, ge=0.01, le=1)
    store_hold_seconds: float = Field(15, gt=0, le=600)
    data_dir: Path = Path(".chat")
    store_kind: Literal["redis", "embedded", "memory"] = "redis"  # set by `run`, for /health
    session_ttl_seconds: int = Field(30 * 86_400, ge=1, le=_LONGEST)
    ephemeral_ttl_seconds: int = Field(3_600, ge=1, le=_LONGEST)
    log_ttl_seconds: int = Field(86_400, ge=1, le=_LONGEST)
    idempotency_ttl_seconds: int = Field(86_400, ge=1, le=_LONGEST)

    # Models and upstream
    model: str | None = None
    title_model: str | None = None
    models_file: Path | None = None
    on_takeover: Literal["restart", "continue"] = "restart"
    groq_api_key: SecretStr | None = Field(None, validation_alias="GROQ_API_KEY")
    groq_api_keys: SecretStr | None = Field(None, validation_alias="GROQ_API_KEYS")
    groq_api_keys_file: Path | None = Field(None, validation_alias="GROQ_API_KEYS_FILE")
    provider_key_weights: str | None = None
    groq_base_url: HttpUrl | None = Field(None, validation_alias="GROQ_BASE_URL")
    upstream_kind: Literal["groq", "demo"] = "groq"  # set by `run`, for /health
    demo_url: HttpUrl | None = None
    first_token_timeout_seconds: float = Field(30, gt=0, le=_LONGEST)
    idle_timeout_seconds: float = Field(15, gt=0, le=_LONGEST)
    turn_timeout_seconds: float = Field(600, gt=0, le=_LONGEST)
    retry_budget_seconds: float = Field(10, ge=0, le=_LONGEST)
    max_attempts: int = Field(3, ge=1, le=20)

    # Turns
    lease_seconds: float = Field(5, ge=0.5, le=300)
    orphan_seconds: float = Field(10, gt=0, le=_LONGEST)
    hold_seconds: float = Field(15, gt=0, le=_LONGEST)
    heartbeat_seconds: float = Field(15, gt=0, le=120)
    flush_window_seconds: float = Field(0.04, ge=0, le=1)  # 25 times a second reads as a flow
    local_cache: bool = True
    max_body_bytes: int = Field(1_048_576, ge=1024)
    max_image_bytes: int = Field(5_242_880, ge=1024, le=20_971_520)
    max_image_body_bytes: int = Field(8_388_608, ge=1024, le=33_554_432)
    image_fallback: bool = False
    max_queued_turns: int = Field(4, ge=0, le=1000)
    max_versions: int = Field(10, ge=0, le=50)
    max_running_turns: int = Field(2_000, ge=1)

    # Identity, limits, budgets
    auth: Annotated[Words, each(one_of("none", "keys", "jwt"))] = Field(None, validate_default=True)
    secret: Annotated[SecretStr, AfterValidator(check_secret)] | None = None
    jwt_key: SecretStr | None = None
    jwt_jwks_url: HttpUrl | None = None
    jwt_algorithms: Annotated[Words, each(one_of(*JWT_SYMMETRIC, *JWT_ASYMMETRIC))] | None = None
    jwt_issuer: Words = ()
    jwt_audience: Words = ()
    jwt_scope_claim: Words = ("scope", "scp", "permissions")
    jwt_groups_claim: str = "groups"
    jwt_required_scope: str | None = None
    jwt_admin_scope: str | None = None
    jwt_leeway_seconds: float = Field(30, ge=0, le=600)
    oidc_client_id: str | None = None
    oidc_scopes: str = "openid profile offline_access"
    oidc_audience: str | None = None
    oidc_token: Literal["access", "id"] = "access"
    oidc_origins: Words = ()
    limit_sends: Limit = Field(None, validate_default=True)
    limit_reads: Limit = Field(None, validate_default=True)
    limit_window: Literal["fixed", "moving"] = "moving"
    max_running_turns_per_principal: int = Field(None, validate_default=True, ge=0)
    max_open_streams_per_principal: int = Field(None, validate_default=True, ge=0)  # per worker
    max_sessions_per_principal: int = Field(None, validate_default=True, ge=0)
    max_stored_bytes_per_principal: int = Field(None, validate_default=True, ge=0)
    budget_tokens_per_minute: int | None = Field(None, ge=0)
    budget_tokens_per_day: int | None = Field(None, ge=0)
    budget_tokens_per_month: int | None = Field(None, ge=0)
    budget_money_per_day: Money | None = None
    budget_money_per_month: Money | None = None

    # Telling a receiver of the end of each turn
    webhook_url: HttpUrl | None = None
    webhook_secret: SecretStr | None = None
    webhook_text: bool = False
    webhook_allow_private: bool = False

    # Tracing (the extra `tracing`)
    otlp_endpoint: HttpUrl | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _unless_set(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        if cls.model_fields[name].default is None and name not in _MAY_BE_EMPTY:
            # Commas alone are an empty list of ways to authenticate, but they may be a password.
            blank = isinstance(value, str) and not value.strip(", " if name == "auth" else None)
            value = None if blank else value
        if value is None and name in _BY_ENV:
            return _BY_ENV[name][info.data.get("env") == "production"]
        if value is None and name in _OF_CALLERS:
            bound = _OF_CALLERS[name]
            return type(bound)() if "none" in info.data.get("auth", ()) else bound  # "" and 0: no bound
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value:
            check_redis_url(value.get_secret_value())
        password = info.data.get("redis_password")
        return with_password(value, password) if value and password else value

    @model_validator(mode="after")
    def _together(self) -> Settings:
        modes = self.auth
        if "none" in modes and len(modes) > 1:
            raise ValueError("CHAT_AUTH: none cannot be combined with keys or jwt; leave it out")
        if "none" in modes and self.production:
            raise ValueError("CHAT_AUTH: none is for local use; set keys or jwt, or set CHAT_ENV=local")
        if self.metrics_port and self.metrics_port == self.port:
            raise ValueError("CHAT_METRICS_PORT: is CHAT_PORT; take another, or leave it out")
        if "jwt" in modes:
            check_jwt(self)
        if self.oidc_client_id:
            check_oidc(self)
        if self.production and not self.has_provider_key:
            raise ValueError(
                "GROQ_API_KEY: is missing; production needs a key, CHAT_ENV=local has a demo model"
            )
        if self.production and not self.redis_url:
            raise ValueError("CHAT_REDIS_URL: is missing; production keeps its state in a Redis of its own")
        if "hold_seconds" in self.model_fields_set and self.hold_seconds > self.turn_timeout_seconds:
            raise ValueError(
                "CHAT_HOLD_SECONDS: a status line cannot be held longer than an answer may take"
                f" (CHAT_TURN_TIMEOUT_SECONDS, {self.turn_timeout_seconds:g} s)"
            )
        if self.webhook_url:
            check_webhook(self.webhook_url, self.webhook_secret, private=self.webhook_allow_private)
        if self.redis_wait_replicas:
            check_waits(self)
        check_lifetimes(self)
        return self

    @property
    def jwt_allowed(self) -> tuple[str, ...]:
        """The algorithms that a token may be signed with. HMAC is never a default."""
        return self.jwt_algorithms or ("RS256", "ES256")

    @property
    def jwks_in_plain(self) -> bool:
        """True when the issuer's keys are fetched over a network without TLS."""
        parts = urlsplit(self.jwt_jwks_url or "")
        return parts.scheme == "http" and not is_loopback(parts.hostname or "")

    @property
    def has_provider_key(self) -> bool:
        return bool(self.groq_api_key or self.groq_api_keys or self.groq_api_keys_file)

    @property
    def production(self) -> bool:
        return self.env == "production"

    @property
    def anonymous(self) -> bool:
        return "none" in self.auth
