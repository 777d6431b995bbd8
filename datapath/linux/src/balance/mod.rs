//! Load balancing by the holder: what is wanted of it, and what the programs' maps shall hold for it. Pure.
//!
//! ```text
//!   Wanted.services ──┐
//!                     ├─ goal ──▶ Goal ──┐
//!   routes ───────────┘                  ├─ plan ──▶ steps: backends, tables (maglev), services
//!   the maps, as last known ─────────────┘
//! ```

mod bytes;
pub(crate) mod collect;
mod goal;
mod lens;
mod maglev;
mod model;
mod plan;
mod records;
mod trace;

pub(crate) use goal::{Goal, Prefix, Reach, Reaches, Recipe, Spot, goal};
pub use goal::{LeftOut, Why};
pub use lens::{BackendSeen, FlowFilter, FlowSeen, Flows, Lens, ServiceSeen, TableSeen, Traffic};
pub use model::{Forward, Frontend, Protocol, Services, WantedBackend, WantedService};
pub(crate) use plan::{Actual, Step, Table, plan, slots};
pub use records::{FlowNews, Records};
pub(crate) use trace::ends;
pub use trace::{Packet, Trace, Verdict};
