//! `vipctl vip`.

use clap::{Args, Subcommand, ValueEnum};
use comfy_table::Cell;
use vipd_api_types::{
    Affinity, Backend, ClientAddress, Duration, Failback, Families, HealthCheck, MoveRequest, Port,
    Vip, VipAddress, VipSpec, VipWrite,
};
use vipd_client::{Client, Written};
use vipd_core::block::Family;

use crate::apply::{self, ApplyArgs};
use crate::cli::{Format, Global, TryArgs, WriteArgs, label, labels};
use crate::edit::{self, EditArgs};
use crate::failure::Failure;
use crate::manifest::Kind;
use crate::output::{self, Mood, or_dash};
use crate::service::{self, DispatchArg, ModeArg, TrafficArg};
use crate::wait::WaitArgs;
use crate::{connect, render};

/// What to do with VIPs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List all VIPs, one line per address
    List,
    /// Show one VIP
    Get {
        /// Its name
        name: String,
    },
    /// Make a VIP
    Create(Box<CreateArgs>),
    /// Make or replace VIPs from a file
    Apply(ApplyArgs),
    /// Change a VIP in your editor (VISUAL, EDITOR, else vi)
    Edit(EditArgs),
    /// Delete a VIP and free its addresses
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Move a VIP to another node
    Move {
        /// Its name
        name: String,
        /// The node that shall hold it
        #[arg(long, value_name = "NODE")]
        to: String,
        #[command(flatten)]
        wait: WaitArgs,
        #[command(flatten)]
        write: TryArgs,
    },
}

/// A VIP on the command line.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Its name
    name: String,
    /// The pool to take from; any that gives by itself when absent
    #[arg(long)]
    pool: Option<String>,
    /// The very address wanted; repeat for more
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<String>,
    /// Which address families, when no address is named
    #[arg(long, value_enum, default_value = "prefer_dual")]
    families: FamiliesArg,
    /// Announce on the interface of this name, even where no subnet of it contains the address
    #[arg(long)]
    interface: Option<String>,
    /// VIPs of the same group are held by one node and move together
    #[arg(long)]
    group: Option<String>,
    /// VIPs with the same key are kept on different nodes as long as there are enough of them
    #[arg(long, value_name = "KEY")]
    apart: Option<String>,
    /// Whether it returns to its home after a failover: never, always, or after:TIME (500ms, 10s, 5m, 1h)
    #[arg(long, default_value_t)]
    failback: Failback,
    /// The namespace it belongs to, which pools may select by
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// VIPs with the same key and different ports may have the same address
    #[arg(long, value_name = "KEY")]
    sharing_key: Option<String>,
    /// A namespace whose VIPs may share with it, * for all; repeat for more
    #[arg(long = "share-with", value_name = "NAMESPACE")]
    sharing_namespaces: Vec<String>,
    /// Who serves it
    #[arg(long, value_enum, default_value = "local")]
    mode: ModeArg,
    /// How packets travel to the backends, in mode dsr
    #[arg(long, value_enum, default_value = "l2")]
    dispatch: DispatchArg,
    /// Backends see clients' own addresses, in mode nat: their default gateway is a VIP of the same group (client_address: keep)
    #[arg(long)]
    keep_client: bool,
    /// A port it claims, tcp/443 or udp/53 (udp/0: all), or tcp/80=8080 for 8080 on the backends; repeat for more; all
    /// without any
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<Port>,
    /// A backend, 10.0.0.5 or 10.0.0.5:8080, and behind it ,weight=2 (0: drain) and ,node=n1; repeat for more
    #[arg(long = "backend", value_name = "BACKEND")]
    backends: Vec<Backend>,
    /// How backends, or with mode local (and `,withdraw`) its nodes' own programs, are looked after: tcp, http, http:/PATH, https:/PATH, udp or exec:PROGRAM, and behind it what is not so:
    /// ,interval=2s ,timeout=1s ,fall=3 ,rise=2 ,port=PORT ,host=NAME ,status=200-299 ,send=TEXT ,expect=TEXT; ,insecure takes
    /// any certificate, ,withdraw has the VIP go elsewhere when all are down
    #[arg(long, value_name = "CHECK")]
    health: Option<HealthCheck>,
    /// Which nodes it may be on, and which backends its holder uses
    #[arg(long, value_enum, default_value = "cluster")]
    traffic_policy: TrafficArg,
    /// All connections of a client's address go to one backend (affinity: client)
    #[arg(long)]
    sticky: bool,
    /// How long after its last connection began a client is kept so: 1s to 24h; 3h when absent
    #[arg(long, value_name = "TIME", requires = "sticky")]
    affinity_timeout: Option<Duration>,
    /// A network whose connections are taken, 10.0.0.0/8; repeat for more; everybody's without any
    #[arg(long = "source-range", value_name = "NETWORK")]
    source_ranges: Vec<String>,
    /// A label, key=value; repeat for more
    #[arg(long = "label", value_parser = label, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    write: TryArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum FamiliesArg {
    /// One IPv4 address
    Ipv4,
    /// One IPv6 address
    Ipv6,
    /// One of each if pools offer both, else one
    PreferDual,
    /// One of each or nothing
    RequireDual,
}

