//! Records of refusals: attribution, floods, hostile names.

#![allow(unsafe_code)]

use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use cofferdam_contract::denial::{Attribution, Denial, Operation};
use cofferdam_contract::time::UtcTime;

use super::*;
use crate::filter::harness::{Child, Under, call, prepare_exec, spawn};
use crate::filter::rule::Answer;
use crate::filter::table::TABLE;
use crate::filter::{Wanted, program};

pub(super) struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> UtcTime {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        UtcTime::from_unix_ms(since.as_millis() as u64)
    }
}

pub(super) struct Counter(pub(super) std::sync::atomic::AtomicU64);

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        let next = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_be_bytes();
        bytes.iter_mut().zip(next.iter().rev().cycle()).for_each(|(to, from)| *to = *from);
    }
}

#[derive(Default)]
pub(super) struct Collected {
    denials: Mutex<Vec<Denial>>,
    lost: Mutex<Vec<(u64, String)>>,
}

impl DenialSink for Collected {
    fn denied(&self, denial: Denial) {
        lock(&self.denials).push(denial);
    }

    fn lost(&self, count: u64, source: &str) {
        lock(&self.lost).push((count, source.to_owned()));
    }
}

impl Collected {
    fn denials(&self) -> Vec<Denial> {
        lock(&self.denials).clone()
    }
}

pub(super) struct Lab {
    pub(super) clock: Arc<WallClock>,
    pub(super) entropy: Arc<Counter>,
    pub(super) watcher: Watcher,
    sink: Arc<Collected>,
}

impl Lab {
    pub(super) fn new() -> Self {
        let (clock, entropy) = (Arc::new(WallClock), Arc::new(Counter(1.into())));
        let watcher = Watcher::start(clock.clone(), entropy.clone()).unwrap();
        Self { clock, entropy, watcher, sink: Arc::default() }
    }

    fn call_id(&self) -> CallId {
        CallId::generate(&*self.clock, &*self.entropy)
    }

    fn watch(&self, listener: Option<OwnedFd>, decoys: Option<Decoys>) -> Watch {
        let session = SessionId::generate(&*self.clock, &*self.entropy);
        let sink = self.sink.clone();
        let groups = Vec::new();
        let (run, init, own, procfs) = (None, 1, None, procfs());
        let watched = Watched { session, run, init, listener, procfs, decoys, groups, own, sink };
        self.watcher.watch(watched).unwrap()
    }

    /// Starts `body` as a call under the filter.
    pub(super) fn start(&self, body: impl FnOnce() -> i32) -> (Child, Watch, CallId) {
        let program = program(Wanted::PLAIN).unwrap();
        let (child, listener) = spawn(Under::Telling(&program), body);
        let watch = self.watch(listener, None);
        let id = self.call_id();
        watch.call_started(id.clone(), child.pid);
        (child, watch, id)
    }

    /// Runs `body` as a call to its end: its exit code and the number of its denials.
    fn run(&self, body: impl FnOnce() -> i32) -> (i32, u64) {
        let (child, watch, id) = self.start(body);
        child.release();
        let code = child.wait();
        let count = watch.call_ended(&id);
        let end = watch.close();
        assert_eq!(end.denials, count);
        (code, count)
    }
}

pub(super) fn procfs() -> OwnedFd {
    rustix::fs::open("/proc", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap()
}

fn udp() -> u64 {
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
    std::os::fd::IntoRawFd::into_raw_fd(socket.unwrap()) as u64
}

fn inet(address: [u8; 4], port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address) },
        sin_zero: [0; 8],
    }
}

pub(super) fn connect(address: [u8; 4], port: u16) -> i32 {
    let address = inet(address, port);
    call(libc::SYS_connect, [udp(), (&raw const address) as u64, 16, 0, 0, 0])
}

/// Documentation addresses (RFC 5737): no one is there.
pub(super) const FAR: [u8; 4] = [192, 0, 2, 7];

