#!/bin/sh
# Fails if the contract would break a client of main; on main itself, also one of the commit before. Where there is
# nothing to compare with, says so.
set -eu
cd "$(dirname "$0")/.."

has() { git cat-file -e "$1:proto/buf.yaml" 2>/dev/null; }

compare() {
  mkdir "$folder/$1"
  git archive "$1" proto | tar -x -C "$folder/$1"
  (cd proto && ../.venv/bin/buf breaking --against "$folder/$1/proto") || {
    echo "buf breaking: a client of $1 would not understand this contract" >&2
    exit 1
  }
}

main=
for name in main origin/main; do
  if has "$name"; then main=$name; fi
done
if [ -z "$main" ]; then
  echo "buf breaking: skipped, there is no main branch to compare with" >&2
  exit
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/origin"
compare "$main"
if [ "$(git rev-parse HEAD)" = "$(git rev-parse "$main")" ]; then # main says nothing about its own last commit
  if has HEAD^; then
    compare HEAD^
  else
    echo "buf breaking: the last commit of main is not compared, the one before it is not here (a shallow clone?)" >&2
  fi
fi
