#!/usr/bin/env bash
# Installs what is missing, and only that, on Debian-like machines. usage: setup.sh PART...
#   build      a C compiler, make, OpenSSL and zlib headers, perl (for librdkafka and openssl-sys); checks for cargo
#   postgres   PostgreSQL's server programs (or PGBIN=DIR names them)
#   fuzz       cargo-fuzz
#   java       a JDK, Maven and curl, for a schema registry and a real Kafka broker 
#              (not when MILLSTREAM_TEST_KAFKA=HOST:PORT and MILLSTREAM_TEST_REGISTRY=URL name them)
set -euo pipefail

say() { echo "setup: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

packages=()
fetched=
install() { # installs $packages, if any; fails when that cannot be done
  [ ${#packages[@]} -gt 0 ] || return 0
  local sudo=()
  if [ "$(id -u)" != 0 ]; then
    if have sudo; then sudo=(sudo); else say "please install: ${packages[*]}"; return 1; fi
  fi
  if ! have apt-get; then
    say "not a Debian-like system: please install what gives ${packages[*]}"
    return 1
  fi
  say "installing ${packages[*]}"
  if [ -z "$fetched" ]; then
    "${sudo[@]}" apt-get update -qq || say "apt-get update failed; trying with the lists as they are"
    fetched=yes
  fi
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  packages=()
}

build() {
  if ! have cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then
    say "cargo is in ~/.cargo/bin, which is not on the PATH"
    return 1
  fi
  if ! have cargo; then
    say "Rust is missing: https://rustup.rs (the version in Cargo.toml, rust-version, or newer)"
    return 1
  fi
  have cc || packages+=(build-essential)
  have make || packages+=(make)
  have perl || packages+=(perl)
  have pkg-config || packages+=(pkg-config)
  [ -e /usr/include/openssl/ssl.h ] || packages+=(libssl-dev)
  [ -e /usr/include/zlib.h ] || packages+=(zlib1g-dev)
  install
}

postgres() {
  if [ -n "${PGBIN:-}" ]; then
    if [ -x "$PGBIN/initdb" ] && [ -x "$PGBIN/postgres" ]; then
      # Some packages hold the server alone.
      [ -x "$PGBIN/psql" ] || have psql || packages+=(postgresql-client)
      install
      return
    fi
    say "PGBIN=$PGBIN has no initdb and postgres"
    return 1
  fi
  local dir
  for dir in /usr/lib/postgresql/*/bin; do
    if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then return; fi
  done
  if have initdb && have postgres; then return; fi
  packages+=(postgresql)
  # The package would start a cluster of its own on port 5432; a temporary server needs only the programs.
  if [ "$(id -u)" = 0 ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    mkdir -p /etc/postgresql-common
    echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
  fi
  install
}

java() {
  [ -z "${MILLSTREAM_TEST_KAFKA:-}" ] || [ -z "${MILLSTREAM_TEST_REGISTRY:-}" ] || return 0
  have java || packages+=(default-jdk-headless)
  have mvn || packages+=(maven)
  have curl || packages+=(curl)
  if [ ${#packages[@]} -gt 0 ] && ! install; then
    if [ "${CI:-}" = true ]; then
      say "no Java and Maven for a Kafka broker, and CI=true: this is a failure"
      return 1
    fi
    say "WITHOUT JAVA AND MAVEN THERE IS NO KAFKA BROKER HERE (or set MILLSTREAM_TEST_KAFKA=HOST:PORT)"
    packages=()
  fi
}

fuzz() {
  have cargo-fuzz || cargo install --locked cargo-fuzz
}

for part in "$@"; do
  case $part in
    build | postgres | java | fuzz) "$part" ;;
    *) say "no such part: $part"; exit 2 ;;
  esac
done
