#!/bin/sh
# Starts nginx and keeps it informed of the replicas. nginx asks for the addresses of `service`
# when it starts or is reloaded, and never again; this asks every 2 s and reloads it when they
# have changed (docker compose up --scale, a replaced container). A reload cuts nothing: the
# processes with the old addresses finish their streams.
set -eu

name=${UPSTREAM_NAME:-service}
conf=${NGINX_CONF:-/etc/nginx/nginx.conf}
folder=${NGINX_FOLDER:-/tmp}

addresses() {
    getent ahostsv4 "$name" | awk '{ print $1 }' | sort -u
}

until known=$(addresses) && [ -n "$known" ]; do
    echo "nginx: waiting for $name to have an address" >&2
    sleep 1
done

nginx -p "$folder" -c "$conf" -g "daemon off; pid $folder/nginx.pid;" &
nginx=$!
# SIGQUIT is nginx's graceful end: streams finish. Whoever asks a second time means it.
trap 'kill -QUIT "$nginx"; trap "kill -TERM $nginx" TERM INT' TERM INT QUIT

while kill -0 "$nginx" 2>/dev/null; do
    sleep 2 &
    wait $! || true
    now=$(addresses) || continue
    if [ -n "$now" ] && [ "$now" != "$known" ]; then
        echo "nginx: $name is now at" $now >&2
        known=$now
        kill -HUP "$nginx" || true
    fi
done
wait "$nginx"
