//! `rslad quickstart`: a student that never saw a label resists.
//!
//! It is a grid like any other, of [`Design`]: cells that are done are not done again, so an interrupted
//! quickstart continues.

mod design;
mod pictures;
mod words;

use crate::args::QuickstartArgs;
use crate::grid::engine::Engine;
use crate::grid::file::{Cell, Row};
use crate::grid::local::{Local, Told};
use crate::grid::{Grid, Plan, State};
use crate::output::Output;
use crate::progress::Show;
use crate::report::model::Report;
use crate::{device, inputs, interrupt, logging, report, say};
use anyhow::{Context, Result};
use design::Design;
use rslad_data::Split;
use rslad_models::durable;
use std::path::PathBuf;
use std::time::Instant;

pub(crate) fn run(args: &QuickstartArgs, quiet: bool) -> Result<()> {
    let clock = Instant::now();
    let show = Show::here(quiet);
    let design = Design::embedded(args)?;
    let path = args.out.join("grid.toml");
    let grid = Grid { file: design.grid(args)?, path };
    let cells = args.out.join("cells");
    let plan = Plan::of(&grid, &cells)?; // finds what is wrong before anything is written
    let stop = interrupt::flag(show)?;
    let out = Output::open(&args.out)?;
    logging::also_to(out.path())?;
    let text = toml::to_string(&grid.file).context("grid.toml")?;
    durable::write(&grid.path, text.as_bytes())?;

    let worked = (0..plan.cells.len()).any(|index| plan.state(index) != State::Finished);
    let note = |text: String| {
        if show != Show::Nothing {
            say::note(text)
        }
    };
    note(words::introduction(args, &plan, &design)?);
    let threads = rslad_models::Engine::from_environment()?.threads.get();
    Local { threads, told: Told::Training }.run(&plan, show, &stop)?;

    let picture = out.file("adversarial.png");
    if worked || !picture.exists() {
        durable::write(&picture, &draw(&plan, &design, args.seed)?)?;
    }
    let report = write_report(&plan, out.path())?;
    note(match worked {
        true => format!("\ndone in {:.0} s\n", clock.elapsed().as_secs_f64()),
        false => format!(
            "\nall of this was done before; for a new run choose another --out, or remove {}\n",
            args.out.display()
        ),
    });
    words::conclude(&report, &design, out.path())
}

/// `report.html` and what lies beside it.
fn write_report(plan: &Plan<'_>, out: &std::path::Path) -> Result<Report> {
    let frame = report::Frame {
        title: Some(plan.grid.file.title.clone()),
        remake: plan.grid.file.remake.clone(),
        ..report::Frame::default()
    };
    let places = plan.cells.iter().map(|cell| cell.place.as_ref().map(|place| place.dir.clone()));
    let dirs: Vec<PathBuf> = places.filter_map(Result::ok).collect();
    Ok(report::write_all(&dirs, &frame, out)?.1)
}

/// The picture, of the largest radius.
fn draw(plan: &Plan<'_>, design: &Design, seed: u64) -> Result<Vec<u8>> {
    let radius = design.radius.last().context("a design has a radius")?;
    let eps = crate::result_file::parse_radius(&radius.eps)?;
    let network = |method: &str| -> Result<_> {
        let of = |row: &Row| row.method == method && row.student == design::group(&radius.eps);
        let cell = plan.cells.iter().find_map(|cell| match cell.cell {
            Cell::Eval(eval) if eval.row.as_ref().is_some_and(of) => Some(eval),
            _ => None,
        });
        let model = &cell.context("a student of the design")?.model;
        let file = plan.file_of(model).ok().context("a cell that is done has a file")?;
        device::frozen(&inputs::model(&file)?.0)
    };
    let data = rslad_data::open(&design.data, Split::Test)?.limit(design.n)?;
    pictures::draw([network("natural")?, network("rslad")?], &data, eps, seed)
}
