//! `rslad quickstart`: a natural network falls to the attack, its robustly distilled twin stands.
//!
//! Every part is a recipe, a run directory and an evaluation like any other; a part that is done is not
//! done again, so an interrupted quickstart continues.

use crate::args::QuickstartArgs;
use crate::commands::train;
use crate::evaluation::{self, Job, ModelInfo, ResultFile, SaveAdversarial};
use crate::inputs::{self, Loaded};
use crate::picture::{self, Answer, Row};
use crate::progress::{Detail, Show, TrainingProgress};
use crate::{interrupt, logging, run_info, table};
use anyhow::{Context, Result};
use rslad_attacks::suite::Suite;
use rslad_attacks::{Linf, Perturbed, evaluate};
use rslad_data::{Dataset, Split, in_order};
use rslad_distill::Recipe;
use rslad_models::{Classifier, Network, durable};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// The students, with the recipe of each and a word on what it learns from.
const STUDENTS: &[(&str, &str, &str)] = &[
    ("natural", "digits/resnet18-natural", "clean images and labels"),
    ("SAT", "digits/resnet18-sat", "attacked images and labels"),
    ("RSLAD", "digits/resnet18-rslad", "attacked images and the teacher's soft labels: no label"),
];
const SUITE: &str = "quick";
/// The models whose answers the picture shows.
const SHOWN: [&str; 2] = ["natural", "RSLAD"];
const PICTURED: usize = 6;
const BATCH: usize = 360;

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

pub(crate) fn run(args: &QuickstartArgs, quiet: bool) -> Result<()> {
    let clock = Instant::now();
    let show = Show::here(quiet);
    let stop = interrupt::flag()?;
    let data = rslad_data::open("digits", Split::Test)?;
    if !quiet {
        introduce(args, &data)?;
    }
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    logging::also_to(&args.out)?;
    let mut results = vec![];
    let mut networks = BTreeMap::new();
    let (eps, teacher) = teacher(args)?;
    results.push(("teacher", attack("teacher", &teacher, "embedded", args, &data, eps, show, &stop)?));
    for &(name, recipe, learns) in STUDENTS {
        let network = student(name, recipe, learns, args, show, &stop)?;
        let file = args.out.join(name).join("last.safetensors");
        let result = attack(name, &network, &file.display().to_string(), args, &data, eps, show, &stop)?;
        results.push((name, result));
        networks.insert(name, network);
    }
    let rows: Vec<(&str, &ResultFile)> = results.iter().map(|(name, result)| (*name, result)).collect();
    write(args, &rows, &networks, &data, eps)?;
    conclude(args, &rows, eps, clock);
    Ok(())
}

fn introduce(args: &QuickstartArgs, data: &Dataset) -> Result<()> {
    let train = rslad_data::open("digits", Split::Train)?;
    let [_, h, w] = data.shape();
    println!(
        "rslad {} · handwritten digits, {} train / {} test, {h}x{w}, {} classes · seed {} · cpu, {} cores",
        env!("CARGO_PKG_VERSION"),
        train.len(),
        data.len(),
        data.n_classes(),
        args.seed,
        run_info::cores()
    );
    println!("run directory {} (Ctrl-C is safe: run again to continue)\n", args.out.display());
    Ok(())
}

/// The teacher that the RSLAD recipe names, and the radius of the demonstration.
fn teacher(args: &QuickstartArgs) -> Result<(Linf, Network)> {
    let recipe = recipe("digits/resnet18-rslad", args)?;
    let loaded = inputs::load(&recipe)?;
    let teacher = loaded.teacher.context("the recipe names a teacher")?;
    Ok((recipe.select.eps, teacher.network))
}

fn recipe(name: &str, args: &QuickstartArgs) -> Result<Recipe> {
    Ok(Recipe::load(name, &[("seed".to_string(), args.seed.to_string())])?)
}

/// The student of a recipe after its last epoch: trained now, or before.
fn student(
    name: &str,
    recipe_name: &str,
    learns: &str,
    args: &QuickstartArgs,
    show: Show,
    stop: &AtomicBool,
) -> Result<Network> {
    let recipe = recipe(recipe_name, args)?;
    let loaded: Loaded = inputs::load(&recipe)?;
    let dir = args.out.join(name);
    let clock = Instant::now();
    let mut progress = TrainingProgress::new(show, name, Detail::Brief);
    let outcome = train::follow(&recipe, &loaded, &dir, &mut progress, stop)?;
    drop(progress);
    if show != Show::Nothing {
        let seconds = match outcome {
            rslad_distill::Outcome::AlreadyFinished => "done before".to_string(),
            _ => format!("{:.0} s", clock.elapsed().as_secs_f64()),
        };
        println!("trained  {name:<8} from {learns}  ({} epochs, {seconds})", recipe.schedule.epochs);
    }
    Ok(Network::load(&dir.join("last.safetensors"))?.0)
}

/// The model under the suite, from an earlier result of the same weights where there is one.
#[allow(clippy::too_many_arguments)] // the parts of one sentence: who, on what, how, where to
fn attack(
    name: &str,
    network: &Network,
    path: &str,
    args: &QuickstartArgs,
    data: &Dataset,
    eps: Linf,
    show: Show,
    stop: &AtomicBool,
) -> Result<ResultFile> {
    let dir = args.out.join(name).join("eval");
    let job = Job {
        name,
        f: &network.freeze()?,
        model: ModelInfo { path: path.into(), sha256: weights_hash(network)?, arch: network.arch().clone() },
        data,
        suite: &Suite::load(SUITE)?,
        eps,
        seed: args.seed,
        batch_size: BATCH,
        save: SaveAdversarial::No,
    };
    match finished(&dir, &job) {
        Some(result) => Ok(result),
        None => evaluation::run(job, &dir, show, stop),
    }
}

