# shellcheck shell=bash
# MongoDB as a replica set (transactions need one) of LIVERANK_TESTBED_MONGODS members.

MONGODB_SET=rs0
MONGODB_FOLDER=$CACHE/mongodb-$(content_id "$TESTBED_HOME"/mongodb/*.txt)

mongodb_instances() {
  local member
  for ((member = 1; member <= SETTING[MONGODS]; member++)); do
    echo "mongodb-$member"
  done
}

mongodb_ports() { echo $((SETTING[MONGODB_PORT] + ${1#mongodb-} - 1)); }

mongodb_claim_ports() { claim_port "$1" "$(mongodb_ports "$1")" MONGODB_PORT; }

mongodb_launch() {
  [[ -x $MONGODB_FOLDER/mongod ]] || die "mongodb is not installed; run: testbed/testbed install mongodb"
  mkdir -p "$RUN/$1/data"
  # On SIGTERM a primary waits up to 15 s for clients to notice; one second keeps restarts short.
  # The oplog would otherwise take a twentieth of the disk.
  spawn "$1" "$MONGODB_FOLDER/mongod" --bind_ip "$HOST" --port "$(mongodb_ports "$1")" --dbpath "$RUN/$1/data" \
    --replSet "$MONGODB_SET" --oplogSize 512 --wiredTigerCacheSizeGB 0.5 --nounixsocket --quiet \
    --setParameter shutdownTimeoutMillisForSignaledShutdown=1000 --setParameter diagnosticDataCollectionEnabled=false
}

# Ready: every member that runs is primary or secondary. Without a majority there cannot be a primary; then an answer
# from each that runs is all there is to wait for (`start mongodb-2` after all were killed).
mongodb_ready() {
  local instance all='' running='' advertised=''
  for instance in $(mongodb_instances); do
    all+=" $(mongodb_ports "$instance")"
    advertised+=" $((SETTING[MONGODB_ADVERTISED_PORT] + ${instance#mongodb-} - 1))"
    ! is_running "$instance" || running+=" $(mongodb_ports "$instance")"
  done
  [[ -n $running ]] || return 1
  PYTHONPATH=$MONGODB_FOLDER/client timeout 20 python3 "$TESTBED_HOME/lib/replica_set.py" \
    "$MONGODB_SET" "$HOST" "$all" "$running" "$advertised"
}

mongodb_env() {
  local instance hosts=''
  for instance in $(mongodb_instances); do
    hosts+=${hosts:+,}$HOST:$(mongodb_ports "$instance")
  done
  # The program, for tests that need one with other settings.
  [[ ! -x $MONGODB_FOLDER/mongod ]] || echo "export LIVERANK_TEST_MONGOD=$MONGODB_FOLDER/mongod"
  # Quoted: the address has a question mark in it.
  echo "export LIVERANK_TEST_MONGODB='mongodb://$hosts/?replicaSet=$MONGODB_SET'"
}
