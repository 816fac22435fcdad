//! Ranks that are threads of one process: the seam of the trainer without an MPI.

use candle_core::Tensor;
use rslad_distill::ranks::Reduce;
use rslad_distill::{Error, Result};
use std::sync::{Arc, Condvar, Mutex};

/// One of several threads.
pub struct Thread {
    rank: usize,
    hub: Arc<Hub>,
}

struct Hub {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    given: Vec<Option<Vec<u8>>>,
    all: Option<Arc<Vec<Vec<u8>>>>, // of this round, until every rank has taken it
    taken: usize,
    gone: bool,
}

/// So many ranks.
pub fn threads(n: usize) -> Vec<Thread> {
    let state = State { given: vec![None; n], all: None, taken: 0, gone: false };
    let hub = Arc::new(Hub { state: Mutex::new(state), changed: Condvar::new() });
    (0..n).map(|rank| Thread { rank, hub: Arc::clone(&hub) }).collect()
}

/// Runs something on every rank; what each of them made of it.
pub fn on_each<T: Send>(n: usize, work: impl Fn(Thread) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let running: Vec<_> = threads(n).into_iter().map(|rank| scope.spawn(|| work(rank))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

impl Reduce for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.hub.state.lock().unwrap().given.len()
    }

    /// From the last rank to the first: no order that the trainer may rely on.
    fn sum(&self, values: Tensor) -> Result<Tensor> {
        let own = values.to_vec1::<f32>()?;
        let own: Vec<u8> = own.into_iter().flat_map(f32::to_le_bytes).collect();
        let all = self.gather(&own)?;
        let mut sum = vec![0.0f32; values.elem_count()];
        for bytes in all.iter().rev() {
            let values = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        Ok(Tensor::new(sum, values.device())?)
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let Hub { state, changed } = &*self.hub;
        let gone = || Error::Ranks("a rank is gone".into());
        let mut state = changed.wait_while(state.lock().unwrap(), |s| s.all.is_some() && !s.gone).unwrap();
        state.given[self.rank] = Some(own.to_vec());
        if state.given.iter().all(Option::is_some) {
            let all: Vec<Vec<u8>> = state.given.iter_mut().filter_map(Option::take).collect();
            state.all = Some(Arc::new(all));
            changed.notify_all();
        }
        let mut state = changed.wait_while(state, |s| s.all.is_none() && !s.gone).unwrap();
        let all = state.all.clone().ok_or_else(gone)?;
        state.taken += 1;
        if state.taken == all.len() {
            (state.all, state.taken) = (None, 0);
            changed.notify_all();
        }
        Ok(all.to_vec())
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.hub.state.lock().unwrap().gone = true;
        self.hub.changed.notify_all();
    }
}
