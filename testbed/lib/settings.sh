# shellcheck shell=bash
# shellcheck disable=SC2034  # used by the other files
# Ports and sizes. LIVERANK_TESTBED_<NAME> wins, then what this testbed was last started with, then the default:
# so `stop` and `env` need no repetition of the variables that `up` was given.

declare -A DEFAULTS=(
  [KAFKA_PORT]=19092
  [KAFKA_CONTROLLER_PORT]=19093
  [KAFKA_ADVERTISED_PORT]=19092
  [MONGODB_PORT]=27117
  [MONGODB_ADVERTISED_PORT]=27117
  [MONGODS]=1
  [REDIS_PORT]=16379
  [REDIS_CLUSTER_PORT]=16479
)
declare -A PART_SETTINGS=(
  [kafka]="KAFKA_PORT KAFKA_CONTROLLER_PORT KAFKA_ADVERTISED_PORT"
  [mongodb]="MONGODB_PORT MONGODB_ADVERTISED_PORT MONGODS"
  [redis]="REDIS_PORT"
  [redis-cluster]="REDIS_CLUSTER_PORT"
)
PARTS=(kafka mongodb redis redis-cluster)
# What `up` starts when nothing is named. Order matters only in that the slowest starts first.
UP_DEFAULT=(kafka mongodb redis)

declare -A RECORDED=() SETTING=()

settings_load() {
  local name value variable file
  for file in "$RUN"/*.settings; do
    [[ -e $file ]] || continue
    while IFS='=' read -r name value; do
      RECORDED[$name]=$value
    done <"$file"
  done
  for name in "${!DEFAULTS[@]}"; do
    variable=LIVERANK_TESTBED_$name
    value=${!variable:-${RECORDED[$name]:-${DEFAULTS[$name]}}}
    if [[ ! $value =~ ^[1-9][0-9]{0,4}$ ]] || ((value > 65535)); then
      die "$variable is not a number from 1 to 65535: $value"
    fi
    SETTING[$name]=$value
  done
  # What follows a part's port unless it was given one: the controller's, and the ports clients are told of.
  if [[ -z ${LIVERANK_TESTBED_KAFKA_CONTROLLER_PORT:-} && -n ${LIVERANK_TESTBED_KAFKA_PORT:-} ]]; then
    SETTING[KAFKA_CONTROLLER_PORT]=$((SETTING[KAFKA_PORT] + 1))
  fi
  for name in KAFKA MONGODB; do
    variable=LIVERANK_TESTBED_${name}_ADVERTISED_PORT
    : "${RECORDED[${name}_ADVERTISED_PORT]:=${RECORDED[${name}_PORT]:-}}"
    if [[ -z ${!variable:-} && ${RECORDED[${name}_ADVERTISED_PORT]:-} == "${RECORDED[${name}_PORT]:-}" ]]; then
      SETTING[${name}_ADVERTISED_PORT]=${SETTING[${name}_PORT]}
    fi
  done
  ((SETTING[MONGODS] <= 7)) || die "LIVERANK_TESTBED_MONGODS: a replica set has at most 7 voting members"
}

# settings_changed PART: prints "NAME is OLD, not NEW" for the first setting that is no longer what it was.
settings_changed() {
  local name
  for name in ${PART_SETTINGS[$1]}; do
    if [[ -n ${RECORDED[$name]:-} && ${RECORDED[$name]} != "${SETTING[$name]}" ]]; then
      printf '%s is %s, not %s\n' "$name" "${RECORDED[$name]}" "${SETTING[$name]}"
      return
    fi
  done
}

settings_record() {
  local name
  for name in ${PART_SETTINGS[$1]}; do
    printf '%s=%s\n' "$name" "${SETTING[$name]}"
    RECORDED[$name]=${SETTING[$name]}
  done >"$RUN/$1.settings"
}

settings_load
