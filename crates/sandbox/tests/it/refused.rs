//! What is refused by whom, and what tells of it: the table of `docs/reference/denials.md`.
//!
//! Every row is tried in a session. The kernel's answer and the event are observed, never written
//! down by hand; who refuses is said by hand, since no answer tells.

use std::fmt::Write as _;

use cofferdam_contract::denial::{Attribution, DenialSource};
use cofferdam_sandbox::CallSpec;
use cofferdam_sandbox::view::Bind;

use crate::support::{Open, Site, call, launcher, text};

/// Names the program where the tests run as another user, from copies.
pub(crate) const PROGRAM_VARIABLE: &str = "COFFERDAM_TEST_REFUSED";
pub(crate) const INSIDE: &str = "/opt/refused";
/// The page is the snapshot: the table is written into it, and read back when this is built.
const PAGE: &str = include_str!("../../../../docs/reference/denials.md");
const PAGE_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/denials.md");
const MARK: &str = "<!-- table -->\n";

/// Why what does not exist inside is silent.
const ABSENT: &str = "what is absent is not refused: nobody is asked";
/// Why what is mounted read-only is.
const READ_ONLY: &str = "a read-only mount answers before anything that tells; where the profile wants it, `view.read_only`";
/// The same, for what is the session's own.
const READ_ONLY_SKELETON: &str = "a read-only mount answers before anything that tells; where the profile wants it, \
    `view.read_only`; as root, Landlock's audit can";

#[rustfmt::skip]
/// Operation, who refuses it, and, where nothing tells, why not.
pub(crate) const ROWS: &[(&str, &str, &str)] = &[
    ("read /etc/shadow", "private root: absent", ABSENT),
    ("read another home", "private root: absent", ABSENT),
    ("read a socket of the host", "private root: absent", ABSENT),
    ("read a decoy", "nobody: it holds a canary", ""),
    ("read kernel addresses", "masked: empty", "an empty device answers"),
    ("read init's environment", "kernel: init is not dumpable", "a file mode of /proc: monitors meet it all the time"),
    ("list init's descriptors", "kernel: init is not dumpable", "a file mode of /proc: monitors meet it all the time"),
    ("read kernel messages", "masked: empty", "an empty device answers"),
    ("open by file handle", "system-call filter", ""),
    ("write below /usr", "read-only mount", READ_ONLY),
    ("write /etc/passwd", "read-only mount", READ_ONLY_SKELETON),
    ("truncate /etc/passwd", "read-only mount", READ_ONLY_SKELETON),
    ("change the mode of /etc/passwd", "read-only mount", READ_ONLY),
    ("change the times of /etc/passwd", "read-only mount", READ_ONLY),
    ("create in /", "read-only mount", READ_ONLY_SKELETON),
    ("make a directory in /", "read-only mount", READ_ONLY_SKELETON),
    ("make a link in /etc", "read-only mount", READ_ONLY_SKELETON),
    ("link a program to /tmp", "kernel: another file system", "programs try it and copy instead"),
    ("write a decoy", "file mode or read-only mount", READ_ONLY),
    ("remove a program", "read-only mount", READ_ONLY),
    ("rename /etc/passwd", "read-only mount", READ_ONLY_SKELETON),
    ("write core_pattern", "read-only mount", READ_ONLY),
    ("write the denials file", "read-only mount", READ_ONLY),
    ("write a disk", "private root: absent", READ_ONLY),
    ("set a setuid bit", "system-call filter", ""),
    ("make a block device", "system-call filter", ""),
    ("make a character device", "system-call filter", ""),
    ("execute what is not there", "private root: absent", ABSENT),
    ("execute on a mount for data", "mount without execution", "a mount's flag answers before anything that tells"),
    ("connect by TCP", "network namespace", ""),
    ("connect by TCP over IPv6", "network namespace", ""),
    ("send by UDP", "network namespace", ""),
    ("connect to a closed loopback port", "kernel: nobody listens", "nothing is refused: nobody listens"),
    ("connect to an abstract socket", "network namespace", "nothing is refused: nobody listens"),
    ("listen on a privileged port", "kernel: no capability", "programs try it and take another port"),
    ("look up a name", "network namespace: no resolver", "there is no resolver to ask"),
    ("vsock socket", "system-call filter", ""),
    ("packet socket", "system-call filter", ""),
    ("kernel crypto socket", "system-call filter", ""),
    ("raw IP socket", "system-call filter", ""),
    ("audit netlink socket", "system-call filter", ""),
    ("new user namespace", "system-call filter", ""),
    ("new namespace by clone", "system-call filter", ""),
    ("new namespace by clone3", "system-call filter: not there", "C libraries try it first for every thread"),
    ("enter a namespace", "system-call filter", ""),
    ("mount", "system-call filter", ""),
    ("mount by the newer calls", "system-call filter", ""),
    ("unmount", "system-call filter", ""),
    ("open a mount tree", "system-call filter", ""),
    ("change root", "system-call filter", ""),
    ("trace init", "system-call filter", ""),
    ("read init's memory", "system-call filter", ""),
    ("take a descriptor", "system-call filter", ""),
    ("kill init", "process namespace: ignored", "the kernel drops it without an error"),
    ("load a BPF program", "system-call filter", ""),
    ("performance counters", "system-call filter", ""),
    ("user faults", "system-call filter", ""),
    ("io_uring", "system-call filter: not there", "run-times try it and go without"),
    ("load a module", "system-call filter", ""),
    ("load another kernel", "system-call filter", ""),
    ("set the clock", "system-call filter", ""),
    ("reboot", "system-call filter", ""),
    ("kernel log", "system-call filter", ""),
    ("key ring", "system-call filter", ""),
    ("add a key", "system-call filter", ""),
    ("become root", "system-call filter", ""),
    ("set groups", "system-call filter", ""),
    ("give a file away", "system-call filter", ""),
    ("take capabilities", "kernel: none to take", "programs that drop privileges do the same"),
    ("give a file capabilities", "kernel: none to give", "archivers try it for every file"),
    ("set the host name", "system-call filter", ""),
    ("type into the terminal", "system-call filter", ""),
    ("make a subvolume", "system-call filter", ""),
    ("open too many files", "limit of the process", "the kernel tells nobody; who stays so is seen by the next look (`limit.open_files`)"),
    ("raise a limit", "kernel: no capability", "programs try it and live with what they have"),
];

