//! VIPs that ask for the same share one spec: most of what a VIP weighs is its spec, and of thousands of VIPs most differ by
//! their name alone. So a VIP takes a third of the memory, and whoever goes from one to the next finds the spec in the cache.
//!
//! Compared are those that came last only, so an entry costs no more the more specs there are. Sharing shows nowhere:
//! not in what is encoded, and not in what is compared.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::State;
use crate::vip::VipSpec;

/// How many specs are compared: whoever makes VIPs in a row makes few kinds of them.
const RECENT: usize = 4;

/// The specs that came last, the newest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Specs(Vec<Arc<VipSpec>>);

impl Specs {
    /// This spec, shared with VIPs that have asked for the same.
    pub(super) fn shared(&mut self, spec: &VipSpec) -> Arc<VipSpec> {
        self.known(spec)
            .unwrap_or_else(|| self.keep(Arc::new(spec.clone())))
    }

    /// One of those that came last, which is the newest again.
    fn known(&mut self, spec: &VipSpec) -> Option<Arc<VipSpec>> {
        let at = self.0.iter().position(|known| **known == *spec)?;
        self.0[..=at].rotate_right(1);
        self.0.first().cloned()
    }

    fn keep(&mut self, new: Arc<VipSpec>) -> Arc<VipSpec> {
        self.0.truncate(RECENT - 1);
        self.0.insert(0, Arc::clone(&new));
        new
    }
}

impl State {
    /// Has VIPs that were decoded one by one share their specs.
    pub(super) fn share_specs(&mut self) {
        for vip in self.vips.values_mut() {
            let vip = Arc::make_mut(vip);
            match self.specs.known(&vip.spec) {
                Some(shared) => vip.spec = shared,
                None => {
                    self.specs.keep(Arc::clone(&vip.spec));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vip::Families;
    use alloc::format;

    fn keyed(key: usize) -> VipSpec {
        VipSpec {
            sharing_key: Some(format!("{key}")),
            ..VipSpec::default()
        }
    }

    #[test]
    fn those_that_ask_for_the_same_share_a_spec_and_others_do_not() {
        let mut specs = Specs::default();
        let one = specs.shared(&keyed(1));
        let other = specs.shared(&VipSpec {
            families: Families::Ipv6,
            ..keyed(1)
        });
        assert_ne!(one, other);
        assert!(Arc::ptr_eq(&one, &specs.shared(&keyed(1))));
    }

    #[test]
    fn only_the_newest_specs_are_kept_for_that() {
        let mut specs = Specs::default();
        let first = specs.shared(&keyed(0));
        for key in 1..RECENT {
            specs.shared(&keyed(key));
        }
        assert!(
            Arc::ptr_eq(&first, &specs.shared(&keyed(0))),
            "asked again, it is the newest"
        );
        for key in 1..=RECENT {
            specs.shared(&keyed(100 + key));
        }
        let again = specs.shared(&keyed(0));
        assert!(again == first && !Arc::ptr_eq(&first, &again));
        assert_eq!(specs.0.len(), RECENT);
    }
}
