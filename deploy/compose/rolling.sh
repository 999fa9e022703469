#!/bin/sh
# Replaces the replicas of compose by ones of the image that is built now, and cuts nothing: as many new
# ones start beside the old ones, nginx learns of them, and only when all are healthy the old ones drain.
# Redis, nginx and what watches stay as they are (their images: docs/deployment.md).
#
#   make rolling            from the project's folder; needs memory for twice the replicas meanwhile
set -eu

seconds=${ROLLING_SECONDS:-120}
old=$(docker compose ps -q service)
count=$(echo "$old" | grep -c . || true)
if [ "$count" -eq 0 ]; then
    echo "rolling: no replica runs; start with docker compose up -d." >&2
    exit 1
fi
docker compose build service
docker compose up -d --no-deps --no-recreate --scale "service=$((2 * count))" service

healthy() {
    docker compose ps -q service | xargs docker inspect --format '{{.State.Health.Status}}' | grep -cx healthy || true
}
until [ "$(healthy)" -ge "$((2 * count))" ]; do
    seconds=$((seconds - 1))
    if [ "$seconds" -le 0 ]; then
        echo "rolling: the new replicas are not healthy; the old ones serve on. See docker compose logs service." >&2
        exit 1
    fi
    sleep 1
done
sleep "${ROLLING_NOTICE_SECONDS:-5}" # nginx asks for addresses every 2 s (its resolver)

# One after the other: each drains (stop_grace_period), its answers end or are taken over.
for container in $old; do
    docker stop --time 90 "$container"
    docker rm "$container"
done
docker compose up -d --no-deps --no-recreate --scale "service=$count" service
