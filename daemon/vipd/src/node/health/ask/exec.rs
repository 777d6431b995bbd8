//! A program that says how a backend is.
//!
//! Whoever may write VIPs chooses which one is run, so it is off unless the node's configuration names a folder, and only
//! files of that folder are run, with arguments that are no text of users: the address and the port.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::Call;

/// So much of what a program says is read; the first line is shown.
const READ: u64 = 4096;

/// The programs that may be run.
#[derive(Debug)]
pub(super) struct Programs {
    dir: Option<PathBuf>,
}

impl Programs {
    pub(super) fn new(dir: Option<PathBuf>) -> Self {
        Self { dir }
    }

    /// What it says, if it ends with exit code 0; else why not.
    pub(super) async fn run(
        &self,
        call: &Call,
        program: &str,
        patience: Duration,
    ) -> Result<String, String> {
        let Some(dir) = &self.dir else {
            return Err(format!(
                "{program} is not run: checks of kind exec are off on this node; name a folder with exec_dir under [health] in \
                 its vipd.toml"
            ));
        };
        let path = dir.join(program);
        fit(&path).map_err(|why| format!("{} is not run: {why}", path.display()))?;
        let mut running = Group::spawn(&path, call)
            .map_err(|error| format!("{} cannot be run: {error}", path.display()))?;
        match timeout(patience, running.ended()).await {
            Ok(Ok((said, 0))) => Ok(format!("{program}: {}", first_line(&said, "exit code 0"))),
            Ok(Ok((said, code))) => Err(format!(
                "{program}: exit code {code}: {}",
                first_line(&said, "it says nothing")
            )),
            Ok(Err(error)) => Err(format!("{program}: {error}")),
            Err(_) => Err(format!(
                "{program} did not end within {patience:?} and was killed"
            )),
        }
    }
}

/// Refuses what others than root and vipd's own user could have put there.
fn fit(path: &Path) -> Result<(), String> {
    let file = path.symlink_metadata().map_err(|error| error.to_string())?;
    let mode = file.permissions().mode();
    let own = nix::unistd::geteuid().as_raw();
    if !file.is_file() {
        Err("it is no regular file".to_owned())
    } else if file.uid() != 0 && file.uid() != own {
        Err(format!(
            "it belongs to user {}: it must be root's or vipd's own",
            file.uid()
        ))
    } else if mode & 0o022 != 0 {
        Err("others may write it: chmod go-w".to_owned())
    } else if mode & 0o111 == 0 {
        Err("it is not executable: chmod +x".to_owned())
    } else {
        Ok(())
    }
}

/// A process, with all that it starts. What is left of them is killed when this is dropped.
struct Group {
    child: Child,
    leader: Option<Pid>,
}

impl Group {
    fn spawn(path: &Path, call: &Call) -> std::io::Result<Self> {
        let child = Command::new(path)
            .arg(call.at.ip().to_string())
            .arg(call.at.port().to_string())
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("VIPD_VIP", &call.vip)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        if let Some(id) = child.id() {
            // vipd's own rank is not for what it asks: that goes first when memory is short. To raise it needs no right.
            let _as_before = std::fs::write(format!("/proc/{id}/oom_score_adj"), "500");
        }
        let leader = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self {
            child,
            leader: leader.map(Pid::from_raw),
        })
    }

    /// What it says, its errors behind the rest, and its exit code; -1 if a signal ended it.
    async fn ended(&mut self) -> std::io::Result<(String, i32)> {
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        let (out, err, status) = tokio::join!(text(out), text(err), self.child.wait());
        let code = status?.code().unwrap_or(-1);
        // Its number may be another's from now on.
        self.leader = None;
        Ok((out + &err, code))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // Not reaped, or it has left somebody who holds its output: the number is still its own.
            let _gone = killpg(leader, Signal::SIGKILL);
        }
    }
}

