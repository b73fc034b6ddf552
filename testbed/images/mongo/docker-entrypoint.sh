#!/usr/bin/env bash
# As root, mongod gives its rights away first; options alone mean mongod.
set -euo pipefail

[[ ${1:-} != -* ]] || set -- mongod "$@"
if [[ $1 == mongod && $(id -u) == 0 ]]; then
  chown -R mongodb:mongodb /data/db /data/configdb
  exec setpriv --reuid=mongodb --regid=mongodb --clear-groups "$@"
fi
exec "$@"
