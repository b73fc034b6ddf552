# shellcheck shell=bash
# shellcheck disable=SC2034  # used by the other files
# Where things are, how to speak, and one command at a time.

CHECKOUT=$(dirname "$TESTBED_HOME")
CACHE=$(realpath -m "${LIVERANK_CACHE:-${HOME:?HOME is not set}/.cache/liverank-testbed}")
RUN=$(realpath -m "${LIVERANK_TESTBED_DIR:-$CHECKOUT/.testbed/run}")
# Where the parts listen, and what they tell clients to come to. Only ever loopback, or an address of a network that this
# machine made for itself (a bridge of pods): the parts ask nobody for a password.
HOST=${LIVERANK_TESTBED_HOST:-$(cat "$RUN/host" 2>/dev/null || echo 127.0.0.1)}

# Seconds a part may take until it is ready: ten times what it takes on two busy cores.
READY_SECONDS=${LIVERANK_TESTBED_READY_SECONDS:-120}
# Seconds a part may take to stop after SIGTERM before it is killed.
STOP_SECONDS=30
# What this process was asked to do, for whoever waits for it.
COMMAND="${0##*/} $*"
# Seconds to wait for another testbed command on the same folder: longer than one part may take to get ready.
LOCK_SECONDS=300

say() { printf '%s\n' "$*" >&2; }

die() {
  printf 'testbed: %s\n' "$*" >&2
  exit 1
}

# need TOOL INSTALL-LINE
need() {
  command -v "$1" >/dev/null || die "$1 is missing; install it with: $2"
}

# contains WANTED ITEM…
contains() {
  local wanted=$1 item
  shift
  for item in "$@"; do
    [[ $item != "$wanted" ]] || return 0
  done
  return 1
}

# lock FILE [SECONDS]: held until this shell ends. Who has to wait is told at once for whom, and for what; without SECONDS
# it waits as long as that one lives, for the kernel takes the lock from whoever dies. Processes that a command spawns
# close every inherited descriptor, so they never hold it.
lock() {
  local descriptor waiting=() holder
  mkdir -p "$(dirname "$1")"
  exec {descriptor}<>"$1"
  if ! flock --nonblock "$descriptor"; then
    holder=$(holder_of "$1")
    say "waiting for $holder"
    (($# < 2)) || waiting=(--timeout "$2")
    flock "${waiting[@]}" "$descriptor" || die "after $2 s $1 is still held by $holder"
  fi
  printf '%s %(%H:%M:%S)T %s\n' "$BASHPID" -1 "$COMMAND" >"$1"
}

# holder_of FILE: "pid 4711 (testbed install kafka), which has held FILE since 12:34:56".
holder_of() {
  local pid since command
  read -r pid since command <"$1" || true
  printf '%s, which has held %s since %s\n' "pid ${pid:-unknown} (${command:-unknown})" "$1" "${since:-just now}"
}

with_lock() {
  lock "$RUN/lock" "$LOCK_SECONDS"
  "$@"
}

# content_id FILE…: short name of what the files say; a cache entry made from other ones is another entry.
content_id() {
  cat "$@" | sha256sum | cut -c1-12
}
