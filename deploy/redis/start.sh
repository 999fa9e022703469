#!/bin/sh
# Starts Redis with its password from a file, which appears neither in the process list nor in
# the environment. REDIS_MAXMEMORY has to stay below the container's limit: an append-only file
# being rewritten needs up to half as much again.
set -eu

conf=${REDIS_CONF:-/usr/local/etc/redis/redis.conf}
secret=/run/secrets/chat_redis_password

password=$(cat "$secret")
if [ -z "$password" ]; then
    echo "redis: $secret is empty; the store needs a password." >&2
    exit 1
fi
if [ "${CHAT_ENV:-local}" = production ] && [ "$password" = local-only ]; then
    echo "redis: production needs a password of its own; set REDIS_PASSWORD_FILE in .env." >&2
    exit 1
fi
# What Redis would take for the end of the text or for an escape, and the spaces around it that the
# service drops: both would have another password than the one of the file.
case $password in
    *[[:cntrl:]\"\\]* | " "* | *" ")
        echo "redis: $secret holds a quote, a backslash, a line break or a space at an end; take letters and digits." >&2
        exit 1
        ;;
esac

# A here-document, not a pipe: Redis becomes this process, and gets its signals.
exec redis-server - "$@" <<CONF
$(cat "$conf")
requirepass "$password"
maxmemory ${REDIS_MAXMEMORY:-768mb}
CONF
