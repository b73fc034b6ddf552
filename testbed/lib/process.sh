# shellcheck shell=bash
# Processes that outlive this script. $RUN/INSTANCE/pid holds "PID START BOOT": the start time and the boot's id make
# sure that a process which got a recycled pid is never taken for ours, and never killed.

# A log longer than this many bytes is set aside (one old one is kept) when its process starts.
LOG_BYTES=$((16 * 1024 * 1024))

# Runs in the new session: notes its own identity, then becomes the command. Descriptors of the caller (our lock, a
# build's job server, a test harness's pipes) are closed, or whoever waits for their end would wait for the daemon.
# shellcheck disable=SC2016  # expanded by the new shell
SPAWNED='
  for descriptor in /proc/$$/fd/*; do
    descriptor=${descriptor##*/}
    ((descriptor <= 2)) || eval "exec $descriptor>&-"
  done
  read -r line <"/proc/$$/stat"
  read -ra fields <<<"${line##*) }"
  read -r boot </proc/sys/kernel/random/boot_id
  echo "$$ ${fields[19]} $boot" >"$1/pid.new"
  mv "$1/pid.new" "$1/pid"
  shift
  exec "$@"
'

# spawn INSTANCE COMMAND…
spawn() {
  local folder=$RUN/$1 log=$RUN/$1/log
  shift
  mkdir -p "$folder"
  rm -f "$folder/pid"
  if [[ -e $log ]] && (($(stat -c %s "$log") > LOG_BYTES)); then
    mv "$log" "$log.old"
  fi
  setsid --fork bash -c "$SPAWNED" spawned "$folder" "$@" </dev/null >>"$log" 2>&1
  local deadline=$((SECONDS + STOP_SECONDS))
  until [[ -e $folder/pid ]]; do
    ((SECONDS < deadline)) || die "could not start $1; see $log"
    sleep 0.02
  done
}

# running_pid INSTANCE: prints the pid when that very process still runs.
running_pid() {
  local pid start boot now_boot line fields
  [[ -e $RUN/$1/pid ]] || return 1
  read -r pid start boot <"$RUN/$1/pid" || return 1
  read -r now_boot </proc/sys/kernel/random/boot_id
  [[ $boot == "$now_boot" ]] || return 1
  { read -r line <"/proc/$pid/stat"; } 2>/dev/null || return 1
  read -ra fields <<<"${line##*) }"
  [[ ${fields[0]} != [ZX] && ${fields[19]} == "$start" ]] || return 1
  printf '%s\n' "$pid"
}

is_running() { running_pid "$1" >/dev/null; }

# signal INSTANCE NAME: SIGKILL goes to all that the instance started (it leads its own group).
signal() {
  local pid
  pid=$(running_pid "$1") || return 0
  if [[ $2 == KILL ]]; then
    kill -KILL -- "-$pid" 2>/dev/null || true
  else
    kill "-$2" "$pid" 2>/dev/null || true
  fi
}

# await_gone INSTANCE: after SIGTERM or SIGKILL; what does not go in time is killed.
await_gone() {
  local deadline=$((SECONDS + STOP_SECONDS))
  while is_running "$1"; do
    if ((SECONDS >= deadline)); then
      say "$1: still there $STOP_SECONDS s after its signal; killing it"
      signal "$1" KILL
      deadline=$((SECONDS + STOP_SECONDS))
    fi
    sleep 0.05
  done
  rm -f "$RUN/$1/pid"
}

port_taken() {
  (exec 3<>"/dev/tcp/$HOST/$1") 2>/dev/null
}

# claim_port INSTANCE PORT VARIABLE
claim_port() {
  local owner=''
  port_taken "$2" || return 0
  if command -v ss >/dev/null; then
    owner=$(ss -ltnpH "sport = :$2" 2>/dev/null | sed -n 's/.*users:((\("[^"]*",pid=[0-9]*\).*/ (\1)/p' | head -n 1)
  fi
  die "$1: port $2 is taken by something else$owner; stop that, or set LIVERANK_TESTBED_$3"
}
