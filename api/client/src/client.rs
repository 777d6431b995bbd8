//! One request and its answer.

use std::fmt;
use std::time::Duration;

use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use vipd_api_types::Problem;

use crate::{Error, Server, connect};

/// How to ask. `Debug` shows no secret.
#[derive(Clone)]
pub struct Settings {
    /// Bearer token, for https.
    pub token: Option<String>,
    /// PEM of the CA certificates to trust, for https: the cluster's own.
    pub ca_pem: Option<Vec<u8>>,
    /// Longest silence to put up with; default 15 s, above the server's own limit.
    pub answer_within: Duration,
    /// Be content with what the asked node knows, even without a quorum.
    pub local_reads: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            token: None,
            ca_pem: None,
            answer_within: Duration::from_secs(15),
            local_reads: false,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("answer_within", &self.answer_within)
            .field("local_reads", &self.local_reads)
            .finish_non_exhaustive()
    }
}

/// A client of one node's API. Cheap to clone; clones share the connections. `Debug` shows no secret.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    server: Server,
    base: Url,
    token: Option<String>,
    answer_within: Duration,
    local_reads: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.server)
            .field("answer_within", &self.answer_within)
            .field("local_reads", &self.local_reads)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client of `server`. Connects with the first request.
    ///
    /// # Errors
    /// When the CA certificates cannot be used.
    pub fn new(server: &Server, settings: Settings) -> Result<Self, Error> {
        let http = connect::http(server, settings.ca_pem.as_deref(), settings.answer_within)?;
        let base = match server {
            Server::Unix(_) => "http://localhost/",
            Server::Https(url) => url.as_str(),
        };
        let base = Url::parse(base).map_err(|cause| Error::BadServer {
            given: server.to_string(),
            why: cause.to_string(),
        })?;
        Ok(Self {
            http,
            server: server.clone(),
            base,
            token: settings.token,
            answer_within: settings.answer_within,
            local_reads: settings.local_reads,
        })
    }

    /// The server that is asked.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The URL of a path given by its segments, each escaped on its own.
    pub(crate) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(segments);
        }
        url
    }

    /// The same for a read, which says how current the answer must be.
    pub(crate) fn read_url(&self, segments: &[&str]) -> Url {
        let mut url = self.url(segments);
        if self.local_reads {
            url.query_pairs_mut().append_pair("consistency", "local");
        }
        url
    }

    pub(crate) fn request(&self, method: Method, url: Url) -> reqwest::RequestBuilder {
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<T, Error> {
        self.json(self.request(Method::GET, self.read_url(segments)))
            .await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.json(self.request(Method::POST, self.url(segments)).json(body))
            .await
    }

    /// Sends and reads the JSON of a good answer.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, Error> {
        let body = self
            .send(request)
            .await?
            .bytes()
            .await
            .map_err(|failed| self.failed(&failed))?;
        serde_json::from_slice(&body).map_err(|cause| self.strange(&cause))
    }

    /// Sends; a problem document becomes [`Error::Refused`].
    pub(crate) async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, Error> {
        let answer = request
            .send()
            .await
            .map_err(|failed| self.failed(&failed))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer
            .bytes()
            .await
            .map_err(|failed| self.failed(&failed))?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(Error::Refused(Box::new(problem))),
            Err(_) => Err(self.strange(&format!("status {status} without a problem document"))),
        }
    }

    pub(crate) fn failed(&self, failed: &reqwest::Error) -> Error {
        connect::unreachable(&self.server, failed, self.answer_within)
    }

    pub(crate) fn strange(&self, cause: &impl ToString) -> Error {
        Error::Strange {
            server: self.server.to_string(),
            cause: cause.to_string(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_client_and_of_its_settings_shows_no_secret() {
        let settings = Settings {
            token: Some("vipd_api_c2VjcmV0".to_owned()),
            ..Settings::default()
        };
        let server: Server = "https://192.0.2.1:7480".parse().unwrap();
        let client = Client::new(&server, settings.clone()).unwrap();
        for shown in [
            format!("{settings:?}"),
            format!("{settings:#?}"),
            format!("{client:?}"),
            format!("{client:#?}"),
        ] {
            assert!(!shown.contains("c2VjcmV0"), "{shown}");
        }
        assert!(format!("{client:?}").contains("192.0.2.1"));
    }
}
