//! A training run as it is shown: one line an epoch and a bar within it; JSON lines for programs.

use super::{Show, Work};
use crate::say;
use rslad_distill::observer::{Beginning, EpochEvent, EvalEvent, Observer, SavedEvent, StepEvent, Update};
use rslad_distill::times::Times;
use serde_json::{Value, json};

/// How much of a training run is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// A bar within each epoch, and a line after it.
    Epochs,
    /// One bar for the whole.
    Brief,
}

/// Shows a training run.
pub(crate) struct TrainingProgress {
    show: Show,
    name: String,
    detail: Detail,
    epochs: u64,
    steps_per_epoch: u64,
    work: Option<Work>,
    lr: f64,
    skipped: u64,
    images_per_second: f64,
    epoch: Option<EpochEvent>,
    eval: Option<EvalEvent>,
    averages: Vec<EvalEvent>, // of the present epoch
}

impl TrainingProgress {
    pub(crate) fn new(show: Show, name: &str, detail: Detail) -> Self {
        Self {
            show,
            name: name.into(),
            detail,
            epochs: 0,
            steps_per_epoch: 0,
            work: None,
            lr: 0.0,
            skipped: 0,
            images_per_second: 0.0,
            epoch: None,
            eval: None,
            averages: Vec::new(),
        }
    }

    /// What a finished epoch came to, in one line.
    fn summary(&self, e: &EpochEvent) -> String {
        let eval = self.eval.as_ref().filter(|eval| eval.epoch == e.epoch);
        let eval = eval.map_or(String::new(), |eval| {
            let best = if eval.best { " (best)" } else { "" };
            format!(
                "  {} clean {:.1} % robust {:.1} %{best}",
                eval.on,
                100.0 * eval.clean,
                100.0 * eval.robust
            )
        });
        let averages: String = self.averages.iter().map(average).collect();
        let skipped = match self.skipped {
            0 => String::new(),
            n => format!("  {n} steps skipped"),
        };
        let left = self.work.as_ref().map_or(String::new(), Work::left);
        format!(
            "epoch {:>3}/{}  loss {:.4} ({}){eval}{averages}{skipped}  lr {:.1e}  {:.0} images/s  ETA {left}",
            e.epoch,
            self.epochs,
            e.loss,
            terms(e),
            self.lr,
            self.images_per_second
        )
    }

    /// A line for programs.
    fn emit(&self, event: &str, mut line: Value) {
        if self.show == Show::Json {
            line["event"] = event.into();
            // Whoever read may be gone; the run goes on for its files.
            let _ = say::result(line);
        }
    }
}

fn average(e: &EvalEvent) -> String {
    format!("  {} clean {:.1} % robust {:.1} %", e.weights, 100.0 * e.clean, 100.0 * e.robust)
}

fn terms(e: &EpochEvent) -> String {
    let terms: Vec<String> = e.terms.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
    terms.join(", ")
}

impl Observer for TrainingProgress {
    fn begin(&mut self, b: &Beginning) {
        (self.epochs, self.steps_per_epoch) = (b.epochs, b.steps_per_epoch);
        let done = (b.epoch - 1) * b.steps_per_epoch + b.steps_done;
        let mut work = Work::new(self.show, &self.name, b.epochs * b.steps_per_epoch, done);
        if done > 0 {
            work.line(&format!("  {}: continues in epoch {}, step {}", self.name, b.epoch, b.steps_done + 1));
        }
        if self.detail == Detail::Epochs {
            work.part(&format!("epoch {}/{}", b.epoch, b.epochs), b.steps_per_epoch, b.steps_done);
        }
        work.advance(0, || "the first step".into());
        self.work = Some(work);
        self.emit(
            "begin",
            json!({ "epochs": b.epochs, "steps_per_epoch": b.steps_per_epoch, "epoch": b.epoch, "steps_done": b.steps_done }),
        );
    }

    fn step(&mut self, e: &StepEvent) {
        self.lr = e.lr;
        self.skipped += u64::from(e.update == Update::Skipped);
        let (detail, epochs, steps) = (self.detail, self.epochs, self.steps_per_epoch);
        let robust = self.eval.as_ref().map(|eval| (eval.robust, eval.on));
        if let Some(work) = &mut self.work {
            if detail == Detail::Epochs && e.step == 1 {
                work.part(&format!("epoch {}/{epochs}", e.epoch), steps, 0);
            }
            work.advance(1, || {
                let robust =
                    robust.map_or(String::new(), |(r, on)| format!("  robust {:.1} % on {on}", 100.0 * r));
                let epoch = if detail == Detail::Brief {
                    format!("epoch {}/{epochs}  ", e.epoch)
                } else {
                    String::new()
                };
                format!("{epoch}loss {:.4}{robust}", e.loss)
            });
        }
    }

    fn epoch(&mut self, e: &EpochEvent) {
        self.epoch = Some(e.clone());
    }

    fn eval(&mut self, e: &EvalEvent) {
        match e.weights {
            "raw" => self.eval = Some(e.clone()),
            _ => self.averages.push(e.clone()),
        }
    }

    fn saved(&mut self, e: &SavedEvent) {
        let Some(epoch) = self.epoch.take() else { return };
        let summary = self.summary(&epoch);
        if let Some(work) = self.work.as_mut().filter(|_| self.detail == Detail::Epochs)
            && (self.show != Show::Lines || work.line_is_due() || e.epoch == self.epochs)
        {
            work.line(&summary);
        }
        let eval = self.eval.as_ref().filter(|eval| eval.epoch == e.epoch);
        self.emit(
            "epoch",
            json!({
                "epoch": epoch.epoch, "loss": epoch.loss, "terms": epoch.terms, "lr": self.lr, "eval": eval, "averages": self.averages,
                "images_per_second": self.images_per_second, "state": e.file,
                "eta_seconds": self.work.as_ref().and_then(Work::seconds_left),
            }),
        );
        self.skipped = 0;
        self.averages.clear();
    }

    fn times(&mut self, times: &Times) {
        self.images_per_second = times.images_per_second();
    }
}
