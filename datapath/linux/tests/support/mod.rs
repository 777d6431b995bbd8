//! Two network namespaces of a test's own, `host` and `client`, joined by a veth pair.
//!
//! The test runs in a thread that has entered `host`; the client's side is used by commands and
//! by packet sockets opened there.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod balance;
pub mod baseline;
pub mod bench;
pub mod checks;
pub mod clients;
pub mod lan;
pub mod linked;
pub mod packet;
pub mod raw;
pub mod segment;
pub mod short;
pub mod wire;

use std::{
    fs::File,
    future::Future,
    net::IpAddr,
    path::PathBuf,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use aya::programs::{SchedClassifier, TcAttachType};
use nix::sched::{CloneFlags, setns};
use vipd_datapath::{Counts, Datapath, Gate, Kernel, NodeGate, Wanted, WantedAddress, boottime_ns};

pub const VIP4: &str = "10.9.0.100";
pub const VIP6: &str = "fd09::100";
pub const MAC_HOST: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const MAC_CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const SECOND: u64 = 1_000_000_000;

pub struct Net {
    name: String,
    pub pins: PathBuf,
}

/// Fails with one line where the kernel tests cannot run.
pub fn need_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test makes network namespaces and loads eBPF programs: run it as root"
    );
}

impl Net {
    fn new() -> Self {
        need_root();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vipdt{}-{count}", std::process::id());
        let net = Self {
            pins: PathBuf::from(format!("/sys/fs/bpf/{name}")),
            name,
        };
        let (host, client) = (net.host(), net.client());
        for namespace in [&host, &client] {
            run("ip", &["netns", "add", namespace]);
            run("ip", &["-n", namespace, "link", "set", "lo", "up"]);
        }
        let pair = [
            "-n",
            &host,
            "link",
            "add",
            "lan",
            "address",
            "02:00:00:00:00:01",
            "type",
            "veth",
            "peer",
            "name",
            "lan",
            "address",
            "02:00:00:00:00:02",
            "netns",
            &client,
        ];
        run("ip", &pair);
        for namespace in [&host, &client] {
            run("ip", &["-n", namespace, "link", "set", "lan", "up"]);
        }
        // Once both ends have a carrier: an address added earlier would be tentative for a while.
        for (namespace, last) in [(&host, "1"), (&client, "2")] {
            let v4 = format!("10.9.0.{last}/24");
            let v6 = format!("fd09::{last}/64");
            run("ip", &["-n", namespace, "addr", "add", &v4, "dev", "lan"]);
            run(
                "ip",
                &["-n", namespace, "addr", "add", &v6, "dev", "lan", "nodad"],
            );
            run("ip", &["-n", namespace, "link", "set", "lan", "up"]);
        }
        net
    }

    /// The network of another process, which will take it down.
    pub fn borrowed(pins: PathBuf) -> Self {
        let name = String::new();
        Self { name, pins }
    }

    pub fn host(&self) -> String {
        format!("{}h", self.name)
    }

    pub fn client(&self) -> String {
        format!("{}c", self.name)
    }

    /// A command at the client: whether it succeeded.
    pub fn client_does(&self, command: &[&str]) -> bool {
        self.client_output(command).status.success()
    }

    /// A command at the client.
    pub fn client_output(&self, command: &[&str]) -> Output {
        let client = self.client();
        output("ip", &[&["netns", "exec", &client], command].concat())
    }

    /// Whether the address answers a ping with a fresh neighbour cache, given time.
    pub fn answers(&self, address: &str) -> bool {
        self.ping(address, "5")
    }

    /// Whether it does not, within 300 ms.
    pub fn silent(&self, address: &str) -> bool {
        !self.ping(address, "0.3")
    }

    fn ping(&self, address: &str, seconds: &str) -> bool {
        self.client_does(&["ip", "neigh", "flush", "to", address]);
        self.client_does(&["ping", "-n", "-c", "1", "-W", seconds, address])
    }