#[test]
fn each_telling_call_gives_an_errno_and_one_record() {
    let lab = Lab::new();
    for (number, name, answer) in TABLE {
        let Answer::Notify(notice) = answer else { continue };
        if notice.judge.is_some() {
            continue;
        }
        let args = crate::filter::tests::refused_args(name);
        let before = lab.sink.denials().len();
        let (child, watch, id) = lab.start(move || call(i64::from(*number), args));
        let pid = child.pid.cast_unsigned();
        child.release();
        assert_eq!(child.wait(), notice.refusal.errno, "{name}");
        assert_eq!(watch.call_ended(&id), 1, "{name}");
        let denials = lab.sink.denials();
        let [denial] = &denials[before..] else { panic!("{name}: {denials:?}") };
        assert_eq!(denial.call.as_ref(), Some(&id), "{name}");
        assert_eq!(denial.attribution, Attribution::Exact);
        assert_eq!(denial.operation, notice.refusal.operation);
        assert_eq!((denial.rule.as_str(), denial.count), (notice.refusal.rule, 1));
        assert!(denial.target.starts_with(name), "{name}: {}", denial.target);
        assert_eq!(denial.process.pid, Some(pid));
        assert!(denial.process.exe.is_some() && denial.process.argv0.is_some());
    }
}

/// Control: the same calls without the filter leave no record.
#[test]
fn without_the_filter_there_is_no_record() {
    let lab = Lab::new();
    let watch = lab.watch(None, None);
    let (child, _) = spawn(Under::Nothing, || {
        let trace = [libc::PTRACE_TRACEME as u64, 0, 0, 0, 0, 0];
        call(libc::SYS_ptrace, trace) + call(libc::SYS_personality, [0x0040_0000, 0, 0, 0, 0, 0])
    });
    let id = lab.call_id();
    watch.call_started(id.clone(), child.pid);
    child.release();
    assert_eq!(child.wait(), 0);
    assert_eq!(watch.call_ended(&id), 0);
    assert!(lab.sink.denials().is_empty());
}

#[test]
fn connections_beyond_loopback_are_told_and_others_go_through() {
    let lab = Lab::new();
    assert_eq!(lab.run(|| connect(FAR, 443)), (libc::ENETUNREACH, 1));
    let denial = lab.sink.denials().remove(0);
    assert_eq!((denial.target.as_str(), denial.operation), ("192.0.2.7:443", Operation::Connect));
    assert_eq!(lab.run(|| connect([127, 0, 0, 1], 9)), (0, 0));
    assert_eq!(lab.run(|| connect([0, 0, 0, 0], 9)), (0, 0));
    let unix = || {
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            None,
        );
        let address = rustix::net::SocketAddrUnix::new("/nonexistent/socket").unwrap();
        rustix::net::connect(socket.unwrap(), &address).unwrap_err().raw_os_error()
    };
    assert_eq!(lab.run(unix), (libc::ENOENT, 0));
    // A pointer that cannot be read goes to the kernel, which says so.
    let broken = || call(libc::SYS_connect, [udp(), 8, 16, 0, 0, 0]);
    assert_eq!(lab.run(broken), (libc::EFAULT, 0));
}

