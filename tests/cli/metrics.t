#!/usr/bin/env bash
# slow
# /metrics of the controller: who may read it, and how it bears those who mean it no good.
. "$(dirname "$0")/../lib.sh"
export MUSTER_IDLE=0
command -v curl >/dev/null || skip_all "curl is not installed"
controller() { run_cmd timeout 60 "$muster" controller "$@"; }
end() { timeout 60 "$muster" controller --stop --force && wait_for 5 no_leftovers; }
stop() { wait_for 60 end; } # one that an agent has started may have waited for the lock of this one
serve() { # OPTIONS: a controller of one's own, until it serves
    rm -f "$tmp/ctl.err"
    "$muster" controller --foreground "$@" 2>"$tmp/ctl.err" &
    ctl=$!
    wait_for 30 grep -qs "metrics are served at" "$tmp/ctl.err"
}
port=$(free_port)
url=http://127.0.0.1:$port/metrics
get() { curl -s --max-time 30 "$@"; }

# What cannot be served is refused in a line
controller --metrics nowhere
like "$rc $err" '^2 muster: --metrics takes \[ADDR:\]PORT: .*port' "no port"
if [[ $err == *"needs libmicrohttpd"* ]]; then
    controller --metrics "$port"
    like "$rc $err" '^2 muster: --metrics needs libmicrohttpd' "a build without it says so"
    skip_all "built without libmicrohttpd"
fi
controller --metrics host.example:9
like "$rc $err" '^2 muster: --metrics takes \[ADDR:\]PORT: ' "a name is no address"
controller --metrics "0.0.0.0:$port"
like "$rc $err" "^2 muster: --metrics 0.0.0.0:$port is beyond loopback: .*home/metrics.token, .crt and .key .*\.token is missing" "beyond loopback a token and TLS are needed"
is "$(wc -l <<<"$err")" 1 "in a line"
controller --metrics ":$port"
like "$rc $err" "^2 .*beyond loopback" "all addresses are"

# On loopback
serve --metrics "$port"
ok $? "it is served" || note "$(cat "$tmp/ctl.err")"
like "$(cat "$tmp/ctl.err")" "metrics are served at $url" "and says where"
is "$(grep -c "metrics are served at" "$tmp/ctl.err")" 1 "once"
run_cmd get -D "$tmp/head" "$url"
like "$(tr -d '\r' <"$tmp/head")" 'HTTP/1.1 200 OK.*Content-Type: text/plain; version=0.0.4; charset=utf-8' "in the format of Prometheus"
like "$out" "muster_build_info\{version=\"[0-9.]+\",host=\"$(uname -n)\"\} 1" "with what it is"
MUSTER_HOME=$tmp/other controller --metrics "$port"
like "$rc $err" "^2 muster: --metrics: cannot listen on 127.0.0.1:$port: Address already in use" "the port is taken"
is "$(get -o /dev/null -w '%{http_code}' -X POST -d x "$url") $(get -o /dev/null -w '%{http_code}' -X DELETE "$url")" "405 405" "it is only read"
is "$(get -w '%{http_code}' "${url%metrics}../pool.key" --path-as-is)" "$(printf 'there is nothing here; see / and /metrics\n404')" "and there is nothing else"
is "$(get -I "$url" | head -n 1 | tr -d '\r')" "HTTP/1.1 200 OK" "HEAD"

page=${url%/metrics}
run_cmd get -D "$tmp/head" "$page/"
like "$out" '<dd id=sum-nodes>1 of 1</dd>.*<dd id=sum-running>0</dd>' "the status page"
like "$(tr -d '\r' <"$tmp/head")" "HTTP/1.1 200 OK.*Content-Type: text/html; charset=utf-8.*Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'" "with a policy that lets nothing inline run"
unlike "$out" '<script[^>]*>[^<]|<style|style=|onload' "there is nothing inline"
is "$(get -o /dev/null -w '%{http_code} %{content_type}' "$page/page.js") $(cmp <(get "$page/page.js") launcher/page/page.js && echo same)" "200 text/javascript; charset=utf-8 same" "its script"
is "$(get -o /dev/null -w '%{http_code}' "$page/job/99") $(get -o /dev/null -w '%{http_code}' "$page/job/0x1") $(get -o /dev/null -w '%{http_code}' "$page/page.c")" "404 404 404" "nothing else"
for host in localhost "localhost:$port" "[::1]:$port" 10.1.2.3 "$(uname -n):1"; do
    is "$(get -o /dev/null -w '%{http_code}' -H "Host: $host" "$page/status.json")" 200 "asked for as $host"
done
for host in evil.example "evil.example:$port" localhost.evil.example "127.0.0.1.evil.example:$port"; do
    is "$(get -o /dev/null -w '%{http_code}' -H "Host: $host" "$page/status.json")" 421 "not as $host"
