#!/bin/sh
# Starts nginx and keeps it informed of the replicas. nginx asks for the addresses of `service`
# when it starts or is reloaded, and never again; this asks every 2 s and reloads it when they
# have changed (docker compose up --scale, a replaced container). A reload cuts nothing: the
# processes with the old addresses finish their streams.
set -eu

name=${UPSTREAM_NAME:-service}
conf=${NGINX_CONF:-/etc/nginx/nginx.conf}
folder=${NGINX_FOLDER:-/tmp}

# Keys and answers must not cross a network in the clear: deploy/compose/tls.yml, or a balancer in front.
case ${HTTP_BIND:-127.0.0.1} in
    127.* | localhost | ::1 | "[::1]") ;;
    *)
        if [ "${CHAT_ENV:-local}" = production ] && [ "${HTTP_BEHIND_TLS:-no}" != yes ]; then
            echo "nginx: production does not publish plain HTTP on $HTTP_BIND: use HTTPS_BIND with" \
                "deploy/compose/tls.yml, or say HTTP_BEHIND_TLS=yes where a balancer with TLS is in front." >&2
            exit 1
        fi
        ;;
esac

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
