//! Which executor runs a network, and on how many threads.

use crate::error::{Error, Result};
use crate::kernels::Isa;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What runs a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executor {
    /// candle ops with autograd: the specification, slow.
    Reference,
    /// Compiled plans on an instruction set. A graph that the plans cannot run falls back to the
    /// reference.
    Plan(Isa),
    /// The program of a device, on twins of its kernels.
    #[cfg(test)]
    Twin,
}

/// An executor with its threads. The number of threads never changes a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine {
    /// What runs the network.
    pub executor: Executor,
    /// Threads that share the images of a batch.
    pub threads: NonZeroUsize,
}

static THREADS: OnceLock<NonZeroUsize> = OnceLock::new();

impl Engine {
    /// What the environment asks for: `RSLAD_EXEC` is `reference`, `portable`, `avx2` or `avx512`, the
    /// fastest one by default; `RSLAD_THREADS` is a number, all processors by default.
    ///
    /// # Errors
    /// When a variable has another value, or the processor lacks what it names.
    pub fn from_environment() -> Result<Self> {
        let executor = match variable("RSLAD_EXEC").as_deref() {
            None => Executor::Plan(Isa::best()),
            Some(name) => executor(name)?,
        };
        let threads = match (THREADS.get(), variable("RSLAD_THREADS").as_deref()) {
            (Some(&threads), _) => threads,
            (None, Some(n)) => threads(n)?,
            (None, None) => std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        };
        Ok(Self { executor, threads })
    }

    /// Sets the number of threads for networks frozen or trained from now on, and for candle's own
    /// operations; wins over `RSLAD_THREADS`. The first call counts.
    pub fn set_threads(threads: NonZeroUsize) {
        THREADS.get_or_init(|| {
            // candle shares rayon's global pool, which fails to be made only where it was made before
            let _ = ThreadPoolBuilder::new().num_threads(threads.get()).build_global();
            threads
        });
    }

    /// Calls `f` for every item, in any order, by these threads; by the caller alone where all of it is less than
    /// about a million elementary operations.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn share<T: Send>(&self, operations: u64, items: &mut [T], f: impl Fn(&mut T) + Sync) -> Result<()> {
        Threads::new(self.threads)?.for_work(operations).each(items, |_, item| f(item));
        Ok(())
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn executor(name: &str) -> Result<Executor> {
    if name == "reference" {
        return Ok(Executor::Reference);
    }
    match Isa::ALL.into_iter().find(|isa| isa.name() == name) {
        Some(isa) if isa.available() => Ok(Executor::Plan(isa)),
        Some(_) => Err(Error::Other(format!(
            "`RSLAD_EXEC` is `{name}`, which this processor lacks; its best is `{}`",
            Isa::best().name()
        ))),
        None => Err(Error::Other(format!(
            "`RSLAD_EXEC` is `{name}`, expected reference, portable, avx2 or avx512"
        ))),
    }
}

fn threads(n: &str) -> Result<NonZeroUsize> {
    n.parse().map_err(|_| Error::Other(format!("`RSLAD_THREADS` is `{n}`, expected a number from 1")))
}

/// Multiply-adds below which a second thread costs more than it brings.
const SMALL_WORK: u64 = 1 << 20;

/// The threads that a plan's work is shared out over.
#[derive(Clone, Debug)]
pub(super) struct Threads(Option<Arc<ThreadPool>>);

impl Threads {
    /// A pool of this many threads, made on first use and shared by all plans.
    pub(super) fn new(threads: NonZeroUsize) -> Result<Self> {
        static POOLS: Mutex<Option<HashMap<usize, Arc<ThreadPool>>>> = Mutex::new(None);
        if threads.get() == 1 {
            return Ok(Self(None));
        }
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        let pools = pools.get_or_insert_default();
        if let Some(pool) = pools.get(&threads.get()) {
            return Ok(Self(Some(Arc::clone(pool))));
        }
        let pool = ThreadPoolBuilder::new().num_threads(threads.get()).thread_name(|i| format!("rslad-{i}"));
        let pool = pool.build().map_err(|e| Error::Other(format!("cannot start {threads} threads: {e}")))?;
        Ok(Self(Some(Arc::clone(pools.entry(threads.get()).or_insert(Arc::new(pool))))))
    }

    /// These threads, or the caller's alone when there is little to do.
    pub(super) fn for_work(&self, multiply_adds: u64) -> Self {
        if multiply_adds < SMALL_WORK { Self(None) } else { self.clone() }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.as_ref().map_or(1, |pool| pool.current_num_threads())
    }

    /// Runs `f` on one of these threads, from where work is shared out without waking anybody.
    pub(super) fn within<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.0 {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }

    /// Calls `f` for every item, in any order.
    pub(super) fn each<T: Send>(&self, items: &mut [T], f: impl Fn(usize, &mut T) + Sync) {
        use rayon::prelude::*;
        match &self.0 {
            Some(pool) if items.len() > 1 => {
                pool.install(|| {
                    items.par_iter_mut().with_max_len(1).enumerate().for_each(|(i, item)| f(i, item))
                });
            }
            _ => items.iter_mut().enumerate().for_each(|(i, item)| f(i, item)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_settings_are_named() {
        assert_eq!(executor("reference").unwrap(), Executor::Reference);
        assert_eq!(executor("portable").unwrap(), Executor::Plan(Isa::Portable));
        let error = executor("sse").unwrap_err().to_string();
        assert!(error.contains("`sse`, expected reference, portable"), "{error}");
        let error = threads("0").unwrap_err().to_string();
        assert!(error.contains("`RSLAD_THREADS` is `0`"), "{error}");
    }
}