#[test]
fn addressed_sends_are_told() {
    let lab = Lab::new();
    let sendto = || {
        let to = inet(FAR, 53);
        call(libc::SYS_sendto, [udp(), (&raw const to) as u64, 1, 0, (&raw const to) as u64, 16])
    };
    assert_eq!(lab.run(sendto), (libc::ENETUNREACH, 1));
    let header = |to: &libc::sockaddr_in| {
        // SAFETY: plain numbers and pointers.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_name = std::ptr::from_ref(to).cast_mut().cast();
        header.msg_namelen = 16;
        header
    };
    let sendmsg = || {
        let to = inet(FAR, 53);
        let header = header(&to);
        call(libc::SYS_sendmsg, [udp(), (&raw const header) as u64, 0, 0, 0, 0])
    };
    assert_eq!(lab.run(sendmsg), (libc::ENETUNREACH, 1));
    // The last of so many and one more goes there.
    let far_after = |near_ones: usize| {
        let (near, far) = (inet([127, 0, 0, 1], 9), inet(FAR, 53));
        let to = |at: usize| if at == near_ones { &far } else { &near };
        let headers: Vec<_> = (0..=near_ones)
            .map(|at| libc::mmsghdr { msg_hdr: header(to(at)), msg_len: 0 })
            .collect();
        let (pointer, count) = (headers.as_ptr() as u64, headers.len() as u64);
        call(libc::SYS_sendmmsg, [udp(), pointer, count, 0, 0, 0])
    };
    for near_ones in [1, 16] {
        assert_eq!(lab.run(|| far_after(near_ones)), (libc::ENETUNREACH, 1));
    }
    // What is too much to look at counts as lost.
    let (child, watch, id) = lab.start(|| far_after(128));
    child.release();
    child.wait();
    assert_eq!(watch.call_ended(&id), 0);
    assert_eq!(watch.close().denials_lost, 1);
    let without_family = || {
        let to = libc::sockaddr_in { sin_family: libc::AF_UNSPEC as u16, ..inet(FAR, 53) };
        call(libc::SYS_sendto, [udp(), (&raw const to) as u64, 1, 0, (&raw const to) as u64, 16])
    };
    assert_eq!(lab.run(without_family), (libc::ENETUNREACH, 1));
    assert!(lab.sink.denials().iter().all(|denial| denial.target == "192.0.2.7:53"));
    let unaddressed = || call(libc::SYS_sendto, [udp(), 8, 0, 0, 0, 0]);
    assert_eq!(lab.run(unaddressed), (libc::EDESTADDRREQ, 0));
}

#[test]
fn ids_of_ones_own_are_no_privilege() {
    let lab = Lab::new();
    // SAFETY: no arguments.
    let (uid, gid) = unsafe { (u64::from(libc::getuid()), u64::from(libc::getgid())) };
    assert_eq!(lab.run(move || call(libc::SYS_setuid, [uid, 0, 0, 0, 0, 0])), (0, 0));
    let keep = u64::from(u32::MAX);
    let mixed = move || call(libc::SYS_setresgid, [keep, gid, gid, 0, 0, 0]);
    assert_eq!(lab.run(mixed), (0, 0));
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = std::ffi::CString::new(file.path().to_str().unwrap()).unwrap();
    let pointer = path.as_ptr() as u64;
    assert_eq!(lab.run(move || call(libc::SYS_chown, [pointer, uid, gid, 0, 0, 0])), (0, 0));
    let other = uid + 4711;
    let chown = move || call(libc::SYS_chown, [pointer, other, keep, 0, 0, 0]);
    assert_eq!(lab.run(chown), (libc::EPERM, 1));
    let setuid = move || call(libc::SYS_setuid, [other, 0, 0, 0, 0, 0]);
    assert_eq!(lab.run(setuid), (libc::EPERM, 1));
    assert_eq!(lab.sink.denials()[1].target, format!("setuid({other})"));
}

#[test]
fn equal_denials_coalesce_and_all_are_counted() {
    let lab = Lab::new();
    let many = || {
        let flags = libc::CLONE_NEWUSER as u64;
        (0..500).filter(|_| call(libc::SYS_unshare, [flags, 0, 0, 0, 0, 0]) == 0).count() as i32
    };
    assert_eq!(lab.run(many), (0, 500));
    let denials = lab.sink.denials();
    assert_eq!(denials.iter().map(|denial| denial.count).sum::<u64>(), 500);
    assert!(denials.len() <= 10, "{}", denials.len());
    assert_eq!(denials[0].target, "unshare(CLONE_NEWUSER)");
}

