# The image of the service: docs/deployment.md. What it needs comes from PyPI (by hash) and from
# Debian; the final image has no compiler, no pip and no shell history of the build.
# For a base that cannot change under its tag: --build-arg BASE=python@sha256:...
ARG BASE=python:3.13.16-slim-trixie


FROM ${BASE} AS build

# deploy/requirements-tracing.txt adds OpenTelemetry.
ARG REQUIREMENTS=deploy/requirements.txt

COPY deploy/requirements.txt deploy/requirements-tracing.txt /build/deploy/
# Wheels only: nothing is compiled, and no code of a package runs. The environment has no pip.
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python --no-cache-dir --disable-pip-version-check \
       install --require-hashes --only-binary :all: -r /build/${REQUIREMENTS}

COPY service /opt/chat/service
COPY deploy/gunicorn.conf.py /opt/chat/deploy/gunicorn.conf.py
# Bytecode now, because the root file system is read-only later.
RUN /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib /opt/chat


FROM ${BASE}

# tini is process 1: it passes signals on and reaps what the master's children leave behind.
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && rm -rf /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip \
              /usr/local/bin/pip* \
    && useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin chat

COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/chat /opt/chat

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="chat-service" \
      org.opencontainers.image.description="Durable, resumable chat answers kept in Redis" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CHAT_HOST=0.0.0.0 \
    CHAT_PORT=8000 \
    CHAT_LOG_FORMAT=json

WORKDIR /opt/chat
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM

# The process serves; whether it is ready is for /readyz and the load balancer.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-I", "-S", "-c", "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ['CHAT_PORT']), timeout=4); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]

ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "service", "serve"]
