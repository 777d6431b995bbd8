//! The beat thread: executes [`Pulse`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use vipd_core::id::NodeId;
use vipd_core::lease::{Effect, Event, OnQuorumLoss, Pulse};
use vipd_core::time::{Instant, Span};

use super::{Process, Told};
use crate::lock;
use crate::mutant::Mutant;
use crate::net::HostId;
use crate::runtime::sleep;
use crate::trace::hash_bytes;

fn now(process: &Process) -> Instant {
    Instant(process.host.clock.now())
}

/// Runs until the process ends.
pub(super) async fn run(process: Arc<Process>) {
    let p = &*process;
    let on_disk = p
        .voter
        .get()
        .map(|voter| voter.log.fences())
        .unwrap_or_default();
    let on_loss = match p.world.plan.freezes() {
        true => OnQuorumLoss::Freeze,
        false => OnQuorumLoss::Stop,
    };
    let mut pulse = Pulse::new(p.me(), p.timing, on_loss, now(p), on_disk);
    let mut frozen = false;
    let mut effects = Vec::new();
    let mut written = Instant(0);
    let mut peers = BTreeMap::new();
    loop {
        wait(p, &pulse).await;
        while let Some(told) = { lock(&p.told).pop_front() } {
            match told {
                Told::View(view, known) => {
                    peers = known;
                    pulse.set_view(now(p), &view, &mut effects);
                }
                Told::FenceOnDisk(node, epoch) => {
                    pulse.fence_on_disk(now(p), node, epoch, &mut effects)
                }
                Told::Stretch => pulse.stretch(now(p)),
            }
        }
        while let Some((from, at, word, datagram)) = { lock(&p.socket).pop_front() } {
            let early = p.world.mutant == Mutant::ArrivedEarly;
            let at = if early {
                Instant(at.0.saturating_sub(p.timing.lease.0 / 3))
            } else {
                at
            };
            // Sealed with a key that only members have.
            if peers.contains_key(&from) {
                p.words.of(from).note(word, at);
                pulse.on_datagram(at, from, datagram, &mut effects);
            }
        }
        let _lateness = pulse.tick(now(p), &mut effects);
        for effect in &effects {
            if let Effect::Tell(Event::Frozen { frozen: now }) = effect {
                frozen = *now || p.world.mutant == Mutant::NeverThaws;
            }
        }
        let deadline = falsify(p, pulse.deadline(), written, frozen);
        if deadline != written {
            written = deadline;
            p.host.kernel.set_deadline(deadline.0, frozen);
            p.deadline.store(deadline.0, Ordering::Relaxed);
        }
        p.counted.store(pulse.membership(), Ordering::Relaxed);
        let answered = pulse.answered(now(p));
        p.beats_answered.store(answered, Ordering::Relaxed);
        for effect in effects.drain(..) {
            carry_out(&process, &peers, effect);
        }
    }
}

/// What the planted faults make of a deadline.
fn falsify(p: &Process, deadline: Instant, written: Instant, frozen: bool) -> Instant {
    match p.world.mutant {
        Mutant::NeverThaws if frozen => now(p).after(p.timing.lease),
        Mutant::NoDeadline if deadline > now(p) => deadline.after(Span(u64::MAX / 4)),
        Mutant::LeaseFromReceipt if deadline > written => now(p).after(p.timing.lease),
        Mutant::LeaseFromReceipt if deadline > Instant(0) => written,
        _ => deadline,
    }
}

/// Until the next tick, a word of the loop, or a datagram unless that may lie. A thread wakes a little late, at times more
/// than a little.
async fn wait(p: &Process, pulse: &Pulse) {
    let span = pulse.next_tick().since(now(p)).0.min(p.timing.beat.0);
    let late = p.world.lateness();
    let calm = pulse.calm(now(p));
    let news = async {
        loop {
            p.beat_wake.notified().await;
            if !calm || !lock(&p.told).is_empty() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = news => {}
        () = sleep(Duration::from_nanos(span + late)) => {}
    }
}

fn carry_out(process: &Arc<Process>, peers: &BTreeMap<NodeId, HostId>, effect: Effect) {
    let world = &process.world;
    match effect {
        Effect::Send { to, datagram } => {
            let Some(host) = peers.get(&to).copied() else {
                return;
            };
            let (from, receiver) = (process.me(), world.host(host));
            let word = process.words.own(now(process));
            let arrive = move || {
                if let Some(there) = receiver.process() {
                    there.receive(from, to, word, datagram.clone());
                }
            };
            world.net.datagram(process.host.id, host, arrive);
        }
        Effect::Tell(event) => {
            world.trace.mix(hash_bytes(format!("{event:?}").as_bytes()));
            if let Event::Support { held } = event {
                let word = if held { "supported" } else { "support lost" };
                world.trace.line(format_args!(
                    "{} n{}: {word}",
                    process.host.id,
                    process.me()
                ));
            }
            if let (Event::Fencing { node, epoch }, true) =
                (event, world.mutant == Mutant::FenceNotDurable)
            {
                lock(&process.told).push_back(Told::FenceOnDisk(node, epoch));
                process.beat_wake.notify_one();
            }
            lock(&process.inbox).events.push_back(event);
            process.wake.notify_one();
        }
    }
}
