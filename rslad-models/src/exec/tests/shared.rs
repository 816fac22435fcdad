//! Processes that share a batch see what one process sees that has all of it.

use super::{Case, Part, bits, drawn, engine, error, isas, values};
use crate::classifier::{Classifier, ClosureObjective};
use crate::error::Result;
use crate::exec::{Exchange, Executor, Isa, Training};
use candle_core::Tensor;
use std::sync::{Arc, Barrier, Mutex};

/// One of several threads in place of processes.
struct Neighbor {
    place: usize,
    table: Arc<Table>,
}

struct Table {
    given: Mutex<Vec<Vec<f32>>>,
    meet: Barrier,
}

impl Exchange for Neighbor {
    fn gather(&self, own: &[f32]) -> Result<Vec<Vec<f32>>> {
        let Table { given, meet } = &*self.table;
        given.lock().unwrap()[self.place] = own.to_vec();
        meet.wait();
        let all = given.lock().unwrap().clone();
        meet.wait(); // before the next round writes
        Ok(all)
    }
}

fn case() -> Case {
    let conv = |out, stride| Part::Conv { out, kernel: 3, stride, pad: [1; 4] };
    let parts = vec![conv(17, 1), Part::Norm, Part::Relu, conv(9, 2), Part::Norm, Part::Relu];
    Case { parts, normalized: None, images: [8, 2, 6, 6], classes: 4, seed: 1 }
}

/// What a process has of a batch after an attack's gradient, a forward and a backward in train mode.
struct Seen {
    dx: Tensor,
    logits: Tensor,
    gradients: Vec<Tensor>,
    statistics: Vec<Tensor>,
}

/// Of the images `first..first + n` of the batch, whose loss is a mean over them.
fn see(isa: Isa, first: usize, n: usize, exchange: Option<Arc<dyn Exchange>>) -> Result<Seen> {
    let case = case();
    let network = case.network();
    let rows = |t: Tensor| t.narrow(0, first, n)?.contiguous();
    let x = rows(case.x())?;
    let mut training = Training::with_engine(&network, engine(Executor::Plan(isa), 2));
    training.share(exchange);
    let squares = ClosureObjective(|_: &[u32], logits: &Tensor| Ok(logits.sqr()?.sum(1)?));
    let dx = training.attack_view().gradient(&x, &squares)?.dx;
    let pass = training.forward(&x)?;
    let logits = pass.logits().clone();
    training.backward(pass, &(rows(drawn(&[8, 4], 5, "dlogits"))? / n as f64)?)?;
    let gradients = training.take_gradients()?;
    let statistics = network.params().buffers().map(|(_, b)| b.as_detached_tensor()).collect();
    Ok(Seen { dx, logits, gradients, statistics })
}

#[test]
fn a_shared_batch_is_normalized_as_a_whole() {
    let cuts = [(0, 5), (5, 3)];
    for isa in isas() {
        let whole = see(isa, 0, 8, None).unwrap();
        let table = Arc::new(Table { given: Mutex::new(vec![vec![]; 2]), meet: Barrier::new(2) });
        let shares: Vec<Seen> = std::thread::scope(|scope| {
            let see = |(place, (first, n)): (usize, (usize, usize))| {
                let table = Arc::clone(&table);
                scope.spawn(move || see(isa, first, n, Some(Arc::new(Neighbor { place, table }))).unwrap())
            };
            let running: Vec<_> = cuts.into_iter().enumerate().map(see).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let joined =
            |part: fn(&Seen) -> &Tensor| Tensor::cat(&[part(&shares[0]), part(&shares[1])], 0).unwrap();
        assert_eq!(
            bits(&joined(|s| &s.logits)),
            bits(&whole.logits),
            "{isa:?}: the same sums, image by image"
        );
        let off = error(&joined(|s| &s.dx), &whole.dx);
        assert!(off < 1e-6, "{isa:?}: an attack's gradient is off by {off:e}");
        for (i, gradient) in whole.gradients.iter().enumerate() {
            let part = |s: usize| (&shares[s].gradients[i] * (cuts[s].1 as f64 / 8.0)).unwrap();
            let off = error(&(part(0) + part(1)).unwrap(), gradient);
            assert!(off < 2e-6, "{isa:?}: parameter {i} is off by {off:e}");
        }
        for share in &shares {
            for (own, whole) in share.statistics.iter().zip(&whole.statistics) {
                assert!(own.dtype() == candle_core::DType::I64 || values(own) == values(whole), "{isa:?}");
            }
        }
    }
}

#[test]
fn the_reference_does_not_share_a_batch() {
    let network = case().network();
    let mut training = Training::with_engine(&network, engine(Executor::Reference, 1));
    let table = Arc::new(Table { given: Mutex::new(vec![vec![]]), meet: Barrier::new(1) });
    training.share(Some(Arc::new(Neighbor { place: 0, table })));
    let error = training.forward(&case().x()).err().unwrap().to_string();
    assert!(error.contains("share a batch in compiled plans"), "{error}");
}