pub(crate) fn program_path() -> std::path::PathBuf {
    let built = env!("CARGO_BIN_EXE_cofferdam-sandbox-refused");
    std::env::var_os(PROGRAM_VARIABLE).unwrap_or(built.into()).into()
}

fn open(launcher: &cofferdam_sandbox::Launcher, tells_writes: bool) -> Open {
    let mut site = Site::new();
    site.spec.tells_writes = tells_writes;
    site.spec.decoys = true;
    site.spec.view.binds.push(Bind { source: program_path(), target: INSIDE.into() });
    site.open(launcher)
}

/// The name of an error number, without a table of our own.
pub(crate) fn errno(number: &str) -> String {
    let number: i32 = number.parse().unwrap_or(-1);
    match number {
        0 => "none: it succeeds".to_owned(),
        -1 => "by the resolver".to_owned(),
        number => {
            let text = std::io::Error::from_raw_os_error(number).to_string();
            text.split(" (os error").next().unwrap_or_default().to_owned()
        }
    }
}

fn source(source: DenialSource) -> &'static str {
    match source {
        DenialSource::Seccomp => "seccomp",
        DenialSource::Decoy => "decoy",
        DenialSource::Limit => "limit",
        _ => "another",
    }
}

/// What was tried: the number that the program got, and what told of it.
pub(crate) struct Tried {
    pub(crate) number: String,
    pub(crate) event: Option<String>,
}

pub(crate) fn attempt(open: &Open, operation: &str, spec: CallSpec) -> Tried {
    let id = spec.id.clone();
    let result = open.start(spec).wait();
    assert_eq!(result.exit_code, Some(0), "{operation}: {}", text(&result.stderr));
    let all = open.denials.0.lock().unwrap();
    let told: Vec<_> = all.iter().filter(|denial| denial.call.as_ref() == Some(&id)).collect();
    let count: u64 = told.iter().map(|denial| denial.count).sum();
    assert_eq!(count, result.denials, "{operation}: {told:?}");
    let event = told.first().map(|first| {
        let call = match first.attribution {
            Attribution::Exact => "exact",
            Attribution::Inferred => "inferred",
        };
        format!("{}: `{}` on `{}`, call {call}", source(first.source), first.rule, first.target)
    });
    Tried { number: text(&result.stdout).trim().to_owned(), event }
}

/// One row: the answer and the event, as they were.
fn row(open: &Open, (operation, refused_by, why_silent): (&str, &str, &str)) -> String {
    let tried = attempt(open, operation, call(&[INSIDE, operation]));
    assert_eq!(tried.event.is_none(), !why_silent.is_empty(), "{operation}: {:?}", tried.event);
    let event = tried.event.unwrap_or_else(|| format!("silent: {why_silent}"));
    format!("| {operation} | {refused_by} | {} | {event} |", errno(&tried.number))
}

