//! Properties of the pure parts: nothing is lost uncounted, nothing hostile gets through.

use cofferdam_contract::denial::{Attribution, DenialSource, DeniedProcess, Operation};
use cofferdam_contract::ids::{CallId, SessionId};
use cofferdam_contract::ports::{Clock, Entropy};
use cofferdam_contract::time::UtcTime;
use proptest::prelude::*;

use super::address::{Destination, decode};
use super::ledger::{HOLD_MS, Ledger, Moment, Origin, RECORDS_MAX, Refused, Seen};

struct Still;

impl Clock for Still {
    fn now(&self) -> UtcTime {
        UtcTime::from_unix_ms(0)
    }
}

impl Entropy for Still {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

fn call(number: u8) -> CallId {
    format!("call_0000000000000000000000000{}", number % 10).parse().unwrap()
}

fn seen(call: Option<CallId>, target: u16) -> Seen {
    let refused = Refused {
        source: DenialSource::Seccomp,
        operation: Operation::Connect,
        target: target.to_string(),
        rule: "seccomp.connect",
        reason_code: "network_forbidden",
        hint: "",
    };
    let process = DeniedProcess { pid: None, exe: None, argv0: None };
    Seen { refused, process, call, attribution: Attribution::Exact, count: 1 }
}

#[derive(Clone, Debug)]
enum Step {
    Deny { call: Option<u8>, target: u16, times: u16 },
    Wait { ms: u64 },
    End { call: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (proptest::option::of(0..3_u8), 0..2000_u16, 1..40_u16)
            .prop_map(|(call, target, times)| Step::Deny { call, target, times }),
        2 => (0..1000_u64).prop_map(|ms| Step::Wait { ms }),
        1 => (0..3_u8).prop_map(|call| Step::End { call }),
    ]
}

proptest! {
    #[test]
    fn every_denial_is_told_or_counted_as_lost(steps in proptest::collection::vec(step(), 0..200)) {
        let session: SessionId = "ses_00000000000000000000000000".parse().unwrap();
        let origin = Origin { session: &session, run: None, clock: &Still, entropy: &Still };
        let (mut ledger, mut elapsed_ms) = (Ledger::default(), 0);
        let (mut denied, mut told, mut lost) = (0, 0, 0);
        let mut of_calls = [0_u64; 3];
        let mut take = |due: super::ledger::Due| {
            told += due.denials.iter().map(|denial| denial.count).sum::<u64>();
            lost += due.lost.iter().map(|(_, count)| count).sum::<u64>();
        };
        for step in steps {
            match step {
                Step::Deny { call: number, target, times } => {
                    for _ in 0..times {
                        let now = Moment { utc: UtcTime::from_unix_ms(elapsed_ms), elapsed_ms };
                        ledger.record(seen(number.map(call), target), now);
                    }
                    denied += u64::from(times);
                    if let Some(number) = number {
                        of_calls[usize::from(number)] += u64::from(times);
                    }
                }
                Step::Wait { ms } => {
                    elapsed_ms += ms;
                    take(ledger.take_due(elapsed_ms, &origin));
                }
                Step::End { call: number } => {
                    let (due, count) = ledger.end_call(&call(number), &origin);
                    prop_assert_eq!(count, std::mem::take(&mut of_calls[usize::from(number)]));
                    take(due);
                }
            }
        }
        take(ledger.end(&origin));
        prop_assert_eq!(told + lost, denied);
        prop_assert_eq!(ledger.totals(), (denied, lost));
    }

    /// However long and fast a flood of equal denials is, its records grow with the logarithm.
    #[test]
    fn equal_denials_cost_few_records(times in 1..1500_u64, every_ms in 0..500_u64) {
        let session: SessionId = "ses_00000000000000000000000000".parse().unwrap();
        let origin = Origin { session: &session, run: None, clock: &Still, entropy: &Still };
        let (mut ledger, mut records) = (Ledger::default(), 0);
        for time in 0..times {
            let elapsed_ms = time * every_ms;
            let now = Moment { utc: UtcTime::from_unix_ms(elapsed_ms), elapsed_ms };
            ledger.record(seen(None, 1), now);
            records += ledger.take_due(elapsed_ms, &origin).denials.len();
        }
        records += ledger.end(&origin).denials.len();
        let duration = times * every_ms / HOLD_MS + 2;
        prop_assert!(records as u64 <= u64::from(duration.ilog2()) + 2, "{} records", records);
    }

    #[test]
    fn distinct_denials_of_a_call_are_bounded(distinct in 0..3000_u16) {
        let session: SessionId = "ses_00000000000000000000000000".parse().unwrap();
        let origin = Origin { session: &session, run: None, clock: &Still, entropy: &Still };
        let mut ledger = Ledger::default();
        for target in 0..distinct {
            let now = Moment { utc: UtcTime::from_unix_ms(0), elapsed_ms: 0 };
            ledger.record(seen(Some(call(1)), target), now);
        }
        let (due, count) = ledger.end_call(&call(1), &origin);
        let distinct = usize::from(distinct);
        prop_assert_eq!(due.denials.len(), distinct.min(RECORDS_MAX));
        let lost = distinct.saturating_sub(RECORDS_MAX) as u64;
        prop_assert_eq!(due.lost.iter().map(|(_, count)| count).sum::<u64>(), lost);
        prop_assert_eq!(count, distinct as u64);
    }

    /// Whatever bytes stand where an address should: an answer, and never a near one told as far.
    #[test]
    fn addresses_of_any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _never_panics = decode(&bytes);
    }

    #[test]
    fn loopback_is_near_and_the_rest_is_far(octets in any::<[u8; 4]>(), port in any::<u16>()) {
        let mut bytes = vec![0; 16];
        bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        bytes[4..8].copy_from_slice(&octets);
        let near = octets[0] == 127 || octets == [0; 4];
        prop_assert_eq!(decode(&bytes) == Destination::Near, near);
        // The same mapped into IPv6 is the same place.
        let mut mapped = vec![0; 28];
        mapped[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        mapped[2..4].copy_from_slice(&port.to_be_bytes());
        mapped[18..20].copy_from_slice(&[0xff, 0xff]);
        mapped[20..24].copy_from_slice(&octets);
        prop_assert_eq!(decode(&mapped), decode(&bytes));
    }
}
