//! TLS 1.3 between nodes, on ring, by the cluster's own CA.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};
use vipd_core::id::NodeId;

use crate::identity::{Identity, fingerprint, node_server_name};

/// How long a TCP connection may take to open: within one network, a longer wait means that nobody is there.
const CONNECT: Duration = Duration::from_millis(100);
/// How long the TLS handshake and the greeting may take.
pub(crate) const HANDSHAKE: Duration = Duration::from_millis(1500);
const ALPN: &[u8] = b"vipd/1";

/// This node's side of TLS, both ways.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) connector: TlsConnector,
}

impl Tls {
    pub(crate) fn new(identity: &Identity) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(identity.authority.certificate().clone())?;
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(clients)
            .with_single_cert(identity.chain(), identity.private_key())?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        // Every connection proves both certificates anew.
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(identity.chain(), identity.private_key())?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        Ok(Self {
            acceptor: Arc::new(server).into(),
            connector: Arc::new(client).into(),
        })
    }
}

/// Whether `certificate`, whose chain was checked, is the one of `node`.
pub(crate) fn is_certificate_of(
    certificate: &CertificateDer<'_>,
    cluster: &[u8; 16],
    node: NodeId,
) -> bool {
    ParsedCertificate::try_from(certificate)
        .and_then(|parsed| verify_server_name(&parsed, &node_server_name(cluster, node)))
        .is_ok()
}

/// Opens a connection to `addr` and does the handshake, each within its bound.
pub(crate) async fn open_stream(
    connector: &TlsConnector,
    addr: SocketAddr,
    name: ServerName<'static>,
    patience: Duration,
) -> io::Result<TlsStream<TcpStream>> {
    let late = |what: &str| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("{what} {addr} took too long"),
        )
    };
    let connect = TcpStream::connect(addr);
    let tcp = timeout(CONNECT.max(patience), connect)
        .await
        .map_err(|_| late("connecting to"))??;
    tcp.set_nodelay(true)?;
    let handshake = connector.connect(name, tcp);
    timeout(HANDSHAKE.max(patience), handshake)
        .await
        .map_err(|_| late("the TLS handshake with"))?
}

/// The TLS of a node that has only a token: it trusts the CA with the token's fingerprint and nothing else.
pub(crate) fn joiner_config(pin: [u8; 32]) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Pinned {
        pin,
        provider: provider.clone(),
    });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Accepts a chain that contains the CA with the pinned fingerprint and verifies against it.
#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(ca) = intermediates
            .iter()
            .find(|certificate| fingerprint(certificate) == self.pin)
        else {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
