//! A network with backends: a switch between the host, the client and them.

use std::{
    io::{BufRead, BufReader, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use vipd_datapath::{
    Forward, Frontend, Gate, Protocol, Services, Wanted, WantedBackend, WantedService,
};

use super::{Net, VIP4, VIP6, enter, output, run, wanted};

/// Longest wait for a packet that should come at once.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The switch and the backends, numbered from 1: 10.9.0.11, fd09::11 and so on.
pub struct Lan {
    net: &'static Net,
    backends: u8,
}

impl Lan {
    /// Puts a switch between the two of `net`, and backends beside them.
    pub fn new(net: &'static Net, backends: u8) -> Self {
        let lan = Self { net, backends };
        run("ip", &["-n", &net.host(), "link", "del", "lan"]);
        run("ip", &["netns", "add", &lan.switch()]);
        let switch = lan.switch();
        run(
            "ip",
            &["-n", &switch, "link", "add", "switch", "type", "bridge"],
        );
        run("ip", &["-n", &switch, "link", "set", "switch", "up"]);
        lan.plug(&net.host(), 1);
        lan.plug(&net.client(), 2);
        for number in 1..=backends {
            let backend = lan.backend(number);
            run("ip", &["netns", "add", &backend]);
            run("ip", &["-n", &backend, "link", "set", "lo", "up"]);
            lan.plug(&backend, 10 + number);
        }
        (1..=backends).for_each(|number| lan.wait_for(number));
        lan
    }

    /// Until the host reaches a backend: the switch hears of a new cable later than who plugs it, seconds on a busy machine.
    fn wait_for(&self, number: u8) {
        let begin = Instant::now();
        for address in [format!("10.9.0.1{number}"), format!("fd09::1{number}")] {
            let asked = ["-n", "-q", "-c", "1", "-W", "1", &address];
            while !output("ping", &asked).status.success() {
                assert!(begin.elapsed() < Duration::from_secs(30), "{address}");
            }
        }
    }

    fn switch(&self) -> String {
        format!("{}s", self.net.host())
    }

    /// The namespace of a backend.
    pub fn backend(&self, number: u8) -> String {
        format!("{}b{number}", self.net.host())
    }

    /// `lan` in a namespace, with the last byte of its addresses and MAC.
    fn plug(&self, namespace: &str, last: u8) {
        let (mac, port) = (format!("02:00:00:00:00:{last:02x}"), format!("p{last}"));
        let switch = self.switch();
        let pair = [
            "-n", namespace, "link", "add", "lan", "address", &mac, "type", "veth", "peer", "name",
            &port, "netns", &switch,
        ];
        run("ip", &pair);
        run(
            "ip",
            &[
                "-n", &switch, "link", "set", &port, "master", "switch", "up",
            ],
        );
        run("ip", &["-n", namespace, "link", "set", "lan", "up"]);
        let (v4, v6) = (format!("10.9.0.{last}/24"), format!("fd09::{last}/64"));
        run("ip", &["-n", namespace, "addr", "add", &v4, "dev", "lan"]);
        run(
            "ip",
            &["-n", namespace, "addr", "add", &v6, "dev", "lan", "nodad"],
        );
    }

    /// Gives a backend both virtual IPs on an interface that answers no ARP, as dsr needs it.
    pub fn prepare_for_dsr(&self, number: u8) {
        let backend = self.backend(number);
        for setting in ["arp_ignore=1", "arp_announce=2"] {
            let setting = format!("net.ipv4.conf.all.{setting}");
            run(
                "ip",
                &["netns", "exec", &backend, "sysctl", "-qw", &setting],
            );
        }
        run("ip", &["-n", &backend, "addr", "add", VIP4, "dev", "lo"]);
        run(
            "ip",
            &["-n", &backend, "addr", "add", VIP6, "dev", "lo", "nodad"],
        );
    }

    /// A socket at a backend, for all its addresses.
    pub fn socket(&self, number: u8, port: u16) -> UdpSocket {
        let namespace = self.backend(number);
        let bind = move || {
            enter(&namespace);
            UdpSocket::bind(("::", port)).unwrap()
        };
        thread::spawn(bind).join().unwrap()
    }

    /// Runs a server at a backend, for all its addresses.
    pub fn serve(&self, number: u8, port: u16) -> Server {
        let all = SocketAddr::new("::".parse().unwrap(), port);
        Server::start(self.backend(number), number, all)
    }

    /// Runs a server at a backend, or the host (0), for one address: by UDP it answers from that.
    pub fn serve_at(&self, number: u8, at: &str, port: u16) -> Server {
        let namespace = match number {
            0 => self.net.host(),
            _ => self.backend(number),
        };
        Server::start(
            namespace,
            number,
            SocketAddr::new(at.parse().unwrap(), port),
        )
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let backends = (1..=self.backends).map(|number| self.backend(number));
        for namespace in backends.chain([self.switch()]) {
            output("ip", &["netns", "del", &namespace]);
        }
    }
}

/// Answers each line that comes by TCP, and each datagram, with `<number> <address of the asker> <what was asked>`.
pub struct Server {
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    fn start(namespace: String, number: u8, at: SocketAddr) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let (tcp, udp) = thread::spawn(move || {
            enter(&namespace);
            (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap())
        })
        .join()
        .unwrap();
        tcp.set_nonblocking(true).unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let threads = vec![
            thread::spawn({
                let stopped = Arc::clone(&stopped);
                move || accept(&tcp, number, &stopped)
            }),
            thread::spawn({
                let stopped = Arc::clone(&stopped);
                move || datagrams(&udp, number, &stopped)
            }),
        ];
        Self { stopped, threads }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.threads
            .drain(..)
            .for_each(|thread| thread.join().unwrap());
    }
}

fn accept(listener: &TcpListener, number: u8, stopped: &Arc<AtomicBool>) {
    let mut connections = Vec::new();
    while !stopped.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, peer)) => {
                let stopped = Arc::clone(stopped);
                connections.push(thread::spawn(move || lines(stream, peer, number, &stopped)));
            }
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
    connections
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

