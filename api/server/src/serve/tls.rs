//! TLS of the API: the daemon's certificate, signed by the cluster's CA; clients show tokens, not certificates.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::ListenError;

/// The TLS configuration from a certificate chain and its key, both PEM.
///
/// # Errors
/// [`ListenError::Tls`] if they cannot be read or do not belong together.
pub fn tls_config(chain_pem: &[u8], key_pem: &[u8]) -> Result<Arc<ServerConfig>, ListenError> {
    let chain = CertificateDer::pem_slice_iter(chain_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|cause| ListenError::Tls(format!("certificate: {cause}")))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|cause| ListenError::Tls(format!("key: {cause}")))?;
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|cause| ListenError::Tls(cause.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|cause| ListenError::Tls(cause.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
