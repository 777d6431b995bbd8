//! Addresses: which VIP gets which, who waits, what cools down.
//!
//! A VIP *asks* (its spec), and [`State`] *grants* what it can at once; the rest waits, and is looked at again, oldest
//! VIP first, whenever something that could help has changed. What a VIP has it keeps, whatever becomes of pools,
//! selectors and other VIPs; only a change of its own spec has it judged anew.

mod aside;
mod ask;
mod choose;
mod clash;
mod cooling;
mod give;
mod stock;

pub use clash::Clash;
pub use cooling::Cooling;
pub(super) use stock::{Stir, Stock, Taken};
