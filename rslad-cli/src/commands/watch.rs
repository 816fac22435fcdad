//! `rslad watch`: a run as its directory tells it. It reads, and nothing else: no lock, no file of its own.

use crate::args::WatchArgs;
use crate::exit::Ended;
use crate::run_info::RunInfo;
use crate::{chart, say};
use anyhow::Result;
use rslad_distill::Recipe;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

const REDRAW: Duration = Duration::from_secs(1);
/// The size of a chart in characters.
const SIZE: (usize, usize) = (60, 6);

pub(crate) fn run(args: &WatchArgs) -> Result<()> {
    let follows = io::stdout().is_terminal() && !args.once && !args.json;
    loop {
        let run = Run::read(&args.dir)?;
        if args.json {
            return Ok(say::result(run.as_json())?);
        }
        let text = run.picture(&args.dir);
        if !follows {
            return Ok(say::result(text.trim_end())?);
        }
        write!(io::stdout().lock(), "\u{1b}[H\u{1b}[2J{text}")?;
        io::stdout().flush()?;
        if run.status != Status::Running {
            return Ok(());
        }
        thread::sleep(REDRAW);
    }
}

/// What a run directory tells.
struct Run {
    recipe: Recipe,
    status: Status,
    holder: Option<String>,
    images_per_second: Option<f64>,
    steps: Vec<Step>,
    epochs: Vec<Epoch>,
    evals: Vec<Eval>,
}

/// Whether somebody works on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Running,
    Finished,
    Stopped,
    Failed,
    /// It neither ended nor does its process live.
    Killed,
}

/// A line of `metrics.jsonl`. Values that were not finite are `null` there.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    Step(Step),
    Epoch(Epoch),
    Eval(Eval),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Step {
    epoch: u64,
    step: u64,
    lr: f64,
    loss: Option<f64>,
}

#[derive(Deserialize)]
struct Epoch {
    epoch: u64,
    loss: Option<f64>,
}

#[derive(Clone, Deserialize, serde::Serialize)]
struct Eval {
    epoch: u64,
    weights: String,
    on: String,
    clean: f64,
    robust: f64,
    best: bool,
}

impl Run {
    fn read(dir: &Path) -> Result<Self> {
        let no_run = |what: &str| {
            let dir = dir.display();
            Ended::Usage(format!("{dir}: holds no run ({what}), expected the --out of a `rslad train`"))
        };
        let text = std::fs::read_to_string(dir.join("recipe.toml"))
            .map_err(|e| no_run(&format!("recipe.toml: {e}")))?;
        let recipe = Recipe::parse(&dir.join("recipe.toml").display().to_string(), &text, &[])?;
        let metrics = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap_or_default();
        let info: Option<RunInfo> =
            std::fs::read(dir.join("run.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let holder = std::fs::read_to_string(dir.join(".lock")).ok().map(|text| text.trim().to_string());
        let sitting = info.as_ref().and_then(|info| info.sittings.last());
        let mut run = Self {
            recipe,
            status: status(sitting.and_then(|s| s.ended.as_deref()), holder.as_deref()),
            holder,
            images_per_second: sitting.and_then(|s| s.times.as_ref()).map(|times| times.images_per_second),
            steps: vec![],
            epochs: vec![],
            evals: vec![],
        };
        // The last line may be half written.
        for line in metrics.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            match line {
                Line::Step(step) => run.steps.push(step),
                Line::Epoch(epoch) => run.epochs.push(epoch),
                Line::Eval(eval) if eval.weights == "raw" => run.evals.push(eval),
                Line::Eval(_) | Line::Other => {}
            }
        }
        Ok(run)
    }

    fn best(&self) -> Option<&Eval> {
        self.evals.iter().rfind(|eval| eval.best)
    }

    fn picture(&self, dir: &Path) -> String {
        let mut text = format!("{} · {}\n", dir.display(), self.recipe.about);
        text += &match (self.status, &self.holder) {
            (Status::Running, Some(holder)) => format!("running ({holder})"),
            (Status::Running, None) => "running".into(),
            (Status::Finished, _) => "finished".into(),
            (Status::Stopped, _) => "stopped; the same command run again continues".into(),
            (Status::Failed, _) => "failed; log.jsonl and the last words of the command say why".into(),
            (Status::Killed, _) => {
                "killed, or runs on another machine; the same command run again continues".into()
            }
        };
        let epochs = self.recipe.schedule.epochs;
        if let Some(step) = self.steps.last() {
            text += &format!(" · epoch {}/{epochs}, step {} · lr {:.1e}", step.epoch, step.step, step.lr);
        }
        if let Some(speed) = self.images_per_second {
            text += &format!(" · {speed:.0} images/s");
        }
        text.push('\n');
        if let Some(best) = self.best() {
            text += &format!(
                "best: epoch {}, clean {:.1} %, robust {:.1} % on {}\n",
                best.epoch,
                100.0 * best.clean,
                100.0 * best.robust,
                best.on
            );
        }
        let number = |value: Option<f64>| value.unwrap_or(f64::NAN);
        // Until there are epochs to show, steps are.
        let (name, losses) = match self.epochs.len() {
            0 | 1 => ("loss, by step", self.steps.iter().map(|s| number(s.loss)).collect::<Vec<_>>()),
            _ => ("loss, by epoch", self.epochs.iter().map(|e| number(e.loss)).collect()),
        };
        let percent =
            |value: fn(&Eval) -> f64| self.evals.iter().map(|e| 100.0 * value(e)).collect::<Vec<_>>();
        let span = match (self.evals.first(), self.evals.last()) {
            (Some(first), Some(last)) => format!(" (epochs {} to {})", first.epoch, last.epoch),
            _ => String::new(),
        };
        let last = self.epochs.last().map_or(String::new(), |e| format!(" (the last is {})", e.epoch));
        for (title, values) in [
            (format!("{name}{last}"), losses),
            (format!("clean accuracy, %{span}"), percent(|e| e.clean)),
            (format!("robust accuracy, %{span}"), percent(|e| e.robust)),
        ] {
            text += &format!("\n{title}\n{}\n", chart::lines(&values, SIZE.0, SIZE.1).join("\n"));
        }
        text
    }

    fn as_json(&self) -> Value {
        let step = self.steps.last();
        json!({
            "status": format!("{:?}", self.status).to_lowercase(),
            "holder": self.holder,
            "epochs": self.recipe.schedule.epochs,
            "epoch": step.map(|s| s.epoch),
            "step": step.map(|s| s.step),
            "lr": step.map(|s| s.lr),
            "loss": step.and_then(|s| s.loss),
            "last": self.evals.last(),
            "best": self.best(),
        })
    }
}

/// What the last sitting says of its end; where it says nothing, whether its process lives here.
fn status(ended: Option<&str>, holder: Option<&str>) -> Status {
    match ended {
        Some("finished") => Status::Finished,
        Some("stopped") => Status::Stopped,
        Some(_) => Status::Failed,
        None => match holder.is_some_and(lives) {
            true => Status::Running,
            false => Status::Killed,
        },
    }
}

/// Whether the process that a lock names runs on this machine.
fn lives(holder: &str) -> bool {
    let Some((id, host)) = holder.strip_prefix("process ").and_then(|text| text.split_once(" on ")) else {
        return false;
    };
    let here = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    host == here.trim() && Path::new("/proc").join(id).exists()
}
