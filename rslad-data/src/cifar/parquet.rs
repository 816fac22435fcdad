//! The hub's parquet files: a column of encoded images, a column of labels or two.
//!
//! The codec is told from the bytes: PNG on the hub, lossless WebP in smaller copies.

use super::official::is_published;
use super::part::Part;
use super::{Cifar, IMAGE};
use crate::error::{Error, Result};
use crate::hash::Hashed;
use crate::picture;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use rayon::prelude::*;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Rows that are read, then decoded on all threads.
const ROWS: usize = 1000;
const MAX_ROWS: usize = 1 << 20;
const MAX_GROUP: i64 = 1 << 30;

/// Reads the files of a split.
pub(super) fn read_files(set: Cifar, files: &[PathBuf]) -> Result<Part> {
    let read = |path: &PathBuf| {
        let file = || File::open(path).map_err(Error::reading(path));
        let mut part = guarded(set, path, file()?)?;
        if !is_published(&Hashed::new(file()?).sha256().map_err(Error::reading(path))?) {
            part.unknown.push(path.display().to_string());
        }
        Ok(part)
    };
    Ok(Part::concat(files.iter().map(read).collect::<Result<_>>()?))
}

/// `read`, for files that nobody vouches for: on some damaged ones the parquet crate panics (a page that asks
/// for a dictionary that never came, for one), and a data file must not end a process.
fn guarded(set: Cifar, path: &Path, file: File) -> Result<Part> {
    catch_unwind(AssertUnwindSafe(|| read(set, path, file)))
        .unwrap_or_else(|_| Err(Error::file(path, "is damaged: its pages contradict each other")))
}

fn read(set: Cifar, path: &Path, file: File) -> Result<Part> {
    let damaged = |error: ParquetError| Error::file(path, format!("is damaged or no parquet file ({error})"));
    let file = SerializedFileReader::new(file).map_err(damaged)?;
    let columns = Columns::find(set, &file).map_err(|message| Error::file(path, message))?;
    let mut part = Part::default();
    for at in 0..file.num_row_groups() {
        let size = file.metadata().row_group(at).total_byte_size();
        if !(0..=MAX_GROUP).contains(&size) {
            let message = format!("row group {at} unpacks to {size} bytes, expected at most {MAX_GROUP}");
            return Err(Error::file(path, message));
        }
        let group = file.get_row_group(at).map_err(damaged)?;
        let mut rows = Rows::open(group.as_ref(), &columns).map_err(damaged)?;
        while let Some(chunk) = rows.next(set, part.labels.len()).map_err(|m| Error::file(path, m))? {
            part.images.extend_from_slice(&chunk.images);
            part.labels.extend(chunk.labels);
            part.coarse.extend(chunk.coarse);
            if part.labels.len() > MAX_ROWS {
                return Err(Error::file(path, format!("has more than {MAX_ROWS} rows")));
            }
        }
    }
    Ok(part)
}

/// The columns by number.
struct Columns {
    image: usize,
    label: usize,
    coarse: Option<usize>,
}

impl Columns {
    fn find(set: Cifar, file: &dyn FileReader) -> std::result::Result<Self, String> {
        let schema = file.metadata().file_metadata().schema_descr();
        let paths: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
        let find = |names: &[&str]| {
            let at = paths.iter().position(|path| names.contains(&path.as_str()));
            at.ok_or_else(|| format!("has columns {}, expected `{}`", paths.join(", "), names[0]))
        };
        let image = find(&["img.bytes", "image.bytes"])?;
        match set {
            Cifar::Ten => Ok(Self { image, label: find(&["label"])?, coarse: None }),
            Cifar::Hundred => {
                Ok(Self { image, label: find(&["fine_label"])?, coarse: find(&["coarse_label"]).ok() })
            }
        }
    }
}

/// The readers of a row group's columns, which go forward together.
struct Rows {
    image: ColumnReader,
    label: ColumnReader,
    coarse: Option<ColumnReader>,
}

impl Rows {
    fn open(group: &dyn RowGroupReader, columns: &Columns) -> std::result::Result<Self, ParquetError> {
        Ok(Self {
            image: group.get_column_reader(columns.image)?,
            label: group.get_column_reader(columns.label)?,
            coarse: columns.coarse.map(|at| group.get_column_reader(at)).transpose()?,
        })
    }

    /// The next rows, decoded; none at the end. `first` is the number of the first of them.
    fn next(&mut self, set: Cifar, first: usize) -> std::result::Result<Option<Part>, String> {
        let packed = match &mut self.image {
            ColumnReader::ByteArrayColumnReader(reader) => values(reader, "img.bytes", first)?,
            _ => return Err("`img.bytes` is no column of bytes".to_owned()),
        };
        let labels = integers(&mut self.label, "label", first)?;
        let coarse =
            self.coarse.as_mut().map(|column| integers(column, "coarse_label", first)).transpose()?;
        let n = packed.len();
        if labels.len() != n || coarse.as_ref().is_some_and(|coarse| coarse.len() != n) {
            return Err(format!("columns of different lengths from row {first} on"));
        }
        if n == 0 {
            return Ok(None);
        }
        for row in 0..n {
            let coarse = coarse.as_ref().map(|coarse| coarse[row]);
            if let Some(problem) = Part::label_problem(set, labels[row], coarse) {
                return Err(format!("row {} has {problem}", first + row));
            }
        }
        let mut images = vec![0; n * IMAGE];
        let decoded =
            images.par_chunks_exact_mut(IMAGE).zip(&packed).enumerate().map(|(row, (out, packed))| {
                decode(packed.data(), out).map_err(|message| format!("row {}: {message}", first + row))
            });
        decoded.collect::<Vec<_>>().into_iter().collect::<std::result::Result<(), String>>()?;
        let checked = |labels: Vec<i64>| labels.into_iter().map(|label| label as u32).collect();
        let coarse = coarse.map_or(vec![], checked);
        Ok(Some(Part { images, labels: checked(labels), coarse, unknown: vec![] }))
    }
}

/// The next values of a column, none of them missing.
fn values<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    name: &str,
    first: usize,
) -> std::result::Result<Vec<T::T>, String> {
    let (mut values, mut defined) = (vec![], vec![]);
    let (rows, found, _) = reader
        .read_records(ROWS, Some(&mut defined), None, &mut values)
        .map_err(|error| format!("column `{name}` is damaged from row {first} on ({error})"))?;
    if found != rows {
        return Err(format!(
            "column `{name}` has missing values after row {first}, expected one in each row"
        ));
    }
    Ok(values)
}

fn integers(column: &mut ColumnReader, name: &str, first: usize) -> std::result::Result<Vec<i64>, String> {
    match column {
        ColumnReader::Int64ColumnReader(reader) => values(reader, name, first),
        ColumnReader::Int32ColumnReader(reader) => {
            Ok(values(reader, name, first)?.into_iter().map(i64::from).collect())
        }
        _ => Err(format!("column `{name}` holds no whole numbers")),
    }
}

/// Decodes a picture of 32x32 pixels into three planes, which are equal where it is gray.
fn decode(packed: &[u8], out: &mut [u8]) -> std::result::Result<(), String> {
    let values = picture::decode(packed, Some((32, 32)))?.values;
    out.chunks_exact_mut(values.len()).for_each(|planes| planes.copy_from_slice(&values));
    Ok(())
}
