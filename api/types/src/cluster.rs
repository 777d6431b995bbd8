//! The cluster as a whole: members, leader, quorum.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Change, Condition};

/// The longest that the removal of a member may take until its answer begins: two changes of the voters, ten seconds each, and
/// five in which the others tell that they count by the new ones. Whoever asks for one should be that patient.
pub const REMOVAL_WITHIN: Duration = Duration::from_secs(30);

/// What part a node plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    /// Votes, and may hold addresses.
    Voter,
    /// Holds addresses, has no vote.
    Agent,
    /// Votes, never holds.
    Witness,
}

/// `GET /v1/cluster`: as the answering node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    /// Name of the answering node.
    pub answered_by: String,
    /// Version of its daemon.
    pub version: String,
    /// Name of the leader; absent during an election or without a quorum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Raft term.
    pub term: u64,
    /// Log index known to be committed.
    pub commit: u64,
    /// Log index applied by the answering node.
    pub applied: u64,
    /// Votes needed and votes there are.
    pub quorum: Quorum,
    /// Every node, by name.
    pub members: Vec<Member>,
    /// What else is worth knowing.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// Whether decisions can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quorum {
    /// Whether a majority of the voters is reached.
    pub ok: bool,
    /// How many voters there are.
    pub voters: u32,
    /// How many of them make a majority.
    pub needed: u32,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u64,
    /// The part it plays.
    pub role: MemberRole,
    /// Whether it votes at present: a voter that is still catching up does not.
    pub voting: bool,
    /// Whether it leads.
    pub leader: bool,
    /// Whether the cluster counts on it.
    pub up: bool,
    /// Where its peers reach it.
    pub peer: String,
}

/// Body of `POST /v1/cluster/members`: asks whether a node has a vote, or is given one by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddMember {
    /// The node's name.
    pub name: String,
}

/// Answer of `DELETE /v1/cluster/members/{name}`: the cluster without the node, or with `dry_run` what its removal would come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Removed {
    /// It was removed.
    Done(Cluster),
    /// That was only tried.
    Tried(Removal),
}

/// What the removal of a node would come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Removal {
    /// Always true.
    pub dry_run: bool,
    /// The node.
    pub name: String,
    /// Why it would be refused as things are; absent if it would be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The votes that would be left, and whether there is a majority once the node is stopped, as it has to be before.
    pub quorum: Quorum,
    /// What becomes of addresses then: of those that the node holds, or, without a majority, of all.
    pub changes: Vec<Change>,
}

/// Body of `POST /v1/cluster/tokens`: wants a token for `vipd join`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinTokenRequest {
    /// What part the node that joins with it shall play.
    #[serde(default = "voter")]
    pub role: MemberRole,
    /// For how long it is good.
    #[serde(default = "a_day")]
    #[schema(default = 86400, minimum = 1)]
    pub ttl_seconds: u64,
    /// For how many nodes it is good.
    #[serde(default = "one")]
    #[schema(default = 1, minimum = 1)]
    pub uses: u32,
}

impl Default for JoinTokenRequest {
    fn default() -> Self {
        Self {
            role: voter(),
            ttl_seconds: a_day(),
            uses: one(),
        }
    }
}

/// A token for `vipd join`. It is shown once; the cluster keeps only its hash.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinToken {
    /// The token.
    pub token: String,
    /// The command to run on the node that shall join.
    pub command: String,
    /// Until when it is good (RFC 3339).
    #[schema(format = DateTime)]
    pub expires: String,
}

// Without the token, which the command holds too.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Answer of `POST /v1/cluster/snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Log index up to which the snapshot reaches.
    pub index: u64,
}

fn voter() -> MemberRole {
    MemberRole::Voter
}

fn a_day() -> u64 {
    86_400
}

fn one() -> u32 {
    1
}
