#!/usr/bin/env bash
# Ray: once `ray.init()` was called, the command that `ray start --head` prints for a second node starts none.
#
# Ray 2.60.0 protects the cluster that `ray.init()` begins with a token, which it leaves below the home folder.
# `ray start --head` without such a file begins a cluster without a token; with it, it begins one that asks for it. Under
# "To add another node to this Ray cluster, run" it prints the same `ray start --address=…` either way. That command does
# not look for the token unless RAY_AUTH_MODE=token is set. So an innocent `ray.init()` of some other day decides whether
# the printed command works, even on the same machine and for the same user.
#
# Seen: before `ray.init()` was ever called the printed command has the exit code 0; after it, 1, and InvalidAuthToken;
# with RAY_AUTH_MODE=token, 0.
#
# The script fails where one of the three exit codes is another.
set -euo pipefail

folder=$(mktemp -d)
"${PYTHON:-python3}" -m venv "$folder/venv"
export HOME="$folder" PATH="$folder/venv/bin:$PATH"
unset RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_AUTH_TOKEN_PATH
trap 'ray stop --force >/dev/null 2>&1; rm -rf "$folder"' EXIT
python -m pip install -q "ray[default]==2.60.0"

head_node() {  # begins a cluster; leaves the command for another node in $printed
    ray stop --force >/dev/null 2>&1
    ray start --head --port 6391 --num-cpus 1 --include-dashboard false >"$folder/head" 2>&1
    printed="$(grep -o "ray start --address='[^']*'" "$folder/head") --num-cpus 1"
}

head_node
before=0; eval "$printed" >"$folder/log" 2>&1 || before=$?
ray stop --force >/dev/null 2>&1
python -c 'import ray; ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR")' >"$folder/log" 2>&1
head_node
after=0; eval "$printed" >"$folder/log" 2>&1 || after=$?
grep -q InvalidAuthToken "$folder/log"
mode=0; eval "RAY_AUTH_MODE=token $printed" >"$folder/log" 2>&1 || mode=$?
echo "ray 2.60.0: the printed command ends with $before; once ray.init() was called, $after; with RAY_AUTH_MODE=token, $mode"
[ "$before $after $mode" = "0 1 0" ]