    /// The addresses on the host's interface, as `ip` prints them.
    pub fn addresses(&self) -> String {
        let host = self.host();
        let output = output("ip", &["-n", &host, "addr", "show", "dev", "lan"]);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs something in the client's namespace, in a thread.
    pub fn at_client<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        let client = self.client();
        let thread = thread::spawn(move || {
            enter(&client);
            f()
        });
        thread.join().unwrap()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for namespace in [self.host(), self.client()] {
            output("ip", &["netns", "del", &namespace]);
        }
        let _ = std::fs::remove_dir_all(&self.pins);
    }
}

pub fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    setns(file, CloneFlags::CLONE_NEWNET).unwrap();
}

fn output(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

/// A command that must succeed.
pub fn run(program: &str, arguments: &[&str]) {
    let output = output(program, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
}

/// Runs a test in the host namespace of a network of its own.
pub fn with_net<F: Future<Output = ()>>(test: impl FnOnce(&'static Net) -> F + Send + 'static) {
    let net = Net::new();
    // The test borrows it for as long as its thread runs; it is dropped here, also on a panic.
    let net = Box::leak(Box::new(net)) as *mut Net as usize;
    let result = thread::spawn(move || {
        // SAFETY: the network outlives this thread: it is freed after the join below.
        let net: &'static Net = unsafe { &*(net as *const Net) };
        enter(&net.host());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test(net));
    })
    .join();
    // SAFETY: made by Box::leak above, and the thread that borrowed it has ended.
    drop(unsafe { Box::from_raw(net as *mut Net) });
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

pub fn vips() -> [IpAddr; 2] {
    [VIP4.parse().unwrap(), VIP6.parse().unwrap()]
}

/// What was counted for both.
pub fn counters(kernel: &mut Kernel) -> Counts {
    let meter = kernel.meter().unwrap();
    meter.counters(&mut vips().into_iter()).unwrap()
}

/// Both VIPs on `lan`.
pub fn wanted(gate: Gate, epoch: u64) -> Wanted {
    let address = WantedAddress {
        interface: "lan".to_owned(),
        gate,
        epoch,
    };
    Wanted {
        addresses: vips().map(|vip| (vip, address.clone())).into(),
        interfaces: ["lan".to_owned()].into(),
        ..Wanted::default()
    }
}

/// A datapath with both VIPs applied, and its lease valid for `lease` ns.
pub async fn open(net: &Net, gate: Gate, lease: u64) -> (Kernel, Box<dyn NodeGate>) {
    use vipd_datapath::Datapath;
    let mut kernel = Kernel::open(&net.pins).await.unwrap();
    kernel.apply(&wanted(gate, 1)).await.unwrap();
    let mut node = kernel.node_gate().unwrap();
    node.set_deadline(boottime_ns() + lease);
    (kernel, node)
}

/// Waits until the clock of deadlines is past `deadline`.
pub fn wait_until_past(deadline: u64) {
    let start = Instant::now();
    while boottime_ns() <= deadline {
        assert!(start.elapsed() < Duration::from_secs(30));
        thread::sleep(Duration::from_millis(1));
    }
}

/// Programs on the interface, by tcx or by clsact.
pub fn programs() -> usize {
    let tcx = |direction| {
        SchedClassifier::query_tcx("lan", direction).map_or(0, |(_, programs)| programs.len())
    };
    let clsact = |direction| {
        let show = ["filter", "show", "dev", "lan", direction];
        let output = Command::new("tc").args(show).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|line| line.contains("vipd_")).count()
    };
    tcx(TcAttachType::Ingress) + tcx(TcAttachType::Egress) + clsact("ingress") + clsact("egress")
}

/// Waits until so many are left: the kernel lets go of a link a grace period after its last user.
pub fn wait_for_programs(left: usize) {
    let start = Instant::now();
    while programs() != left {
        assert!(start.elapsed() < Duration::from_secs(5), "{}", programs());
        thread::sleep(Duration::from_millis(1));
    }
}
