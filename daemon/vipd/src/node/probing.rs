//! Asks the link whether somebody outside has addresses, on a thread of its own: it blocks, and neither the loop nor the
//! beats wait for it. The thread sleeps while nothing is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc as sync;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tracing::{error, info};
use vipd_core::node::{Interface, Mac};
use vipd_core::proof::{Answer, Question};
use vipd_core::state::State;
use vipd_datapath::{Heard, Probe, Prober, Said};

use super::shared::Shared;

/// After this time a failure that was not met again is none: what can't be asked is asked again each second.
const FORGOTTEN: Duration = Duration::from_secs(5);

/// What is to be asked, beside what is being asked.
struct Asked {
    probes: Vec<Probe>,
    members: BTreeSet<[u8; 6]>,
}

/// Some answers, by address.
pub(super) type Answers = Vec<(IpAddr, Answer)>;

/// The way to the thread. It ends with this.
pub(super) struct Probing {
    asks: sync::Sender<Asked>,
    told: mpsc::UnboundedSender<Answers>,
    answers: mpsc::UnboundedReceiver<Answers>,
}

impl Probing {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub(super) fn start(prober: Box<dyn Prober>, shared: Arc<Shared>) -> anyhow::Result<Self> {
        let (asks, asked) = sync::channel();
        let (told, answers) = mpsc::unbounded_channel();
        let tell = told.clone();
        thread::Builder::new()
            .name("vipd-probe".into())
            .spawn(move || run(prober, &asked, &tell, &shared))
            .context("the thread that asks the link who has an address")?;
        Ok(Self {
            asks,
            told,
            answers,
        })
    }

    /// Has these asked, by what the interfaces are now.
    pub(super) fn ask(&self, questions: Vec<Question>, interfaces: &[Interface], state: &State) {
        let macs: BTreeMap<&str, Mac> = interfaces
            .iter()
            .map(|interface| (interface.name.as_str(), interface.mac))
            .collect();
        let (mut probes, mut unasked) = (Vec::new(), Answers::new());
        for Question {
            address, interface, ..
        } in questions
        {
            match macs.get(interface.as_str()) {
                Some(mac) => probes.push(Probe {
                    address,
                    interface,
                    mac: mac.0,
                }),
                // It has gone since the cluster was told of it.
                None => unasked.push((address, Answer::Unasked)),
            }
        }
        let members = state.nodes().values().flat_map(|node| &node.interfaces);
        let members = members.map(|interface| interface.mac.0).collect();
        if let Err(sync::SendError(Asked { probes, .. })) =
            self.asks.send(Asked { probes, members })
        {
            // The thread has panicked, and said so.
            unasked.extend(probes.into_iter().map(|it| (it.address, Answer::Unasked)));
        }
        if !unasked.is_empty() {
            // To this struct's own receiver.
            let _always_there = self.told.send(unasked);
        }
    }

    /// The next answers, as they come.
    pub(super) async fn answers(&mut self) -> Option<Answers> {
        self.answers.recv().await
    }
}

fn run(
    mut prober: Box<dyn Prober>,
    asked: &sync::Receiver<Asked>,
    told: &mpsc::UnboundedSender<Answers>,
    shared: &Shared,
) {
    let mut under_way = BTreeSet::new();
    let mut failing = false;
    loop {
        let first = if failing {
            asked.recv_timeout(FORGOTTEN)
        } else {
            asked.recv().map_err(Into::into)
        };
        let mut more = match first {
            Ok(first) => Some(first),
            Err(sync::RecvTimeoutError::Disconnected) => return,
            // What could not be asked is no longer to be announced.
            Err(sync::RecvTimeoutError::Timeout) => {
                failing = false;
                shared.set_unasked(None);
                continue;
            }
        };
        loop {
            while let Some(Asked { probes, members }) = more {
                under_way.extend(probes.iter().map(|probe| probe.address));
                prober.ask(probes, &members);
                more = asked.try_recv().ok();
            }
            let answers: Answers = match prober.step() {
                Ok(None) => break,
                Ok(Some(heard)) => {
                    if std::mem::take(&mut failing) {
                        info!("the link can be asked again");
                        shared.set_unasked(None);
                    }
                    heard.iter().map(answer).collect()
                }
                Err(why) => {
                    let why = format!(
                        "it can't be asked whether other hosts have new addresses, which are not announced therefore: {why}"
                    );
                    if !std::mem::replace(&mut failing, true) {
                        error!("{why}; it is tried again each second");
                    }
                    shared.set_unasked(Some(why));
                    let all = under_way.iter();
                    all.map(|address| (*address, Answer::Unasked)).collect()
                }
            };
            for (address, _) in &answers {
                under_way.remove(address);
            }
            if !answers.is_empty() && told.send(answers).is_err() {
                return;
            }
            more = asked.try_recv().ok();
        }
    }
}

