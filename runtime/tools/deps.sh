#!/usr/bin/env bash
# Finds, and with `install` installs, the packages of runtime/tools/packages that are missing; with a second word
# `tests` also those that only tests need.
set -u
PATH=$PATH:/usr/sbin:/sbin # where sshd is
here=$(cd "$(dirname "$0")" && pwd)
list=$here/packages

have() {
    local kind=${1%%:*} what
    what=$(eval "echo \"${1#*:}\"")
    what=${what%% *}
    case $kind in
    c) command -v "$what" >/dev/null ;;
    p) command -v pkg-config >/dev/null && pkg-config --exists "$what" ;;
    m) command -v perl >/dev/null && perl -M"$what" -e 1 2>/dev/null ;;
    h) local cc=${CC:-gcc}
       # shellcheck disable=SC2046,SC2086
       echo "#include <$what>" | $cc $(pkg-config --cflags pmix 2>/dev/null) -E -x c - >/dev/null 2>&1 ;;
    esac
}

missing=()
while read -r package check tests; do
    case $package in '' | '#'*) continue ;; esac
    [ -z "$tests" ] || [ "${2-}" = tests ] || continue
    have "$check" || missing+=("$package")
done <"$list"
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "${1:-}" != install ] || ! command -v apt-get >/dev/null; then
    echo "missing packages (Debian/Ubuntu names): ${missing[*]}"
    exit 1
fi
sudo=()
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "missing packages: ${missing[*]}; run as root: apt-get install ${missing[*]}"
        exit 1
    fi
    sudo=(sudo)
fi
echo "installing: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
try() { "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >"$log" 2>&1; }
try || { "${sudo[@]}" apt-get update -q >"$log" 2>&1 && try; } || {
    tail -n 5 "$log"
    echo "could not install; run: ${sudo[*]} apt-get install ${missing[*]}"
    exit 1
}
# Debian starts what it installs. The tests do not need that.
for service in openssh-server:ssh:sshd munge:munge:munged prometheus:prometheus:prometheus; do
    IFS=: read -r package unit daemon <<<"$service"
    if [[ " ${missing[*]} " == *" $package "* ]] && pgrep -x "$daemon" >/dev/null; then
        echo "note: $package has started $daemon; if this machine does not need it: systemctl disable --now $unit"
    fi
done
