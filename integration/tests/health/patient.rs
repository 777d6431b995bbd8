//! A backend that is nginx: it gives pages, and is asked how it is on ports of their own, so that it can be ill and go on
//! serving whoever comes. Its logs say who came.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose,
};
use vipd_integration::Stamp;
use vipd_integration::lab::Host;
use vipd_integration::tools;

/// Where it gives pages, to VIPs and everybody.
pub(crate) const PAGES: u16 = 8000;
/// Where it says how it is: status 200 or 503.
pub(crate) const ASKED: u16 = 8090;
/// The same over TLS.
pub(crate) const ASKED_BY_TLS: u16 = 8443;

/// The host of a lab on which it runs.
#[derive(Clone, Copy)]
pub(crate) struct Patient<'a>(pub(crate) &'a Host);

impl Patient<'_> {
    /// Starts it; with TLS if it has a certificate.
    pub(crate) fn start(self) {
        self.listen(["", "[::]:"]);
    }

    /// The same at loopback addresses alone.
    pub(crate) fn start_on_loopback(self) {
        self.listen(["127.0.0.1:", "[::1]:"]);
    }

    fn listen(self, [v4, v6]: [&str; 2]) {
        let disk = self.0.disk();
        let file = |name: &str| disk.join(name).display().to_string();
        let server = |port: u16, tls: &str, log: &str, location: &str| {
            format!(
                "server {{\nlisten {v4}{port}{tls};\nlisten {v6}{port}{tls};\naccess_log {} who;\nlocation / {{ {location} }}\n}}\n",
                file(log)
            )
        };
        let name = self.0.name();
        let page = format!("return 200 \"{name} answered at $server_addr for $remote_addr\\n\";");
        let state = format!(
            "if (-f {}) {{ return 503; }} return 200 \"well\\n\";",
            file("ill")
        );
        let mut servers = "log_format who '$msec $remote_addr';\n".to_owned();
        servers += &server(PAGES, "", "pages", &page);
        servers += &server(ASKED, "", "asked", &state);
        if disk.join("cert.pem").exists() {
            let (cert, key) = (file("cert.pem"), file("key.pem"));
            servers += &format!("ssl_certificate {cert};\nssl_certificate_key {key};\n");
            servers += &server(ASKED_BY_TLS, " ssl", "asked", &state);
        }
        tools::nginx_servers(self.0, &servers, PAGES).unwrap();
    }

    /// From now on it answers whoever asks how it is with status 503.
    pub(crate) fn falls_ill(self) {
        fs::write(self.ill(), "").unwrap();
    }

    /// No more.
    pub(crate) fn gets_well(self) {
        fs::remove_file(self.ill()).unwrap();
    }

    fn ill(self) -> PathBuf {
        self.0.disk().join("ill")
    }

    /// Has this certificate, and its key; where it runs, from now on.
    pub(crate) fn show(self, [certificate, key]: &[String; 2]) {
        let disk = self.0.disk();
        let runs = disk.join("cert.pem").exists();
        fs::write(disk.join("cert.pem"), certificate).unwrap();
        fs::write(disk.join("key.pem"), key).unwrap();
        if runs {
            self.0.hang_up("nginx").unwrap();
        }
    }

    /// Who has asked since then how it is.
    pub(crate) fn asked_since(self, then: Stamp) -> BTreeSet<IpAddr> {
        self.came_since(then, "asked").into_iter().collect()
    }

    /// For whom there were pages since then.
    pub(crate) fn served_since(self, then: Stamp) -> Vec<IpAddr> {
        self.came_since(then, "pages")
    }

    fn came_since(self, then: Stamp, log: &str) -> Vec<IpAddr> {
        let log = fs::read_to_string(self.0.disk().join(log)).unwrap();
        let lines = log.lines().map(|line| {
            let (seconds, who) = line.split_once(' ').unwrap();
            // Three digits behind the point.
            let milliseconds: u64 = seconds.replace('.', "").parse().unwrap();
            (Stamp(milliseconds * 1_000_000), who.parse().unwrap())
        });
        let since = lines.filter(|(at, _)| *at > then);
        since.map(|(_, who)| who).collect()
    }
}

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = called(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// As a system trusts it.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a host, and its key.
    pub(crate) fn certify(&self, host: &str) -> [String; 2] {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.distinguished_name = called(host);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        [certificate.pem(), key.serialize_pem()]
    }
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}
