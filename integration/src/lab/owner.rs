//! Who a lab belongs to: unique names, removal on Ctrl-C, and removal of what dead labs left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once, PoisonError, Weak, mpsc};
use std::{process, thread};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};

use super::lab::Inner;
use super::netns;

const PREFIX: &str = "vipdlab";

static COUNTER: AtomicU32 = AtomicU32::new(0);
static LIVE: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

/// A fresh name, `vipdlab-<pid>-<k>`; no other lab of this machine has it.
pub(super) fn fresh_name() -> String {
    let k = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}-{}-{k}", process::id())
}

/// The folder of the lab `name`.
pub(super) fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(name)
}

/// Makes the folder and writes down who owns it, so that a later lab can tell a dead owner from a
/// living process that happens to have its pid.
pub(super) fn claim_folder(name: &str) -> Result<PathBuf> {
    let folder = folder(name);
    fs::create_dir(&folder)
        .with_context(|| format!("cannot make the lab folder {}", folder.display()))?;
    let me = started(process::id()).context("cannot read my own start time from /proc")?;
    fs::write(folder.join("owner"), me)?;
    Ok(folder)
}

/// Remembers a lab so that SIGINT and SIGTERM remove it.
pub(super) fn remember(lab: Weak<Inner>) {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        let (ready, watching) = mpsc::channel();
        let watch = move || watch_signals(&ready);
        // Without the watcher a Ctrl-C leaves the lab to the next start, which removes it.
        match thread::Builder::new()
            .name("lab-signals".into())
            .spawn(watch)
        {
            Ok(_) => drop(watching.recv()),
            Err(e) => eprintln!("warning: no thread to clean up on Ctrl-C: {e}"),
        }
    });
    let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
    live.retain(|lab| lab.strong_count() > 0);
    live.push(lab);
}

/// Waits for SIGINT or SIGTERM, removes every lab and ends the process. Says `ready` once it listens.
fn watch_signals(ready: &mpsc::Sender<()>) {
    use tokio::signal::unix::{SignalKind, signal};

    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => return eprintln!("warning: cannot watch for Ctrl-C: {e}"),
    };
    let code = runtime.block_on(async {
        let (mut interrupt, mut terminate) = (
            signal(SignalKind::interrupt()).ok()?,
            signal(SignalKind::terminate()).ok()?,
        );
        // The other side waits for this one message.
        let _ = ready.send(());
        tokio::select! {
            _ = interrupt.recv() => Some(130),
            _ = terminate.recv() => Some(143),
        }
    });
    let Some(code) = code else { return };
    eprintln!("\nremoving the lab …");
    // Not holding the list: another thread may be dropping its lab, and this one must not wait for it.
    let live: Vec<_> = LIVE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for lab in live.iter().filter_map(Weak::upgrade) {
        lab.tear_down();
    }
    process::exit(code);
}

/// Removes what labs of dead owners left behind: processes, namespaces, mounts, folders.
pub(super) fn remove_leftovers() -> Result<()> {
    // Two labs that start at the same time must not remove the same leftovers.
    let lock = fs::File::create(std::env::temp_dir().join(format!("{PREFIX}.lock")))?;
    lock.lock().context("cannot lock the list of labs")?;
    let named = fs::read_dir("/run/netns").into_iter().flatten();
    let kept = fs::read_dir(std::env::temp_dir()).into_iter().flatten();
    let mut labs: Vec<String> = named
        .chain(kept)
        .filter_map(|entry| lab_of(entry.ok()?.file_name().to_str()?))
        .collect();
    labs.sort();
    labs.dedup();
    for lab in labs {
        if !owner_alive(&lab) {
            remove_all(&lab)?;
        }
    }
    Ok(())
}

/// Removes every namespace of the lab `name`, and its folder.
pub(super) fn remove_all(name: &str) -> Result<()> {
    let mut failed = Vec::new();
    let mine = format!("{name}-");
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let ns = entry.file_name().to_string_lossy().into_owned();
        if ns.starts_with(&mine) {
            netns::remove(&ns).unwrap_or_else(|e| failed.push(format!("{e:#}")));
        }
    }
    let folder = folder(name);
    for mounted in mounts_under(&folder) {
        umount2(&mounted, MntFlags::MNT_DETACH)
            .unwrap_or_else(|e| failed.push(format!("{}: {e}", mounted.display())));
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .unwrap_or_else(|e| failed.push(format!("{}: {e}", folder.display())));
    }
    if !failed.is_empty() {
        bail!("could not remove all of lab {name}: {}", failed.join("; "));
    }
    Ok(())
}

/// What is mounted below `folder`, innermost first.
fn mounts_under(folder: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(PathBuf::from);
    let mut mine: Vec<PathBuf> = points.filter(|point| point.starts_with(folder)).collect();
    mine.sort();
    mine.reverse();
    mine
}

fn owner_alive(lab: &str) -> bool {
    let Some(pid) = lab.split('-').nth(1).and_then(|pid| pid.parse().ok()) else {
        return true;
    };
    match (started(pid), fs::read_to_string(folder(lab).join("owner"))) {
        (None, _) => false,
        // Not written yet: its owner is at this moment making it.
        (Some(running), Ok(owner)) => owner.is_empty() || running == owner,
        (Some(_), Err(_)) => true,
    }
}

/// `vipdlab-12-0-n1` -> `vipdlab-12-0`.
fn lab_of(name: &str) -> Option<String> {
    let mut parts = name.split('-');
    let (prefix, pid, k) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    (prefix == PREFIX && number(pid) && number(k)).then(|| format!("{prefix}-{pid}-{k}"))
}

/// Start time of a process in clock ticks since boot, field 22 of its `stat`.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The command in field 2 may hold spaces and brackets: count from its last bracket.
    let after = stat.rsplit_once(')')?.1;
    after.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_names_its_lab_and_strangers_do_not() {
        assert_eq!(lab_of("vipdlab-12-0-n1").as_deref(), Some("vipdlab-12-0"));
        assert_eq!(lab_of("vipdlab-12-0").as_deref(), Some("vipdlab-12-0"));
        for stranger in [
            "vipdlab",
            "vipdlab-x-0",
            "vipdlab--0",
            "blue-12-0-n1",
            "cni-1234",
        ] {
            assert_eq!(lab_of(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn a_pid_that_is_not_the_one_that_made_the_lab_does_not_own_it() {
        assert!(started(process::id()).is_some());
        assert!(started(u32::MAX).is_none());
        assert!(!owner_alive(&format!("{PREFIX}-{}-0", u32::MAX)));
    }
}
