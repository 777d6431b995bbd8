//! Load balancing by the holder: what is wanted of it, and what the programs' maps shall hold for it. Pure.
//!
//! ```text
//!   Wanted.services ──┐
//!                     ├─ goal ──▶ Goal ──┐
//!   routes ───────────┘                  ├─ plan ──▶ steps: backends, tables (maglev), services
//!   the maps, as last known ─────────────┘
//! ```

mod bounds;
mod bytes;
pub(crate) mod collect;
mod goal;
mod lens;
mod maglev;
mod model;
mod plan;
mod records;
mod trace;

pub use bounds::{Bounds, Times};
pub(crate) use goal::{Goal, Host, Prefix, Reach, Reaches, Recipe, Spot, goal};
pub use goal::{LeftOut, Why};
pub use lens::{
    Affine, BackendSeen, FlowFilter, FlowSeen, Flows, Lens, ServiceSeen, TableSeen, Traffic,
};
pub use model::{Dispatch, Forward, Frontend, Protocol, Services, WantedBackend, WantedService};
pub(crate) use plan::{Actual, Step, Table, plan, slots};
pub use records::{FlowNews, Kept, Records};
pub use trace::{Outer, Packet, Trace, Verdict};
pub(crate) use trace::{ends, unwrap};
