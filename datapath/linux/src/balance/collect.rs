//! How long a flow is remembered after its last packet.

use std::time::Duration;

use vipd_datapath_common::balance::{Flow, protocol};

use super::Times;

/// CLOCK_BOOTTIME ns.
pub(crate) fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Opening,
    Open,
    HalfClosed,
    Closing,
    Question,
    Stream,
}

impl State {
    /// That of the flow of this client's half.
    pub(crate) fn of(protocol: u8, client: &Flow) -> Self {
        let progress = client.progress;
        if protocol != protocol::TCP {
            if client.packets > 1 {
                Self::Stream
            } else {
                Self::Question
            }
        } else if progress.is_over() {
            Self::Closing
        } else if progress.fin != 0 || progress.peer_fin != 0 {
            Self::HalfClosed
        } else if progress.established != 0 || client.packets == 0 {
            // One without any packet was told by another node: it was recorded when it began, and is open by now.
            Self::Open
        } else {
            Self::Opening
        }
    }

    /// How long a flow stays in it without a packet, ns.
    pub(crate) fn patience(self, times: &Times) -> u64 {
        ns(match self {
            Self::Opening => times.opening,
            Self::Open => times.open,
            Self::HalfClosed => times.half_closed,
            Self::Closing => times.closing,
            Self::Question => times.question,
            Self::Stream => times.stream,
        })
    }

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Open => "open",
            Self::HalfClosed => "half_closed",
            Self::Closing => "closing",
            Self::Question => "question",
            Self::Stream => "stream",
        }
    }
}

/// Whether a flow is over: `seen` is when the last packet of either half came, `since` when this node began to hold the
/// address (`None`: it does not).
pub(crate) fn is_over(
    times: &Times,
    protocol: u8,
    client: &Flow,
    seen: u64,
    since: Option<u64>,
    now: u64,
) -> bool {
    let (patience, since) = match since {
        Some(since) => (State::of(protocol, client).patience(times), since),
        None => (ns(times.standby()), 0),
    };
    now.saturating_sub(seen.max(since)) > patience
}

/// Whether a translated flow is over since its backend is silent, whatever its client sends: `answers` is the backend's
/// half. So nobody keeps a place in the table by himself, and a UDP client with a fixed port leaves a dead backend. One that
/// is forgotten wrongly is made anew by the client's next packet, with the same backend as long as that is in the table.
pub(crate) fn is_unanswered(
    times: &Times,
    protocol: u8,
    answers: &Flow,
    since: Option<u64>,
    now: u64,
) -> bool {
    let Some(since) = since else {
        return false;
    };
    let patience = match (protocol, answers.progress.established, answers.packets) {
        (protocol::TCP, 0, 0) => times.opening,
        (protocol::TCP, 0, _) => times.half_closed,
        (protocol::TCP, _, _) => return false,
        (_, _, 0) => times.question,
        (_, _, _) => times.stream,
    };
    now.saturating_sub(answers.seen.max(since)) > ns(patience)
}

#[cfg(test)]
mod tests {
    use vipd_datapath_common::{AddressKey, balance::Progress};

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const OPENING: u64 = 11 * SECOND;
    const CLOSING: u64 = 12 * SECOND;
    const HALF_CLOSED: u64 = 130 * SECOND;
    const OPEN: u64 = 8_000 * SECOND;
    const QUESTION: u64 = 13 * SECOND;
    const STREAM: u64 = 140 * SECOND;
    const AGREED: u64 = HALF_CLOSED;
    const STANDBY: u64 = OPEN;
    /// Each another one than any other.
    const TIMES: Times = Times {
        opening: Duration::from_nanos(OPENING),
        open: Duration::from_nanos(OPEN),
        half_closed: Duration::from_nanos(HALF_CLOSED),
        closing: Duration::from_nanos(CLOSING),
        question: Duration::from_nanos(QUESTION),
        stream: Duration::from_nanos(STREAM),
    };

