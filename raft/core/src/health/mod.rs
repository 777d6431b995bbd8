//! Health of backends: what is asked of them, and what follows from their answers. Of a VIP of mode `local` a node's own program
//! counts as the one backend that the node has.

mod question;
mod rate;
mod sight;

use alloc::format;
use alloc::string::String;

use crate::codec::{wire_enum, wire_struct};
use crate::service::{Mode, PortSpec};
use crate::time::Millis;
use crate::vip::VipSpec;

pub use question::{Http, Question, Statuses, Tls, Udp};
pub use rate::{RATE, no_more_often_than};
pub use sight::{Seen, Sight};

/// What becomes of a VIP when all of its backends are down, as its holder sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllDown {
    /// It stays, and all backends get connections as if none were down: more likely the question is wrong.
    #[default]
    Keep,
    /// It goes to a node that has not said the same, if there is one; else as [`AllDown::Keep`].
    Withdraw,
}

wire_enum!(AllDown { 0 => Keep, 1 => Withdraw });

/// How the backends of a VIP are looked after, by its holder and by who would hold it next, each for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is asked.
    pub question: Question,
    /// At which port; 0: where the VIP's lowest port leads, of the protocol that the question is asked in.
    pub port: u16,
    /// From one question to the next, 100 ms to an hour.
    pub interval: Millis,
    /// How long an answer may take, 10 ms to `interval`, at most [`Check::MAX_TIMEOUT`].
    pub timeout: Millis,
    /// So many questions unanswered, one after the other, and it is down: 1 to 10.
    pub fall: u8,
    /// So many answered, one after the other, and it is up again: 1 to 10.
    pub rise: u8,
    /// What to do when all of them are down.
    pub all_down: AllDown,
}

wire_struct!(Check {
    question,
    port,
    interval,
    timeout,
    fall,
    rise,
    all_down
});

impl Check {
    /// The longest time to answer: whoever waits takes a place from others.
    pub const MAX_TIMEOUT: Millis = Millis(10_000);
    /// The port to ask a backend at, which has `own` (0: none); 0 if there is none.
    #[must_use]
    pub fn port_of(&self, spec: &VipSpec, own: u16) -> u16 {
        let protocol = self.question.protocol();
        let first = spec
            .ports
            .iter()
            .find(|(port, _)| port.protocol == protocol);
        let led = first.map_or(0, |(port, PortSpec { target, .. })| match (own, *target) {
            (0, 0) => port.port,
            (0, target) => target,
            (own, _) => own,
        });
        match self.port {
            0 => led,
            port => port,
        }
    }

    /// Refuses what can't be asked.
    ///
    /// # Errors
    /// Why, to be said of the VIP: "asks its backends …".
    pub fn check(&self, spec: &VipSpec) -> Result<(), String> {
        if spec.mode == Mode::Local && self.all_down == AllDown::Keep {
            return Err(
                "has a health check that nothing follows from: its mode is local, so what is asked is its nodes' own programs, \
                 and all_down is keep. Choose all_down withdraw"
                    .into(),
            );
        }
        let Millis(interval) = self.interval;
        if !(100..=3_600_000).contains(&interval) {
            return Err(format!(
                "asks its backends each {interval} ms: 100ms to 1h can be"
            ));
        }
        let Millis(timeout) = self.timeout;
        let longest = interval.min(Self::MAX_TIMEOUT.0);
        if !(10..=longest).contains(&timeout) {
            return Err(format!(
                "gives its backends {timeout} ms to answer: 10ms to {longest}ms can be, its interval and 10s at most"
            ));
        }
        for (what, count) in [("fall", self.fall), ("rise", self.rise)] {
            if !(1..=10).contains(&count) {
                return Err(format!(
                    "has {what} {count} in its health check: 1 to 10 can be"
                ));
            }
        }
        self.question.check()?;
        // A program that is run is told the port, and needs none.
        if self.port_of(spec, 0) == 0 && !matches!(self.question, Question::Exec { .. }) {
            let protocol = self.question.protocol();
            return Err(format!(
                "has a health check without a port, and none of its {protocol} ports leads to one: name health.port"
            ));
        }
        Ok(())
    }
}

/// What is known of one backend by asking it. It counts as up until it is shown to be down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    down: bool,
    /// Answers, one after the other, that speak against that.
    against: u8,
    /// It was asked at all.
    asked: bool,
}