impl From<FamiliesArg> for Families {
    fn from(arg: FamiliesArg) -> Self {
        match arg {
            FamiliesArg::Ipv4 => Self::Ipv4,
            FamiliesArg::Ipv6 => Self::Ipv6,
            FamiliesArg::PreferDual => Self::PreferDual,
            FamiliesArg::RequireDual => Self::RequireDual,
        }
    }
}

pub(crate) async fn run(verb: Verb, global: &Global) -> Result<(), Failure> {
    let client = connect::client(global)?;
    match verb {
        Verb::List => {
            let vips = client.list::<Vip>().await?;
            output::show(&vips, global.output, || table(&vips.items))
        }
        Verb::Get { name } => {
            let vip = client.get::<Vip>(&name).await?;
            output::show(&vip, global.output, || {
                let table = table(std::slice::from_ref(&vip));
                let serving = service::sentence(&vip.spec).map(|text| format!("\n{text}"));
                let serving = serving.unwrap_or_default();
                let text = format!("{table}\n{}{serving}", placing(&vip));
                let of_addresses = vip.status.addresses.iter();
                let of_addresses = of_addresses.flat_map(|address| address.conditions.clone());
                let own = vip.status.conditions.iter().cloned();
                let conditions: Vec<_> = own.chain(of_addresses).collect();
                let complaints = render::with_complaints(text, &conditions);
                complaints + &service::down(&vip.status.backends)
            })
        }
        Verb::Create(args) => create(*args, &client, global.output).await,
        Verb::Apply(args) => apply::run(&args, Some(Kind::Vip), global).await,
        Verb::Edit(args) => edit::run::<Vip>(&args, global).await,
        Verb::Delete { name, write } => match client.delete::<Vip>(&name, write.into()).await? {
            Written::Done(_) => output::line(&format!("vip/{name} deleted")),
            Written::Tried(tried) => render::dry_run(&tried, &format!("vip/{name}"), global.output),
        },
        Verb::Move {
            name,
            to,
            wait,
            write,
        } => move_to(&client, &name, to, wait, write, global.output).await,
    }
}

async fn create(args: CreateArgs, client: &Client, format: Format) -> Result<(), Failure> {
    let body = VipWrite {
        name: Some(args.name.clone()),
        labels: labels(args.labels)?,
        spec: VipSpec {
            pool: args.pool,
            addresses: args.addresses,
            families: args.families.into(),
            mode: args.mode.into(),
            dispatch: args.dispatch.into(),
            client_address: if args.keep_client {
                ClientAddress::Keep
            } else {
                ClientAddress::Vip
            },
            interface: args.interface,
            group: args.group,
            apart: args.apart,
            failback: args.failback,
            namespace: args.namespace,
            sharing_key: args.sharing_key,
            sharing_namespaces: args.sharing_namespaces.into_iter().collect(),
            ports: args.ports,
            backends: args.backends,
            health: args.health,
            traffic_policy: args.traffic_policy.into(),
            affinity: if args.sticky {
                Affinity::Client
            } else {
                Affinity::None
            },
            affinity_timeout: args.affinity_timeout,
            source_ranges: args.source_ranges,
        },
    };
    match client.create::<Vip>(&body, args.write.into()).await? {
        Written::Done(vip) => output::show(&vip, format, || match &vip {
            Some(vip) => format!("vip/{} created: {}", args.name, summary(vip)),
            None => format!("vip/{} created", args.name),
        }),
        Written::Tried(tried) => render::dry_run(&tried, &format!("vip/{}", args.name), format),
    }
}

async fn move_to(
    client: &Client,
    name: &str,
    to: String,
    wait: WaitArgs,
    write: TryArgs,
    format: Format,
) -> Result<(), Failure> {
    let request = MoveRequest { to: to.clone() };
    let vip = match client.move_vip(name, &request, write.into()).await? {
        Written::Tried(tried) => return render::dry_run(&tried, &format!("vip/{name}"), format),
        Written::Done(vip) => vip,
    };
    let group = vip.and_then(|vip| vip.spec.group);
    let with = group.map_or_else(String::new, |group| format!(" with its group {group}"));
    if wait.wait == 0 {
        return output::line(&format!("vip/{name}{with} is moving to {to}"));
    }
    wait.until(async || {
        let vip = client.get::<Vip>(name).await?;
        let elsewhere: Vec<_> = vip
            .status
            .addresses
            .iter()
            .filter(|address| address.holder.as_ref() != Some(&to))
            .map(held)
            .collect();
        Ok((!elsewhere.is_empty()).then(|| elsewhere.join(", ")))
    })
    .await?;
    output::line(&format!("vip/{name}{with} moved to {to}"))
}

