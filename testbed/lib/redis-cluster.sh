# shellcheck shell=bash
# A Redis Cluster of three masters without replicas.

redis_cluster_instances() { printf 'redis-cluster-%s\n' 1 2 3; }

redis_cluster_port() { echo $((SETTING[REDIS_CLUSTER_PORT] + ${1#redis-cluster-} - 1)); }

# The nodes' own way to each other; by default it is 10000 above, beyond the ports we keep to.
redis_cluster_bus_port() { echo $(($(redis_cluster_port "$1") + 10)); }

redis_cluster_ports() { echo "$(redis_cluster_port "$1") $(redis_cluster_bus_port "$1")"; }

redis_cluster_claim_ports() {
  claim_port "$1" "$(redis_cluster_port "$1")" REDIS_CLUSTER_PORT
  claim_port "$1" "$(redis_cluster_bus_port "$1")" REDIS_CLUSTER_PORT
}

redis_cluster_launch() {
  local server
  need redis-server "testbed/testbed install redis"
  # By its whole path: DEBUG RESTART, by which tests restart a node, runs what was run.
  server=$(command -v redis-server)
  mkdir -p "$RUN/$1/data"
  # Without full coverage, so that a node that is away takes only its own slots along. The time-out is longer than a busy
  # machine stops everything for: nodes that give each other up refuse everything for a moment.
  spawn "$1" "$server" --bind "$HOST" --port "$(redis_cluster_port "$1")" --dir "$RUN/$1/data" \
    --daemonize no --save '' --appendonly yes --appendfsync everysec --enable-debug-command local \
    --cluster-enabled yes --cluster-config-file nodes.conf --cluster-node-timeout 6000 \
    --cluster-require-full-coverage no --cluster-port "$(redis_cluster_bus_port "$1")"
}

# Ready: each node that runs takes part, which takes a majority of the three. Three that know nobody and hold nothing are made a cluster first.
redis_cluster_ready() {
  local instance info
  local -a fresh=() nodes=() running=()
  for instance in $(redis_cluster_instances); do
    nodes+=("$HOST:$(redis_cluster_port "$instance")")
    is_running "$instance" || continue
    running+=("$instance")
    info=$(timeout 5 redis-cli -h "$HOST" -p "$(redis_cluster_port "$instance")" cluster info 2>/dev/null) || return 1
    if [[ $info == *cluster_slots_assigned:0* && $info == *cluster_known_nodes:1[!0-9]* ]]; then
      fresh+=("$instance")
    elif [[ $info != *cluster_state:ok* || $info != *cluster_slots_assigned:16384* ]]; then
      return 1
    fi
  done
  ((${#running[@]} > 0)) || return 1
  ((${#fresh[@]} > 0)) || return 0
  if ((${#fresh[@]} == ${#nodes[@]})); then
    timeout 30 redis-cli --cluster create "${nodes[@]}" --cluster-replicas 0 --cluster-yes >/dev/null || true
  fi
  return 1
}

redis_cluster_env() {
  local instance urls=''
  for instance in $(redis_cluster_instances); do
    urls+=${urls:+,}redis://$HOST:$(redis_cluster_port "$instance")
  done
  echo "export LIVERANK_TEST_REDIS_CLUSTER=$urls"
}
