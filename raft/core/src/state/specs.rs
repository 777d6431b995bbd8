//! VIPs that ask for the same share one spec: most of what a VIP weighs is its spec, and of thousands of VIPs most differ by
//! their name alone. So a VIP takes a third of the memory, and whoever goes from one to the next finds the spec in the cache.
//!
//! Compared are those that came last only, so an entry costs no more the more specs there are. Sharing shows nowhere:
//! not in what is encoded, and not in what is compared. What was checked and weighed once is not looked into again.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{State, size};
use crate::name::Name;
use crate::rejection::Rejection;
use crate::vip::VipSpec;

/// How many specs are compared: whoever makes VIPs in a row makes few kinds of them.
const RECENT: usize = 4;

/// The specs that came last, the newest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Specs(Vec<Recent>);

/// A spec that came lately.
#[derive(Clone, Debug)]
struct Recent {
    spec: Arc<VipSpec>,
    /// What it weighs, once it was found sound, which it is for every VIP or for none. One that was read from a snapshot is
    /// judged as on replicas that do not know it.
    sound: Option<u64>,
}

impl Specs {
    /// This spec, shared with VIPs that have asked for the same, and what it weighs.
    ///
    /// # Errors
    /// If no state could ever satisfy it.
    pub(super) fn admit(
        &mut self,
        name: &Name,
        spec: &VipSpec,
    ) -> Result<(Arc<VipSpec>, u64), Rejection> {
        let known = self.known(spec);
        if let Some((spec, Some(weight))) = known {
            return Ok((spec, weight));
        }
        size::check_interface(name, spec)?;
        State::check_request(name, spec)?;
        let weight = size::of_spec(spec);
        let shared = match known {
            Some((known, _)) => known,
            None => self.keep(Arc::new(spec.clone())),
        };
        // Known or kept, it is the newest now.
        self.0[0].sound = Some(weight);
        Ok((shared, weight))
    }

    /// What the spec of a VIP weighs.
    pub(super) fn weight(&self, spec: &Arc<VipSpec>) -> u64 {
        let known = self.0.iter().find(|known| Arc::ptr_eq(&known.spec, spec));
        let weight = known.and_then(|known| known.sound);
        weight.unwrap_or_else(|| size::of_spec(spec))
    }

    /// One of those that came last, which is the newest again; and what it weighs, if it is known to be sound.
    fn known(&mut self, spec: &VipSpec) -> Option<(Arc<VipSpec>, Option<u64>)> {
        let at = self.0.iter().position(|known| *known.spec == *spec)?;
        self.0[..=at].rotate_right(1);
        let newest = self.0.first()?;
        Some((Arc::clone(&newest.spec), newest.sound))
    }

    /// Makes a spec the newest. Nothing is known of it.
    fn keep(&mut self, spec: Arc<VipSpec>) -> Arc<VipSpec> {
        self.0.truncate(RECENT - 1);
        let shared = Arc::clone(&spec);
        self.0.insert(0, Recent { spec, sound: None });
        shared
    }
}

impl State {
    /// Has VIPs that were decoded one by one share their specs.
    pub(super) fn share_specs(&mut self) {
        for vip in self.vips.values_mut() {
            let vip = Arc::make_mut(vip);
            match self.specs.known(&vip.spec) {
                Some((shared, _)) => vip.spec = shared,
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
    use alloc::string::String;

    fn shared(specs: &mut Specs, spec: &VipSpec) -> Arc<VipSpec> {
        specs.admit(&Name::new("www").unwrap(), spec).unwrap().0
    }

    fn keyed(key: usize) -> VipSpec {
        VipSpec {
            sharing_key: Some(format!("{key}")),
            ..VipSpec::default()
        }
    }

    #[test]
    fn those_that_ask_for_the_same_share_a_spec_and_others_do_not() {
        let mut specs = Specs::default();
        let one = shared(&mut specs, &keyed(1));
        let other = VipSpec {
            families: Families::Ipv6,
            ..keyed(1)
        };
        assert_ne!(one, shared(&mut specs, &other));
        assert!(Arc::ptr_eq(&one, &shared(&mut specs, &keyed(1))));
    }

    #[test]
    fn a_spec_that_is_no_good_is_refused_however_often_it_comes_and_wherever_it_was_read() {
        let bad = VipSpec {
            sharing_key: Some(String::new()),
            ..VipSpec::default()
        };
        let name = Name::new("www").unwrap();
        let mut specs = Specs::default();
        let refused = specs.admit(&name, &bad).unwrap_err();
        assert_eq!(specs.admit(&name, &bad), Err(refused.clone()));
        specs.keep(Arc::new(bad.clone()));
        assert_eq!(specs.admit(&name, &bad), Err(refused));
    }

    #[test]
    fn a_spec_weighs_the_same_whether_it_is_known_or_not() {
        let mut specs = Specs::default();
        let name = Name::new("www").unwrap();
        let (known, weight) = specs.admit(&name, &keyed(1)).unwrap();
        assert_eq!(weight, size::of_spec(&keyed(1)));
        assert_eq!(specs.weight(&known), weight);
        assert_eq!(specs.admit(&name, &keyed(1)), Ok((known, weight)));
        assert_eq!(specs.weight(&Arc::new(keyed(1))), weight);
    }

    #[test]
    fn only_the_newest_specs_are_kept_for_that() {
        let mut specs = Specs::default();
        let first = shared(&mut specs, &keyed(0));
        for key in 1..RECENT {
            shared(&mut specs, &keyed(key));
        }
        assert!(
            Arc::ptr_eq(&first, &shared(&mut specs, &keyed(0))),
            "asked again, it is the newest"
        );
        for key in 1..=RECENT {
            shared(&mut specs, &keyed(100 + key));
        }
        let again = shared(&mut specs, &keyed(0));
        assert!(again == first && !Arc::ptr_eq(&first, &again));
        assert_eq!(specs.0.len(), RECENT);
    }
}