done

# A job comes and goes
name=$(printf 'a "b"\\ \n{}=\033[31m\xff')
job=$("$muster" submit -n 2 --oversubscribe --name "$name" sh -c "until [ -e $tmp/go ]; do sleep 0.05; done")
shows() { get "$url" | grep -qaF -- "$1"; }
wait_for 30 shows "muster_job_state{job_id=\"$job\",state=\"running\"} 1"
ok $? "a job that runs has families"
shows "muster_job_ranks{job_id=\"$job\"} 2"
ok $? "with its ranks"
get "$url" >"$tmp/text"
is "$(grep -a "^muster_job_info" "$tmp/text" | wc -l)" 1 "a hostile name stays a label"
wait_for 30 eval 'get "$page/" | grep -qa "<td>a &quot;b"' # the same page again is up to half a second old
like "$(get "$page/")" "<td>a &quot;b&quot;.* .n\{\}=.x1b\[31m.xff<td" "and text on the page"
like "$(get "$page/job/$job")" "<h1>Job $job <span id=name>a &quot;b&quot;.*<tr><td>0-1<td>" "it has a page of its own"
for doc in status job/$job; do
    get "$page/$doc.json" | python3 -c 'import json, sys; json.load(sys.stdin)'
    ok $? "$doc.json is JSON"
done
unlike "$(get "$page/status.json")$(get "$page/")" '"reason"|"detail"|until \[ -e' "no words, no arguments"
if command -v promtool >/dev/null; then
    run_cmd promtool check metrics <"$tmp/text"
    promtool check metrics <"$tmp/text" >"$tmp/tool" 2>&1
    is "$? $(cat "$tmp/tool")" "0 " "promtool accepts all of it"
    sed 's/^# TYPE muster_slots gauge/# TYPE muster_slots counter/' "$tmp/text" | promtool check metrics >"$tmp/tool" 2>&1
    isnt "$?" 0 "(and would not accept anything)"
else
    skip "promtool is not installed" 2
fi
touch "$tmp/go"
gone() { ! shows "{job_id=\"$job\""; }
wait_for 30 gone
ok $? "they vanish with it"
shows 'muster_jobs_ended_total{state="completed"} 1'
ok $? "and it is counted"

# The tables of docs/formats.md and of the code are the same
get "$url" | sed -n 's/^# TYPE \([a-z0-9_]*\) \([a-z]*\)$/\1 \2/p' | sort >"$tmp/served"
sed -n '/^## Metrics/,/^## /s/^| `\(muster_[a-z0-9_]*\)`[^|]*| \([a-z]*\) |.*/\1 \2/p' docs/formats.md | sort >"$tmp/described"
is "$(diff "$tmp/served" "$tmp/described")" "" "docs/formats.md describes each family"

# Those who mean no good: silent and slow connections, and too many of them
cat >"$tmp/bad.py" <<'PY'
import socket, sys, time
port, n = int(sys.argv[1]), int(sys.argv[2])
held = []
for i in range(n):
    s = socket.create_connection(("127.0.0.1", port), 30)
    s.send(b"GET /met"[: i % 9])
    held.append(s)
print("held", flush=True)
end, gone = time.time() + 90, 0
for i, s in enumerate(held):
    s.settimeout(max(0.1, end - time.time()))
    try:
        while s.recv(4096):
            pass
        gone += 1
    except ConnectionError:
        gone += 1
    except TimeoutError:
        pass
print(gone, flush=True)
PY
python3 "$tmp/bad.py" "$port" 20 >"$tmp/bad.out" 2>&1 &
bad=$!
wait_for 30 grep -qs held "$tmp/bad.out"
run_cmd get "$url"
like "$rc $out" "^0 .*muster_slots" "others are served meanwhile"
run_cmd timeout 60 "$muster" run -n 1 true
is "$rc" 0 "and jobs run"
wait "$bad"
is "$(tail -n 1 "$tmp/bad.out")" 20 "who says nothing is cut off"
python3 "$tmp/bad.py" "$port" 100 >"$tmp/bad.out" 2>&1 &
bad=$!
wait_for 30 grep -qs held "$tmp/bad.out"
run_cmd timeout 60 "$muster" run -n 1 true
is "$rc" 0 "with a hundred of them jobs run, too"
[ "$(find "/proc/$ctl/fd" -lname 'socket:*' | wc -l)" -lt 60 ]
ok $? "and the controller holds few of them" || note "$(ls "/proc/$ctl/fd" | wc -l)"
kill "$bad" 2>/dev/null
wait_for 30 shows muster_slots
ok $? "afterwards it is served again"
{ printf 'GET /metrics HTTP/1.1\r\nX: '; head -c 200000 /dev/zero | tr '\0' x; } | timeout 60 python3 -c '
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 30)
try:
    s.sendall(sys.stdin.buffer.read())
    print(s.recv(100))
