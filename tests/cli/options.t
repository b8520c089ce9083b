#!/usr/bin/env bash
# Bad input: one clear line that names the thing and the fix, exit 2, and no job. And the manual tells the same as --help.
. "$(dirname "$0")/../lib.sh"

# bad PATTERN ARGUMENTS...: exit 2, nothing on stdout, one line on stderr that fits
bad() {
    local want=$1
    shift
    run_cmd timeout 60 "$muster" "$@"
    [ "$rc" = 2 ] && [ -z "$out" ] && [ "$(wc -l <"$tmp/.err")" = 1 ] && [[ $err =~ $want ]]
    ok $? "muster $*: $err" || note "rc=$rc out=$out want: $want"
}

bad 'no program is given' run
bad 'no program is given' run -n 2
bad '-n takes a number from 1 .* not .0.' run -n 0 true
bad '-np takes a number' run -np -1 true
bad '-n takes a number .*two' run -n two true
bad 'nosuch is not in PATH' run -n 1 nosuch
bad 'no such program' run -n 1 "$tmp/nosuch"
bad 'is a directory' run -n 1 "$tmp"
touch "$tmp/plain"
bad 'plain is not executable; chmod \+x' run -n 1 "$tmp/plain"
printf '#!/bin/sh\n' >"$tmp/here"
printf '#!/nosuch\n' >"$tmp/lost"
printf '\177ELF\necho is run by the shell\n' >"$tmp/binary"
chmod +x "$tmp/here" "$tmp/lost" "$tmp/binary"
bad 'lost: its interpreter /nosuch is missing or not executable; correct its first line' run -n 1 "$tmp/lost"
bad 'binary is a damaged program, or none' submit -n 1 "$tmp/binary"
cd "$tmp" || exit 1
bad 'did you mean ./here' run -n 1 here
cd "$root" || exit 1
bad 'unknown option --nosuch; --help' run --nosuch true
bad 'did you mean --oversubscribe' run --oversubscrbe true
bad '--bind-to takes one of none\|core' run --bind-to socket true
bad '--map-by.* takes slot, node, numa, gpu' run --map-by board true
bad '--wdir /nosuch: No such file' run --wdir /nosuch true
bad '--wdir .*plain: not a directory' run -wdir "$tmp/plain" true
bad '--output' run --output "$tmp/plain/x" true
bad '--output' run --output /proc/nosuch true
bad "-x 1A=2: a variable's name" run -x 1A=2 true
bad '-x RANK: muster sets' run -x RANK=1 true
bad '--restarts takes a number' run --restarts many true
bad '--min-ranks 3 is more than' run -n 2 --min-ranks 3 true
bad 'slots' run -n 5 -H localhost:2 true
bad 'known only once its agent runs: say -n, or HOST:SLOTS' run -H 'elsewhere:*' true
bad 'needs hosts beyond those of the ranks' run -n 2 --spares 1 -H localhost:2 true
bad "'-oBatchMode=no' is not a host name" run -H -oBatchMode=no true
bad 'a quote is not closed' run --ssh "ssh '" -H elsewhere true
bad 'there is no engine' run --engine warp -H elsewhere true
bad '/nosuch' run --hostfile /nosuch true
bad '--timeout takes a time' run --timeout soon true
bad "program behind ':'" run -n 1 true :
bad 'program 2 has none' run -n 1 true : true
bad '--json goes with --dry-run' run --json true
bad '--ckpt: interval=foo is not valid; interval takes a time' run --ckpt interval=foo true
bad '--ckpt: keep=1 is not valid; keep takes .*at least 2' submit --ckpt keep=1 true
bad '--ckpt: unknown key "shield"; the keys are' run --ckpt shield=x true
bad '--ckpt: protect=x is not valid; protect takes none, mirror, or rs:K' run --ckpt protect=x true
bad '--ckpt: wire=plain is not valid; wire takes encrypted, or authenticated' run --ckpt wire=plain true
bad '--ckpt-dir: cannot create directory /proc/nosuch' run --ckpt-dir /proc/nosuch/x true
bad '--name: longer than 255 bytes' submit --name "$(printf 'x%.0s' {1..256})" -n 1 true
bad '--gpus-per-rank takes a number from 0 to 1024' submit --gpus-per-rank 1025 true
bad '--mem takes a size' run --mem 12Q true
bad '--priority takes a number' submit --priority high true
bad '--after: takes numbers of jobs' submit --after 1,,2 true
script() { # LINE: a script of which that is the second line
    printf '#!/bin/sh\n%s\ntrue\n' "$1" >"$tmp/job.sh"
    chmod +x "$tmp/job.sh"
}
while IFS='|' read -r line want; do
    script "#MUSTER $line"
    bad "$tmp/job.sh:2: #MUSTER: $want" submit "$tmp/job.sh"