/// What decides where it is, on one line.
fn placing(vip: &Vip) -> String {
    let mut words = Vec::new();
    words.extend(
        vip.spec
            .group
            .as_ref()
            .map(|group| format!("group {group}")),
    );
    words.extend(vip.spec.apart.as_ref().map(|key| format!("apart by {key}")));
    let mut homes: Vec<_> = vip
        .status
        .addresses
        .iter()
        .filter_map(|a| a.home.as_deref())
        .collect();
    homes.dedup();
    if !homes.is_empty() {
        words.push(format!("home {}", homes.join(", ")));
    }
    words.push(format!("failback {}", vip.spec.failback));
    words.join(", ")
}

fn held(address: &VipAddress) -> String {
    match &address.holder {
        Some(holder) => format!("{} is held by {holder}", address.address),
        None => format!("{} is held by nobody", address.address),
    }
}

/// The addresses and what is missing, on one line.
pub(crate) fn summary(vip: &Vip) -> String {
    let mut parts: Vec<_> = vip
        .status
        .addresses
        .iter()
        .map(|address| address.address.to_string())
        .collect();
    parts.extend(
        render::complaints(&vip.status.conditions)
            .into_iter()
            .map(str::to_owned),
    );
    if parts.is_empty() {
        "no address yet".to_owned()
    } else {
        parts.join(", ")
    }
}

/// One line per address.
pub(crate) fn table(vips: &[Vip]) -> String {
    let mut titles = vec![
        "VIP",
        "ADDRESS",
        "POOL",
        "HOLDER",
        "RUNNER-UP",
        "EPOCH",
        "SINCE",
    ];
    if output::is_wide() {
        titles.extend(service::COLUMNS);
    }
    titles.push("STATE");
    let mut table = output::table(&titles);
    for vip in vips {
        let serving = || {
            let cells = service::cells(&vip.spec).into_iter();
            cells.map(Cell::new).filter(|_| output::is_wide())
        };
        for address in &vip.status.addresses {
            let (state, mood) = state(vip, address);
            let mut row: Vec<Cell> = vec![
                vip.name.as_str().into(),
                address.address.to_string().into(),
                address.pool.as_str().into(),
                or_dash(address.holder.as_deref()).into(),
                or_dash(address.runner_up.as_deref()).into(),
                address.epoch.into(),
                render::age(address.since.as_deref()).into(),
            ];
            row.extend(serving());
            row.push(output::mood(state, mood));
            table.add_row(row);
        }
        if vip.status.addresses.is_empty() {
            let complaints = render::complaints(&vip.status.conditions).join("; ");
            let state = if complaints.is_empty() {
                "no address"
            } else {
                &complaints
            };
            let dash = || Cell::new("-");
            let mut row: Vec<Cell> = vec![
                vip.name.as_str().into(),
                dash(),
                or_dash(vip.spec.pool.as_deref()).into(),
                dash(),
                dash(),
                dash(),
                dash(),
            ];
            row.extend(serving());
            row.push(output::mood(state, Mood::Bad));
            table.add_row(row);
        }
    }
    output::draw(table)
}

/// What is so with it first, whatever is complained of: then what is amiss with it, and with its VIP.
fn state(vip: &Vip, address: &VipAddress) -> (String, Mood) {
    let lacks = || service::lacks(&vip.spec, Family::of(address.address));
    let of_vip = vip.status.conditions.iter();
    let of_vip = of_vip.filter(|known| known.kind != "served" || lacks());
    let complaints = address.conditions.iter().chain(of_vip);
    let with = match address.shared_with.as_slice() {
        [] => String::new(),
        [one] => format!(", shared with {one}"),
        many => format!(", shared with {} and {} more", many[0], many.len() - 1),
    };
    let (so, mood) = match (&address.holder, address.answering) {
        (None, _) => ("no holder".to_owned(), Mood::Bad),
        (Some(_), Some(true)) => (format!("answering{with}"), Mood::Good),
        (Some(_), Some(false)) => (format!("silent{with}"), Mood::Bad),
        (Some(_), None) => (format!("held{with}"), Mood::Good),
    };
    let mut amiss = complaints.filter(|known| !known.status).peekable();
    let mood = match mood {
        Mood::Good if amiss.peek().is_some() => Mood::Odd,
        Mood::Good | Mood::Odd | Mood::Bad => mood,
    };
    let text = amiss.fold(so, |text, known| format!("{text}; {}", known.message));
    (text, mood)
}
