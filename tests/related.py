"""Which integration tests tell most of a file of the service: `make quick` runs those of what has changed.

`make quick` is to fail within a minute where a change is wrong, and all integration tests take many. What is
named here takes seconds for each file. A change is what the work tree has and the branch that it is to be
pushed to has not; without git nothing has changed.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from typing import Final

from tests.support.running import ROOT

# What is true of every route is looked at beside what is of the one that has changed.
_ROUTES: Final = "service/api/routes/"
# Else the longest beginning of a file's path counts: integration tests by their names.
BY_PATH: Final = {
    "service/api/": "limits_matrix ownership auth_matrix",
    "service/api/accept.py": "accept page images",
    "service/api/answers.py": "sessions personal_data",
    "service/api/auth/": "auth_tickets auth_scopes",
    "service/api/auth/client_address.py": "limits origins hosts",
    "service/api/auth/principal_cache.py": "principals noted_principals",
    "service/api/auth/authenticator.py": "auth_keys auth_scopes auth_tickets auth_jwt",
    "service/api/auth/jwt.py": "auth_jwt auth_scopes",
    "service/api/auth/key_cache.py": "auth_keys",
    "service/api/bodies.py": "body_bounds turns openai_bodies refused_sends",
    "service/api/edge.py": "auth_scopes auth_matrix limits_matrix",
    "service/api/handlers.py": "limits responses hardening over_limit",
    "service/api/hardening.py": "hardening",
    "service/api/hosts.py": "hosts",
    "service/api/item_references.py": "responses_rules responses_chains conversation_items",
    "service/api/limits.py": "limits over_limit refused_sends",
    "service/api/middleware.py": "hardening cut_requests",
    "service/api/open": "docs_page",
    "service/api/origins.py": "origins",
    "service/api/over_limit.py": "over_limit",
    "service/api/body_bounds.py": "body_bounds",
    "service/api/prefixes.py": "sub_path",
    "service/api/request_state.py": "cut_requests health tracing sessions",
    "service/api/turn_response.py": "turns left slow_readers",
    "service/api/responses_resource.py": "responses responses_chains responses_endings",
    "service/api/sending.py": "refused_sends limits left",
    "service/api/open_streams.py": "places",
    _ROUTES: "limits_matrix ownership auth_matrix auth_scopes",
    "service/api/routes/aisdk.py": "aisdk aisdk_reload aisdk_lists",
    "service/api/routes/branches.py": "branches",
    "service/api/routes/chat.py": "chat",
    "service/api/routes/conversations.py": "conversation_items conversation_repeats responses_chains",
    "service/api/routes/docs.py": "docs_page",
    "service/api/routes/health.py": "health drained refused_models",
    "service/api/routes/images.py": "images responses_images",
    "service/api/routes/keys.py": "keys_routes webhooks_of_keys",
    "service/api/routes/live_turns.py": "live_turns",
    "service/api/routes/openai.py": "openai openai_bodies refused_models",
    "service/api/routes/page.py": "page",
    "service/api/routes/personal_data.py": "personal_data",
    "service/api/routes/principals.py": "principals",
    "service/api/routes/responses.py": "responses responses_chains responses_rules",
    "service/api/routes/scrape.py": "hardening",
    "service/api/routes/sessions.py": "sessions turns session_list session_events",
    "service/api/routes/turns.py": "turns auth_tickets queue accept limits",
    "service/api/routes/usage.py": "budgets",
    "service/api/ui_messages.py": "aisdk_reload images",
    "service/api/uploads.py": "images responses_images",
    "service/cli/": "start_checks start_resources",
    "service/cli/erase.py": "personal_data",
    "service/cli/keys.py": "keys_cli",
    "service/cli/own_limits.py": "keys_cli principals",
    "service/cli/principals.py": "principals",
    "service/config/": "start_checks",
    "service/config/hosts.py": "hosts origins",
    "service/config/identity.py": "auth_jwt page",
    "service/config/jwt_key.py": "auth_jwt",
    "service/config/provider_keys.py": "provider_keys",
    "service/config/redis_url.py": "ways_to_redis",
    "service/config/webhook.py": "webhooks webhooks_of_keys",
    "service/dialects/aisdk": "aisdk aisdk_lists aisdk_pages",
    "service/dialects/base.py": "turns chat openai_bodies",
    "service/dialects/errors.py": "limits refused_sends",
    "service/dialects/native.py": "turns",
    "service/dialects/openai": "openai openai_bodies",
    "service/dialects/pictures.py": "images responses_images",
    "service/dialects/responses": "responses responses_chains responses_endings",
    "service/dialects/text.py": "chat",
    "service/dialects/tools.py": "structured openai",
    "service/engine/": "turns endings",
    "service/engine/beginning.py": "send_admission session_snapshot lost_turns repeated_questions drained "
    "aisdk_lists",
    "service/engine/repeats.py": "repeated_questions lost_turns left",
    "service/engine/billing.py": "billing",
    "service/engine/budgets.py": "budgets places",
    "service/engine/chains.py": "responses_chains",
    "service/engine/context.py": "session_snapshot chat",
    "service/engine/drain.py": "drained",
    "service/engine/engine.py": "turns sessions endings drained",
    "service/engine/live.py": "billing endings",
    "service/engine/pacing/": "pacing governor refused_models",
    "service/engine/reader.py": "store_loss turns",
    "service/engine/pictures.py": "images images_dropped",
    "service/engine/recovery.py": "endings lost_turns left queue",
    "service/engine/runner.py": "billing endings unreachable structured",
    "service/engine/running.py": "turns endings queue drained images_dropped",
    "service/engine/sealing.py": "endings billing store_loss stops",
    "service/engine/stopping.py": "stops turns lost_turns",
    "service/engine/storage.py": "storage images_dropped",
    "service/engine/amending.py": "conversation_items conversation_repeats",
    "service/engine/erasing.py": "personal_data",
    "service/engine/forking.py": "branches images_dropped",
    "service/engine/session_watch.py": "session_events",
    "service/engine/tail_cache.py": "turns slow_readers",
    "service/engine/webhooks.py": "webhooks",
    "service/serving/": "processes",
    "service/serving/http_protocol.py": "connections pipelined http10 upgrades unread_answers",
    "service/serving/http_server.py": "drained processes recycling",
    "service/serving/unsent.py": "unread_answers",
    "service/store/": "send_admission",
    "service/store/account.py": "storage",
    "service/store/connection/": "multiplexed ways_to_redis",
    "service/store/connection/commands.py": "multiplexed ways_to_redis memory",
    "service/store/credentials.py": "auth_keys keys_routes",
    "service/store/health.py": "refused_writes health",
    "service/store/leases.py": "endings left",
    "service/store/ledger.py": "budgets held places",
    "service/store/log.py": "turns",
    "service/store/messages.py": "sessions",
    "service/store/pacing.py": "pacing governor",
    "service/store/send_admission.py": "send_admission session_snapshot",
    "service/store/sessions.py": "sessions session_list storage",
    "service/store/turn": "turns endings",
    "service/store/windows.py": "limits over_limit",
    "service/store/lua/": "turns",
    "service/store/lua/account.lua": "exact_bounds storage",
    "service/store/lua/amend.lua": "conversation_items",
    "service/store/lua/attend.lua": "left",
    "service/store/lua/begin.lua": "turns sessions session_snapshot aisdk_lists going_on repeated_questions",
    "service/store/lua/change_key.lua": "auth_keys keys_routes",
    "service/store/lua/charge.lua": "storage",
    "service/store/lua/choose_version.lua": "versions",
    "service/store/lua/circuit.lua": "governor",
    "service/store/lua/create_key.lua": "auth_keys keys_routes",
    "service/store/lua/create_session.lua": "sessions",
    "service/store/lua/delete_session.lua": "sessions",
    "service/store/lua/end_webhook.lua": "webhooks",
    "service/store/lua/fork.lua": "branches",
    "service/store/lua/queue_webhook.lua": "webhooks",
    "service/store/lua/take_webhooks.lua": "webhooks",
    "service/store/lua/version.lua": "versions",
    "service/store/lua/enter.lua": "send_admission limits budgets",
    "service/store/lua/finish.lua": "endings budgets promises",
    "service/store/lua/free.lua": "storage sessions",
    "service/store/lua/free_session.lua": "lost_turns",
    "service/store/lua/hold.lua": "held places",
    "service/store/lua/limit_": "exact_bounds limits over_limit",
    "service/store/lua/leave.lua": "endings budgets promises",
    "service/store/lua/look.lua": "limits session_snapshot",
    "service/store/lua/pace.lua": "pacing governor",
    "service/store/lua/refund.lua": "limits refused_sends",
    "service/store/lua/reserve.lua": "budgets cost held places storage",
    "service/store/lua/rotate_key.lua": "auth_keys keys_routes",
    "service/store/lua/seal.lua": "stored_figures turns endings storage repeated_questions",
    "service/store/lua/settle.lua": "budgets cost held storage",
    "service/store/lua/release_image.lua": "images",
    "service/store/lua/title_session.lua": "titles",
    "service/store/lua/unavailable.lua": "refused_models",
    "service/store/lua/update_session.lua": "sessions",
    "service/store/lua/weigh.lua": "storage",
    "service/store/lua/window.lua": "exact_bounds session_snapshot",
    "service/telemetry/": "health tracing",
    "service/telemetry/metrics_server.py": "processes",
    "service/telemetry/multiprocess.py": "processes",
    "service/upstream/": "governor base_url",
    "service/upstream/address.py": "base_url start_checks",
    "service/upstream/calls.py": "unreachable tracing provider_keys",
    "service/upstream/chunks.py": "structured usage_details",
    "service/upstream/formats.py": "structured",
    "service/upstream/groq.py": "billing base_url unreachable structured refusals",
    "service/upstream/models.py": "openai refused_models start_checks",
    "service/upstream/refusals.py": "refused_models governor refusals",
    "service/upstream/tool_calls.py": "openai",
    "service/upstream/transport.py": "transport read_into",
    "service/upstream/webhook.py": "webhooks",
    "service/upstream/whole.py": "structured",
}


def related(changed: Iterable[str]) -> list[str]:
    """The integration tests of changed files, those of the service and the tests themselves."""
    found: dict[str, None] = {}
    for file in changed:
        if file.startswith("tests/integration/test_"):
            found[file] = None
        beginnings = [path for path in BY_PATH if file.startswith(path)]
        nearest = sorted(beginnings, key=len, reverse=True)[:1]
        named = [BY_PATH[path] for path in beginnings if path in (*nearest, _ROUTES)]
        for name in " ".join(named).split():
            found[f"tests/integration/test_{name}.py"] = None
    return [test for test in found if (ROOT / test).is_file()]  # one that was removed has changed too


def changed() -> list[str]:
    """Files that the work tree has otherwise than the branch that it follows, or than its last commit."""
    for base in ("@{upstream}", "HEAD"):
        told = subprocess.run(
            ["git", "diff", "--name-only", base], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if told.returncode == 0:
            new = subprocess.run(
                ["git", "ls-files", "-o", "--exclude-standard"],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            return [*told.stdout.splitlines(), *new.stdout.splitlines()]
    return []
