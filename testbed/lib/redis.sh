# shellcheck shell=bash
# Redis with an append-only file.

redis_instances() { echo redis; }

redis_ports() { echo "${SETTING[REDIS_PORT]}"; }

redis_claim_ports() { claim_port redis "${SETTING[REDIS_PORT]}" REDIS_PORT; }

redis_launch() {
  need redis-server "testbed/testbed install redis"
  mkdir -p "$RUN/redis/data"
  # No snapshots beside the append-only file: their forks would disturb what is measured.
  # Protected mode would refuse whoever comes from another address than loopback, whatever it listens on.
  spawn redis redis-server --bind "$HOST" --protected-mode no --port "${SETTING[REDIS_PORT]}" --dir "$RUN/redis/data" \
    --daemonize no --save '' --appendonly yes --appendfsync everysec
}

redis_ready() {
  is_running redis || return 1
  # LOADING is an answer too; only PONG means that it serves.
  [[ $(timeout 5 redis-cli -h "$HOST" -p "${SETTING[REDIS_PORT]}" ping 2>/dev/null) == PONG ]]
}

redis_env() {
  echo "export LIVERANK_TEST_REDIS=redis://$HOST:${SETTING[REDIS_PORT]}"
}