fn answer(heard: &Heard) -> (IpAddr, Answer) {
    let answer = match heard.said {
        Said::Free => Answer::Free,
        Said::Taken(mac) => Answer::Taken(Mac(mac)),
        Said::Unasked => Answer::Unasked,
    };
    (heard.address, answer)
}

#[cfg(test)]
mod tests {
    use vipd_core::id::Epoch;
    use vipd_datapath::DatapathError;

    use super::*;

    /// Answers as it is told, after as many steps as it is told.
    struct Scripted(Vec<Result<Vec<Heard>, DatapathError>>);

    impl Prober for Scripted {
        fn ask(&mut self, _probes: Vec<Probe>, _members: &BTreeSet<[u8; 6]>) {}

        fn step(&mut self) -> Result<Option<Vec<Heard>>, DatapathError> {
            match self.0.pop() {
                Some(said) => said.map(Some),
                None => Ok(None),
            }
        }
    }

    fn vip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn eth0() -> Vec<Interface> {
        vec![Interface {
            name: "eth0".into(),
            up: true,
            prefixes: Vec::new(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
        }]
    }

    fn questions(interface: &str, addresses: impl IntoIterator<Item = u8>) -> Vec<Question> {
        let addresses = addresses.into_iter();
        let questions = addresses.map(|last| Question {
            address: vip(last),
            epoch: Epoch(1),
            interface: interface.into(),
        });
        questions.collect()
    }

    async fn next(probing: &mut Probing) -> Answers {
        let answers = tokio::time::timeout(Duration::from_secs(10), probing.answers());
        answers.await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn answers_come_as_the_link_gives_them() {
        let said = |last, said| Heard {
            address: vip(last),
            said,
        };
        let script = vec![
            Ok(vec![said(2, Said::Taken([2, 0, 0, 0, 0, 9]))]),
            Ok(vec![]),
            Ok(vec![said(1, Said::Free)]),
        ];
        let mut probing = Probing::start(Box::new(Scripted(script)), Arc::default()).unwrap();
        probing.ask(questions("eth0", 1..=2), &eth0(), &State::default());
        assert_eq!(next(&mut probing).await, [(vip(1), Answer::Free)]);
        let taken = Answer::Taken(Mac([2, 0, 0, 0, 0, 9]));
        assert_eq!(next(&mut probing).await, [(vip(2), taken)]);
    }

    #[tokio::test]
    async fn an_interface_that_is_gone_cannot_be_asked_on() {
        let mut probing = Probing::start(Box::new(Scripted(vec![])), Arc::default()).unwrap();
        probing.ask(questions("eth7", [1]), &eth0(), &State::default());
        assert_eq!(next(&mut probing).await, [(vip(1), Answer::Unasked)]);
    }

    #[tokio::test]
    async fn a_link_that_cannot_be_heard_is_a_fault_until_it_can() {
        let broken = DatapathError::System {
            doing: "open a packet socket that listens".into(),
            source: std::io::Error::from_raw_os_error(1),
        };
        let free = Heard {
            address: vip(1),
            said: Said::Free,
        };
        let shared = Arc::<Shared>::default();
        let script = vec![Ok(vec![free]), Err(broken)];
        let mut probing = Probing::start(Box::new(Scripted(script)), shared.clone()).unwrap();
        probing.ask(questions("eth0", [1]), &eth0(), &State::default());
        assert_eq!(next(&mut probing).await, [(vip(1), Answer::Unasked)]);
        // The script goes on whether or not it is asked again.
        assert_eq!(next(&mut probing).await, [(vip(1), Answer::Free)]);
        assert_eq!(shared.fault(), None);
    }
}
