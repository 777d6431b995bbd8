//! Panics of simulated tasks are findings; they go into the report, not onto the screen.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps panics of this process quiet, and remembers each thread's last one with its place.
pub(crate) fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let text = info.to_string().replace('\n', " ");
            LAST.with(|last| *last.borrow_mut() = text);
        }));
    });
}

/// What this thread last panicked with, and where.
#[must_use]
pub(crate) fn last() -> String {
    LAST.with(|last| last.borrow().clone())
}
