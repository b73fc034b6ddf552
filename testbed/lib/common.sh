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

# lock FILE: held until this command ends. Processes it spawns close every inherited descriptor, so they never hold it.
lock() {
  local descriptor
  mkdir -p "$(dirname "$1")"
  exec {descriptor}>"$1"
  flock -w "$LOCK_SECONDS" "$descriptor" || die "another testbed command has held $1 for $LOCK_SECONDS s"
}

with_lock() {
  lock "$RUN/lock"
  "$@"
}

# content_id FILE…: short name of what the files say; a cache entry made from other ones is another entry.
content_id() {
  cat "$@" | sha256sum | cut -c1-12
}
