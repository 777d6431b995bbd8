//! The judge: what is said about an address on the wire, by whom, and whether ever two said it.

mod ask;
mod frame;
mod speak;
mod tap;
mod verdict;

pub use ask::Asker;
pub use frame::{Claim, How};
pub use speak::announce;
pub(crate) use speak::{Line, echo_request, question};
pub(crate) use tap::incoming_only;
pub use tap::{Asked, Tap};
pub use verdict::{Answer, Election, Reign, Verdict, judge, reigns};
