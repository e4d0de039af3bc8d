//! `cargo xtask guest KERNEL.deb`: the tests of the boundary and the attacks that ship on another
//! kernel, with control groups of version 2.
//!
//! A virtual machine whose root is this machine's, read-only, boots the kernel of a Debian package
//! (`linux-image-*-cloud-amd64`, which needs no initial ram disk for it). It is emulated, since a
//! processor that can be lent is not to be had everywhere: some ten times slower. Must never be part
//! of `cargo xtask test`: no kernel is installed for it.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::{Outcome, binaries, shell};

const DIR: &str = "target/guest";
const INIT: &str = include_str!("guest-init.sh");
/// What depends on control groups or on the kernel's version, as root and without privilege, unless
/// tests are named; those are then all.
const TESTS: &[&str] = &[
    "breaches::",
    "calls::",
    "deaths::",
    "grants::",
    "layers::",
    "limits::",
    "refused::what_is_refused",
    "rootless::breaches",
    "rootless::calls",
    "rootless::deaths",
    "rootless::grants",
    "rootless::layers",
    "rootless::limits",
    "rootless::refusals",
    "rootless::spares",
    "rootless::strays",
    "rootless::walls",
    "spares::",
    "strays::",
    "walls::",
];
/// In place of tests: the attacks that ship, and nothing else.
const ATTACKS: &str = "attacks";
/// Where distributions put what shares a directory with a guest.
const SHARERS: &[&str] = &["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"];
/// Longest that all of it may take, as timeout(1) is told: the same guest was through in 20 minutes on
/// one machine and not in 40 on another.
const LONGEST: &str = "5400";

/// Boots the kernel and runs the tests of the sandbox in it, then `cofferdam redteam`.
pub(crate) fn main(root: &Path, args: &[String]) -> Outcome {
    let Some((package, tests)) = args.split_first() else {
        bail!("name the package of a kernel: apt-get download linux-image-…-cloud-amd64")
    };
    for program in [&["qemu-system-x86_64", "--version"][..], &["busybox", "true"]] {
        if shell::probe(program).is_none() {
            bail!("{} is missing: apt-get install qemu-system-x86 busybox-static", program[0]);
        }
    }
    let dir = root.join(DIR);
    let kernel = Kernel::unpack(package, &dir)?;
    let built = binaries::of_tests(root, &["sandbox"], &[])?;
    let program = built.get("sandbox").context("the sandbox has no tests")?;
    let init = dir.join("init");
    std::fs::write(&init, INIT)?;
    std::fs::set_permissions(&init, std::fs::Permissions::from_mode(0o755))?;
    let (tests, attacker) = match tests {
        [] => (TESTS.join(","), attacker(root)?),
        [word] if word == ATTACKS => (String::new(), attacker(root)?),
        named => (named.join(","), String::new()),
    };
    let line = format!(
        "console=ttyS0 quiet panic=-1 root=host rootfstype=virtiofs ro init={} guest.overlay={} \
         guest.program={} guest.crate={} guest.tests={tests} guest.binary={attacker}",
        init.display(),
        kernel.overlay.display(),
        program.display(),
        root.join("crates/sandbox").display(),
    );
    let socket = dir.join("host.sock");
    let _none = std::fs::remove_file(&socket);
    let mut sharer = share(&socket)?;
    let said = boot(&kernel.image, &socket, &line);
    // It ends with its guest.
    let _gone = sharer.kill();
    let _status = sharer.wait();
    let said = said?;
    ensure!(!said.contains("running 0 tests"), "no test has such a name: {tests}");
    Ok(said.contains("guest: passed"))
}

/// The program as users get it: a slower one would not be through with all attacks in its time.
fn attacker(root: &Path) -> anyhow::Result<String> {
    let build = [env!("CARGO"), "build", "--release", "-p", "cofferdam"];
    ensure!(shell::succeeds(root, &build, &[]), "the program could not be built");
    Ok(root.join("target/release/cofferdam").display().to_string())
}

/// What of the package is needed.
struct Kernel {
    image: PathBuf,
    /// Everything else that is needed is not a module there.
    overlay: PathBuf,
}

impl Kernel {
    fn unpack(package: &str, dir: &Path) -> anyhow::Result<Self> {
        let kernel = dir.join("kernel");
        let _none = std::fs::remove_dir_all(&kernel);
        std::fs::create_dir_all(&kernel)?;
        let (from, to) = (std::path::absolute(package)?, kernel.to_string_lossy());
        let unpack = ["dpkg-deb", "--extract", &from.to_string_lossy(), &to];
        ensure!(shell::succeeds(dir, &unpack, &[]), "{package} is no package that can be unpacked");
        let find = |pattern: &str| -> anyhow::Result<PathBuf> {
            let found = shell::output(dir, "find", &[&to, "-path", pattern])?;
            let first = found.lines().next().map(PathBuf::from);
            first.with_context(|| format!("{package} has no {pattern}"))
        };
        let packed = find("*/overlayfs/overlay.ko*")?;
        let overlay = packed.with_extension("");
        if packed.extension().is_some_and(|it| it == "xz") {
            let unpack = ["xz", "--decompress", "--keep", "--force", &packed.to_string_lossy()];
            ensure!(shell::succeeds(dir, &unpack, &[]), "apt-get install xz-utils");
        }
        let overlay = if overlay.is_file() { overlay } else { packed };
        Ok(Self { image: find("*/boot/vmlinuz-*")?, overlay })
    }
}

/// Shares this machine's root; the guest mounts it read-only.
fn share(socket: &Path) -> anyhow::Result<Child> {
    let sharer = SHARERS.iter().find(|path| Path::new(path).exists());
    let sharer = sharer.context("there is no virtiofsd: apt-get install qemu-system-common")?;
    let mut child = Command::new(sharer)
        .arg(format!("--socket-path={}", socket.display()))
        .args(["-o", "source=/", "-o", "sandbox=chroot", "-o", "cache=always", "-o", "xattr"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("{sharer} cannot be run"))?;
    while !socket.exists() {
        let ended = child.try_wait()?;
        ensure!(ended.is_none(), "{sharer} shares nothing; it must be run as root");
        std::thread::yield_now();
    }
    Ok(child)
}

/// Boots, shows what the console says from the guest's own first word on, and gives all of it.
fn boot(image: &Path, socket: &Path, line: &str) -> anyhow::Result<String> {
    let memory = "memory-backend-memfd,id=memory,size=5G,share=on";
    let chardev = format!("socket,id=host,path={}", socket.display());
    // Whoever ends this command has ended the guest.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "timeout", LONGEST]);
    command.args(["qemu-system-x86_64", "-machine", "q35,memory-backend=memory"]);
    command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "5G"]);
    command.args(["-object", memory, "-chardev", &chardev]);
    command.args(["-device", "vhost-user-fs-pci,chardev=host,tag=host", "-nodefaults"]);
    command.args(["-nographic", "-no-reboot", "-serial", "stdio", "-kernel"]);
    command.arg(image).args(["-append", line]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("setpriv cannot be run")?;
    let (mut said, mut speaks) = (String::new(), false);
    for bytes in BufReader::new(child.stdout.take().context("no console")?).split(b'\n') {
        let line = String::from_utf8_lossy(&bytes?).replace('\r', "");
        speaks |= line.contains("guest: ");
        if speaks {
            println!("{line}");
        }
        said.push_str(&line);
        said.push('\n');
    }
    let status = child.wait()?;
    if !status.success() {
        let before = if speaks { "" } else { &said };
        bail!("the guest did not come to its end ({status}){before}");
    }
    Ok(said)
}
