//! Batch statistics over all ranks.
//!
//! The seam between ranks belongs to one thread, a step runs on those of the plans: so the step is given a
//! mailbox, and the thread that called for it carries the mail.

use crate::error::Result;
use crate::ranks::{Reduce, bytes_of, values_of};
use crate::step::Players;
use rslad_models::Exchange;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

type Answer = std::result::Result<Vec<Vec<f32>>, String>;

/// What a step writes to and waits for.
struct Mailbox {
    ask: Mutex<Sender<Vec<f32>>>,
    answers: Mutex<Receiver<Answer>>,
}

impl Exchange for Mailbox {
    fn gather(&self, own: &[f32]) -> rslad_models::Result<Vec<Vec<f32>>> {
        let gone = || rslad_models::Error::Other("the other ranks cannot be asked any more".into());
        let ask = self.ask.lock().unwrap_or_else(PoisonError::into_inner);
        ask.send(own.to_vec()).map_err(|_| gone())?;
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.recv().map_err(|_| gone())?.map_err(rslad_models::Error::Other)
    }
}

/// Takes a step whose forwards in train mode are normalized over the images of all ranks.
pub(crate) fn exchanging<'n, T: Send>(
    ranks: &dyn Reduce,
    players: &mut Players<'n>,
    step: impl FnOnce(&mut Players<'n>) -> Result<T> + Send,
) -> Result<T> {
    let (ask, asked) = channel();
    let (answer, answers) = channel();
    let mailbox = Mailbox { ask: Mutex::new(ask), answers: Mutex::new(answers) };
    std::thread::scope(|scope| {
        let step = scope.spawn(move || {
            players.share(Some(Arc::new(mailbox)));
            let taken = step(players);
            players.share(None); // the last mailbox: the mail ends
            taken
        });
        for own in asked {
            let all = ranks.gather(&bytes_of(&own));
            let all = all.map(|all| all.iter().map(|bytes| values_of(bytes)).collect());
            if answer.send(all.map_err(|e| e.to_string())).is_err() {
                break;
            }
        }
        step.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
