//! The cluster, its members and tokens.

use reqwest::Method;
use vipd_api_types::{
    AddMember, Cluster, Health, IssuedToken, JoinToken, JoinTokenRequest, Plan, Rebalance,
    Snapshot, TokenRequest,
};

use crate::{Client, Error};

impl Client {
    /// The cluster as the asked node sees it; answered without a quorum too.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cluster(&self) -> Result<Cluster, Error> {
        self.read(&["v1", "cluster"]).await
    }

    /// Whether the asked node can do its work: quorum, lease and datapath.
    ///
    /// # Errors
    /// See [`Error`]; a node that is not ready is no error.
    pub async fn ready(&self) -> Result<Health, Error> {
        let answer = self
            .request(Method::GET, self.url(&["readyz"]))
            .send()
            .await
            .map_err(|f| self.failed(&f))?;
        let body = answer
            .bytes()
            .await
            .map_err(|failed| self.failed(&failed))?;
        serde_json::from_slice(&body).map_err(|cause| self.strange(&cause))
    }

    /// Gives a vote to a node that has joined without one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn add_member(&self, body: &AddMember) -> Result<Cluster, Error> {
        self.post(&["v1", "cluster", "members"], body).await
    }

    /// Removes a node for good; its number is never used again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_member(&self, name: &str) -> Result<Cluster, Error> {
        self.json(self.request(
            Method::DELETE,
            self.url(&["v1", "cluster", "members", name]),
        ))
        .await
    }

    /// A token for `vipd join`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn join_token(&self, body: &JoinTokenRequest) -> Result<JoinToken, Error> {
        self.post(&["v1", "cluster", "tokens"], body).await
    }

    /// What would become of addresses if `node` were lost without a word, or (`drained`) drained.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn plan(&self, node: &str, drained: bool) -> Result<Plan, Error> {
        let mut url = self.read_url(&["v1", "plan"]);
        let how = if drained { "drain" } else { "without" };
        url.query_pairs_mut().append_pair(how, node);
        self.json(self.request(Method::GET, url)).await
    }

    /// Brings every node within one address of its share, with as few moves as that takes; or (`dry_run`) only says
    /// which.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn rebalance(&self, dry_run: bool) -> Result<Rebalance, Error> {
        let mut url = self.url(&["v1", "cluster", "rebalance"]);
        if dry_run {
            url.query_pairs_mut().append_pair("dry_run", "true");
        }
        self.json(self.request(Method::POST, url)).await
    }

    /// Has the asked node write a snapshot of its state now.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.json(self.request(Method::POST, self.url(&["v1", "cluster", "snapshot"])))
            .await
    }

    /// A new token for the API over TLS.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_token(&self, body: &TokenRequest) -> Result<IssuedToken, Error> {
        self.post(&["v1", "tokens"], body).await
    }

    /// Revokes a token of the API.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_token(&self, name: &str) -> Result<(), Error> {
        self.send(self.request(Method::DELETE, self.url(&["v1", "tokens", name])))
            .await
            .map(drop)
    }
}