done <<'ROWS'
-n|-n needs a value
-n 4 --nosuch|unknown option --nosuch
--name "open|.*quote
--help|an option such as -n 8 is wanted here
-n 1 ./train|'./train' is no option
ROWS
script "#MUSTER --name $(printf 'x%.0s' {1..5000})"
bad "job.sh:2: the line is longer than 4095 bytes" submit "$tmp/job.sh"
script "#MUSTER -n 1 --name $(printf 'x%.0s' {1..256})"
bad "--name: longer than 255 bytes" submit "$tmp/job.sh"
bad '^muster nodes add: an argument is missing' nodes add
bad 'hosts are words of their own' nodes add a,b
bad 'hosts are words of their own' nodes add 'a[1,2],b'
bad "is this machine, which is always in its pool" nodes add localhost
bad "'-x' is not a host name|unknown option" nodes add -x
bad 'slots must be a number' nodes add a:b
bad 'an argument is missing' nodes remove
bad "unexpected argument 'ad'" nodes ad
bad '^muster nodes add: host list: host nosuch' nodes add nosuch:x
bad '^muster nodes remove: ' nodes remove -x
bad "not the number of a job" status one
bad "not the number of a job" cancel 1 x
bad 'an argument is missing.*`muster jobs --all` lists' events
bad 'an argument is missing.*`muster jobs --all` lists' cancel
bad '^muster bench coll: unexpected argument' bench coll x
bad '^muster bench coll: .*slots: ask for fewer' bench coll -n 65000
bad "unexpected argument 'x'" jobs x
bad "unknown command 'rnu'; did you mean 'run'" rnu
bad "unknown option '--verison'|unknown" --verison

bad '--min x: not a size' bench coll --min x
bad '--min 3: smaller than one float32; give at least 4' bench coll --min 3
bad '--min 0: smaller than one uint8; give at least 1' bench coll --min 0 --dtype uint8
bad '--min 4: smaller than one float64; give at least 8' bench coll --dtype float64 --min 4
bad '--min 64K is more than --max 8; give a smaller --min' bench coll --min 64K --max 8
bad '--min 128M is more than --max 64M, the default' bench coll --min 128M
bad '--max 4 is less than --min 8, the default; give --min, too' bench coll --max 4
bad '--max 1000000G: larger than 1T' bench coll --max 1000000G

# State that cannot be: each command says so, what to do about it, and exits 2.
mine=$MUSTER_HOME
for home in /proc/nosuch "$tmp/plain" "$tmp/plain/below"; do
    export MUSTER_HOME=$home
    for words in 'run true' 'submit true' nodes 'bench coll'; do
        # shellcheck disable=SC2086
        bad "state directory:? .*$home.*: (No such file|Not a dir).*; set MUSTER_HOME to a" $words
    done
    [ "$home" != /proc/nosuch ] || continue # nothing is there, and who looks need not make it
    for words in jobs 'cancel 1' 'status 1' 'events 1' 'logs 1'; do
        # shellcheck disable=SC2086
        bad "state directory $home.*: Not a dir.*; set MUSTER_HOME to a" $words
    done
done
export MUSTER_HOME=$mine
MUSTER_RUN_ROOT=/proc/nosuch bad "cannot create directory /proc/nosuch: .*; set MUSTER_RUN_ROOT to a" jobs
MUSTER_RUN_ROOT=relative bad "MUSTER_RUN_ROOT must be an absolute path" jobs
mkdir -p "$tmp/world/$(uname -n)"
chmod 777 "$tmp/world/$(uname -n)"
MUSTER_HOME=$tmp/world bad "can be written by others .*; chmod 700 it" jobs

slots=$("$muster" nodes --json | python3 -c 'import json,sys; print(sum(n["slots"] for n in json.load(sys.stdin)["nodes"]))')
bad "slots: ask for fewer with -n, or share cores with --oversubscribe" run -n $((slots + 1)) true
bad "slots: ask for fewer with -n, or share cores with --oversubscribe" submit -n $((slots + 1)) true
bad "slots: ask for fewer with -n, or share cores with --oversubscribe" run --dry-run -n $((slots + 1)) true
need='1000000 ranks on .* need 6000064 open files, the limit is [0-9]+: ask for at most [0-9]+ with -n, or raise'
bad "$need" run --oversubscribe -n 1000000 true
run_cmd "$muster" jobs --all --json
is "$out" '{"schema":"muster.jobs/1","jobs":[]}' "none of them became a job"

