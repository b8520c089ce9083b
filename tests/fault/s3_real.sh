# shellcheck shell=bash
# Real object stores for tests, on loopback, below a directory of theirs: Ceph's radosgw and OpenStack Swift with s3api.
#   up_ceph DIR, up_swift DIR     set AWS_ENDPOINT_URL and the key; 1: it did not come up (DIR/log says why)
#   down DIR                      ends what was started there
port_base=$((20000 + RANDOM % 8000))

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; } # PORT

down() { # DIR
    local p pid
    for p in "$1"/run/*.pid; do
        [ -s "$p" ] && kill "$(cat "$p")" 2>/dev/null
    done
    for p in "$1"/run/*.pid; do
        [ -s "$p" ] || continue
        pid=$(cat "$p")
        wait_for 10 eval "! kill -0 $pid 2>/dev/null" || kill -9 "$pid" 2>/dev/null
    done
}

# One monitor, one manager, one OSD in memory.
up_ceph() { # DIR
    local d=$1 fsid n i mon=$port_base rgw=$((port_base + 2)) c
    mkdir -p "$d"/{mon,mgr,osd,rgw,run,log}
    fsid=$(cat /proc/sys/kernel/random/uuid)
    cat >"$d/ceph.conf" <<C
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:$mon,v1:127.0.0.1:$((mon + 1))]
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = $d/keyring
auth allow insecure global id reclaim = false
ms bind ipv6 = false
run dir = $d/run
admin socket = $d/run/\$name.asok
pid file = $d/run/\$name.pid
log file = $d/log/\$name.log
crash dir = $d/log
setuser match path =
mon data = $d/mon
mgr data = $d/mgr
osd data = $d/osd
rgw data = $d/rgw
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 536870912
osd scrub load threshold = 2000
mon max pg per osd = 1000
mon osd max split count = 1000
mon data avail warn = 2
mon data avail crit = 1
mon warn on pool no redundancy = false
mgr initial modules =
mgr modules =
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:$rgw
rgw enable apis = s3
C
    c=(-c "$d/ceph.conf")
    {
        ceph-authtool --create-keyring "$d/keyring" --gen-key -n mon. --cap mon 'allow *'
        for n in client.admin client.rgw.a mgr.x osd.0; do
            ceph-authtool "$d/keyring" --gen-key -n $n --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' --cap mds 'allow *'
        done
        monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$mon,v1:127.0.0.1:$((mon + 1))]" "$d/monmap"
        ceph-mon "${c[@]}" --mkfs -i a --monmap "$d/monmap" --keyring "$d/keyring" &&
            ceph-mon "${c[@]}" -i a &&
            ceph-osd "${c[@]}" --no-mon-config -i 0 --mkfs --osd-uuid "$(cat /proc/sys/kernel/random/uuid)" &&
            ceph-mgr "${c[@]}" -i x &&
            timeout 20 ceph "${c[@]}" osd new "$(cat "$d/osd/fsid")" 0 &&
            ceph-osd "${c[@]}" -i 0 || return 1
        for ((i = 0; i < 60; i++)); do
            timeout 10 ceph "${c[@]}" osd stat 2>/dev/null | grep -q '1 up' && break
            sleep 0.3
        done
        radosgw "${c[@]}" -n client.rgw.a
        wait_for 60 answers "$rgw" &&
            timeout 60 radosgw-admin "${c[@]}" user create --uid=muster --display-name=muster --access-key=AKMUSTER --secret-key=SKMUSTER
    } >"$d/log/up" 2>&1 || return 1
    export AWS_ENDPOINT_URL=http://127.0.0.1:$rgw AWS_ACCESS_KEY_ID=AKMUSTER AWS_SECRET_ACCESS_KEY=SKMUSTER
}

# One device, one replica.
up_swift() { # DIR
    local d=$1 k n p proxy=$((port_base + 10)) cache=$((port_base + 14)) user
    user=$(id -un)
    mkdir -p "$d"/{srv/d1,etc,run,log}
    printf '[swift-hash]\nswift_hash_path_suffix = a\nswift_hash_path_prefix = b\n[swift-constraints]\n[storage-policy:0]\nname = p0\ndefault = yes\n' >"$d/etc/swift.conf"
    for k in account:1 container:2 object:3; do
        n=${k%:*} p=$((proxy + ${k#*:}))
        (cd "$d/etc" && swift-ring-builder $n.builder create 4 1 1 &&
            swift-ring-builder $n.builder add "r1z1-127.0.0.1:$p/d1" 1 && swift-ring-builder $n.builder rebalance) >>"$d/log/up" 2>&1
        cat >"$d/etc/$n-server.conf" <<C
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $p
workers = 0
user = $user
swift_dir = $d/etc
devices = $d/srv
mount_check = false
[pipeline:main]
pipeline = $n-server
[app:$n-server]
use = egg:swift#$n
C
    done
    cat >"$d/etc/proxy-server.conf" <<C
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $proxy
workers = 0
user = $user
swift_dir = $d/etc
[pipeline:main]
pipeline = catch_errors proxy-logging cache listing_formats bulk s3api tempauth slo dlo versioned_writes proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:$cache
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
C
    memcached -u "$user" -l 127.0.0.1 -p "$cache" >"$d/log/memcached" 2>&1 &
    echo $! >"$d/run/memcached.pid"
    for n in account container object proxy; do
        swift-$n-server "$d/etc/$n-server.conf" >"$d/log/$n" 2>&1 &
        echo $! >"$d/run/$n.pid"
    done
    for k in 0 1 2 3 4; do
        wait_for 40 answers $((proxy + k)) || return 1
    done
    export AWS_ENDPOINT_URL=http://127.0.0.1:$proxy AWS_ACCESS_KEY_ID=test:tester AWS_SECRET_ACCESS_KEY=testing
}
