//! Commands that are carried out once, however often they are asked for.

use alloc::boxed::Box;

use crate::codec::{DecodeError, Reader, Wire, Writer, wire_struct};
use crate::command::{Applied, Command};
use crate::time::Millis;

/// By what a request is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// SHA-256 of the key that its sender chose.
    pub key: [u8; 32],
    /// SHA-256 of the request: the same key may not stand for another one.
    pub request: [u8; 32],
}

wire_struct!(Ticket { key, request });

/// A command with a ticket; none that has one already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticketed(Box<Command>);

impl Ticketed {
    /// Gives `command` a ticket, unless it has one.
    #[must_use]
    pub fn of(ticket: Ticket, command: Command) -> Command {
        match command {
            Command::Once { .. } => command,
            command => Command::Once {
                ticket,
                command: Self(Box::new(command)),
            },
        }
    }

    /// The command.
    #[must_use]
    pub fn command(&self) -> &Command {
        &self.0
    }
}

impl Wire for Ticketed {
    fn encode(&self, out: &mut Writer) {
        self.0.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match Command::decode(input)? {
            Command::Once { .. } => Err(DecodeError::Invalid("a ticket for a ticket")),
            command => Ok(Self(Box::new(command))),
        }
    }
}

/// What came of a command that had a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) ticket: Ticket,
    /// When it was given.
    pub(crate) at: Millis,
    pub(crate) applied: Applied,
}

wire_struct!(Answer {
    ticket,
    at,
    applied
});
