//! Reading and writing objects, the same way for each kind.

use reqwest::Method;
use reqwest::header::IF_MATCH;
use serde::Serialize;
use serde::de::DeserializeOwned;
use vipd_api_types::{
    ApiToken, DryRun, List, MoveRequest, Node, NodePatch, Page, Policy, Pool, Vip,
};

use crate::{Client, Error, Selection};

/// A kind of object that can be read.
pub trait Object: DeserializeOwned {
    /// Where it lives under `/v1`.
    const COLLECTION: &'static str;
}

/// A kind of object that users make, replace and delete.
pub trait Writable: Object {}

impl Object for Pool {
    const COLLECTION: &'static str = "pools";
}
impl Writable for Pool {}
impl Object for Vip {
    const COLLECTION: &'static str = "vips";
}
impl Writable for Vip {}
impl Object for Policy {
    const COLLECTION: &'static str = "policies";
}
impl Writable for Policy {}
impl Object for Node {
    const COLLECTION: &'static str = "nodes";
}
impl Object for ApiToken {
    const COLLECTION: &'static str = "tokens";
}

/// How to write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Only say what would happen.
    pub dry_run: bool,
    /// Only if the object's `revision` is still this one.
    pub if_revision: Option<u64>,
    /// Of a pool: refuse blocks that overlap others.
    pub strict: bool,
    /// Of a pool: take addresses that no pool has any more from their VIPs.
    pub force: bool,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written<T> {
    /// Done; the object as it is now, absent when it is gone.
    Done(Option<T>),
    /// Only tried.
    Tried(DryRun<T>),
}

impl Client {
    /// All objects of a kind, however many parts that takes. Tokens have no parts.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list<T: Object>(&self) -> Result<List<T>, Error> {
        let Page {
            revision, items, ..
        } = self.select(&Selection::default()).await?;
        Ok(List { revision, items })
    }

    /// One object.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::is_not_found`] if there is none.
    pub async fn get<T: Object>(&self, name: &str) -> Result<T, Error> {
        self.read(&["v1", T::COLLECTION, name]).await
    }

    /// Makes an object; refused if there is one of that name. `body` is a `PoolWrite`, `PolicyWrite` or
    /// `VipWrite`, or JSON of the same shape.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create<T: Writable>(
        &self,
        body: &impl Serialize,
        how: WriteOptions,
    ) -> Result<Written<T>, Error> {
        self.write(Method::POST, &["v1", T::COLLECTION], Some(body), how)
            .await
    }

    /// Makes or replaces an object.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put<T: Writable>(
        &self,
        name: &str,
        body: &impl Serialize,
        how: WriteOptions,
    ) -> Result<Written<T>, Error> {
        self.write(Method::PUT, &["v1", T::COLLECTION, name], Some(body), how)
            .await
    }

    /// Changes parts of an object by a merge patch (RFC 7396): what is left out stays, `null` takes a field away.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn patch<T: Object>(
        &self,
        name: &str,
        patch: &impl Serialize,
        how: WriteOptions,
    ) -> Result<Written<T>, Error> {
        self.write(
            Method::PATCH,
            &["v1", T::COLLECTION, name],
            Some(patch),
            how,
        )
        .await
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete<T: Writable>(
        &self,
        name: &str,
        how: WriteOptions,
    ) -> Result<Written<T>, Error> {
        self.write(
            Method::DELETE,
            &["v1", T::COLLECTION, name],
            None::<&()>,
            how,
        )
        .await
    }

    /// Moves a VIP to another node.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn move_vip(
        &self,
        name: &str,
        to: &MoveRequest,
        how: WriteOptions,
    ) -> Result<Written<Vip>, Error> {
        self.write(Method::POST, &["v1", "vips", name, "move"], Some(to), how)
            .await
    }

    /// Takes every address off a node and keeps them off, or (`drained: false`) lets it hold again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn drain(
        &self,
        node: &str,
        drained: bool,
        how: WriteOptions,
    ) -> Result<Written<Node>, Error> {
        let verb = if drained { "drain" } else { "undrain" };
        self.write(Method::POST, &["v1", "nodes", node, verb], None::<&()>, how)
            .await
    }

    /// Changes labels, weight or drain of a node; what `patch` leaves out stays.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn patch_node(
        &self,
        name: &str,
        patch: &NodePatch,
        how: WriteOptions,
    ) -> Result<Written<Node>, Error> {
        self.patch(name, patch, how).await
    }

    async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
        body: Option<&impl Serialize>,
        how: WriteOptions,
    ) -> Result<Written<T>, Error> {
        let mut url = self.url(segments);
        let flags = [
            ("dry_run", how.dry_run),
            ("strict", how.strict),
            ("force", how.force),
        ];
        for (flag, _) in flags.into_iter().filter(|(_, set)| *set) {
            url.query_pairs_mut().append_pair(flag, "true");
        }
        let mut request = self.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(revision) = how.if_revision {
            request = request.header(IF_MATCH, format!("\"{revision}\""));
        }
        if how.dry_run {
            return Ok(Written::Tried(self.json(request).await?));
        }
        let body = self
            .send(request)
            .await?
            .bytes()
            .await
            .map_err(|failed| self.failed(&failed))?;
        if body.is_empty() {
            return Ok(Written::Done(None));
        }
        serde_json::from_slice(&body)
            .map(|object| Written::Done(Some(object)))
            .map_err(|cause| self.strange(&cause))
    }
}