except ConnectionError:
    print("closed")' "$port" >"$tmp/long"
like "$(cat "$tmp/long")" '431|413|400|414|closed' "headers without an end are refused"

# The next controller serves it, too
kill -9 "$ctl"
{ wait "$ctl"; } 2>/dev/null
run_cmd timeout 60 env MUSTER_METRICS="$port" "$muster" run -n 1 true
wait_for 30 shows muster_slots
ok $? "one that follows it has it from the environment"
stop

# Beyond loopback, and with what is needed there
umask 077
mkdir -p "$MUSTER_HOME"
printf 'short\n' >"$MUSTER_HOME/metrics.token"
controller --metrics "0.0.0.0:$port"
like "$rc $err" "^2 muster: --metrics: .*/home/metrics.token is no token: one line of 16" "a token that can be guessed"
token=$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')
printf '%s\n' "$token" >"$MUSTER_HOME/metrics.token"
chmod 640 "$MUSTER_HOME/metrics.token"
controller --metrics "$port"
like "$rc $err" "^2 muster: --metrics: .*metrics.token is open to others: chmod 600 it" "a token that others can read"
chmod 600 "$MUSTER_HOME/metrics.token"
controller --metrics "0.0.0.0:$port"
like "$rc $err" '^2 .*beyond loopback: .* and \.crt is missing' "no certificate"
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$MUSTER_HOME/metrics.key" -out "$MUSTER_HOME/metrics.crt" -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 2>/dev/null
mv "$MUSTER_HOME/metrics.key" "$tmp/key"
controller --metrics "127.0.0.1:$port"
like "$rc $err" '^2 .*metrics.crt is there without metrics.key' "a certificate without its key"
openssl genrsa -out "$MUSTER_HOME/metrics.key" 2048 2>/dev/null
controller --metrics "0.0.0.0:$port"
like "$rc $err" '^2 .*are no certificate and its key' "another one's key" || note "$err"
cp "$tmp/key" "$MUSTER_HOME/metrics.key"
chmod 644 "$MUSTER_HOME/metrics.key"
controller --metrics "0.0.0.0:$port"
like "$rc $err" '^2 .*metrics.key is open to others' "a key that others can read"
chmod 600 "$MUSTER_HOME/metrics.key"
serve --metrics "0.0.0.0:$port"
ok $? "with all of them it is opened" || note "$(cat "$tmp/ctl.err")"
url=https://127.0.0.1:$port/metrics
with=(--cacert "$MUSTER_HOME/metrics.crt")
is "$(get "${with[@]}" -o /dev/null -w '%{http_code}' "$url")" 401 "not without the token"
is "$(get "${with[@]}" -o /dev/null -w '%{http_code}' -H "Authorization: Bearer ${token%?}" "$url")" 401 "not with a part of it"
is "$(get "${with[@]}" -o /dev/null -w '%{http_code}' -H "Authorization: Basic $token" "$url")" 401 "not in another scheme"
like "$(get "${with[@]}" -H "Authorization: Bearer $token" "$url")" 'muster_slots' "with it, over TLS"
like "$(get "${with[@]}" -D - "${url%metrics}" | tr -d '\r')" '401 .*WWW-Authenticate: Bearer.*WWW-Authenticate: Basic realm=' "a browser is told to ask for it"
like "$(get "${with[@]}" -u "x:$token" "${url%metrics}")" 'sum-nodes.*<th scope=col class="">Reason' "as a password, for the page, which has words then"
is "$(get "${with[@]}" -u "x:${token}0" -o /dev/null -w '%{http_code}' "${url%metrics}")" 401 "not with another one"
is "$(get "${with[@]}" -H "Authorization: Basic $(printf %s "$token" | base64 -w 0)" -o /dev/null -w '%{http_code}' "${url%metrics}")" 401 "not as a user"
is "$(get "${with[@]}" -u "x:$token" -H 'Host: name.example' -o /dev/null -w '%{http_code}' "${url%metrics}")" 200 "under any name"
for path in status.json page.js icon.svg job/1; do
    is "$(get "${with[@]}" -o /dev/null -w '%{http_code}' "${url%metrics}$path")" 401 "nor $path without it"
done
is "$(get -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/metrics")" 000 "not in the clear"
run_cmd get "${with[@]}" --tls-max 1.1 -H "Authorization: Bearer $token" "$url"
isnt "$rc" 0 "not over TLS 1.1"
unlike "$(cat "$tmp/ctl.err")$(get "${with[@]}" -H "Authorization: Bearer $token" "$url")" "$token" "the token is told to nobody"
stop
done_testing
