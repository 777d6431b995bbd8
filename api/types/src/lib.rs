//! Wire types of vipd's REST API, `/v1`.
//!
//! What travels as JSON between the daemon and `vipctl`, scripts or embedders, and nothing else:
//! no server, no client, no cluster state. `vipd-api` converts between these and the core's own types,
//! so that neither has to change because the other does.
//!
//! ```text
//! object = { name, labels, generation, revision, spec: what is wanted, status: what is so }
//! ```
//!
//! The types ignore fields they do not know, so that an older client understands a newer daemon.
//! What *users* write is held to the known fields by the server (`vipd-api`, `strict`).

mod backup;
mod balance;
mod cluster;
mod duration;
mod event;
mod failback;
mod health;
mod map;
mod meta;
mod node;
mod plan;
mod policy;
mod pool;
mod problem;
mod selector;
mod service;
mod token;
mod vip;
mod watch;

pub use backup::{
    Backup, BackupContent, Differences, MAX_BACKUP, RESTORE_WITHIN, Restored, SavedAllocation,
    SavedNode, SavedPolicy, SavedPool, SavedToken, SavedVip,
};
pub use balance::{
    LbAffine, LbAffinity, LbBackend, LbConnection, LbConnections, LbEnd, LbMaglev, LbOuter,
    LbService, LbServices, LbShare, LbTrace, LbTraffic, LbVerdict,
};
pub use cluster::{
    AddMember, Cluster, JoinToken, JoinTokenRequest, Member, MemberRole, Quorum, REMOVAL_WITHIN,
    Removal, Removed, Snapshot,
};
pub use duration::Duration;
pub use event::{Event, EventKind};
pub use failback::Failback;
pub use health::{AllDown, BackendStatus, HealthCheck, HealthKind, Statuses};
pub use map::{MapDump, MapElement, MapInfo, MapList};
pub use meta::{Condition, Health, Labels, List, Page};
pub use node::{
    BalanceBounds, Interface, Lease, Node, NodePatch, NodeSpec, NodeSpecPatch, NodeStatus, XdpUse,
};
pub use plan::{Change, ChangeKind, DryRun, Load, Plan, Rebalance};
pub use policy::{Policy, PolicySpec, PolicyStatus, PolicyWrite};
pub use pool::{Block, Count, FamilyCounts, Pool, PoolSpec, PoolStatus, PoolWrite};
pub use problem::{PROBLEM_JSON, Problem};
pub use selector::{Operator, Requirement, Selector};
pub use service::{
    Affinity, Backend, ClientAddress, Dispatch, Mode, Port, Protocol, TrafficPolicy,
};
pub use token::{Access, ApiToken, IssuedToken, TokenRequest};
pub use vip::{Families, MoveRequest, Vip, VipAddress, VipSpec, VipStatus, VipWrite};
pub use watch::{Watched, WatchedKind};
