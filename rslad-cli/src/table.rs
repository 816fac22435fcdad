//! Results as a table in the terminal.

use crate::evaluation::ResultFile;
use comfy_table::{CellAlignment, Table, presets};

/// One row a model, one column an attack; every cell with its 95 % interval.
pub(crate) fn of_results(rows: &[(&str, &ResultFile)]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    let mut header = vec!["accuracy, %".to_string(), "clean".to_string()];
    if let Some((_, first)) = rows.first() {
        header.extend(first.columns.iter().map(|c| c.name.clone()));
    }
    table.set_header(header);
    for (name, result) in rows {
        let mut cells = vec![(*name).to_string(), cell(result.clean.accuracy, result.clean.ci95)];
        cells.extend(result.columns.iter().map(|c| cell(c.accuracy, c.ci95)));
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn cell(share: f64, (low, high): (f64, f64)) -> String {
    format!("{:.1} ({:.1}–{:.1})", 100.0 * share, 100.0 * low, 100.0 * high)
}