/// An earlier result of exactly this job.
fn finished(dir: &Path, job: &Job<'_>) -> Option<ResultFile> {
    let result: ResultFile = serde_json::from_slice(&std::fs::read(dir.join("result.json")).ok()?).ok()?;
    let columns = |r: &ResultFile| r.columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    let wanted: Vec<String> = job.suite.columns.iter().map(|c| c.name.clone()).collect();
    let same = result.model == job.model
        && result.eps == job.eps
        && result.seed == job.seed
        && result.data.n == job.data.len()
        && result.version == env!("CARGO_PKG_VERSION")
        && columns(&result) == wanted;
    same.then_some(result)
}

fn weights_hash(network: &Network) -> Result<String> {
    let state = network.params().state_dict()?;
    let bytes =
        safetensors::serialize(state.iter().map(|(n, t)| (n.as_str(), t)), None).context("weights")?;
    Ok(inputs::hex(&bytes))
}

fn write(
    args: &QuickstartArgs,
    rows: &[(&str, &ResultFile)],
    networks: &BTreeMap<&str, Network>,
    data: &Dataset,
    eps: Linf,
) -> Result<()> {
    let models = rows.iter().map(|(name, result)| NamedResult { name, result }).collect();
    let result = QuickstartResult { schema: 1, version: env!("CARGO_PKG_VERSION"), seed: args.seed, models };
    let text = serde_json::to_string_pretty(&result).context("result.json")? + "\n";
    durable::write(&args.out.join("result.json"), text.as_bytes())?;
    let png = pictures(args, networks, data, eps)?;
    Ok(durable::write(&args.out.join("adversarial.png"), &png)?)
}

/// The first test images that both shown models know when clean, under the suite's PGD.
fn pictures(
    args: &QuickstartArgs,
    networks: &BTreeMap<&str, Network>,
    data: &Dataset,
    eps: Linf,
) -> Result<Vec<u8>> {
    let frozen: Vec<_> =
        SHOWN.iter().map(|name| networks[name].freeze()).collect::<rslad_models::Result<_>>()?;
    let known = known_to_all(&frozen, data)?;
    let data = data.subset(&known)?;
    let mut suite = Suite::load(SUITE)?;
    suite.columns.retain(|column| column.attack.name() == "pgd");
    let mut rows: Vec<Row> = vec![];
    for i in 0..data.len() {
        let label = data.class_names()[data.label(i) as usize].clone();
        rows.push(Row { x_nat: data.images_f32(&[i])?.get(0)?, label, answers: vec![] });
    }
    for f in &frozen {
        let mut watcher = Points(None);
        let batches = in_order(&data, BATCH)?.collect::<rslad_data::Result<Vec<_>>>()?;
        evaluate(f, batches.iter().map(evaluation::examples), &suite, eps, args.seed, &mut watcher)?;
        let points = watcher.0.context("known images are attacked")?;
        for (i, row) in rows.iter_mut().enumerate() {
            let class = points.predictions[i];
            let right = class == data.label(i);
            let class = data.class_names()[class as usize].clone();
            row.answers.push(Answer { x_adv: points.x_adv.get(i)?, class, right });
        }
    }
    picture::grid(&SHOWN, &rows, (0.5 / eps.get()) as f32)
}

/// The rows of the first images that every model classifies correctly.
fn known_to_all(models: &[impl Classifier], data: &Dataset) -> Result<Vec<usize>> {
    let all: Vec<usize> = (0..data.len()).collect();
    let x = data.images_f32(&all)?;
    let answers: Vec<Vec<u32>> =
        models.iter().map(|f| Ok(f.logits(&x)?.argmax(1)?.to_vec1()?)).collect::<Result<_>>()?;
    let known = all.into_iter().filter(|&i| answers.iter().all(|a| a[i] == data.label(i)));
    Ok(known.take(PICTURED).collect())
}

/// Keeps the points of an attack.
struct Points(Option<Perturbed>);

impl rslad_attacks::Observer for Points {
    fn column(&mut self, _: &str, _: &[u64], points: &Perturbed) {
        self.0 = Some(points.clone());
    }
}

fn conclude(args: &QuickstartArgs, rows: &[(&str, &ResultFile)], eps: Linf, clock: Instant) {
    println!("\n{}", table::of_results(rows));
    println!(
        "share of the {} test images that are right clean, and still right under each attack within",
        rows[0].1.data.n
    );
    println!("eps {eps}; in brackets the 95 % interval. The attacks try to break each model in turn.\n");
    println!("What this shows: natural training is accurate and helpless; a student that never saw a label,");
    println!("only its robust teacher's soft answers, resists. What it cannot show: which robust method is");
    println!(
        "better. At n = {} intervals are 4 to 5 points wide on either side, and this is one seed.\n",
        rows[0].1.data.n
    );
    println!("pictures  {}", args.out.join("adversarial.png").display());
    println!("results   {}", args.out.join("result.json").display());
    println!("next      rslad list recipes · rslad train --help · rslad eval --help");
    println!("({:.0} s)", clock.elapsed().as_secs_f64());
}
