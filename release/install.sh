#!/bin/sh
# Installs liverank, and with it the operator and the plugin for kubectl where they are in the archive.
#
#   curl -fsSL ADDRESS/install.sh | sh
#
# LIVERANK_VERSION    which release, without its v; else the one that this file belongs to
# LIVERANK_BIN_DIR    where the programs go; else ~/.local/bin
# LIVERANK_DOWNLOADS  where releases lie; else where this one does
#
# Nothing is installed whose checksum is another than that in the release's SHA256SUMS. Who wants to know that the checksums
# are the project's, too, checks their signature first: docs/operations.md, "Checking a release".
set -eu

version=${LIVERANK_VERSION:-@VERSION@}
downloads=${LIVERANK_DOWNLOADS:-@DOWNLOADS@}
bin=${LIVERANK_BIN_DIR:-${HOME:?}/.local/bin}

fail() {
  echo "install.sh: $1" >&2
  exit 1
}

# download NAME FILE
download() {
  if command -v curl >/dev/null 2>&1; then
    curl --fail --silent --show-error --location --retry 3 --output "$2" "$downloads/v$version/$1"
  elif command -v wget >/dev/null 2>&1; then
    wget --quiet --output-document="$2" "$downloads/v$version/$1"
  else
    fail "needs curl or wget"
  fi || fail "cannot download $downloads/v$version/$1"
}

sum() {
  if command -v sha256sum >/dev/null 2>&1; then
    sha256sum "$1"
  elif command -v shasum >/dev/null 2>&1; then
    shasum -a 256 "$1"
  else
    fail "needs sha256sum or shasum"
  fi | cut -d ' ' -f 1
}

main() {
  case $(uname -s) in
    Linux) os=linux ;;
    Darwin) os=macos ;;
    *) fail "there are no programs for $(uname -s); build them from the sources" ;;
  esac
  case $(uname -m) in
    x86_64 | amd64) arch=x86_64 ;;
    aarch64 | arm64) arch=aarch64 ;;
    *) fail "there are no programs for $(uname -m); build them from the sources" ;;
  esac
  archive=liverank-$version-$os-$arch.tar.gz
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  download SHA256SUMS "$work/SHA256SUMS"
  expected=$(awk -v name="$archive" '$2 == name { print $1 }' "$work/SHA256SUMS")
  [ -n "$expected" ] || fail "release $version has no $archive"
  download "$archive" "$work/$archive"
  found=$(sum "$work/$archive")
  [ "$found" = "$expected" ] || fail "the checksum of $archive is $found, and should be $expected: nothing is installed"
  tar -xzf "$work/$archive" -C "$work"
  mkdir -p "$bin"
  for program in liverank liverank-operator kubectl-liverank; do
    [ ! -f "$work/$program" ] || {
      # By a rename, so that one that runs goes on.
      cp "$work/$program" "$bin/.$program.new"
      chmod 755 "$bin/.$program.new"
      mv -f "$bin/.$program.new" "$bin/$program"
    }
  done
  echo "installed: $("$bin/liverank" version) in $bin"
  case :$PATH: in
    *:"$bin":*) ;;
    *) echo "$bin is not on the PATH" ;;
  esac
}

# All of it has arrived when this line has.
main
