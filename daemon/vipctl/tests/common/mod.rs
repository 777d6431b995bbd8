//! Runs the real `vipctl` against the API over the in-memory twin of the daemon.
#![allow(dead_code, unreachable_pub)] // each test program uses its part

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use vipd_api::memory::Memory;
use vipd_api::{Api, bind_tcp, bind_unix, tls_config};

pub struct Node {
    pub memory: Arc<Memory>,
    pub dir: TempDir,
    pub tls: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What a run of `vipctl` came to.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Run {
    /// The output of a run that must have been good, silent on stderr.
    pub fn good(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    /// The two lines of stderr of a run that must have been refused, silent on stdout.
    pub fn refused(self) -> (String, String) {
        assert_eq!((self.code, self.out.as_str()), (1, ""), "{}", self.err);
        let lines: Vec<_> = self.err.lines().collect();
        assert_eq!(lines.len(), 2, "{}", self.err);
        let strip = |line: &str, prefix| {
            line.strip_prefix(prefix)
                .expect("error: and next:")
                .to_owned()
        };
        (strip(lines[0], "error: "), strip(lines[1], "next: "))
    }
}

impl Node {
    pub async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let (memory, stop) = (Memory::three_nodes(), CancellationToken::new());
        let api = Api::new(memory.clone());
        let unix = bind_unix(&dir.path().join("api.sock")).unwrap();
        let tcp = bind_tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let tls = tcp.local_addr().unwrap();
        tokio::spawn(api.clone().serve_unix(unix, stop.clone()));
        tokio::spawn(api.serve_tls(tcp, certificate(dir.path()), stop.clone()));
        Self {
            memory,
            dir,
            tls,
            stop,
        }
    }

    pub fn server(&self) -> String {
        format!("unix:{}", self.dir.path().join("api.sock").display())
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs `vipctl` with these words, which are split at blanks.
    pub async fn vipctl(&self, words: &str) -> Run {
        run(&self.server(), words.split_whitespace(), "").await
    }

    pub async fn vipctl_stdin(&self, words: &str, stdin: &str) -> Run {
        run(&self.server(), words.split_whitespace(), stdin).await
    }

    /// Pool `web` and VIP `www`, dual stack.
    pub async fn web_and_www(&self) {
        self.vipctl("pool create web --block 10.0.0.10-10.0.0.20 --block fd00::10-fd00::20")
            .await
            .good();
        self.vipctl("vip create www --pool web --families require_dual")
            .await
            .good();
    }
}

pub async fn run<'a>(server: &str, words: impl Iterator<Item = &'a str>, stdin: &str) -> Run {
    run_with(server, words, stdin, &[]).await
}

/// The same with these variables set.
pub async fn run_with<'a>(
    server: &str,
    words: impl Iterator<Item = &'a str>,
    stdin: &str,
    variables: &[(&str, &str)],
) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vipctl"));
    command
        .args(words)
        .env_clear()
        .env("VIPD_SERVER", server)
        .env("TZ", "UTC")
        .envs(variables.iter().copied());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(stdin.as_bytes()).await.unwrap();
    drop(input);
    let ended = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await;
    let ended = ended.expect("vipctl ends").unwrap();
    Run {
        code: ended.status.code().expect("no signal"),
        out: String::from_utf8(ended.stdout).unwrap(),
        err: String::from_utf8(ended.stderr).unwrap(),
    }
}

/// A certificate for 127.0.0.1 by a CA whose own is put into `ca.crt`.
fn certificate(dir: &Path) -> Arc<rustls::ServerConfig> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &ca)
        .unwrap();
    std::fs::write(dir.join("ca.crt"), ca.pem()).unwrap();
    tls_config(
        vec![leaf.der().clone()],
        PrivateKeyDer::Pkcs8(key.serialize_der().into()),
    )
    .unwrap()
}