#[test]
fn a_flood_is_bounded_and_its_loss_is_exact() {
    let lab = Lab::new();
    let flood = || {
        let socket = udp();
        let told = (0..1500_u16).filter(|port| {
            let to = inet(FAR, 1 + port);
            call(libc::SYS_connect, [socket, (&raw const to) as u64, 16, 0, 0, 0]) != 0
        });
        i32::from(told.count() != 1500)
    };
    assert_eq!(lab.run(flood), (0, 1500));
    assert_eq!(lab.sink.denials().len(), ledger::RECORDS_MAX);
    let lost: u64 = lock(&lab.sink.lost).iter().map(|(count, _)| count).sum();
    assert_eq!(lost, 1500 - ledger::RECORDS_MAX as u64);
}

#[test]
fn hostile_names_are_escaped() {
    let lab = Lab::new();
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("evil\nTgid:\t1\u{1b}[2J\u{202e})");
    std::fs::copy("/usr/bin/unshare", &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = program.to_str().unwrap().to_owned();
    let (code, count) = lab.run(prepare_exec(&[&path, "--user", "true"]));
    assert_eq!((code, count), (1, 1));
    let denial = lab.sink.denials().remove(0);
    let expected = "evil\\nTgid:\\t1\\x1b[2J\\u{202e})";
    assert!(denial.process.exe.as_ref().unwrap().ends_with(expected), "{denial:?}");
    assert!(denial.process.argv0.as_ref().unwrap().ends_with(expected), "{denial:?}");
    assert_ne!(denial.process.pid, Some(1));
}

#[test]
fn a_call_that_is_reported_late_still_gets_its_denials() {
    let lab = Lab::new();
    let program = program(Wanted::PLAIN).unwrap();
    let refused = || call(libc::SYS_bpf, [0; 6]);
    let (child, listener) = spawn(Under::Telling(&program), refused);
    let watch = lab.watch(listener, None);
    let id = lab.call_id();
    let pid = child.pid;
    child.release();
    assert_eq!(child.wait(), libc::EPERM);
    watch.call_started(id.clone(), pid);
    assert_eq!(watch.call_ended(&id), 1);
    assert_eq!(lab.sink.denials()[0].attribution, Attribution::Exact);
}

#[test]
fn grandchildren_belong_to_their_call() {
    let lab = Lab::new();
    let nested = ["sh", "-c", "sh -c 'unshare --user true; true'; true"];
    assert_eq!(lab.run(prepare_exec(&nested)), (0, 1));
    let denial = lab.sink.denials().remove(0);
    assert_eq!(denial.attribution, Attribution::Exact);
    assert_eq!(denial.process.exe.as_deref(), Some("/usr/bin/unshare"));
}

#[test]
fn what_belongs_to_no_call_says_so() {
    let lab = Lab::new();
    let program = program(Wanted::PLAIN).unwrap();
    let (child, listener) = spawn(Under::Telling(&program), || call(libc::SYS_bpf, [0; 6]));
    let watch = lab.watch(listener, None);
    child.release();
    child.wait();
    assert_eq!(watch.close().denials, 1);
    let denial = lab.sink.denials().remove(0);
    assert_eq!((denial.call, denial.attribution), (None, Attribution::Inferred));
}

#[test]
fn an_opened_decoy_is_told_and_a_listed_one_is_not() {
    let lab = Lab::new();
    let dir = tempfile::tempdir().unwrap();
    let home = std::path::Path::new("/home/agent");
    let laid_out = crate::decoy::contents(home, &*lab.entropy).into_iter().enumerate();
    let files = laid_out.map(|(number, (inside, content))| {
        let file = dir.path().join(number.to_string());
        std::fs::write(&file, content).unwrap();
        (inside, file)
    });
    let decoys = Decoys { files: files.collect() };
    let watch = lab.watch(None, Some(decoys.clone()));
    let id = lab.call_id();
    watch.call_started(id.clone(), i32::MAX);
    for (_, file) in &decoys.files {
        file.metadata().unwrap();
    }
    dir.path().read_dir().unwrap().for_each(drop);
    std::fs::write(dir.path().join("other"), "").unwrap();
    let contents: Vec<_> =
        decoys.files.iter().map(|(_, file)| std::fs::read_to_string(file).unwrap()).collect();
    assert_eq!(watch.call_ended(&id), decoys.files.len() as u64);
    let mut targets: Vec<_> = lab.sink.denials().into_iter().map(|denial| denial.target).collect();
    targets.sort();
    let mut inside: Vec<_> =
        decoys.files.iter().map(|(inside, _)| inside.display().to_string()).collect();
    inside.sort();
    assert_eq!(targets, inside);
    assert!(lab.sink.denials().iter().all(|denial| denial.call.as_ref() == Some(&id)
        && denial.rule == "decoy.opened"
        && denial.attribution == Attribution::Inferred));
    let distinct: std::collections::BTreeSet<_> = contents.iter().collect();
    assert_eq!(distinct.len(), contents.len());
    watch.close();
    std::fs::read_to_string(&decoys.files[0].1).unwrap();
    assert_eq!(lab.sink.denials().len(), contents.len());
}

fn time_is_up() -> Refused {
    Refused {
        source: DenialSource::Limit,
        operation: Operation::Resource,
        target: "60000 ms".to_owned(),
        rule: "limit.time",
        reason_code: "time_limit",
        hint: "give the call more time",
    }
}

/// Its number may be that of a process of the host.
#[test]
fn of_a_process_that_is_gone_nothing_is_told() {
    let lab = Lab::new();
    let watch = lab.watch(None, None);
    let (id, own) = (lab.call_id(), i32::try_from(std::process::id()).unwrap());
    for (process, count) in [(i32::MAX, 0), (1, 0), (own, 1)] {
        watch.call_started(id.clone(), own);
        watch.onlooker().deny(process, time_is_up());
        assert_eq!(watch.call_ended(&id), count, "{process}");
    }
}

#[test]
fn limits_are_told_through_the_same_door() {
    let lab = Lab::new();
    let watch = lab.watch(None, None);
    let id = lab.call_id();
    watch.call_started(id.clone(), i32::MAX);
    watch.deny(&id, Attribution::Exact, time_is_up());
    assert_eq!(watch.call_ended(&id), 1);
    assert_eq!(lab.sink.denials()[0].source, DenialSource::Limit);
}

/// What people run: none of it may be broken by the filter, nor cry wolf.
#[test]
fn ordinary_programs_run_without_a_denial() {
    let lab = Lab::new();
    let python = "import threading, subprocess, os, socket, multiprocessing, tempfile, asyncio\n\
        t=[threading.Thread(target=lambda: None) for _ in range(8)]\n\
        [x.start() for x in t]; [x.join() for x in t]\n\
        assert subprocess.run(['true']).returncode == 0\n\
        os.close(os.memfd_create('x'))\n\
        s=socket.create_server(('127.0.0.1',0)); c=socket.create_connection(s.getsockname())\n\
        async def f(): return (await asyncio.create_subprocess_exec('true')).pid\n\
        asyncio.run(f())\n\
        socket.getaddrinfo('localhost', 80)\n\
        tempfile.TemporaryFile().close()";
    let node = "const w=require('worker_threads');const c=require('child_process');\
        c.execSync('true');const h=require('http').createServer((q,r)=>r.end('x'));\
        h.listen(0,'127.0.0.1',()=>require('http').get({port:h.address().port,host:'127.0.0.1'},\
        r=>{r.resume();r.on('end',()=>{h.close();new w.Worker('1',{eval:true})})}));";
    let own = std::env::current_exe().unwrap();
    let commands: &[&[&str]] = &[
        &["python3", "-c", python],
        &["node", "-e", node],
        &["sh", "-c", "git init -q /tmp/$$ && rm -r /tmp/$$; ls -la / | tar cf - -T /dev/null"],
        &["cargo", "--version"],
        // A threaded Rust program is at hand: this one.
        &[own.to_str().unwrap(), "ledger", "--test-threads=4"],
    ];
    for command in commands {
        assert_eq!(lab.run(prepare_exec(command)), (0, 0), "{command:?} {:?}", lab.sink.denials());
    }
}