fn table() -> String {
    let launcher = launcher();
    let open = open(&launcher, false);
    let mut table =
        String::from("| operation | refused by | answer | event |\n|---|---|---|---|\n");
    for known in ROWS {
        let _infallible = writeln!(table, "{}", row(&open, *known));
    }
    table
}

/// Compares a page with what was seen, or writes it.
pub(crate) fn settle(path: &str, page: &str, table: &str) {
    let (head, _) = page.split_once(MARK).expect("a marked place for the table");
    let seen = format!("{head}{MARK}{table}");
    if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
        std::fs::write(path, seen).unwrap();
    } else {
        let changed: Vec<_> =
            page.lines().zip(seen.lines()).filter(|(old, new)| old != new).collect();
        assert!(page == seen, "run this with INSTA_UPDATE=always, and read: {changed:#?}");
    }
}

#[test]
fn what_is_refused_by_whom_and_what_tells_of_it() {
    settle(PAGE_PATH, PAGE, &table());
}

/// Where the profile wants to be told of writes: of each that a read-only mount refuses, and nothing else
/// becomes another.
#[test]
fn where_writes_are_told_each_that_is_refused_is() {
    let launcher = launcher();
    let (open_telling, open) = (open(&launcher, true), open(&launcher, false));
    for (operation, refused_by, why_silent) in ROWS {
        let of = |open| attempt(open, operation, call(&[INSIDE, operation]));
        let (told, untold) = (of(&open_telling), of(&open));
        assert_eq!(told.number, untold.number, "{operation}");
        if why_silent.starts_with(READ_ONLY) {
            assert!(refused_by.contains("read-only mount") || *operation == "write a disk");
            let event = told.event.unwrap_or_else(|| panic!("{operation} is not told"));
            assert!(event.starts_with("seccomp: `view.read_only` on `/"), "{operation}: {event}");
            assert!(event.ends_with(", call exact"), "{operation}: {event}");
        } else {
            assert_eq!(told.event, untold.event, "{operation}");
        }
    }
}

/// What is written where it may be, by every call that is asked about, and what fails for other reasons.
const WRITES: &str = r#"
import os
def fails(call, *args, **more):
    try: call(*args, **more)
    except OSError: return
    raise SystemExit(f'{call} {args} did not fail')
def touch(path, flags=os.O_CREAT | os.O_WRONLY, **more): os.close(os.open(path, flags, **more))
for top in ('/workspace', '/tmp', os.path.expanduser('~')):
    os.chdir(top)
    os.mkdir('d'); touch('d/a'); touch('d/a', os.O_RDWR | os.O_TRUNC); os.truncate('d/a', 3)
    here = os.open('d', os.O_RDONLY)
    touch('b', dir_fd=here); os.rename('b', 'c', src_dir_fd=here, dst_dir_fd=here); os.mkdir('e', dir_fd=here)
    os.link('c', 'f', src_dir_fd=here, dst_dir_fd=here); os.symlink('c', 'g', dir_fd=here)
    os.utime('c', dir_fd=here); os.utime(here); os.chmod('c', 0o600, dir_fd=here); os.chmod('d/a', 0o600)
    os.utime('d/g', follow_symlinks=False); os.mkfifo('d/h'); os.mknod('d/i')
    fails(os.mkdir, 'd'); fails(os.symlink, 'x', 'd'); fails(touch, 'd/a/b'); fails(touch, 'd/none', os.O_WRONLY)
    fails(os.unlink, 'none'); fails(os.rmdir, 'd'); fails(os.truncate, 'none', 1); fails(os.rename, 'none', 'x')
    os.symlink('../' * 9 + 'dev/null', 'd/null'); touch('d/null')
    os.unlink('a', dir_fd=here); os.rmdir('d/e'); os.unlink('d/null')
touch('/dev/null', os.O_RDWR)
# What is there is read whatever else is said.
touch('/etc/passwd', os.O_RDONLY | os.O_CREAT); fails(touch, '/etc/passwd', os.O_WRONLY | os.O_CREAT | os.O_EXCL)
fails(os.mkdir, '/usr'); fails(touch, '/none/a'); touch('/etc/passwd', os.O_RDWR | os.O_PATH)
fails(touch, '/etc/passwd', os.O_RDWR | os.O_DIRECTORY); fails(os.link, '/etc/none', '/etc/new')
fails(os.rmdir, '/usr/lib/.'); fails(os.mkdir, '/usr/new/.')
fails(os.rename, '/etc/passwd', '/tmp/passwd'); fails(touch, '/etc', os.O_WRONLY)
"#;

