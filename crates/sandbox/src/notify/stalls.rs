//! Observers that are stuck or dead: no workload hangs on one, and none is freed by it.

#![allow(unsafe_code)]

use std::sync::mpsc;

use cofferdam_contract::denial::Denial;
use cofferdam_contract::time::UtcTime;

use super::tests::{Collected, Counter, FAR, Lab, WallClock, connect, procfs};
use super::*;
use crate::filter::harness::{Child, Under, call, spawn};
use crate::filter::{Wanted, program};

/// Says that it was entered, then stays until it is released.
struct Stuck {
    entered: mpsc::Sender<()>,
    release: Mutex<mpsc::Receiver<()>>,
}

impl DenialSink for Stuck {
    fn denied(&self, _denial: Denial) {
        let _nobody_asks = self.entered.send(());
        let _released = lock(&self.release).recv();
    }

    fn lost(&self, _count: u64, _source: &str) {}
}

#[test]
fn a_sink_that_blocks_hangs_no_workload() {
    let lab = Lab::new();
    let ((entered, is_entered), (free, release)) = (mpsc::channel(), mpsc::channel());
    let (wait, go) = rustix::pipe::pipe().unwrap();
    let program = program(Wanted::PLAIN).unwrap();
    let (child, listener) = spawn(Under::Telling(&program), || {
        let flags = libc::CLONE_NEWUSER as u64;
        call(libc::SYS_unshare, [flags, 0, 0, 0, 0, 0]);
        // Goes on when the sink holds the first record.
        let _one = rustix::io::read(&wait, &mut [0_u8; 1]);
        for _ in 0..10 {
            call(libc::SYS_unshare, [flags, 0, 0, 0, 0, 0]);
        }
        connect(FAR, 1)
    });
    let session = SessionId::generate(&*lab.clock, &*lab.entropy);
    let sink = Arc::new(Stuck { entered, release: Mutex::new(release) });
    let (decoys, groups) = (None, Vec::new());
    let (run, init, own, procfs) = (None, 1, None, procfs());
    let watched = Watched { session, run, init, listener, procfs, decoys, groups, own, sink };
    let watch = lab.watcher.watch(watched).unwrap();
    child.release();
    is_entered.recv().unwrap();
    rustix::io::write(&go, b"g").unwrap();
    assert_eq!(child.wait(), libc::ENETUNREACH);
    drop(free);
    assert_eq!(watch.close().denials, 12);
}

#[test]
fn a_dead_watcher_hangs_no_workload() {
    let lab = Lab::new();
    let (child, watch, _) = lab.start(|| connect([127, 0, 0, 1], 9));
    drop(watch);
    drop(lab);
    child.release();
    assert_eq!(child.wait(), libc::ENOSYS);
}

/// Sessions of one watcher, whose clock does something else once: an answering thread asks it for the
/// time of each refusal.
struct Several {
    clock: Arc<Brittle>,
    entropy: Arc<Counter>,
    watcher: Watcher,
}

/// Tells the time, after what is next in it.
#[derive(Default)]
struct Brittle(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Clock for Brittle {
    fn now(&self) -> UtcTime {
        let next = lock(&self.0).take();
        next.into_iter().for_each(|next| next());
        WallClock.now()
    }
}

impl Several {
    fn new() -> Self {
        let (clock, entropy) = (Arc::new(Brittle::default()), Arc::new(Counter(1.into())));
        let watcher = Watcher::start(clock.clone(), entropy.clone()).unwrap();
        Self { clock, entropy, watcher }
    }

    fn when_next_asked(&self, next: impl FnOnce() + Send + 'static) {
        *lock(&self.clock.0) = Some(Box::new(next));
    }

    /// A session in which two calls are refused. Its child exits with 2 if the first was not answered
    /// as the table has it, and 1 more if the second was.
    fn session(&self, decoys: Option<Decoys>) -> (Child, Watch) {
        let program = program(Wanted::PLAIN).unwrap();
        let (child, listener) = spawn(Under::Telling(&program), || {
            let flags = libc::CLONE_NEWUSER as u64;
            let first = call(libc::SYS_unshare, [flags, 0, 0, 0, 0, 0]);
            let second = call(libc::SYS_unshare, [flags, 0, 0, 0, 0, 0]);
            i32::from(first != libc::EPERM) * 2 + i32::from(second != libc::ENOSYS)
        });
        let session = SessionId::generate(&WallClock, &*self.entropy);
        let (run, init, own, procfs) = (None, 1, None, procfs());
        let groups = Vec::new();
        let sink = Arc::new(Collected::default());
        let watched = Watched { session, run, init, listener, procfs, decoys, groups, own, sink };
        (child, self.watcher.watch(watched).unwrap())
    }

    fn run(&self) -> (i32, SessionEnd) {
        let (child, watch) = self.session(None);
        child.release();
        (child.wait(), watch.close())
    }
}

const ANSWERED: (i32, SessionEnd) = (1, SessionEnd { denials: 2, denials_lost: 0 });

/// The answering thread ends by a defect: what waits for it is refused, and so is what comes later in
/// that session, and in no other.
#[test]
fn an_answering_thread_that_panics_hangs_and_frees_nothing() {
    let several = Several::new();
    // Control: a thread that lives answers both, and nothing is lost.
    assert_eq!(several.run(), ANSWERED);
    several.when_next_asked(|| panic!("as the test wants it"));
    let (code, end) = several.run();
    // Nobody answered the first, nor the second.
    assert_eq!((code, end.denials_lost), (2, 1));
    assert_eq!(several.run(), ANSWERED);
}

/// One session's thread looks, for as long as the session likes: what others do goes on, and so does
/// what is done with that session, the opening of its decoys included.
#[test]
fn a_session_that_is_looked_at_holds_up_nobody() {
    let several = Several::new();
    let ((entered, is_entered), (free, release)) = (mpsc::channel(), mpsc::channel::<()>());
    several.when_next_asked(move || {
        entered.send(()).unwrap();
        let _freed = release.recv();
    });
    let decoy = tempfile::NamedTempFile::new().unwrap();
    let files = vec![("/home/agent/.netrc".into(), decoy.path().to_owned())];
    let (busy, its_watch) = several.session(Some(Decoys { files }));
    busy.release();
    is_entered.recv().unwrap();
    std::fs::File::open(decoy.path()).unwrap();
    // Each reads of decoys opened before it ends.
    assert_eq!(several.run(), ANSWERED);
    let call = CallId::generate(&WallClock, &*several.entropy);
    its_watch.call_started(call.clone(), busy.pid);
    assert_eq!(its_watch.call_ended(&call), 1, "the decoy");
    drop(free);
    let end = SessionEnd { denials: 3, denials_lost: 0 };
    assert_eq!((busy.wait(), its_watch.close()), (1, end));
}
