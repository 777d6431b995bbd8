#!/bin/busybox sh
# The first program of the emulated machine: runs the test programs that /suite names, one after the other, and turns the
# machine off. Lines that begin with @@ are for the task that has booted it; see report.rs.
/bin/busybox --install -s /bin
export PATH=/bin VIPD_EBPF_OBJECT=/vipd.bpf.o
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf

echo "@@ kernel $(uname -r)"
while read -r module; do
    insmod "/modules/$module.ko" || echo "@@ trouble no module $module"
done </modules/order
ifconfig lo up

while read -r program limit arguments; do
    # The kernel takes seconds here to verify programs, and each case of a test has its own: three of twelve (two of eight), which
    # are of different modes, protocols and families. frames_fuzz has one of them for all cases.
    step=5
    [ "$program" = frames_fuzz ] && step=1
    echo "@@ begin $program"
    # Tests find what they call in /tools, and nothing else. Arguments are not quoted: they are words.
    VIPD_CASES_STEP=$step PATH=/tools /bin/timeout -s KILL "$limit" "/tests/$program" $arguments </dev/null 2>&1
    echo "@@ end $program $?"
done </suite

# Bit 7: the kernel has died in part; bit 9: it has warned. Whatever ran here is to blame.
tainted=$(cat /proc/sys/kernel/tainted)
if [ $((tainted & (1 << 7 | 1 << 9))) != 0 ]; then
    dmesg | tail -n 60
    echo "@@ trouble the kernel complained (tainted: $tainted), see the lines above"
fi
echo "@@ done"
poweroff -f
