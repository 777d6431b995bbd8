//! TLS to backends: whom to believe.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vipd_core::health::{Http, Tls};

/// How long the system's authorities are believed to be the same.
const FRESH: Duration = Duration::from_secs(300);

/// The authorities of the system that this node runs on, read when they are first needed.
#[derive(Debug, Default)]
pub(super) struct Trust {
    known: Mutex<Option<(Instant, Arc<ClientConfig>)>>,
}

impl Trust {
    /// TLS with a backend, as it is asked for.
    pub(super) async fn handshake(
        &self,
        stream: TcpStream,
        at: SocketAddr,
        get: &Http,
    ) -> Result<TlsStream<TcpStream>, String> {
        let config = match get.tls {
            Tls::Verified => self.verified().await?,
            Tls::Plain | Tls::Unverified => unverified()?,
        };
        let name = match get.host.as_str() {
            "" => ServerName::IpAddress(at.ip().into()),
            host => ServerName::try_from(host.to_owned())
                .map_err(|error| format!("{host:?}: {error}"))?,
        };
        let done = TlsConnector::from(config).connect(name, stream).await;
        done.map_err(|error| match unknown_issuer(&error) {
            true => {
                "TLS: its certificate is by no authority that this node's system trusts".to_owned()
            }
            false => format!("TLS: {error}"),
        })
    }

    async fn verified(&self) -> Result<Arc<ClientConfig>, String> {
        let mut known = self.known.lock().await;
        if let Some((since, config)) = &*known
            && since.elapsed() < FRESH
        {
            return Ok(config.clone());
        }
        // Files of some hundred kilobytes.
        let read = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
        let read =
            read.map_err(|error| format!("the system's authorities are not read: {error}"))?;
        let mut roots = RootCertStore::empty();
        let (added, _unusable) = roots.add_parsable_certificates(read.certs);
        if added == 0 {
            let why = read.errors.first().map(ToString::to_string);
            return Err(format!(
                "this node's system trusts no certificate authority ({}): install ca-certificates",
                why.unwrap_or_else(|| "there are none".to_owned())
            ));
        }
        let config = believing(roots)?;
        *known = Some((Instant::now(), config.clone()));
        Ok(config)
    }
}

/// Whether a certificate is by nobody whom this node trusts: what the library says of it are no words for people.
fn unknown_issuer(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|it| it.downcast_ref::<Error>());
    matches!(
        inner,
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    )
}

fn believing(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(plain(config))
}

fn unverified() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody { provider }))
        .with_no_client_auth();
    Ok(plain(config))
}

fn plain(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Each time a whole handshake: it is asked whether that works.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Takes any certificate of whoever has its key.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, CertifiedKey, DnType, KeyPair, generate_simple_self_signed};
    use rustls::ServerConfig;
    use rustls_pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    /// A server of one connection, with a certificate for `www.example` that nobody has signed; and the certificate.
    async fn server() -> (SocketAddr, CertificateDer<'static>) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["www.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not believe goes away.
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let _asked = stream.read(&mut [0; 1024]).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            let _heard = stream.read(&mut [0; 1]).await;
        });
        (at, cert.der().clone())
    }

    async fn ask(trust: &Trust, at: SocketAddr, tls: Tls, host: &str) -> Result<String, String> {
        let get = Http {
            tls,
            path: "/".into(),
            host: host.into(),
            ..Http::default()
        };
        let stream = TcpStream::connect(at).await.unwrap();
        super::super::http::get(stream, at, &get, trust).await
    }

    fn of(roots: RootCertStore) -> Trust {
        Trust {
            known: Mutex::new(Some((Instant::now(), believing(roots).unwrap()))),
        }
    }

    #[tokio::test]
    async fn a_certificate_must_be_for_the_host_and_of_somebody_who_is_trusted() {
        let (at, certificate) = server().await;
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let well = ask(&of(roots.clone()), at, Tls::Verified, "www.example").await;
        assert!(well.unwrap().contains("https://"));

        let (at, _) = server().await;
        let other = ask(&of(roots.clone()), at, Tls::Verified, "www.example").await;
        assert!(other.unwrap_err().contains("TLS: "), "another one's");

        let mut params = CertificateParams::default();
        let name = "somebody else";
        params.distinguished_name.push(DnType::CommonName, name);
        let stranger = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let mut strangers = RootCertStore::empty();
        strangers.add(stranger.der().clone()).unwrap();
        let (at, _) = server().await;
        let other = ask(&of(strangers), at, Tls::Verified, "www.example").await;
        let why = other.unwrap_err();
        assert!(why.contains("by no authority that this node's"), "{why}");

        let (at, certificate) = server().await;
        roots.add(certificate).unwrap();
        let other = ask(&of(roots), at, Tls::Verified, "other.example").await;
        let why = other.unwrap_err();
        assert!(
            why.contains("not valid for name \"other.example\""),
            "{why}"
        );
    }

    #[tokio::test]
    async fn any_certificate_will_do_if_the_operator_says_so() {
        for host in ["", "other.example"] {
            let (at, _) = server().await;
            let well = ask(&Trust::default(), at, Tls::Unverified, host).await;
            assert!(well.unwrap().ends_with("status 200"));
        }
    }
}
