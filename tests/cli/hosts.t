#!/usr/bin/env bash
# Jobs on hosts that are named: a fake ssh runs what it is given on this machine, each host with a home of its own.
. "$(dirname "$0")/../lib.sh"
export MUSTER_IDLE=3
unset SLURM_JOB_ID MUSTER_SSH MUSTER_ENGINE

mkdir "$tmp/log"
cat >"$tmp/rsh" <<END
#!/bin/sh
host=\${1#*@}
echo "\$\$ \$SSH_AUTH_SOCK \$*" >>$tmp/log/\$host
case \$host in
far*) exec sh -c "\$(echo "\$2" | sed "s,MUSTER_HOME=[^ ]*,MUSTER_HOME=$tmp/\$host,")" ;;
nobin*) exit 90 ;;
mute*) exec sleep 1000 ;;
bad*) echo "\$1: Permission denied (publickey)." >&2; exit 255 ;;
*) echo "ssh: Could not resolve hostname \$1: Name or service not known" >&2; exit 255 ;;
esac
END
chmod +x "$tmp/rsh"
# Agents of fake hosts have another MUSTER_HOME; the sockets are here.
fake_agents() { grep -lszE "^MUSTER_HOME=$tmp/far" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3; }
no_fake_agents() { [ -z "$(fake_agents)" ]; }

export SSH_AUTH_SOCK=$tmp/auth
run_cmd timeout 60 "$muster" run --ssh "'$tmp/rsh'" -H far1:2,user@far2:1,far3:2 sh -c 'echo $RANK $MUSTER_NODE $LOCAL_RANK'
is "$rc" 0 "a job on three hosts" || note "$err"
is "$(sort <<<"$out" | tr '\n' ,)" '0 far1 0,1 far1 1,2 far2 0,3 far3 0,4 far3 1,' "ranks go to the hosts in their order, as many as there are slots"
wait_for 30 no_fake_agents
ok $? "its agents go with the job" || note "$(ps -fp "$(fake_agents | tr '\n' ' ')")"
is "$(cat "$tmp/log/"* | wc -l)" 3 "one ssh a host"
like "$(cat "$tmp/log/far1")" "$tmp/auth far1 exec sh -c" "with the submitter's ssh agent"
unlike "$(cat "$tmp/log/"*)" "$(cut -d' ' -f3 "$MUSTER_HOME/pool.key")" "the key is in nobody's arguments"
is "$(find "$tmp"/far* -name 'join*' -type f)" '' "and no host keeps it"

MUSTER_SSH=$tmp/rsh run_cmd timeout 60 "$muster" run -H "far1:2,$(uname -n):1" sh -c 'echo $RANK $MUSTER_NODE'
is "$rc $(sort <<<"$out" | tr '\n' ,)" "0 0 far1,1 far1,2 $(uname -n)," "MUSTER_SSH; this machine may be one of the hosts" || note "$err"

printf 'far1 slots=1\n# nobody\nfar2 slots=2\n' >"$tmp/hosts"
run_cmd timeout 60 "$muster" run --ssh "$tmp/rsh" --hostfile "$tmp/hosts" sh -c 'echo $RANK $MUSTER_NODE'
is "$rc $(sort <<<"$out" | tr '\n' ,)" "0 0 far1,1 far2,2 far2," "a hostfile" || note "$err"

# what cannot be
fails() { # PATTERN ARGUMENTS...: the job fails, with one line that names the host
    local want=$1
    shift
    run_cmd timeout 60 "$muster" run --ssh "$tmp/rsh" "$@" true
    [ "$rc" = 1 ] && [[ $err =~ $want ]]
    ok $? "run $*: $err" || note "rc=$rc want: $want"
}
fails 'host nowhere: ssh: Could not resolve hostname nowhere: Name or service not known; check -H or ~/.ssh/config' -H nowhere
fails 'host bad1: bad1: Permission denied \(publickey\); ssh must get in without asking: ssh-copy-id bad1' -H bad1,far1
fails 'host nobin1: ' -H nobin1
fails 'host by-hand has not joined; start there, with the pool.s key: muster agent --join [^ ]+ --node by-hand' --engine hand -H by-hand
wait_for 30 no_fake_agents
ok $? "agents that came up in vain go, too"

MUSTER_START_TIMEOUT=2 "$muster" controller --stop
export MUSTER_START_TIMEOUT=1
fails 'host mute1: no answer within 1 s' -H mute1
gone() { ! kill -0 "$1" 2>/dev/null; }
wait_for 30 gone "$(cut -d' ' -f1 "$tmp/log/mute1")"
ok $? "its ssh is killed"

lines=$(cat "$tmp/log/"* | wc -l)
run_cmd timeout 60 "$muster" run --dry-run --ssh "$tmp/rsh" --spares 1 -H far1:2,far2:2,far3:2 --json true
is "$(python3 -c 'import json,sys; d = json.load(sys.stdin); print([r["node"] for r in d["ranks"]], d["spares"])' <<<"$out")" \
    "['far1', 'far1', 'far2', 'far2'] ['far3']" "--dry-run shows the placement"
is "$(cat "$tmp/log/"* | wc -l)" "$lines" "and starts nothing"
done_testing
