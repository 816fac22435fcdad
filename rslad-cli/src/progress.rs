//! What a person sees while it runs: a bar with the time left on a terminal, plain lines elsewhere.

use crate::say;
use indicatif::{ProgressBar, ProgressStyle};
use rslad_attacks::Perturbed;
use rslad_distill::observer::{Beginning, EpochEvent, EvalEvent, Observer, StepEvent};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// Not at all.
    Nothing,
    /// A bar.
    Bar,
    /// A line now and then.
    Lines,
}

impl Show {
    /// What fits standard error.
    pub(crate) fn here(quiet: bool) -> Self {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Self::Nothing,
            (false, true) => Self::Bar,
            (false, false) => Self::Lines,
        }
    }
}

/// Off a terminal, at most one line in this time.
const BETWEEN_LINES: Duration = Duration::from_secs(30);

/// A piece of work of known length.
pub(crate) struct Work {
    show: Show,
    name: String,
    bar: ProgressBar,
    began: Instant,
    first: u64, // units that were done before this sitting
    last_line: Instant,
}

impl Work {
    /// Work of `length` units called `name`, of which `done` were done before.
    pub(crate) fn new(show: Show, name: &str, length: u64, done: u64) -> Self {
        let bar = if show == Show::Bar { ProgressBar::new(length) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template(
            "  {prefix:<10} {bar:20.cyan/dim} {percent:>3}%  ETA {eta:<4} {wide_msg}",
        );
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_length(length);
        bar.set_prefix(name.to_string());
        bar.set_position(done);
        bar.reset_eta();
        let now = Instant::now();
        Self { show, name: name.into(), bar, began: now, first: done, last_line: now }
    }

    /// `n` more units are done.
    pub(crate) fn advance(&mut self, n: u64, message: impl FnOnce() -> String) {
        self.bar.inc(n);
        match self.show {
            Show::Bar => self.bar.set_message(message()),
            Show::Lines if self.last_line.elapsed() >= BETWEEN_LINES => {
                self.last_line = Instant::now();
                let share = 100 * self.bar.position() / self.bar.length().unwrap_or(1).max(1);
                say::note(format!("  {}: {share} %, {}, ETA {}", self.name, message(), self.left()));
            }
            _ => {}
        }
    }

    /// The time that is left if the rest goes as what was done in this sitting.
    fn left(&self) -> String {
        let done = self.bar.position().saturating_sub(self.first);
        let rest = self.bar.length().unwrap_or(0).saturating_sub(self.bar.position());
        if done == 0 {
            return "unknown".into();
        }
        let seconds = self.began.elapsed().as_secs() * rest / done;
        format!("{}:{:02}", seconds / 60, seconds % 60)
    }

    /// A line that stays, above the bar.
    pub(crate) fn line(&self, text: &str) {
        match self.show {
            Show::Nothing => {}
            Show::Bar => self.bar.println(text),
            Show::Lines => say::note(text),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Which lines of a training run stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// One for each epoch.
    Epochs,
    /// None.
    Brief,
}

/// Shows a training run.
pub(crate) struct TrainingProgress {
    show: Show,
    name: String,
    detail: Detail,
    epochs: u64,
    work: Option<Work>,
    epoch: Option<EpochEvent>,
    lr: f64,
    robust: Option<f64>,
}

impl TrainingProgress {
    pub(crate) fn new(show: Show, name: &str, detail: Detail) -> Self {
        Self { show, name: name.into(), detail, epochs: 0, work: None, epoch: None, lr: 0.0, robust: None }
    }

    fn line(&self, text: &str) {
        if let Some(work) = self.work.as_ref().filter(|_| self.detail == Detail::Epochs) {
            work.line(text);
        }
    }
}

impl Observer for TrainingProgress {
    fn begin(&mut self, b: &Beginning) {
        self.epochs = b.epochs;
        let done = (b.epoch - 1) * b.steps_per_epoch + b.steps_done;
        let mut work = Work::new(self.show, &self.name, b.epochs * b.steps_per_epoch, done);
        if done > 0 {
            work.line(&format!("  {}: continues in epoch {}, step {}", self.name, b.epoch, b.steps_done + 1));
        }
        work.advance(0, || format!("epoch {}/{}", b.epoch, b.epochs));
        self.work = Some(work);
    }

    fn step(&mut self, e: &StepEvent) {
        self.lr = e.lr;
        let (epochs, robust) = (self.epochs, self.robust);
        if let Some(work) = &mut self.work {
            work.advance(1, || {
                let robust =
                    robust.map_or(String::new(), |r| format!("  robust {:.1} % on validation", 100.0 * r));
                format!("epoch {}/{epochs}  loss {:.4}{robust}", e.epoch, e.loss)
            });
        }
    }

    fn epoch(&mut self, e: &EpochEvent) {
        let terms: Vec<String> = e.terms.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
        self.line(&format!(
            "epoch {:>3}/{}  lr {:.1e}  loss {:.4} ({})",
            e.epoch,
            self.epochs,
            self.lr,
            e.loss,
            terms.join(", ")
        ));
        self.epoch = Some(e.clone());
    }

    fn eval(&mut self, e: &EvalEvent) {
        if e.weights == "raw" {
            self.robust = Some(e.robust);
        }
        let of = if e.weights == "raw" { String::new() } else { format!(", {}", e.weights) };
        let best = if e.best { "  (best so far)" } else { "" };
        self.line(&format!(
            "               {}{of} (n = {}): clean {:.1}, robust {:.1}{best}",
            e.on,
            e.n,
            100.0 * e.clean,
            100.0 * e.robust
        ));
    }
}

/// Shows an evaluation.
pub(crate) struct EvaluationProgress {
    work: Work,
    done: usize,
}

impl EvaluationProgress {
    pub(crate) fn new(show: Show, name: &str, n: usize) -> Self {
        Self { work: Work::new(show, name, n as u64, 0), done: 0 }
    }
}

impl rslad_attacks::Observer for EvaluationProgress {
    fn column(&mut self, name: &str, _: &[u64], _: &Perturbed) {
        let done = self.done;
        self.work.advance(0, || format!("{done} images done, {name}"));
    }

    fn batch(&mut self, n: usize) {
        self.done += n;
        let done = self.done;
        self.work.advance(n as u64, || format!("{done} images done"));
    }
}
