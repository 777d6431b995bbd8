//! Connections: TLS with the cluster's own CA, and plain words for why one failed.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::{Error, Server};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The HTTP client for `server`, trusting the CA certificates in `ca_pem` and no others.
pub(crate) fn http(
    server: &Server,
    ca_pem: Option<&[u8]>,
    answer_within: Duration,
) -> Result<reqwest::Client, Error> {
    let tls = tls(ca_pem)?;
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("vipd-client/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(answer_within)
        .tls_backend_preconfigured(tls);
    if let Server::Unix(path) = server {
        builder = builder.unix_socket(path.as_path());
    }
    builder.build().map_err(|cause| Error::BadServer {
        given: server.to_string(),
        why: root_cause(&cause),
    })
}

fn tls(ca_pem: Option<&[u8]>) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = ca_pem {
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|cause| Error::BadCa(cause.to_string()))?;
            roots
                .add(certificate)
                .map_err(|cause| Error::BadCa(cause.to_string()))?;
        }
        if roots.is_empty() {
            return Err(Error::BadCa("no certificate in it".into()));
        }
    }
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|cause| Error::BadCa(cause.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(config)
}

/// The port of the peers, unless somebody has chosen another.
const PEERS: &str = ":7400";

/// Says in operator words why `server` could not be asked.
pub(crate) fn unreachable(
    server: &Server,
    failed: &reqwest::Error,
    answer_within: Duration,
) -> Error {
    if failed.is_timeout() && !failed.is_connect() {
        return Error::TimedOut {
            server: server.to_string(),
            seconds: answer_within.as_secs(),
        };
    }
    let cause = root_cause(failed);
    let next = match (server, io_kind(failed)) {
        (Server::Unix(_), Some(io::ErrorKind::NotFound)) => {
            "start vipd on this host (systemctl start vipd), or name another with --server"
                .to_owned()
        }
        (Server::Unix(path), Some(io::ErrorKind::PermissionDenied)) => {
            format!(
                "run as root or as a member of the group that owns {} (group vipd)",
                path.display()
            )
        }
        (Server::Unix(_), Some(io::ErrorKind::ConnectionRefused)) => {
            "the socket is a leftover of a daemon that has ended: start vipd (systemctl start vipd)"
                .to_owned()
        }
        (Server::Https(_), _) if server.to_string().ends_with(PEERS) => {
            "port 7400 is for peers: the API is at what [api] listen of vipd.toml says there"
                .to_owned()
        }
        (Server::Https(_), _) if cause.contains("UnknownIssuer") => {
            "give the cluster's CA certificate with --ca FILE; every node has it as ca.pem in its data_dir"
                .to_owned()
        }
        (Server::Https(_), _) if cause.contains("certificate") => {
            "check that this is a node of the cluster whose CA certificate you gave".to_owned()
        }
        _ => "check the address and that vipd runs there, or ask another node".to_owned(),
    };
    Error::Unreachable {
        server: server.to_string(),
        cause,
        next,
    }
}

/// The innermost reason of an error, which is the one that helps.
pub(crate) fn root_cause(failed: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = failed;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn io_kind(failed: &reqwest::Error) -> Option<io::ErrorKind> {
    let mut cause = failed.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        cause = inner.source();
    }
    None
}
