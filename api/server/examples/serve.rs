//! Serves the API of the in-memory twin over TLS, for `cargo xtask openapi --test`: three nodes, a pool, a VIP and a policy.
//!
//! Prints the address and the admin token on one line, and ends when its standard input does. The CA's certificate is written
//! to the file that its argument names.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::Read;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio_util::sync::CancellationToken;
use vipd_api::memory::Memory;
use vipd_api::{Api, bind_tcp, hash_token, tls_config};
use vipd_core::block::Block;
use vipd_core::command::{Command, Expect};
use vipd_core::pool::PoolSpec;
use vipd_core::token::Access;

/// Known to the tests alone: the server holds nothing, and ends with them.
const TOKEN: &str = "openapi-test-0123456789abcdef0123456789abcdef";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let ca_file = std::env::args().nth(1).expect("usage: serve CA-FILE");
    let memory = Memory::three_nodes();
    fill(&memory);
    let listener = bind_tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let at = listener.local_addr().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    // Of another name than the CA, or it would pass for self-signed.
    leaf.distinguished_name
        .push(DnType::CommonName, "vipd openapi test");
    let leaf = leaf.signed_by(&key, &ca).unwrap();
    std::fs::write(ca_file, ca.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let tls = tls_config(vec![leaf.der().clone(), ca.der().clone()], key).unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(Api::new(memory).serve_tls(listener, tls, stop.clone()));
    println!("https://{at} {TOKEN}");
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()))
        .await
        .unwrap()
        .unwrap();
    stop.cancel();
    serving.await.unwrap();
}

fn fill(memory: &Memory) {
    let name = |text: &str| text.parse().unwrap();
    memory
        .apply(Command::PutApiToken {
            token: hash_token(TOKEN),
            name: name("openapi"),
            access: Access::Admin,
            expires: None,
        })
        .unwrap();
    memory
        .apply(Command::PutPool {
            name: name("web"),
            labels: Default::default(),
            spec: PoolSpec {
                blocks: vec![Block::parse("10.0.0.128/25").unwrap()],
                ..PoolSpec::default()
            },
            expect: Expect::Absent,
            care: Default::default(),
        })
        .unwrap();
    memory
        .apply(Command::PutVip {
            name: name("www"),
            labels: Default::default(),
            spec: Default::default(),
            expect: Expect::Absent,
        })
        .unwrap();
    memory
        .apply(Command::PutPolicy {
            name: name("edge"),
            labels: Default::default(),
            spec: Default::default(),
            expect: Expect::Absent,
        })
        .unwrap();
}
