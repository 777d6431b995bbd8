//! Load balancing by the holder: what is wanted of it, and the tables that it takes.

#[cfg(test)]
mod maglev;
mod model;

pub use model::{Forward, Frontend, Protocol, Services, WantedBackend, WantedService};
