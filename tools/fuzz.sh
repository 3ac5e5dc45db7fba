#!/bin/sh
# fuzz.sh TIME: runs every fuzz test of the tree for TIME, one after another.
# Minimizing is bounded: where the scheduler decides which code runs, as with
# sockets, it would use up the time without trying anything new.
set -eu
grep -rlE --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do
	for name in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
		echo "fuzz: $name in $(dirname "$file")"
		go test -run '^$' -fuzz "^$name\$" -fuzztime "$1" -fuzzminimizetime 1s "$(dirname "$file")"
	done
done
