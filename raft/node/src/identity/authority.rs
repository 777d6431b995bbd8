//! The cluster's own certificate authority.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SubjectPublicKeyInfo, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use vipd_core::id::NodeId;
use vipd_core::name::Name;
use vipd_core::node::Role;

use super::{ANY_VOTER, node_dns};

/// The CA's certificate and, on voters, its key (PKCS#8 DER).
#[derive(Clone)]
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    key: Option<Vec<u8>>,
}

/// What a certificate is made for.
pub(crate) struct Subject<'a> {
    pub(crate) cluster: &'a [u8; 16],
    pub(crate) node: NodeId,
    pub(crate) name: &'a Name,
    pub(crate) role: Role,
    /// Addresses at which clients of the node's API may reach it.
    pub(crate) addresses: &'a [IpAddr],
}

impl Authority {
    /// A new CA for `cluster`.
    pub(crate) fn generate(cluster: &[u8; 16]) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = base();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(
            DnType::CommonName,
            format!("vipd cluster {}", hex::encode(cluster)),
        );
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            certificate: certificate.der().clone(),
            key: Some(key.serialize_der()),
        })
    }

    /// An authority from its parts.
    pub(crate) fn from_parts(certificate: Vec<u8>, key: Option<Vec<u8>>) -> Self {
        Self {
            certificate: certificate.into(),
            key,
        }
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// The CA's certificate for people and `curl`.
    pub(crate) fn pem(&self) -> String {
        pem_of("CERTIFICATE", &self.certificate)
    }

    /// A certificate for `subject` over the public key `spki` (SubjectPublicKeyInfo, DER); `None` if this node
    /// does not hold the CA's key. Nothing of what the certificate says is the applicant's choice but its
    /// addresses; its name must not look like one of the cluster's own.
    pub(crate) fn sign(
        &self,
        subject: &Subject<'_>,
        spki: &[u8],
    ) -> Option<Result<Vec<u8>, rcgen::Error>> {
        let key = self.key.as_ref()?;
        Some(self.issue(subject, spki, key))
    }

    fn issue(
        &self,
        subject: &Subject<'_>,
        spki: &[u8],
        key: &[u8],
    ) -> Result<Vec<u8>, rcgen::Error> {
        let issuer_key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(key.to_vec()))?;
        let issuer = Issuer::from_ca_cert_der(&self.certificate, issuer_key)?;
        let mut names = vec![node_dns(subject.cluster, subject.node), "localhost".into()];
        if subject.role.votes() {
            names.push(ANY_VOTER.into());
        }
        if !subject.name.as_str().ends_with(".vipd") {
            names.push(subject.name.to_string());
        }
        let mut params = base();
        for name in names {
            params
                .subject_alt_names
                .push(SanType::DnsName(name.try_into()?));
        }
        params
            .subject_alt_names
            .extend(subject.addresses.iter().copied().map(SanType::IpAddress));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        params
            .distinguished_name
            .push(DnType::CommonName, subject.name.to_string());
        let spki = SubjectPublicKeyInfo::from_der(spki)?;
        Ok(params.signed_by(&spki, &issuer)?.der().to_vec())
    }
}

/// Valid at any time a host's clock may show.
fn base() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    params
}

/// The public key of a PKCS#8 private key, as SubjectPublicKeyInfo.
pub(crate) fn public_key_of(key: &KeyPair) -> Vec<u8> {
    key.subject_public_key_info()
}

/// DER as PEM.
pub(crate) fn pem_of(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}
