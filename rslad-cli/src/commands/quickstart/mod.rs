//! `rslad quickstart`: a natural network falls to the attack, its robustly distilled twin stands.
//!
//! Every part is a recipe, a run directory and an evaluation like any other; a part that is done is not
//! done again, so an interrupted quickstart continues.

mod pictures;
mod words;

use crate::args::QuickstartArgs;
use crate::commands::train;
use crate::evaluation::{self, Job, SaveAdversarial};
use crate::inputs::{self, Loaded};
use crate::output::Output;
use crate::progress::{Detail, Show, TrainingProgress};
use crate::result_file::{ModelInfo, Question, ResultFile};
use crate::suite::{self, Resolved};
use crate::weight_files::{self, Stated, Unsaid};
use crate::{interrupt, logging, report, say};
use anyhow::{Context, Result};
use rslad_attacks::Linf;
use rslad_data::{Dataset, Split};
use rslad_distill::ranks::Alone;
use rslad_distill::{Outcome, Recipe};
use rslad_models::{Network, durable};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// A student of the demonstration.
struct Student {
    name: &'static str,
    recipe: &'static str,
    learns: &'static str,
}

const STUDENTS: [Student; 3] = [
    Student {
        name: "natural",
        recipe: "digits/resnet18-natural",
        learns: "learns from clean images and labels",
    },
    Student { name: "SAT", recipe: "digits/resnet18-sat", learns: "learns from attacked images and labels" },
    Student {
        name: "RSLAD",
        recipe: "digits/resnet18-rslad",
        learns: "learns from attacked images and the teacher's answers; never sees a label",
    },
];
const SUITE: &str = "quick";
const BATCH: usize = 360;

/// A model of the demonstration when all about it is known.
struct Part {
    name: &'static str,
    network: Network,
    result: ResultFile,
}

/// What the parts have in common.
struct Demo<'a> {
    args: &'a QuickstartArgs,
    show: Show,
    stop: Arc<AtomicBool>,
    data: Dataset,
    suite: Resolved,
    eps: Linf,
    /// Whether anything had to be done.
    worked: bool,
}

pub(crate) fn run(args: &QuickstartArgs, quiet: bool) -> Result<()> {
    let clock = Instant::now();
    let show = Show::here(quiet);
    let prepared = STUDENTS.iter().map(|s| prepare(s, args)).collect::<Result<Vec<_>>>()?;
    let (recipe, loaded) = prepared.last().context("there are students")?;
    let mut demo = Demo {
        args,
        show,
        stop: interrupt::flag(show)?,
        data: rslad_data::open("digits", Split::Test)?,
        suite: suite::resolve(&[SUITE.to_string()], &[])?,
        eps: recipe.select.eps,
        worked: false,
    };
    let out = Output::open(&args.out)?;
    logging::also_to(out.path())?;
    demo.note(words::introduction(args, &demo.data, &loaded.inputs));

    let mut parts = vec![demo.teacher(loaded)?];
    for (student, (recipe, loaded)) in STUDENTS.iter().zip(&prepared) {
        parts.push(demo.student(student, recipe, loaded)?);
    }
    demo.write(&out, &parts)?;
    let ending = match demo.worked {
        true => format!("\ndone in {:.0} s\n", clock.elapsed().as_secs_f64()),
        false => format!(
            "\nall of this was done before; for a new run choose another --out, or remove {}\n",
            args.out.display()
        ),
    };
    demo.note(ending);
    words::conclude(&parts, demo.eps, out.path())
}

/// `report.html` and what lies beside it.
fn write_report(args: &QuickstartArgs, parts: &[Part]) -> Result<()> {
    let frame = report::Frame {
        title: Some("Natural and robust students of handwritten digits".into()),
        remake: Some(format!("rslad quickstart --seed {} --out {}", args.seed, args.out.display())),
        ..report::Frame::default()
    };
    let dirs: Vec<PathBuf> = parts.iter().map(|part| args.out.join(part.name)).collect();
    report::write(&dirs, &frame, &args.out).map(drop)
}

fn prepare(student: &Student, args: &QuickstartArgs) -> Result<(Recipe, Loaded)> {
    let mut changes = args.set.clone();
    changes.push(("seed".into(), args.seed.to_string()));
    let recipe = inputs::recipe(student.recipe, &changes)?;
    let loaded = inputs::load(&recipe)?;
    Ok((recipe, loaded))
}

