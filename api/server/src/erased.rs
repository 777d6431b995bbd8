//! [`Control`] behind one pointer, so that the routes are compiled once and know no type parameter.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, watch};
use vipd_core::asker::Who;
use vipd_core::command::{Command, Outcome};
use vipd_core::id::NodeId;
use vipd_core::node::Role;
use vipd_core::state::State;

use crate::audit::{self, Refusals};
use crate::balancing::Balancing;
use crate::control::{Control, ControlError, JoinTicket, LocalStatus};
use crate::metrics::Counters;
use crate::outlook::Outlook;
use crate::problem::Refusal;
use crate::room::Room;

type Answer<'a, T> = BoxFuture<'a, Result<T, ControlError>>;

trait Erased: Send + Sync {
    fn propose(&self, who: Who, command: Command) -> Answer<'_, Outcome>;
    fn refuses(&self, command: &Command) -> Option<ControlError>;
    fn linearize(&self) -> Answer<'_, ()>;
    fn look(&self, look: &mut dyn FnMut(&State));
    fn applied(&self) -> watch::Receiver<u64>;
    fn node(&self) -> NodeId;
    fn local(&self) -> LocalStatus;
    fn balancing(&self) -> Arc<dyn Balancing>;
    fn remove_member(&self, who: Who, node: NodeId) -> Answer<'_, ()>;
    fn snapshot(&self) -> Answer<'_, u64>;
    fn join_token(&self, who: Who, role: Role, ttl: Duration, uses: u32) -> Answer<'_, JoinTicket>;
}

impl<C: Control> Erased for C {
    fn propose(&self, who: Who, command: Command) -> Answer<'_, Outcome> {
        Box::pin(Control::propose(self, who, command))
    }
    fn refuses(&self, command: &Command) -> Option<ControlError> {
        Control::refuses(self, command)
    }

    fn linearize(&self) -> Answer<'_, ()> {
        Box::pin(Control::linearize(self))
    }
    fn look(&self, look: &mut dyn FnMut(&State)) {
        self.read(look);
    }
    fn applied(&self) -> watch::Receiver<u64> {
        Control::applied(self)
    }
    fn node(&self) -> NodeId {
        Control::node(self)
    }
    fn local(&self) -> LocalStatus {
        Control::local(self)
    }
    fn balancing(&self) -> Arc<dyn Balancing> {
        Control::balancing(self)
    }
    fn remove_member(&self, who: Who, node: NodeId) -> Answer<'_, ()> {
        Box::pin(Control::remove_member(self, who, node))
    }
    fn snapshot(&self) -> Answer<'_, u64> {
        Box::pin(Control::snapshot(self))
    }
    fn join_token(&self, who: Who, role: Role, ttl: Duration, uses: u32) -> Answer<'_, JoinTicket> {
        Box::pin(Control::join_token(self, who, role, ttl, uses))
    }
}

/// The daemon as the routes see it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Daemon {
    control: Arc<dyn Erased>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) outlook: Arc<Outlook>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) room: Arc<Room>,
    /// The turn of patches whose object others have changed meanwhile.
    pub(crate) patches: Arc<Mutex<()>>,
}

impl Daemon {
    pub(crate) fn new<C: Control>(control: Arc<C>) -> Self {
        Self {
            control,
            counters: Arc::default(),
            outlook: Arc::default(),
            refusals: Arc::default(),
            room: Arc::default(),
            patches: Arc::default(),
        }
    }

    /// Proposes for whoever the request being answered is from.
    pub(crate) async fn propose(&self, command: Command) -> Result<Outcome, ControlError> {
        self.control.propose(audit::asker()?, command).await
    }

    /// Refuses what is only tried as it would be in earnest.
    pub(crate) fn may_propose(&self, command: &Command) -> Result<(), Refusal> {
        match self.control.refuses(command) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    pub(crate) async fn linearize(&self) -> Result<(), Refusal> {
        self.begin()?;
        Ok(self.control.linearize().await?)
    }

    pub(crate) fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        let (mut look, mut seen) = (Some(look), None);
        self.control
            .look(&mut |state| seen = look.take().map(|look| look(state)));
        seen.expect("Control::read calls what it is given, once")
    }

    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.control.applied()
    }

    pub(crate) fn node(&self) -> NodeId {
        self.control.node()
    }

    pub(crate) fn local(&self) -> LocalStatus {
        self.control.local()
    }

    pub(crate) fn balancing(&self) -> Arc<dyn Balancing> {
        self.control.balancing()
    }

    pub(crate) async fn remove_member(&self, node: NodeId) -> Result<(), Refusal> {
        let who = self.begin()?;
        Ok(self.control.remove_member(who, node).await?)
    }

    pub(crate) async fn snapshot(&self) -> Result<u64, Refusal> {
        self.begin()?;
        Ok(self.control.snapshot().await?)
    }

    pub(crate) async fn join_token(
        &self,
        role: Role,
        ttl: Duration,
        uses: u32,
    ) -> Result<JoinTicket, Refusal> {
        let who = self.begin()?;
        Ok(self.control.join_token(who, role, ttl, uses).await?)
    }

    /// Finds room for what may take long, and says who asks for it.
    pub(crate) fn begin(&self) -> Result<Who, Refusal> {
        let who = audit::asker()?;
        self.room.wait(&who)?;
        Ok(who)
    }
}
