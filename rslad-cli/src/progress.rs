//! What a person sees while it runs: a bar with the time left on a terminal, plain lines elsewhere.

mod training;

pub(crate) use training::{Detail, TrainingProgress};

use crate::say;
use indicatif::{ProgressBar, ProgressStyle};
use rslad_attacks::{Place, Verdict};
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
    /// JSON lines on standard output, for programs.
    Json,
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

/// How much of some work is done, and how long the rest takes.
#[derive(Debug)]
pub(crate) struct Pace {
    began: Instant,
    first: u64, // units that were done before this sitting
    done: u64,
    length: u64,
}

impl Pace {
    pub(crate) fn new(length: u64, done: u64) -> Self {
        Self { began: Instant::now(), first: done, done, length }
    }

    /// Seconds that are left if the rest goes as what was done in this sitting.
    pub(crate) fn seconds_left(&self) -> Option<u64> {
        let done = self.done.checked_sub(self.first).filter(|done| *done > 0)?;
        let rest = self.length.saturating_sub(self.done);
        Some((self.began.elapsed().as_secs_f64() * rest as f64 / done as f64).round() as u64)
    }

    /// The time that is left, to be read.
    pub(crate) fn left(&self) -> String {
        match self.seconds_left() {
            None => "unknown".into(),
            Some(s) if s >= 3600 => format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60),
            Some(s) => format!("{}:{:02}", s / 60, s % 60),
        }
    }
}

/// A piece of work of known length.
pub(crate) struct Work {
    show: Show,
    name: String,
    bar: ProgressBar,
    pace: Pace,
    last_line: Instant,
}

impl Work {
    /// Work of `length` units called `name`, of which `done` were done before.
    pub(crate) fn new(show: Show, name: &str, length: u64, done: u64) -> Self {
        let bar = if show == Show::Bar { ProgressBar::new(length) } else { ProgressBar::hidden() };
        let colors = if say::colors() { ".cyan/dim" } else { "" };
        let template = format!("  {{prefix:<22}} {{bar:20{colors}}} {{percent:>3}}%  {{wide_msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_length(length);
        bar.set_prefix(name.to_string());
        bar.set_position(done);
        Self { show, name: name.into(), bar, pace: Pace::new(length, done), last_line: Instant::now() }
    }

    /// From now on the bar shows another part of the work.
    pub(crate) fn part(&mut self, name: &str, length: u64, done: u64) {
        self.name = name.into();
        self.bar.set_prefix(name.to_string());
        self.bar.set_length(length);
        self.bar.set_position(done);
    }

    /// `n` more units are done.
    pub(crate) fn advance(&mut self, n: u64, message: impl FnOnce() -> String) {
        self.bar.inc(n);
        self.pace.done += n;
        match self.show {
            Show::Bar => self.bar.set_message(format!("ETA {}  {}", self.left(), message())),
            Show::Lines if self.line_is_due() => {
                let share = 100 * self.bar.position() / self.bar.length().unwrap_or(1).max(1);
                self.plain_line(&format!("  {}: {share} %, {}, ETA {}", self.name, message(), self.left()));
            }
            _ => {}
        }
    }

    /// The time that is left.
    pub(crate) fn left(&self) -> String {
        self.pace.left()
    }

    /// Seconds that are left.
    pub(crate) fn seconds_left(&self) -> Option<u64> {
        self.pace.seconds_left()
    }

    /// Whether a line may be written off a terminal.
    pub(crate) fn line_is_due(&self) -> bool {
        self.last_line.elapsed() >= BETWEEN_LINES
    }

    fn plain_line(&mut self, text: &str) {
        self.last_line = Instant::now();
        say::note(text);
    }

    /// A line that stays, above the bar.
    pub(crate) fn line(&mut self, text: &str) {
        match self.show {
            Show::Nothing | Show::Json => {}
            Show::Bar => self.bar.println(text),
            Show::Lines => self.plain_line(text),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Shows an evaluation: attack by attack, how many examples are decided, stand, and how fast it goes.
pub(crate) struct EvaluationProgress {
    show: Show,
    name: String,
    stage: Option<StageProgress>,
}

struct StageProgress {
    work: Work,
    began: Instant,
    /// Examples decided in this sitting, and of all those that are decided the ones that stand.
    decided: usize,
    known: usize,
    standing: usize,
    iterations: usize,
}

impl EvaluationProgress {
    pub(crate) fn new(show: Show, name: &str) -> Self {
        Self { show, name: name.into(), stage: None }
    }

    /// Says how much was done before.
    pub(crate) fn continues(&self, verdicts: usize) {
        if verdicts > 0 && self.show != Show::Nothing {
            say::note(format!("  {}: continues; verdicts of before: {verdicts}", self.name));
        }
    }
}

impl StageProgress {
    fn message(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let all = self.known + self.decided;
        let speed = match self.decided {
            0 => format!("{:.0} iterations/s", self.iterations as f64 / seconds),
            decided => format!("{:.1} images/s", decided as f64 / seconds),
        };
        format!("{all} done, {} standing, {speed}", self.standing)
    }
}

impl rslad_attacks::Observer for EvaluationProgress {
    fn stage(&mut self, place: &Place<'_>, standing: usize, known: usize) {
        let name = match place.of {
            1 => format!("{} {}", self.name, place.column),
            _ => format!("{} {} {}", self.name, place.column, place.attack),
        };
        let mut work = Work::new(self.show, &name, standing as u64, known as u64);
        work.advance(0, || format!("{known} done"));
        let (began, decided, iterations) = (Instant::now(), 0, 0);
        self.stage = Some(StageProgress { work, began, decided, known, standing: 0, iterations });
    }

    fn advanced(&mut self, _: &Place<'_>, lanes: usize) {
        if let Some(stage) = &mut self.stage {
            stage.iterations += lanes;
            let message = stage.message();
            stage.work.advance(0, || message);
        }
    }

    fn verdicts(&mut self, _: &Place<'_>, verdicts: &[Verdict]) {
        let Some(stage) = &mut self.stage else { return };
        stage.standing += verdicts.iter().filter(|verdict| verdict.robust).count();
        // The verdicts of before come first, all at once, and are counted already.
        let fresh = match stage.iterations {
            0 => 0,
            _ => verdicts.len(),
        };
        stage.decided += fresh;
        let message = stage.message();
        stage.work.advance(fresh as u64, || message);
    }
}
