//! The cluster, its members and tokens.

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Url};
use vipd_api_types::{
    AddMember, ApiToken, Backup, Cluster, DryRun, Health, IssuedToken, JoinToken, JoinTokenRequest,
    Plan, Rebalance, Removal, Restored, Snapshot, TokenRequest,
};

use crate::{Client, Error};

/// How to restore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Only say what would happen.
    pub dry_run: bool,
    /// Bring back API tokens that are not here any more.
    pub tokens: bool,
    /// Even if it is of another cluster, and this one has pools or VIPs.
    pub force: bool,
}

impl Client {
    /// The cluster as the asked node sees it; answered without a quorum too.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cluster(&self) -> Result<Cluster, Error> {
        let mut url = self.url(&["v1", "cluster"]);
        url.query_pairs_mut().append_pair("consistency", "local");
        self.json(self.request(Method::GET, url)).await
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

    /// The members, if the node has a vote, or is given one by itself once it has caught up.
    ///
    /// # Errors
    /// An agent is refused; else see [`Error`].
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

    /// What the removal of a node would come to.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn would_remove(&self, name: &str) -> Result<Removal, Error> {
        let url = self.try_url(&["v1", "cluster", "members", name]);
        self.json(self.request(Method::DELETE, url)).await
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

    /// A backup: what operators have asked for, and which address belongs to which VIP.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn backup(&self) -> Result<Backup, Error> {
        self.read(&["v1", "cluster", "snapshot"]).await
    }

    /// Restores a backup, JSON as [`Client::backup`] gave it, of at most [`vipd_api_types::MAX_BACKUP`] bytes. A large one
    /// takes longer than a client waits unless told otherwise: see [`vipd_api_types::RESTORE_WITHIN`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn restore(&self, backup: Vec<u8>, how: RestoreOptions) -> Result<Restored, Error> {
        let mut url = self.url(&["v1", "cluster", "restore"]);
        let flags = [
            ("dry_run", how.dry_run),
            ("tokens", how.tokens),
            ("force", how.force),
        ];
        for (flag, _) in flags.into_iter().filter(|(_, set)| *set) {
            url.query_pairs_mut().append_pair(flag, "true");
        }
        let request = self.request(Method::POST, url);
        let request = request.header(CONTENT_TYPE, "application/json");
        self.json(request.body(backup)).await
    }

    /// A new token for the API over TLS.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_token(&self, body: &TokenRequest) -> Result<IssuedToken, Error> {
        self.post(&["v1", "tokens"], body).await
    }

    /// What a new token would be.
    ///
    /// # Errors
    /// What would be refused is; see [`Error`].
    pub async fn try_token(&self, body: &TokenRequest) -> Result<DryRun<ApiToken>, Error> {
        let url = self.try_url(&["v1", "tokens"]);
        self.json(self.request(Method::POST, url).json(body)).await
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

    /// What revoking a token would come to.
    ///
    /// # Errors
    /// What would be refused is; see [`Error`].
    pub async fn try_delete_token(&self, name: &str) -> Result<DryRun<ApiToken>, Error> {
        let url = self.try_url(&["v1", "tokens", name]);
        self.json(self.request(Method::DELETE, url)).await
    }

    /// The URL of a write that is only tried.
    fn try_url(&self, segments: &[&str]) -> Url {
        let mut url = self.url(segments);
        url.query_pairs_mut().append_pair("dry_run", "true");
        url
    }
}