run_cmd "$muster" status 999
is "$rc" 1 "a job that is not there is no usage error"
like "$err" 'no job 999; `muster jobs --all`' "but is said"
run_cmd "$muster" cancel 999
is "$rc $err" '1 muster cancel: there is no job 999; `muster jobs --all` lists them' "to who would cancel it, too"
run_cmd "$muster" events 999
like "$err" 'no job 999; `muster jobs --all`' "or know more"
run_cmd "$muster" controller
like "$err" 'already runs on this store; `muster controller --stop` ends it' "a second controller"
run_cmd "$muster"
is "$rc" 2 "no command at all"
like "$err" 'usage: muster COMMAND' "shows how"
run_cmd "$muster" --version
like "$out" '^muster [0-9]+\.[0-9]+\.[0-9]+, protocol [0-9]+$' "version"

# every command has a page, and every option of --help stands in it; those of subcommands, too
words() { grep -oE '(^| |\()--[a-z][a-z-]*' | tr -d ' (' | sort -u; }
options_in() { grep -E '^\.It Fl' "$1" | grep -oE 'Fl ([a-zA-Z] , )?-[a-z][a-z-]*' | grep -oE '\-[a-z][a-z-]+'; }
commands=$("$muster" --help | sed -n 's/^  \([a-z]\{1,\}\) .*/\1/p')
like " ${commands//$'\n'/ } " ' run .* events .* bench accept topo doctor ' "muster --help lists the commands"
for c in $commands; do
    page=docs/man/muster-$c.1
    run_cmd "$muster" "$c" --help
    is "$rc" 0 "muster $c --help"
    like "$out" "^usage: muster $c" "shows its usage"
    is "$("$muster" help "$c" 2>&1)" "$out" "and so does muster help $c"
    cp "$tmp/.out" "$tmp/help"
    for sub in $(sed -n 's/^  \([a-z]\{1,\}\) .*/\1/p' "$tmp/.out"); do
        run_cmd "$muster" "$c" "$sub" --help
        like "$rc $out" "^0 usage: muster $c $sub" "muster $c $sub --help"
        grep -q "^\.Nm muster $c $sub\$" "$page"
        ok $? "$c $sub is in $page"
        cat "$tmp/.out" >>"$tmp/help"
    done
    missing=''
    for o in $(words <"$tmp/help"); do
        grep -qE "^\.It Fl ([a-zA-Z] , )?-${o#--}( |\$)|^\.Fl -${o#--}( |\$)" "$page" || missing+=" $o"
    done
    is "$missing" '' "its options are in $page"
    extra=''
    for o in $(options_in "$page"); do
        [ "$o" = -help ] || grep -qE -- "-$o( |\$)" "$tmp/help" || extra+=" $o"
    done
    is "$extra" '' "and no others"
    grep -q "^\.It Cm $c\$" docs/man/muster.1 && grep -qE "^\.Xr muster-$c 1( |\$)" docs/man/muster.1
    ok $? "$c is in muster.1"
done

"$muster" jobs >/dev/full 2>"$tmp/.err"
is $? 1 "output that cannot be written is a failure"
like "$(cat "$tmp/.err")" 'cannot write standard output: No space left' "and said"
"$muster" jobs >&- 2>"$tmp/.err"
is "$? $(cat "$tmp/.err")" "1 muster: cannot write standard output: Bad file descriptor" "so is closed standard output"
bad '--engine: a name is missing' run --engine '' -H a true
"$muster" run --help | head -n 1 >/dev/null
like "${PIPESTATUS[0]}" '^(0|141)$' "a reader that leaves is none of our business"

long=$tmp/$(printf 'y%.0s' {1..200})/$(printf 'y%.0s' {1..200})/$(printf 'y%.0s' {1..200})
MUSTER_HOME=$long bad 'the path of the job store would have [0-9]+ characters, SQLite takes 480: choose a shorter MUSTER_HOME' run -n 1 true
mkdir -p "$tmp/fifo/$(uname -n)/log"
mkfifo "$tmp/fifo/$(uname -n)/log/controller.log"
MUSTER_HOME=$tmp/fifo bad 'cannot open the log .*controller.log' run -n 1 true
mkdir -p "$tmp/strange/$(uname -n)"
head -c 4096 /dev/urandom >"$tmp/strange/$(uname -n)/jobs.db"
MUSTER_HOME=$tmp/strange bad 'jobs.db' run -n 1 true
MUSTER_HOME=$tmp/strange run_cmd "$muster" doctor
like "$rc $out" "^1 .*state  *[A-Z]* .*jobs.db: it is not a job store; move it away" "the doctor sees it, too"
done_testing
