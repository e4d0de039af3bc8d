//! Observers that are stuck or dead: no workload hangs on one, and none is freed by it.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use cofferdam_contract::denial::Denial;
use cofferdam_contract::time::UtcTime;

use super::tests::{Collected, Counter, FAR, Lab, WallClock, connect};
use super::*;
use crate::filter::harness::{Under, call, spawn};
use crate::filter::program;

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
    let program = program(false).unwrap();
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
    let watch = lab.watcher.watch(Watched {
        init: 1,
        session,
        run: None,
        listener,
        decoys,
        groups,
        own: None,
        sink,
    });
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

/// Tells the time until it is told to panic.
#[derive(Default)]
struct Brittle(AtomicBool);

impl Clock for Brittle {
    fn now(&self) -> UtcTime {
        assert!(!self.0.load(Ordering::Acquire), "as the test wants it");
        WallClock.now()
    }
}

/// The answering thread ends by a defect: what waits for it and what comes later is refused.
#[test]
fn an_answering_thread_that_panics_hangs_and_frees_nothing() {
    let (clock, entropy) = (Arc::new(Brittle::default()), Arc::new(Counter(1.into())));
    let watcher = Watcher::start(clock.clone(), entropy.clone()).unwrap();
    let sink = Arc::new(Collected::default());
    let program = program(false).unwrap();
    let attempt = |fails: bool| {
        let (child, listener) = spawn(Under::Telling(&program), || {
            let flags = libc::CLONE_NEWUSER as u64;
            let first = call(libc::SYS_unshare, [flags, 0, 0, 0, 0, 0]);
            let second = call(libc::SYS_unshare, [flags, 0, 0, 0, 0, 0]);
            i32::from(first != libc::EPERM) * 2 + i32::from(second != libc::ENOSYS)
        });
        clock.0.store(fails, Ordering::Release);
        let session = SessionId::generate(&WallClock, &*entropy);
        let (decoys, groups, sink) = (None, Vec::new(), sink.clone());
        let watched =
            Watched { session, run: None, init: 1, listener, decoys, groups, own: None, sink };
        let watch = watcher.watch(watched);
        child.release();
        let code = child.wait();
        clock.0.store(false, Ordering::Release);
        (code, watch.close())
    };
    // Control: a thread that lives answers both, and nothing is lost.
    assert_eq!(attempt(false), (1, SessionEnd { denials: 2, denials_lost: 0 }));
    let (code, end) = attempt(true);
    assert_eq!((code, end.denials_lost), (0, 1));
    // And so for a session that is opened afterwards: refused from the first call on.
    let (code, end) = attempt(false);
    assert_eq!((code, end.denials_lost), (2, 1));
}
