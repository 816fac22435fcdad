//! `rslad report`.

use crate::args::ReportArgs;
use crate::report::{self, Frame};
use crate::say;
use anyhow::Result;

pub(crate) fn run(args: &ReportArgs) -> Result<()> {
    let dirs: Vec<String> = args.dirs.iter().map(|dir| dir.display().to_string()).collect();
    let table = args.table.as_ref().map_or(String::new(), |table| format!(" --table {}", table.display()));
    let stamp = args.stamp.as_ref().map_or(String::new(), |stamp| format!(" --stamp {stamp:?}"));
    let remake = format!("rslad report {}{table}{stamp} --out {}", dirs.join(" "), args.out.display());
    let frame = Frame {
        title: args.title.clone(),
        stamp: args.stamp.clone(),
        table: args.table.clone(),
        remake: Some(remake),
        ..Frame::default()
    };
    Ok(say::result(report::write(&args.dirs, &frame, &args.out)?.display())?)
}
