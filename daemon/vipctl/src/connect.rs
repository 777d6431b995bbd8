//! From the options to a client.

use std::path::Path;
use std::time::Duration;

use vipd_client::{Client, DEFAULT_SOCKET, Server, Settings};

use crate::cli::Global;
use crate::failure::Failure;

/// The client that the options ask for.
pub(crate) fn client(global: &Global) -> Result<Client, Failure> {
    client_reading(global, global.local)
}

/// The same for what must be answered without a quorum too.
pub(crate) fn client_reading(global: &Global, local_reads: bool) -> Result<Client, Failure> {
    let settings = Settings {
        local_reads,
        ..Settings::default()
    };
    with(global, settings)
}

/// The same for what may take so long.
pub(crate) fn patient_client(global: &Global, answer_within: Duration) -> Result<Client, Failure> {
    let settings = Settings {
        answer_within,
        local_reads: global.local,
        ..Settings::default()
    };
    with(global, settings)
}

fn with(global: &Global, settings: Settings) -> Result<Client, Failure> {
    let server: Server = global.server.as_deref().unwrap_or(DEFAULT_SOCKET).parse()?;
    let settings = match server {
        // File permission is all it takes, so a token file that cannot be read must not stand in the way.
        Server::Unix(_) => settings,
        Server::Https(_) => Settings {
            token: token(global.token_file.as_deref())?,
            ca_pem: global
                .ca
                .as_deref()
                .map(|path| read(path, "CA certificate"))
                .transpose()?,
            ..settings
        },
    };
    Ok(Client::new(&server, settings)?)
}

fn token(file: Option<&Path>) -> Result<Option<String>, Failure> {
    let Some(file) = file else { return Ok(None) };
    let text = read(file, "token")?;
    match std::str::from_utf8(&text).map(str::trim) {
        Ok(token) if !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic()) => {
            Ok(Some(token.to_owned()))
        }
        Ok(_) | Err(_) => Err(Failure::new(
            format!("token file {} does not hold one token", file.display()),
            "put the token that `vipctl token create` printed, and nothing else, into it",
        )),
    }
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|cause| {
        Failure::new(
            format!("cannot read the {what} from {}: {cause}", path.display()),
            "check the path and who may read it",
        )
    })
}
