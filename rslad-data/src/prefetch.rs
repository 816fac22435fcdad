//! Batches made ahead of time, on a thread of their own: training never waits for a crop.
//!
//! What they are does not depend on when they are made, so the order and the bits are those of the plain
//! pass.

use crate::batch::Batch;
use crate::error::Result;
use crate::loader::Batches;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

/// The batches of a pass, some of them made before they are asked for.
#[derive(Debug)]
pub struct Prefetched {
    from: From,
}

#[derive(Debug)]
enum From {
    Thread {
        batches: Receiver<Result<Batch>>,
        maker: JoinHandle<()>,
    },
    /// Where the system gives no thread, and after the end.
    Here(Option<Box<Batches>>),
}

impl Batches {
    /// The same batches, up to so many of them made ahead.
    pub fn prefetched(self, ahead: usize) -> Prefetched {
        let (sender, batches) = sync_channel(ahead);
        let here = self.clone();
        let make = move || {
            for batch in self {
                if sender.send(batch).is_err() {
                    return; // nobody wants the rest
                }
            }
        };
        let from = match Builder::new().name("batches".to_owned()).spawn(make) {
            Ok(maker) => From::Thread { batches, maker },
            Err(_) => From::Here(Some(Box::new(here))),
        };
        Prefetched { from }
    }
}

impl Iterator for Prefetched {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.from {
            From::Here(batches) => batches.as_mut()?.next(),
            From::Thread { batches, .. } => match batches.recv() {
                Ok(batch) => Some(batch),
                Err(_) => {
                    self.join();
                    None
                }
            },
        }
    }
}

impl Prefetched {
    /// Waits for the thread, which ends when its receiver is gone, and passes its panic on.
    fn join(&mut self) {
        if let From::Thread { batches, maker } = std::mem::replace(&mut self.from, From::Here(None)) {
            drop(batches);
            if let Err(panic) = maker.join()
                && !std::thread::panicking()
            {
                resume_unwind(panic);
            }
        }
    }
}

impl Drop for Prefetched {
    fn drop(&mut self) {
        self.join();
    }
}

#[cfg(test)]
mod tests {
    use crate::augment::{Augment, Flip};
    use crate::loader::Loader;
    use crate::testing::toy;

    const AUGMENT: Augment = Augment { crop: 1, flip: Flip::Horizontal };

    #[test]
    fn batches_made_ahead_are_the_same_to_the_bit() {
        let data = toy(50);
        let loader = Loader::new(&data, 7, AUGMENT, 3).expect("a size");
        for ahead in [0, 1, 2, 100] {
            let mut plain = loader.epoch(2).from_batch(1);
            for batch in loader.epoch(2).from_batch(1).prefetched(ahead) {
                let (batch, expected) =
                    (batch.expect("a batch"), plain.next().expect("as many").expect("a batch"));
                assert_eq!((batch.ids(), batch.views()), (expected.ids(), expected.views()));
                let values =
                    |x: &candle_core::Tensor| x.flatten_all().and_then(|x| x.to_vec1::<f32>()).expect("f32");
                assert_eq!(values(batch.x()), values(expected.x()));
                assert_eq!(
                    batch.y().to_vec1::<u32>().expect("u32"),
                    expected.y().to_vec1::<u32>().expect("u32")
                );
            }
            assert!(plain.next().is_none(), "{ahead} ahead");
        }
    }

    #[test]
    fn a_pass_that_is_left_early_ends_its_thread() {
        let data = toy(50);
        let loader = Loader::new(&data, 1, AUGMENT, 3).expect("a size");
        let mut batches = loader.epoch(1).prefetched(1);
        assert!(batches.next().is_some());
        drop(batches); // joins: a thread that waited for ever would hang here
    }
}