async fn text(from: Option<impl AsyncRead + Unpin>) -> String {
    let mut said = Vec::new();
    if let Some(from) = from {
        let mut from = from;
        // The rest is read as well, so that it does not wait for somebody who reads.
        let _as_far_as_it_goes = (&mut from).take(READ).read_to_end(&mut said).await;
        let _as_far_as_it_goes = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&said).into_owned()
}

fn first_line(said: &str, none: &str) -> String {
    let line = said.lines().map(str::trim).find(|line| !line.is_empty());
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let line = line.unwrap_or(none);
    line.chars().take(200).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::to;
    use super::*;
    use std::fs::{self, Permissions};
    use std::time::Instant;

    use tempfile::TempDir;

    struct Folder {
        dir: TempDir,
        programs: Programs,
    }

    impl Folder {
        fn new() -> Self {
            let dir = TempDir::new().unwrap();
            let programs = Programs::new(Some(dir.path().to_owned()));
            Self { dir, programs }
        }

        /// Written by another process: who forks while a program is open for writing keeps it from being run.
        fn put(&self, name: &str, script: &str) -> PathBuf {
            let path = self.dir.path().join(name);
            let write = "printf '%s' \"$1\" > \"$0\" && chmod 755 \"$0\"";
            let done = std::process::Command::new("sh")
                .args(["-c", write, path.to_str().unwrap()])
                .arg(format!("#!/bin/sh\n{script}\n"))
                .status();
            assert!(done.unwrap().success());
            path
        }

        async fn run(&self, name: &str) -> Result<String, String> {
            let call = to("192.0.2.9:80".parse().unwrap());
            let patience = Duration::from_millis(500);
            self.programs.run(&call, name, patience).await
        }
    }

    #[tokio::test]
    async fn a_program_is_told_whom_to_look_at_and_says_it_by_its_exit_code() {
        let folder = Folder::new();
        folder.put("well", "echo \"$1 $2 of $VIPD_VIP\"; echo more");
        folder.put("ill", "echo no disk >&2; exit 3");
        assert_eq!(
            folder.run("well").await.as_deref(),
            Ok("well: 192.0.2.9 80 of www")
        );
        let why = folder.run("ill").await.unwrap_err();
        assert_eq!(why, "ill: exit code 3: no disk");
    }

    #[tokio::test]
    async fn one_that_does_not_end_is_killed_with_all_that_it_has_started() {
        let folder = Folder::new();
        let marks = folder.dir.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}; wait", marks.display());
        folder.put("slow", &script);
        let why = folder.run("slow").await.unwrap_err();
        assert!(why.contains("did not end within 500ms"), "{why}");
        let pid: i32 = fs::read_to_string(&marks).unwrap().trim().parse().unwrap();
        let gone = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            // Whoever has inherited it may not have reaped it yet.
            stat.is_ok_and(|it| it.contains(") Z ")) || !fs::exists(format!("/proc/{pid}")).unwrap()
        };
        let began = Instant::now();
        while !gone() {
            assert!(began.elapsed() < Duration::from_secs(5), "{pid} goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn nothing_is_run_without_a_folder_nor_what_anybody_could_have_put_there() {
        let off = Programs::new(None);
        let call = to("192.0.2.9:80".parse().unwrap());
        let why = off.run(&call, "true", Duration::from_secs(1)).await;
        assert!(why.unwrap_err().contains("exec_dir under [health]"));

        let folder = Folder::new();
        let path = folder.put("open", "exit 0");
        assert!(folder.run("open").await.is_ok());
        for (mode, says) in [(0o777, "chmod go-w"), (0o644, "chmod +x")] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let why = folder.run("open").await.unwrap_err();
            assert!(why.contains(says), "{why}");
        }
        std::os::unix::fs::symlink("/bin/true", folder.dir.path().join("link")).unwrap();
        let why = folder.run("link").await.unwrap_err();
        assert!(why.contains("no regular file"), "{why}");
        let why = folder.run("absent").await.unwrap_err();
        assert!(why.contains("No such file"), "{why}");
    }
}
