#!/bin/sh
# Fails if the contract would break a client of main. Where there is no main to compare with, says so.
set -eu
cd "$(dirname "$0")/.."
for main in origin/main main; do
  if git cat-file -e "$main:proto/buf.yaml" 2>/dev/null; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    git archive "$main" proto | tar -x -C "$folder"
    cd proto
    ../.venv/bin/buf breaking --against "$folder/proto"
    exit
  fi
done
echo "buf breaking: skipped, there is no main branch to compare with" >&2
