# shellcheck shell=bash
# The commands. A part is a file lib/PART.sh, an entry in settings.sh and these functions (a dash in PART becomes _):
#   PART_instances        its processes, one name a line
#   PART_claim_ports I    dies when a port of instance I is taken
#   PART_launch I         spawns instance I; dies when the part is not installed
#   PART_ready            one look at the running instances: true when clients can work
#   PART_ports I, PART_env

# call PART FUNCTION ARGS…
call() {
  "${1//-/_}_$2" "${@:3}"
}

part_of() {
  local part
  for part in "${PARTS[@]}"; do
    # shellcheck disable=SC2046  # names of instances have no spaces
    if contains "$1" "$part" $(call "$part" instances); then
      printf '%s\n' "$part"
      return
    fi
  done
  die "no such part: $1 (there are: ${PARTS[*]}, and single instances as \`status\` names them)"
}

# instances_of NAME: all of a part, or the one instance that was named. Members that only have a folder belong to their
# part too: whatever the variables say now, `stop` and `wipe` leave none of them behind.
instances_of() {
  local folder
  if ! contains "$1" "${PARTS[@]}"; then
    printf '%s\n' "$1"
    return
  fi
  {
    call "$1" instances
    for folder in "$RUN/$1"-[0-9]*/; do
      [[ ! -d $folder ]] || basename "$folder"
    done
  } | sort -u
}

refuse_changed_settings() {
  local part=$1 instance change
  local -a data
  change=$(settings_changed "$part")
  [[ -n $change ]] || return 0
  for instance in $(instances_of "$part"); do
    ! is_running "$instance" || die "$part runs already and its $change: stop it first, or use another LIVERANK_TESTBED_DIR"
  done
  # The members of a replica set, and the nodes of a cluster, have each other's ports in their data.
  data=("$RUN/$part"-[0-9]*/data)
  if [[ -d ${data[0]} ]]; then
    die "the data of $part was made when $change: \`wipe $part\` first, or use another LIVERANK_TESTBED_DIR"
  fi
}

# launch PART INSTANCE…: those that do not run yet.
launch() {
  local part=$1 instance
  refuse_changed_settings "$part"
  for instance in "${@:2}"; do
    is_running "$instance" && continue
    call "$part" claim_ports "$instance"
    mkdir -p "$RUN"
    echo "$HOST" >"$RUN/host"
    settings_record "$part"
    call "$part" launch "$instance"
  done
}

# await_ready PART INSTANCE…
await_ready() {
  local part=$1 instance deadline=$((SECONDS + READY_SECONDS))
  until call "$part" ready; do
    for instance in "${@:2}"; do
      if ! is_running "$instance"; then
        tail -n 20 "$RUN/$instance/log" >&2 || true
        die "$instance ended while starting; its log is $RUN/$instance/log"
      fi
    done
    ((SECONDS < deadline)) || die "$part is not ready after $READY_SECONDS s; see \`testbed logs $part\`"
    sleep 0.1
  done
}

up() {
  local part began=$SECONDS
  local -a instances
  (($# > 0)) || set -- "${UP_DEFAULT[@]}"
  for part in "$@"; do
    contains "$part" "${PARTS[@]}" || die "no such part: $part (there are: ${PARTS[*]})"
    mapfile -t instances < <(call "$part" instances)
    launch "$part" "${instances[@]}"
  done
  for part in "$@"; do
    mapfile -t instances < <(call "$part" instances)
    await_ready "$part" "${instances[@]}"
    say "$part: ready ($((SECONDS - began)) s)"
  done
}

down() {
  local file instance
  local -a running=()
  for file in "$RUN"/*/pid; do
    [[ -e $file ]] || continue
    instance=$(basename "$(dirname "$file")")
    running+=("$instance")
    signal "$instance" TERM
  done
  for instance in "${running[@]}"; do
    await_gone "$instance"
  done
  say "down: ${#running[@]} stopped"
}

# on_part start|stop|kill|restart|wipe PART
on_part() {
  (($# == 2)) || die "usage: testbed $1 PART"
  local part
  local -a instances
  part=$(part_of "$2")
  mapfile -t instances < <(instances_of "$2")
  "on_$1" "$part" "${instances[@]}"
}

on_start() {
  launch "$@"
  await_ready "$@"
}

on_stop() {
  local instance
  for instance in "${@:2}"; do signal "$instance" TERM; done
  for instance in "${@:2}"; do await_gone "$instance"; done
}

on_kill() {
  local instance
  # Whoever kills wants to see something die: a fault that was never injected must not pass for one.
  for instance in "${@:2}"; do
    is_running "$instance" || die "$instance does not run"
  done
  for instance in "${@:2}"; do signal "$instance" KILL; done
  for instance in "${@:2}"; do await_gone "$instance"; done
}

on_restart() {
  on_stop "$@"
  on_start "$@"
}

on_wipe() {
  local instance
  on_stop "$@"
  for instance in "${@:2}"; do
    rm -rf "${RUN:?}/$instance"
  done
}

status() {
  local part instance pid state memory
  printf '%-15s %-9s %8s %8s  %s\n' PART STATE PID RSS PORTS
  for part in "${PARTS[@]}"; do
    for instance in $(call "$part" instances); do
      memory=- state=stopped
      if pid=$(running_pid "$instance"); then
        memory="$(awk '/^VmRSS:/ { print int($2 / 1024) }' "/proc/$pid/status")M"
        state=starting
        ! call "$part" ready 2>/dev/null || state=ready
      fi
      printf '%-15s %-9s %8s %8s  %s\n' "$instance" "$state" "${pid:--}" "$memory" "$(call "$part" ports "$instance")"
    done
  done
  say "data and logs: $RUN"
}

print_env() {
  local part
  for part in "${PARTS[@]}"; do
    call "$part" env
  done
  installed_env
}

show_log() {
  (($# > 0)) || die "usage: testbed logs PART [ARGS of tail]"
  local instance
  local -a files=()
  part_of "$1" >/dev/null
  for instance in $(instances_of "$1"); do
    [[ ! -e $RUN/$instance/log ]] || files+=("$RUN/$instance/log")
  done
  ((${#files[@]} > 0)) || die "$1 has no log yet"
  shift
  (($# > 0)) || set -- -n 100
  tail "$@" "${files[@]}"
}
