#!/bin/sh
# Starts nginx, unless it would publish plain HTTP in production. With --production it only asks whether it may:
# what the profile `production` of compose begins with.
set -eu

conf=${NGINX_CONF:-/etc/nginx/nginx.conf}
folder=${NGINX_FOLDER:-/tmp}
tls="use HTTPS_BIND with deploy/compose/tls.yml, or say HTTP_BEHIND_TLS=yes where a balancer with TLS is in front."

refuse() {
    echo "nginx: $1" >&2
    exit 1
}

# Keys and answers must not cross a network in the clear.
case ${HTTP_BIND:-127.0.0.1} in
    127.* | localhost | ::1 | "[::1]") ;;
    *)
        if [ "${CHAT_ENV:-local}" = production ] && [ "${HTTP_BEHIND_TLS:-no}" != yes ]; then
            refuse "production does not publish plain HTTP on $HTTP_BIND: $tls"
        fi
        ;;
esac
if [ "${1:-}" = --production ]; then
    [ "${CHAT_ENV:-local}" = production ] || refuse "the profile production needs CHAT_ENV=production in .env."
    [ "${TLS:-no}" = yes ] || [ "${HTTP_BEHIND_TLS:-no}" = yes ] || refuse "production does not publish plain HTTP: $tls"
    exit 0
fi

# As process 1, so that compose's SIGQUIT is nginx's own graceful end: streams finish.
exec nginx -p "$folder" -c "$conf" -g "daemon off; pid $folder/nginx.pid;"
