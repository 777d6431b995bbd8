#!/bin/sh
# Runs inside a small Debian with a real systemd: the lives of the deb and the rpm, from installation to removal.
# Every line it prints is a sentence that was true; the first one that is not ends it.
# /out holds old.deb, new.deb and vipd.rpm; /out/verdict says "ok" if the end was reached.
set -u
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
VIP=192.0.2.100

fail() {
    echo "not ok - $1"
    systemctl --no-pager --full --lines=0 status vipd 2>&1
    journalctl --no-pager -u vipd -n 60 -o cat 2>&1
    exit 1
}
is() { # is "sentence" command...
    sentence=$1
    shift
    "$@" >/tmp/said 2>&1 || { cat /tmp/said; fail "$sentence"; }
    echo "ok - $sentence"
}
isnt() {
    sentence=$1
    shift
    if "$@" >/tmp/said 2>&1; then cat /tmp/said; fail "$sentence"; fi
    echo "ok - $sentence"
}
within() { # within SECONDS "sentence" command...: a condition with a bound, asked ten times a second
    tries=$(($1 * 10)) sentence=$2
    shift 2
    while ! "$@" >/tmp/said 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { cat /tmp/said; fail "$sentence"; }
        sleep 0.1
    done
    echo "ok - $sentence"
}
holds() { ip -o addr show dev eth0 | grep -qwF "$VIP"; }
silent() { ! holds; }
pid() { systemctl show -P MainPID vipd; }
runs_as_vipd() { [ "$(stat -c %U "/proc/$(pid)")" = vipd ]; }
# The process first: that of a unit that has just died is 0, while it is still said to be active.
runs_anew() {
    now=$(pid)
    [ "$now" != 0 ] && [ "$now" != "$before" ] && systemctl is-active vipd
}
runs_the_installed_program() { ! readlink "/proc/$(pid)/exe" | grep -q deleted; }
nothing_pinned() { ! ls /sys/fs/bpf/vipd/* 2>/dev/null | grep -q .; }

first_node() {
    isnt "nothing runs before there is a configuration" systemctl is-active vipd
    is "init makes the first node" vipd init --config /etc/vipd/vipd.toml --data-dir /var/lib/vipd \
        --name n1 --listen 192.0.2.1:7400
    is "the daemon starts" systemctl start vipd
    is "it runs as its own user" runs_as_vipd
    is "vipctl reaches it without being told where" vipctl status
    is "a pool is made" vipctl pool create web --block 192.0.2.100-192.0.2.110
    is "a VIP is made" vipctl vip create www --pool web
    within 10 "the address is on the interface" holds
}

# What a real machine has before any package: a BPF file system, and a network card on a subnet.
mountpoint -q /sys/fs/bpf || mount -t bpf -o mode=0700 bpf /sys/fs/bpf || fail "the container has a BPF file system"
ip link add eth0 type veth peer name peer0 && ip link set peer0 up && ip link set eth0 up &&
    ip addr add 192.0.2.1/24 dev eth0 || fail "the container has a network card"

is "the deb installs" dpkg -i /out/old.deb
is "the daemon has a user of its own" id vipd
is "the unit is enabled" systemctl is-enabled vipd
is "the sample configuration passes its own check" vipd check --config /etc/vipd/vipd.toml.sample
first_node

before=$(pid)
is "the daemon is killed" kill -9 "$before"
within 10 "systemd starts it again" runs_anew
within 10 "the address is on the interface again" holds

before=$(pid)
is "a newer deb installs over it" dpkg -i /out/new.deb
is "the address did not leave the interface" holds
within 10 "the new program runs" runs_the_installed_program
is "it took over in place" [ "$(pid)" = "$before" ]
within 10 "it serves its API" vipctl status
is "the address is still on the interface" holds
is "the configuration was left alone" test -s /etc/vipd/vipd.toml

is "the deb is removed" dpkg -r vipd
within 5 "the address is gone from the interface" silent
is "no program stays in the kernel" nothing_pinned
is "the node's data is kept" test -d /var/lib/vipd
is "the deb is purged" dpkg -P vipd
isnt "its data is gone" test -e /var/lib/vipd
isnt "its configuration is gone" test -e /etc/vipd

# The rpm's scriptlets and files, under an rpm of Debian's: its dependencies are not to be found in that world.
is "the rpm installs" rpm --install --nodeps /out/vipd.rpm
first_node
is "the rpm is removed" rpm --erase --nodeps vipd
within 5 "the address is gone from the interface" silent
is "no program stays in the kernel" nothing_pinned
isnt "the programs are gone" test -e /usr/bin/vipd

echo ok >/out/verdict
