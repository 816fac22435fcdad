//! `rslad record`.

use crate::args::RecordArgs;
use crate::record::{self, Asked};
use crate::say;
use anyhow::Result;

pub(crate) fn run(args: &RecordArgs) -> Result<()> {
    let asked = Asked {
        dirs: &args.dirs,
        logs: &args.log,
        title: &args.title,
        table: args.table.as_deref(),
        stamp: args.stamp.as_deref(),
    };
    Ok(say::result(record::write(&asked, &args.out)?.display())?)
}
