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
    /// Show who asked for what made each happen; with WHO (token/ci, uid/1000) only what he asked for
    #[arg(long, value_name = "WHO", num_args = 0..=1)]
    who: Option<Option<String>>,
}

impl EventsArgs {
    fn wants(&self, event: &Event) -> bool {
        match &self.who {
            Some(Some(who)) => event.who.as_ref() == Some(who),
            Some(None) | None => true,
        }
    }

    fn line(&self, event: &Event) -> String {
        let mut line = format!(
            "{}  {:<6}  {:<16}  ",
            render::clock(&event.at),
            event.revision,
            event.object,
        );
        if self.who.is_some() {
            let who = match (&event.who, &event.via) {
                (Some(who), Some(via)) => format!("{who} at {via}"),
                (Some(who), None) => who.clone(),
                (None, _) => "-".to_owned(),
            };
            line.push_str(&format!("{who:<18}  "));
        }
        line + &event.message
    }
}

pub(crate) async fn run(args: &EventsArgs, global: &Global) -> Result<(), Failure> {
    let client = connect::client(global)?;
    if !args.watch {
        let mut events = client.events().await?;
        events.items.retain(|event| args.wants(event));
        return output::show(&events, global.output, || {
            let lines = events.items.iter().map(|event| args.line(event));
            lines.collect::<Vec<_>>().join("\n")
        });
    }
    let mut stream = client.watch_events(0).await?;
    while let Some(event) = stream.next().await? {
        if !args.wants(&event) {
            continue;
        }
        match global.output {
            // One document a line, so that a pipe can be read as it fills.
            Format::Json => match serde_json::to_string(&event) {
                Ok(text) => output::line(&text)?,
                Err(cause) => return Err(Failure::new(cause.to_string(), "report this as a bug")),
            },
            Format::Table | Format::Wide | Format::Yaml => {
                output::show(&event, global.output, || args.line(&event))?
            }
        }
    }
    Err(Failure::new(
        format!("{} has ended the stream of events", client.server()),
        "the daemon is restarting: ask again",
    ))
}