#[test]
fn where_writes_are_told_what_may_be_written_is_not() {
    let launcher = launcher();
    let open = open(&launcher, true);
    let result = open.run(&["python3", "-c", WRITES]);
    assert_eq!((text(&result.stderr), result.exit_code), (String::new(), Some(0)));
    assert_eq!(result.denials, 0, "{:#?}", open.denials.0.lock().unwrap());
    // Control: by each way to name it, what is read-only tells.
    for (target, script) in [
        ("/workspace/e/a", "ln -s /etc e && touch e/a"),
        ("/usr/a", "cd /usr && touch a"),
        ("/tmp/p", "cd /tmp && ln -s ../etc/passwd p && echo > p"),
        ("/etc/a", "python3 -c \"import os; os.mkdir('a', dir_fd=os.open('/etc', 0))\""),
        ("/usr", "python3 -c \"import os; os.open('/usr', os.O_TMPFILE | os.O_RDWR)\""),
        ("/usr/bin/env", "chmod 700 /usr/bin/env"),
        ("/etc/b", "ln -s /etc/passwd /etc/b"),
        ("/etc/passwd", "mv /etc/passwd /etc/b"),
        ("/etc/c", "mkfifo /etc/c"),
    ] {
        let before = open.denials.0.lock().unwrap().len();
        let result = open.run(&["sh", "-c", script]);
        assert_ne!(result.exit_code, Some(0), "{script}");
        let denials = open.denials.0.lock().unwrap();
        let told: Vec<_> = denials[before..].iter().map(|it| (&*it.rule, &*it.target)).collect();
        assert!(told.iter().all(|it| it.0 == "view.read_only"), "{script}: {told:?}");
        assert!(told.iter().any(|it| it.1 == target), "{script}: {told:?}, not {target}");
    }
}

/// What ordinary tools do by themselves. All of them are needed for the tests; as another user,
/// repeated from a copy, those that this user's path has.
const TOOLS: &[(&str, &str)] = &[
    (
        "git",
        "git init -q . && echo x > a && git add a && git commit -qm a && git status --short \
         && git log --oneline && git config --list",
    ),
    (
        "cargo",
        // A dependency that the build of these tests has downloaded.
        "cargo new -q --vcs none --offline /tmp/made && cd /tmp/made \
         && cargo add -q --offline libc && cargo check -q --offline && cargo --version",
    ),
    ("node", "node -e 'require(\"os\").userInfo()'"),
    ("npm", "npm --version && npm config ls"),
    ("python3", "python3 -c 'import netrc, ssl, urllib.request' && python3 -m pip list"),
    ("sh", "ls -laR ~ >/dev/null && find ~ -name credentials && id -un"),
];

/// Decoys and the filter must not cry wolf, and the user's own tools must work.
#[test]
fn ordinary_tools_work_and_open_no_decoy() {
    let launcher = launcher();
    let mut site = Site::new();
    site.spec.decoys = true;
    site.spec.caches.insert(cofferdam_contract::mount::Cache::Cargo);
    let path = std::env::var_os("PATH").unwrap();
    let home = std::env::home_dir().unwrap_or("/nonexistent".into());
    let view = cofferdam_sandbox::View::of_host(&path, &home, &|name| std::env::var_os(name));
    site.spec.environment.extend(view.environment());
    site.spec.view = view;
    let open = site.open(&launcher);
    let there = |tool: &str| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    let is_repeated = std::env::var_os(PROGRAM_VARIABLE).is_some();
    for (tool, script) in TOOLS {
        if is_repeated && !there(tool) {
            continue;
        }
        assert!(there(tool), "{tool} is missing: cargo xtask test says how to get it");
        let result = open.run(&["sh", "-c", script]);
        let said = format!("{}\n{}", text(&result.stdout), text(&result.stderr));
        assert_eq!(result.exit_code, Some(0), "{script}: {said}");
        assert_eq!(result.denials, 0, "{script}: {:#?}", open.denials.0.lock().unwrap());
    }
    // Control: a tool that is asked to read one does tell.
    let result = open.run(&["cat", "/home/agent/.aws/credentials"]);
    assert_eq!((result.exit_code, result.denials), (Some(0), 1));
}
