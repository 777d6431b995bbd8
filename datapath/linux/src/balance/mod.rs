//! Load balancing by the holder: what is wanted of it, and what the programs' maps shall hold for it. Pure.
//!
//! ```text
//!   Wanted.services ──┐
//!                     ├─ goal ──▶ Goal ──┐
//!   routes ───────────┘                  ├─ plan ──▶ steps: backends, tables (maglev), services
//!   the maps, as last known ─────────────┘
//! ```

mod bytes;
mod goal;
mod maglev;
mod model;
mod plan;

pub(crate) use goal::{Goal, Reach, Reaches, Spot, goal};
pub use goal::{LeftOut, Why};
pub use model::{Forward, Frontend, Protocol, Services, WantedBackend, WantedService};
pub(crate) use plan::{Actual, Step, Table, plan};
