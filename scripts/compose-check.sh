#!/usr/bin/env bash
# The demo in containers: up, a fixed workload, target against source, down. CHANGES=N for another size.
set -euo pipefail
cd "$(dirname "$0")/.."
changes=${CHANGES:-2000}
say() { echo "compose-check: $*" >&2; }

if ! command -v docker >/dev/null 2>&1 || ! docker info >/dev/null 2>&1; then
  say "there is no Docker engine here (docker info fails): install Docker, or use make demo-check"
  exit 1
fi
if ! docker compose version >/dev/null 2>&1; then
  say "Docker has no Compose plugin here: install docker-compose-plugin"
  exit 1
fi

# A project of its own, so that a running demo and its volumes are left alone.
export COMPOSE_PROJECT_NAME=millstream-check
export SOURCE_DB_PORT=${SOURCE_DB_PORT:-0} TARGET_DB_PORT=${TARGET_DB_PORT:-0} MILLSTREAM_PORT=${MILLSTREAM_PORT:-0} KAFKA_PORT=${KAFKA_PORT:-39092}
down() {
  local code=$?
  if [ "$code" != 0 ]; then docker compose logs --no-color --tail 50 millstream >&2 || true; fi
  docker compose down -v --remove-orphans >/dev/null 2>&1 || say "docker compose down failed"
  exit "$code"
}
trap down EXIT

docker compose up -d --build --wait
docker compose exec -T millstream millstream demo --check --attach --changes "$changes" \
  --source postgresql://postgres:source-demo@source-db:5432/classicmodels \
  --target postgresql://postgres:target-demo-admin@target-db:5432/warehouse
