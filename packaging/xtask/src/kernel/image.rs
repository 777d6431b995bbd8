//! What the machine finds when it boots: an archive of test programs, libraries, tools, modules and an init.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::debian::Parts;
use super::dir;
use super::suite::Suite;
use crate::sh;

const INIT: &str = include_str!("init.sh");

/// What tests call, taken from this machine.
const TOOLS: [&str; 6] = ["ip", "tc", "ping", "traceroute", "ethtool", "setpriv"];

/// What tests call that busybox does as well.
const APPLETS: [&str; 3] = ["sh", "find", "sysctl"];

/// Modules in the order in which they are loaded: each after those that it needs.
const MODULES: [&str; 9] = [
    "llc",
    "stp",
    "bridge",
    "veth",
    "sch_ingress",
    "cls_bpf",
    "garp",
    "mrp",
    "8021q",
];

/// Folders that are mounted on, or that programs expect.
const FOLDERS: [&str; 7] = ["proc", "sys", "dev", "run", "tmp", "var", "root"];

/// Packs the archive, and returns it.
pub(super) fn pack(parts: &Parts, suite: &Suite, object: &Path) -> Result<PathBuf> {
    let root = dir().join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("cannot empty {}", root.display()))?;
    }
    for folder in FOLDERS
        .into_iter()
        .chain(["bin", "tools", "tests", "modules"])
    {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    // Where `ip` keeps network namespaces.
    link("/run", &root.join("var/run"))?;
    copy(&parts.busybox, &root.join("bin/busybox"))?;
    for applet in APPLETS {
        link("/bin/busybox", &root.join("tools").join(applet))?;
    }
    for tool in TOOLS {
        let found = sh::which(tool).with_context(|| format!("{tool} is not on PATH"))?;
        copy(&found, &root.join("tools").join(tool))?;
        copy_libraries(&found, &root)?;
    }
    for module in MODULES {
        let to = root.join("modules").join(format!("{module}.ko"));
        copy(&parts.module(module)?, &to)?;
    }
    write(&root.join("modules/order"), &lines(MODULES))?;
    for program in suite.programs() {
        // Without what only debuggers read they are a tenth of their size.
        let to = root.join("tests").join(&program.name);
        sh::run(sh::command("strip").arg("-o").arg(to).arg(&program.file))?;
        copy_libraries(&program.file, &root)?;
    }
    write(&root.join("suite"), &lines(suite.lines()))?;
    copy(object, &root.join("vipd.bpf.o"))?;
    write(&root.join("init"), INIT)?;
    let runs = fs::Permissions::from_mode(0o755);
    fs::set_permissions(root.join("init"), runs).context("cannot make init a program")?;
    archive(parts, &root)
}

fn lines<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) -> String {
    let line = |line: T| format!("{}\n", line.as_ref());
    lines.into_iter().map(line).collect()
}

/// In the one format that the kernel reads, not compressed: an emulated machine would be slow at that.
fn archive(parts: &Parts, root: &Path) -> Result<PathBuf> {
    let archive = root.with_extension("cpio");
    let script = r#"cd "$1" && find . | cpio -o -H newc >"$2" 2>/dev/null"#;
    let mut pack = sh::command(&parts.busybox);
    pack.args(["sh", "-c", script, "pack"]);
    sh::run(pack.arg(root).arg(&archive))?;
    Ok(archive)
}

/// Copies the libraries that a program is linked with to where it looks for them, and its loader.
fn copy_libraries(program: &Path, root: &Path) -> Result<()> {
    let said = sh::output(sh::command("ldd").arg(program))?;
    for library in libraries(&said)? {
        let to = root.join(library.strip_prefix("/").unwrap_or(library));
        if !to.exists() {
            let folder = to.parent().unwrap_or(root);
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
            copy(library, &to)?;
        }
    }
    Ok(())
}

/// The files that ldd lists: `name => file (address)`, or `file (address)` for the loader. What the kernel gives has no file.
fn libraries(said: &str) -> Result<Vec<&Path>> {
    let mut files = Vec::new();
    for line in said.lines() {
        let line = line.trim();
        if line.ends_with("not found") {
            bail!("a library is missing: {line}");
        }
        let file = line.split_once("=> ").map_or(line, |(_, file)| file);
        let file = file.split(" (").next().unwrap_or(file);
        if file.starts_with('/') {
            files.push(Path::new(file));
        }
    }
    Ok(files)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = fs::copy(from, to);
    copied.with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn link(to: &str, at: &Path) -> Result<()> {
    symlink(to, at).with_context(|| format!("cannot make the link {}", at.display()))
}

fn write(to: &Path, text: &str) -> Result<()> {
    fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_found_and_what_the_kernel_gives_is_not() {
        let said = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f13)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f14)\n";
        let files = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(libraries(said).unwrap(), files.map(Path::new));
        assert!(libraries("\tstatically linked\n").unwrap().is_empty());
    }

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let error = libraries("\tlibodd.so.1 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libodd.so.1"), "{error}");
    }
}
