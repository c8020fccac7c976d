#!/usr/bin/env bash
# Licences, sources and known vulnerabilities of the dependencies, by deny.toml. The check of vulnerabilities
# needs the advisory database from github.com; where that cannot be reached it is left out, and said so.
set -euo pipefail
if ! cargo deny --version >/dev/null 2>&1; then
  echo "lint: cargo-deny is not installed, dependencies were not checked (cargo install --locked cargo-deny)" >&2
  exit 0
fi
cargo deny --log-level error check licenses bans sources
if timeout 20 git ls-remote -q https://github.com/rustsec/advisory-db HEAD >/dev/null 2>&1; then
  cargo deny --log-level error check advisories
else
  echo "lint: the advisory database cannot be reached, known vulnerabilities were not checked" >&2
fi