fn lines(mut stream: TcpStream, peer: SocketAddr, number: u8, stopped: &AtomicBool) {
    stream.set_nonblocking(false).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while !stopped.load(Ordering::Relaxed) {
        match reader.read_line(&mut line) {
            Ok(0) => return,
            Ok(_) => {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                if write!(stream, "{number} {peer} {line}").is_err() {
                    return;
                }
                line.clear();
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

fn datagrams(socket: &UdpSocket, number: u8, stopped: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stopped.load(Ordering::Relaxed) {
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let seen = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            let asked = String::from_utf8_lossy(&buffer[..length]).into_owned();
            // From the address that was asked only if the socket knows just one: good enough for nat.
            let _ = socket.send_to(format!("{number} {seen} {asked}").as_bytes(), peer);
        }
    }
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub backend: u8,
    /// Who it thinks has asked.
    pub asker: SocketAddr,
    pub text: String,
}

impl Answer {
    fn read(answer: &str) -> Self {
        let mut words = answer.splitn(3, ' ');
        let mut word = || words.next().expect(answer);
        Self {
            backend: word().parse().unwrap(),
            asker: word().parse().unwrap(),
            text: word().trim_end().to_owned(),
        }
    }
}

/// A connection of the client.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Within the client's namespace.
    pub fn open(to: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    pub fn ask(&mut self, text: &str) -> std::io::Result<Answer> {
        self.ask_within(text, PATIENCE)
    }

    /// The same, for no longer than this.
    pub fn ask_within(&mut self, text: &str, patience: Duration) -> std::io::Result<Answer> {
        writeln!(self.0.get_mut(), "{text}")?;
        self.0.get_ref().set_read_timeout(Some(patience))?;
        let answer = self.answer();
        self.0.get_ref().set_read_timeout(Some(PATIENCE))?;
        answer
    }

    /// The answer to what was asked before.
    pub fn answer(&mut self) -> std::io::Result<Answer> {
        let mut line = String::new();
        match self.0.read_line(&mut line)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(Answer::read(&line)),
        }
    }

    pub fn port(&self) -> u16 {
        self.0.get_ref().local_addr().unwrap().port()
    }
}

/// Asks by UDP from a socket of its own, which accepts answers of the asked address only. As long as that is kept, no
/// other one gets its port.
pub fn ask_udp(to: SocketAddr, text: &str) -> std::io::Result<(Answer, UdpSocket)> {
    let any: IpAddr = if to.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap();
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    socket.send(text.as_bytes())?;
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer)?;
    let answer = Answer::read(&String::from_utf8_lossy(&buffer[..length]));
    Ok((answer, socket))
}

pub fn frontend(address: &str, port: u16, protocol: Protocol) -> Frontend {
    Frontend {
        address: address.parse().unwrap(),
        port,
        protocol,
    }
}

/// Backends by the last part of their addresses, of the family of `like`.
pub fn service(like: &str, mode: Forward, port: u16, backends: &[(u8, u32)]) -> Arc<WantedService> {
    let address = |last: u8| match like.parse().unwrap() {
        IpAddr::V4(_) => format!("10.9.0.{last}"),
        IpAddr::V6(_) => format!("fd09::{last}"),
    };
    let backend = |(last, weight): &(u8, u32)| WantedBackend {
        address: address(*last).parse().unwrap(),
        port,
        weight: *weight,
        draining: false,
    };
    Arc::new(WantedService {
        mode,
        backends: backends.iter().map(backend).collect(),
        keep: false,
        affinity: None,
        ranges: Vec::new(),
    })
}

/// Port 80 of both virtual IPs by TCP and UDP, to port 8080 of backends (dsr: 80).
pub fn services(mode: Forward, backends: &[(u8, u32)]) -> Services {
    let port = match mode {
        Forward::Nat => 8080,
        Forward::Dsr(_) => 0,
    };
    let mut services = Services::new();
    for vip in [VIP4, VIP6] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            services.insert(
                frontend(vip, 80, protocol),
                service(vip, mode, port, backends),
            );
        }
    }
    services
}

/// Port 80 of an address by TCP and UDP, to port 8080 of these backends, wherever they are.
pub fn nat_to(vip: &str, backends: &[&str]) -> Services {
    let mut wanted = (*service(vip, Forward::Nat, 8080, &[])).clone();
    let backend = |address: &&str| WantedBackend {
        address: address.parse().unwrap(),
        port: 8080,
        weight: 1,
        draining: false,
    };
    wanted.backends = backends.iter().map(backend).collect();
    let wanted = Arc::new(wanted);
    let by = |protocol| (frontend(vip, 80, protocol), Arc::clone(&wanted));
    [Protocol::Tcp, Protocol::Udp].map(by).into()
}

/// Both virtual IPs open on `lan`, with services.
pub fn balanced(services: Services) -> Wanted {
    Wanted {
        services: Arc::new(services),
        ..wanted(Gate::Open, 1)
    }
}
