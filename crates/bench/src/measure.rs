//! Plain measuring: contenders take turns, so that whatever else the machine does hits all alike.
//!
//! Must never know what is measured, nor what a good number is.

use std::time::{Duration, Instant};

/// How long one table may take; what was measured until then counts.
const TIME_MAX: Duration = Duration::from_secs(600);

/// One thing to measure. It times itself, so that what it prepares and removes does not count.
pub(crate) struct Contender<'a> {
    name: String,
    /// It takes part in every n-th round: slow ones need fewer.
    every: usize,
    run: Box<dyn FnMut() -> anyhow::Result<Duration> + 'a>,
}

impl<'a> Contender<'a> {
    /// Takes part in every round.
    pub(crate) fn new(name: &str, run: impl FnMut() -> anyhow::Result<Duration> + 'a) -> Self {
        Self { name: name.to_owned(), every: 1, run: Box::new(run) }
    }

    /// Takes part in every n-th round only.
    pub(crate) fn every(self, every: usize) -> Self {
        Self { every, ..self }
    }

    /// What others left to be written is written before its turn, so that it is not this one's.
    pub(crate) fn settled(self) -> Self {
        let mut run = self.run;
        let settled = move || {
            rustix::fs::sync();
            run()
        };
        Self { run: Box::new(settled), ..self }
    }
}

/// How often, and how often before it counts.
#[derive(Clone, Copy)]
pub(crate) struct Rounds {
    pub(crate) counted: usize,
    pub(crate) warm: usize,
}

/// What one contender took.
pub(crate) struct Timing {
    pub(crate) name: String,
    pub(crate) samples: usize,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Measures every contender once a round, in another order each time: what one leaves in the caches
/// the next one pays for, which is a tenth of what the shortest take.
///
/// # Errors
/// The first failure of a contender.
pub(crate) fn interleave(
    rounds: Rounds,
    mut contenders: Vec<Contender<'_>>,
) -> anyhow::Result<Vec<Timing>> {
    let mut taken: Vec<Vec<Duration>> = contenders.iter().map(|_| vec![]).collect();
    let mut order: Vec<usize> = (0..contenders.len()).collect();
    let mut shuffled = fastrand::Rng::with_seed(0);
    let began = Instant::now();
    for round in 0..rounds.warm + rounds.counted {
        if began.elapsed() > TIME_MAX {
            break;
        }
        shuffled.shuffle(&mut order);
        for &which in &order {
            let contender = &mut contenders[which];
            // The slow ones are not warmed up: what they take is not in the first call.
            let skipped = if round < rounds.warm {
                contender.every > 1
            } else {
                !(round - rounds.warm).is_multiple_of(contender.every)
            };
            if skipped {
                continue;
            }
            let took = (contender.run)()?;
            if round >= rounds.warm {
                taken[which].push(took);
            }
        }
    }
    Ok(contenders.iter().zip(taken).map(|(it, took)| timing(&it.name, took)).collect())
}

/// The distribution of what was taken.
pub(crate) fn timing(name: &str, mut took: Vec<Duration>) -> Timing {
    took.sort_unstable();
    let at = |percent: usize| {
        let last = took.len().saturating_sub(1);
        took.get((last * percent).div_ceil(100)).map_or(f64::NAN, |it| it.as_secs_f64() * 1e6)
    };
    Timing { name: name.to_owned(), samples: took.len(), p50_us: at(50), p99_us: at(99) }
}

/// How long `work` takes.
///
/// # Errors
/// Those of `work`.
pub(crate) fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<Duration> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed())
}
