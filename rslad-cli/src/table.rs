//! Tables in the terminal.

use crate::result_file::ResultFile;
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

/// One row a model, one column an attack; every cell with its 95 % interval.
pub(crate) fn of_results(rows: &[(&str, &ResultFile)]) -> String {
    let mut header = vec!["accuracy, %".to_string(), "clean".to_string()];
    if let Some((_, first)) = rows.first() {
        header.extend(first.columns.iter().map(|c| c.name.clone()));
    }
    let cells = rows.iter().map(|(name, result)| {
        let mut cells = vec![(*name).to_string(), cell(result.clean.accuracy, result.clean.ci95)];
        cells.extend(result.columns.iter().map(|c| cell(c.accuracy, c.ci95)));
        cells
    });
    plain(header, cells, 1)
}

/// Cells in columns under a ruled header: the first `texts` columns to the left, then numbers to the
/// right.
pub(crate) fn plain(header: Vec<String>, rows: impl Iterator<Item = Vec<String>>, texts: usize) -> String {
    let style = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
    let mut table = Table::new();
    table.load_style(style).set_header(header).add_rows(rows);
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((u16::from(i > 0), 1));
        if i >= texts {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// A share with its interval, in percent.
pub(crate) fn cell(share: f64, (low, high): (f64, f64)) -> String {
    format!("{:.1} ({:.1}–{:.1})", 100.0 * share, 100.0 * low, 100.0 * high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_ruled_once_and_ends_clean() {
        let owned = |row: [&str; 2]| row.map(str::to_string).to_vec();
        let text =
            plain(owned(["model", "clean"]), [owned(["natural", "96.1"]), owned(["b", "1"])].into_iter(), 1);
        assert_eq!(text, "model     clean\n────────────────\nnatural    96.1\nb             1");
    }
}
