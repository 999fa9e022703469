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

# A restored dump.rdb in an empty volume: with appendonly on Redis reads the append-only file and nothing
# else, so it would begin with no keys at all. It is read once without, and made an append-only file.
data=$(sed -n 's/^dir //p' "$conf")
if [ -s "$data/dump.rdb" ] && [ ! -e "$data/appendonlydir" ]; then
    echo "redis: there is a dump.rdb and no append-only file; making one of it." >&2
    socket=$data/restore.sock
    ask() { redis-cli -s "$socket" "$@" 2>/dev/null; }
    redis-server --dir "$data" --port 0 --unixsocket "$socket" --appendonly no --save "" >/dev/null &
    until [ "$(ask ping)" = PONG ]; do
        kill -0 $! 2>/dev/null || { echo "redis: dump.rdb cannot be read." >&2; exit 1; }
        sleep 0.2
    done
    ask config set appendonly yes >/dev/null
    until ask info persistence | tr -d '\r' | grep -qx aof_rewrite_in_progress:0 \
        && ask info persistence | tr -d '\r' | grep -qx aof_rewrite_scheduled:0; do
        sleep 0.2
    done
    [ "$(ask info persistence | tr -d '\r' | grep -cx aof_last_bgrewrite_status:ok)" = 1 ] ||
        { echo "redis: the append-only file cannot be written." >&2; exit 1; }
    ask shutdown nosave || true
    wait $! || true
fi

# A here-document, not a pipe: Redis becomes this process, and gets its signals.
exec redis-server - "$@" <<CONF
$(cat "$conf")
requirepass "$password"
maxmemory ${REDIS_MAXMEMORY:-768mb}
CONF