impl Health {
    /// Whether it gets new connections.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.down
    }

    /// Whether it is up by what it has answered itself, not for want of a question.
    #[must_use]
    pub fn is_known_up(&self) -> bool {
        self.asked && !self.down && self.against == 0
    }

    /// Takes the outcome of a question; whether it has changed what is to be done.
    pub fn take(&mut self, well: bool, check: &Check) -> bool {
        self.asked = true;
        if well == self.is_up() {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        let enough = if self.down { check.rise } else { check.fall };
        let changed = self.against >= enough;
        if changed {
            self.down = !self.down;
            self.against = 0;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Port, Ports, Protocol};
    use alloc::vec::Vec;

    fn check(fall: u8, rise: u8) -> Check {
        Check {
            question: Question::Tcp,
            port: 0,
            interval: Millis(2000),
            timeout: Millis(1000),
            fall,
            rise,
            all_down: AllDown::Keep,
        }
    }

    fn nat(ports: &[(Protocol, u16, u16)]) -> VipSpec {
        let of = |(protocol, port, target): &(Protocol, u16, u16)| {
            let (protocol, port, target) = (*protocol, *port, *target);
            (Port { protocol, port }, PortSpec { name: None, target })
        };
        VipSpec {
            mode: Mode::Nat,
            ports: ports.iter().map(of).collect::<Ports>(),
            ..VipSpec::default()
        }
    }

    /// How it is after each answer: `+` well and `-` not, in; `u` up and `d` down, out.
    fn history(fall: u8, rise: u8, answers: &str) -> String {
        let (check, mut health) = (check(fall, rise), Health::default());
        let after = answers.chars().map(|answer| {
            let before = health.is_up();
            let changed = health.take(answer == '+', &check);
            assert_eq!(changed, before != health.is_up());
            if health.is_up() { 'u' } else { 'd' }
        });
        after.collect()
    }

    #[test]
    fn so_many_bad_answers_in_a_row_are_down_and_so_many_good_ones_up() {
        for (fall, rise, answers, then) in [
            (3, 2, "--+---", "uuuuud"),
            (3, 2, "---+-++", "uuddddu"),
            (1, 1, "-+-+", "dudu"),
            (2, 3, "--++-+++", "uddddddu"),
        ] {
            assert_eq!(history(fall, rise, answers), then, "{answers}");
        }
    }

    #[test]
    fn who_was_never_asked_is_up_but_not_known_to_be() {
        let (check, mut health) = (check(2, 1), Health::default());
        assert!(health.is_up() && !health.is_known_up());
        health.take(false, &check);
        assert!(health.is_up() && !health.is_known_up());
        health.take(true, &check);
        assert!(health.is_known_up());
    }

    #[test]
    fn it_asks_where_packets_go_unless_a_port_is_named() {
        let spec = nat(&[
            (Protocol::Udp, 53, 0),
            (Protocol::Tcp, 80, 8080),
            (Protocol::Tcp, 443, 0),
        ]);
        assert_eq!(check(1, 1).port_of(&spec, 0), 8080);
        assert_eq!(check(1, 1).port_of(&spec, 9000), 9000);
        let named = Check {
            port: 7,
            ..check(1, 1)
        };
        assert_eq!(named.port_of(&spec, 9000), 7);
        let plain = nat(&[(Protocol::Tcp, 443, 0)]);
        assert_eq!(check(1, 1).port_of(&plain, 0), 443);
        let udp = Check {
            question: Question::Udp {
                datagram: Udp::default(),
            },
            ..check(1, 1)
        };
        assert_eq!(udp.port_of(&spec, 0), 53);
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_the_reason() {
        let web = nat(&[(Protocol::Tcp, 80, 0)]);
        assert_eq!(check(3, 2).check(&web), Ok(()));
        let exec = Check {
            question: Question::Exec {
                program: "look".into(),
            },
            ..check(3, 2)
        };
        assert_eq!(exec.check(&nat(&[(Protocol::Udp, 53, 0)])), Ok(()));
        let leaving = Check {
            all_down: AllDown::Withdraw,
            ..check(3, 2)
        };
        let local = VipSpec {
            mode: Mode::Local,
            ..web.clone()
        };
        assert_eq!(leaving.check(&local), Ok(()));
        let bad: Vec<(Check, VipSpec, &str)> = alloc::vec![
            (check(3, 2), VipSpec::default(), "mode is local"),
            (leaving.clone(), VipSpec::default(), "health.port"),
            (check(0, 2), web.clone(), "fall 0"),
            (check(3, 11), web.clone(), "rise 11"),
            (check(3, 2), nat(&[(Protocol::Udp, 53, 0)]), "health.port"),
            (check(3, 2), nat(&[(Protocol::Tcp, 0, 0)]), "health.port"),
            (
                Check {
                    interval: Millis(99),
                    ..check(3, 2)
                },
                web.clone(),
                "each 99 ms",
            ),
            (
                Check {
                    timeout: Millis(2001),
                    ..check(3, 2)
                },
                web.clone(),
                "2001 ms to answer",
            ),
        ];
        for (check, spec, why) in bad {
            let refused = check.check(&spec).unwrap_err();
            assert!(refused.contains(why), "{refused:?} lacks {why:?}");
        }
    }
}
