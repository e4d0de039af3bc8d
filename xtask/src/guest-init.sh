#!/bin/sh
# Process 1 of the guest that `cargo xtask guest` boots. Its root is this machine's, read-only; what
# the tests write is in memory. The kernel's command line says which program, where, and what of it.
export HOME=/root TMPDIR=/mnt
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$HOME/.cargo/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts -o ptmxmode=0666 pts /dev/pts
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t tmpfs -o size=60%,mode=1777 mnt /mnt
ip link set lo up
# A session takes eleven descriptors of its supervisor, and a test has two hundred of them.
ulimit -n 100000
for word in $(cat /proc/cmdline); do
    case $word in guest.*) export "${word#guest.}" ;; esac
done
busybox insmod "$overlay"
echo "guest: Linux $(uname -r), control groups of version 2: $(cat /sys/fs/cgroup/cgroup.controllers)"
# The attacks that ship, as root and as an ordinary user, who may not read what is root's.
attack() {
    [ -n "$binary" ] || return 0
    mkdir -p /mnt/attack/root /mnt/attack/user && cp "$binary" /mnt/attack/cofferdam || return 1
    chown 1000:1000 /mnt/attack/user
    cd /mnt/attack/root && HOME=$PWD /mnt/attack/cofferdam redteam --within 20m || return 1
    cd /mnt/attack/user && env -i PATH=/usr/bin:/bin HOME="$PWD" TMPDIR="$PWD" \
        setpriv --reuid 1000 --regid 1000 --clear-groups /mnt/attack/cofferdam redteam --within 20m
}
try() {
    [ -n "$tests" ] || return 0
    cd "$crate" && "$program" --test-threads=2 $(echo "$tests" | tr , ' ')
}
try && attack && echo "guest: passed"
echo o > /proc/sysrq-trigger
while :; do sleep 1; done