    fn flow([established, fin, peer_fin, reset]: [u8; 4], packets: u64) -> Flow {
        Flow {
            source: AddressKey::v4([10, 0, 0, 7]),
            destination: AddressKey::v4([10, 0, 0, 9]),
            source_port: [0, 1],
            destination_port: [0, 2],
            ifindex: 2,
            flags: 0,
            progress: Progress {
                established,
                fin,
                peer_fin,
                reset,
            },
            backend: 1,
            service: 2,
            seen: 0,
            packets,
            bytes: 0,
        }
    }

    #[test]
    fn each_state_has_its_patience() {
        use protocol::{TCP, UDP};
        let cases = [
            (TCP, [0, 0, 0, 0], 3, State::Opening, OPENING),
            (TCP, [1, 0, 0, 0], 3, State::Open, OPEN),
            (TCP, [0, 0, 0, 0], 0, State::Open, OPEN),
            (TCP, [1, 1, 0, 0], 3, State::HalfClosed, HALF_CLOSED),
            (TCP, [1, 0, 1, 0], 3, State::HalfClosed, HALF_CLOSED),
            (TCP, [1, 1, 1, 0], 3, State::Closing, CLOSING),
            (TCP, [0, 0, 0, 1], 3, State::Closing, CLOSING),
            (TCP, [1, 1, 0, 1], 3, State::Closing, CLOSING),
            (UDP, [0, 0, 0, 0], 1, State::Question, QUESTION),
            (UDP, [0, 0, 0, 0], 2, State::Stream, STREAM),
        ];
        for (protocol, progress, packets, expected, patience) in cases {
            let found = State::of(protocol, &flow(progress, packets));
            assert_eq!(found, expected, "{protocol} {progress:?} {packets}");
            assert_eq!(found.patience(&TIMES), patience);
        }
    }

    #[test]
    fn a_flow_is_over_after_its_patience_and_not_at_it() {
        let opening = flow([0; 4], 1);
        let over = |now| is_over(&TIMES, protocol::TCP, &opening, 100, Some(0), now);
        assert!(!over(100 + OPENING) && over(101 + OPENING));
        assert!(!over(50), "a packet that came after the clock was read");
    }

    #[test]
    fn who_sends_to_a_silent_backend_keeps_no_place_by_himself() {
        use protocol::{TCP, UDP};
        for (protocol, established, packets, patience) in [
            (TCP, 0, 0, Some(OPENING)),
            (TCP, 0, 1, Some(AGREED)),
            (TCP, 1, 0, None),
            (TCP, 1, 9, None),
            (UDP, 0, 0, Some(QUESTION)),
            (UDP, 0, 9, Some(STREAM)),
        ] {
            let answers = flow([established, 0, 0, 0], packets);
            let over = |since, now| is_unanswered(&TIMES, protocol, &answers, since, now);
            let after = patience.unwrap_or(STANDBY);
            assert!(!over(Some(0), after), "{protocol} {packets}");
            assert_eq!(over(Some(0), after + 1), patience.is_some());
            assert!(!over(Some(7), after + 7), "a new holder gives it its time");
            assert!(!over(None, u64::MAX), "a standby sees no answers");
        }
    }

    #[test]
    fn a_standby_keeps_what_the_holder_would_forget_soon() {
        let question = flow([0; 4], 1);
        let over = |since, now| is_over(&TIMES, protocol::UDP, &question, 0, since, now);
        assert!(!over(None, STANDBY) && over(None, STANDBY + 1));
        assert!(over(Some(0), QUESTION + 1));
    }

    #[test]
    fn who_has_just_become_the_holder_gives_every_flow_its_time_from_then_on() {
        let question = flow([0; 4], 1);
        let since = 3_000 * SECOND;
        let over = |now| is_over(&TIMES, protocol::UDP, &question, 0, Some(since), now);
        assert!(!over(since + QUESTION) && over(since + QUESTION + 1));
    }
}