impl Demo<'_> {
    fn note(&self, text: String) {
        if self.show != Show::Nothing {
            say::note(text);
        }
    }

    fn part_begins(&self, number: usize, name: &str, about: &str) {
        self.note(format!("[{number}/{}] {name:<8} {about}", STUDENTS.len() + 1));
    }

    fn part_has(&self, what: &str, seconds: Option<f64>) {
        let time = seconds.map_or("done before".to_string(), |s| format!("{s:.1} s"));
        self.note(format!("      {what} ({time})"));
    }

    /// The teacher that the RSLAD recipe names, attacked.
    fn teacher(&mut self, loaded: &Loaded) -> Result<Part> {
        let teacher = loaded.teacher.as_ref().context("the recipe names a teacher")?;
        self.part_begins(1, "teacher", "comes with the program; robust, and larger than its students");
        let network = Network::with_state_dict(
            teacher.network.arch(),
            &teacher.network.params().state_dict()?.into_iter().collect(),
        )?;
        self.attacked("teacher", network, "digits-teacher".into(), teacher.sha256.clone())
    }

    /// A student after its last epoch, trained now or before, and attacked.
    fn student(&mut self, student: &Student, recipe: &Recipe, loaded: &Loaded) -> Result<Part> {
        let number = 2 + STUDENTS.iter().take_while(|s| s.name != student.name).count();
        self.part_begins(number, student.name, student.learns);
        let dir = self.args.out.join(student.name);
        let clock = Instant::now();
        let mut progress = TrainingProgress::new(self.show, "training", Detail::Brief);
        let (outcome, _) = train::follow(recipe, loaded, &dir, &mut progress, &self.stop, &Alone)?;
        drop(progress);
        let anew = outcome != Outcome::AlreadyFinished;
        self.worked |= anew;
        let seconds = anew.then(|| clock.elapsed().as_secs_f64());
        self.part_has(&format!("trained   {} epochs", recipe.schedule.epochs), seconds);
        let file = dir.join("last.safetensors");
        let weights = weight_files::weights(&file, &Stated::nothing(), Unsaid::Refuse)?;
        self.attacked(student.name, weights.network, file.display().to_string(), weights.sha256)
    }

    /// The model under the suite, from an earlier result of the same weights where there is one.
    fn attacked(
        &mut self,
        name: &'static str,
        network: Network,
        path: String,
        sha256: String,
    ) -> Result<Part> {
        let dir = self.directory_of(name);
        let clock = Instant::now();
        let question = Question {
            model: ModelInfo { path, sha256, arch: network.arch().clone() },
            data: evaluation::data_info(&self.data),
            shard: None,
            eps: self.eps,
            seed: self.args.seed,
        };
        let (result, seconds) = match question.answered(&dir, &self.suite.text)? {
            Some(result) => (result, None),
            None => {
                let result = self.evaluate(&network, question, &dir)?;
                (result, Some(clock.elapsed().as_secs_f64()))
            }
        };
        self.worked |= seconds.is_some();
        self.part_has(&format!("attacked  {}", words::accuracies(&result)), seconds);
        Ok(Part { name, network, result })
    }

    fn directory_of(&self, name: &str) -> PathBuf {
        self.args.out.join(name).join("eval")
    }

    fn evaluate(&self, network: &Network, question: Question, dir: &std::path::Path) -> Result<ResultFile> {
        let out = Output::open(dir)?;
        let job = Job {
            name: "attacking",
            f: &network.freeze()?,
            data: &self.data,
            question,
            suite: &self.suite,
            batch_size: BATCH,
            save: SaveAdversarial::No,
            dir: out.path(),
            warnings: vec![],
        };
        let finished = evaluation::run(&job, self.show, &self.stop)?;
        finished.write(out.path())?;
        Ok(finished.result)
    }

    /// `result.json` of the whole and the picture.
    fn write(&self, out: &Output, parts: &[Part]) -> Result<()> {
        let picture = out.file("adversarial.png");
        if !self.worked && picture.exists() && out.file("report.html").exists() {
            return Ok(());
        }
        let models = parts.iter().map(|part| NamedResult { name: part.name, result: &part.result }).collect();
        let version = env!("CARGO_PKG_VERSION");
        let result = QuickstartResult { schema: 1, version, seed: self.args.seed, models };
        let text = serde_json::to_string_pretty(&result).context("result.json")? + "\n";
        durable::write(&picture, &pictures::draw(parts, &self.data, self.eps, self.args.seed)?)?;
        durable::write(&out.file("result.json"), text.as_bytes())?;
        write_report(self.args, parts)
    }
}

/// `result.json` of the quickstart: one evaluation a model.
#[derive(Serialize)]
struct QuickstartResult<'a> {
    schema: u32,
    version: &'static str,
    seed: u64,
    models: Vec<NamedResult<'a>>,
}

#[derive(Serialize)]
struct NamedResult<'a> {
    name: &'a str,
    result: &'a ResultFile,
}
