//! `rslad grid`: what there is to do, what is done, and doing it.

use crate::args::{GridArgs, GridCommand, GridDir, PlanArgs, SubmitArgs};
use crate::exit::Ended;
use crate::grid::cost::Speeds;
use crate::grid::engine::{Asked, Handing, Left};
use crate::grid::plan::Missing;
use crate::grid::{Grid, Plan, State};
use crate::output::Output;
use crate::progress::Show;
use crate::report;
use crate::{interrupt, say, table};
use anyhow::Result;
use rslad_models::Engine;
use std::path::PathBuf;

pub(crate) fn run(args: &GridArgs, quiet: bool) -> Result<()> {
    match &args.command {
        GridCommand::Plan(args) => plan(args),
        GridCommand::Submit(args) => submit(args, quiet),
        GridCommand::Status(args) => status(args),
        GridCommand::Report(args) => {
            let grid = Grid::load(&args.grid)?;
            say::result(write_report(&Plan::of(&grid, &args.out)?)?.display())?;
            Ok(())
        }
    }
}

/// What there is to do and what it costs. What is missing is an error, after all has been said.
fn plan(args: &PlanArgs) -> Result<()> {
    let grid = Grid::load(&args.dir.grid)?;
    let plan = Plan::of(&grid, &args.dir.out)?;
    print_plan(&plan, if args.brief { Lines::Totals } else { Lines::Cells })?;
    nothing_missing(&plan)
}

fn nothing_missing(plan: &Plan<'_>) -> Result<()> {
    match plan.missing().first() {
        None => Ok(()),
        Some(Missing { what, code, .. }) => Err(Ended::Missing { what: what.clone(), code: *code }.into()),
    }
}

/// What a plan prints.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    Cells,
    Totals,
}

fn print_plan(plan: &Plan<'_>, lines: Lines) -> Result<()> {
    let mut speeds = Speeds::open(plan);
    let (mut seconds, mut bytes, mut rows) = (0.0, 0, vec![]);
    for cell in &plan.cells {
        let state = plan.state(cell.index);
        let cost = speeds.cost(plan, cell)?;
        if state != State::Finished {
            seconds += cost.seconds;
            bytes += cost.bytes;
        }
        let time = if cost.seconds > 0.0 { duration(cost.seconds) } else { String::new() };
        rows.push(vec![cell.index.to_string(), cell.cell.name().into(), word(&state), cost.how, time]);
    }
    speeds.keep();
    let header = ["#", "cell", "state", "work", "time"].map(str::to_string).to_vec();
    say::result(format!("{}: {}", plan.grid.file.name, plan.grid.file.title))?;
    if let Some(stamp) = &plan.grid.file.stamp {
        say::result(stamp)?;
    }
    if lines == Lines::Cells {
        say::result(format!("\n{}\n", table::plain(header, rows.into_iter(), 4)))?;
    }
    let done = plan.cells.iter().filter(|cell| plan.state(cell.index) == State::Finished).count();
    say::result(format!(
        "{} cells, {done} finished; {} of computing left, measured on {} threads of this machine; {} of disk",
        plan.cells.len(),
        duration(seconds),
        candle_core::utils::get_num_threads(),
        say::short(bytes) + "B"
    ))?;
    for Missing { what, published, .. } in plan.missing() {
        say::result(format!("missing: {what}"))?;
        for file in published {
            say::result(format!("  published as {file}"))?;
        }
    }
    Ok(())
}

fn submit(args: &SubmitArgs, quiet: bool) -> Result<()> {
    let grid = Grid::load(&args.grid)?;
    let plan = Plan::of(&grid, &args.out)?;
    let show = Show::here(quiet);
    let asked = Asked {
        name: args.engine,
        cluster: args.cluster.clone(),
        template: args.template.clone(),
        handing: if args.dry_run { Handing::Shown } else { Handing::Over },
        threads: Engine::from_environment()?.threads.get(), // --threads, or all processors
    };
    let engine = asked.engine()?;
    let stop = interrupt::flag(show)?;
    if args.dry_run {
        return engine.run(&plan, show, &stop);
    }
    let _output = Output::open(&args.out)?;
    if show != Show::Nothing {
        say::note(format!("{} · {} cells · {}", grid.file.title, plan.cells.len(), args.out.display()));
    }
    let worked = engine.run(&plan, show, &stop);
    if engine.leaves() == Left::Nothing || stop.load(std::sync::atomic::Ordering::Relaxed) {
        return worked.and_then(|()| nothing_missing(&plan));
    }
    let written = write_report(&plan); // of what there is, also where a cell failed
    if let Ok(report) = &written {
        say::result(report.display())?;
    }
    worked.and(written.map(drop))
}

fn status(args: &GridDir) -> Result<()> {
    let grid = Grid::load(&args.grid)?;
    let plan = Plan::of(&grid, &args.out)?;
    let rows = plan.cells.iter().map(|cell| {
        let seconds = cell.place.as_ref().ok().and_then(|place| crate::grid::done::seconds(&place.dir));
        let time = seconds.map_or(String::new(), duration);
        vec![cell.index.to_string(), cell.cell.name().into(), word(&plan.state(cell.index)), time]
    });
    let header = ["#", "cell", "state", "time"].map(str::to_string).to_vec();
    say::result(table::plain(header, rows, 3))?;
    let count =
        |wanted: fn(&State) -> bool| plan.cells.iter().filter(|c| wanted(&plan.state(c.index))).count();
    let (finished, running) = (count(|s| *s == State::Finished), count(|s| *s == State::Running));
    Ok(say::result(format!("\n{finished} of {} cells finished, {running} running", plan.cells.len()))?)
}

fn word(state: &State) -> String {
    match state {
        State::Finished => "finished".into(),
        State::Running => "running".into(),
        State::Begun(how_far) => format!("begun ({how_far})"),
        State::Open => "to do".into(),
        State::Missing(what) if what.starts_with("waits") => what.clone(),
        State::Missing(_) => "missing input".into(),
    }
}

fn write_report(plan: &Plan<'_>) -> Result<PathBuf> {
    let file = &plan.grid.file;
    let frame = report::Frame {
        title: Some(file.title.clone()),
        stamp: file.stamp.clone(),
        remake: file.remake.clone(),
        table: file.table.as_ref().map(|table| PathBuf::from(plan.grid.beside(table))),
        to_do: plan.cells.iter().filter(|cell| plan.state(cell.index) != State::Finished).count(),
    };
    let dirs = plan.cells.iter().filter(|cell| plan.state(cell.index) == State::Finished);
    let dirs: Vec<PathBuf> = dirs.filter_map(|cell| Some(cell.place.as_ref().ok()?.dir.clone())).collect();
    if dirs.is_empty() {
        nothing_missing(plan)?; // a cell's place follows from its data
        let message =
            format!("{}: no cell of the grid is finished there, expected some to report", plan.out.display());
        return Err(Ended::Usage(message + "; `rslad grid submit` does them").into());
    }
    report::write(&dirs, &frame, &plan.out.join("report"))
}

/// A time as people say it.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}
