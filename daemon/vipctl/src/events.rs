//! `vipctl events`.

use clap::Args;
use vipd_api_types::Event;

use crate::cli::{Format, Global};
use crate::failure::Failure;
use crate::{connect, output, render};

/// Which events.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with events as they happen, until interrupted
    #[arg(short, long)]
    watch: bool,
}

pub(crate) async fn run(args: &EventsArgs, global: &Global) -> Result<(), Failure> {
    let client = connect::client(global)?;
    if !args.watch {
        let events = client.events().await?;
        return output::show(&events, global.output, || {
            events.items.iter().map(line).collect::<Vec<_>>().join("\n")
        });
    }
    let mut stream = client.watch_events(0).await?;
    while let Some(event) = stream.next().await? {
        match global.output {
            // One document a line, so that a pipe can be read as it fills.
            Format::Json => match serde_json::to_string(&event) {
                Ok(text) => output::line(&text)?,
                Err(cause) => return Err(Failure::new(cause.to_string(), "report this as a bug")),
            },
            Format::Table | Format::Yaml => output::show(&event, global.output, || line(&event))?,
        }
    }
    Err(Failure::new(
        format!("{} has ended the stream of events", client.server()),
        "the daemon is restarting: ask again",
    ))
}

fn line(event: &Event) -> String {
    format!(
        "{}  {:<6}  {:<16}  {}",
        render::clock(&event.at),
        event.revision,
        event.object,
        event.message
    )
}
