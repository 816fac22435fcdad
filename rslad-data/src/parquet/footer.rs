//! What a parquet file says of itself at its end: its columns, and where the pages of each lie.

use super::thrift::Struct;
use super::{Result, damaged};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

const MAGIC: &[u8] = b"PAR1";
const MOST_COLUMNS: usize = 1000;

/// The end of a file.
#[derive(Debug)]
pub(crate) struct Footer {
    columns: Vec<Column>,
    /// Of each row group: its chunks, one a column.
    groups: Vec<Vec<Chunk>>,
}

/// A column of values, none of them nested in lists.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// Such as `img.bytes`.
    pub(super) path: String,
    pub(super) kind: Kind,
    /// The level of a value that is there; one less and it is missing.
    pub(super) level: u32,
    repeated: bool,
}

/// How values are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Int32,
    Int64,
    Bytes,
    Other,
}

/// The pages of a column in one row group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) n_values: usize,
    /// 0: not packed, 1: by snappy.
    pub(super) codec: i64,
}

impl Footer {
    /// Reads the footer of a file.
    pub(crate) fn read(file: &File) -> Result<Self> {
        let mut reader = BufReader::new(file);
        let size = reader.seek(SeekFrom::End(0)).map_err(damaged)?;
        let mut tail = [0; 8];
        reader.seek(SeekFrom::Start(size.saturating_sub(8))).map_err(damaged)?;
        reader.read_exact(&mut tail).map_err(damaged)?;
        let (length, magic) = tail.split_at(4);
        let length = u64::from(u32::from_le_bytes(length.try_into().unwrap_or_default()));
        if magic != MAGIC {
            return Err(damaged("it does not end with PAR1; wholly copied?"));
        }
        let start = size.checked_sub(8 + length).ok_or_else(|| damaged("its description is cut short"))?;
        reader.seek(SeekFrom::Start(start)).map_err(damaged)?;
        let says = Struct::read(&mut reader.take(length))?;
        let columns = says.structures(2).and_then(|schema| columns(&schema)).ok_or_else(no_schema)?;
        let groups = says.structures(4).ok_or_else(|| damaged("it lacks its row groups"))?;
        let groups = groups.into_iter().map(|group| chunks(group, columns.len())).collect::<Option<_>>();
        Ok(Self { columns, groups: groups.ok_or_else(|| damaged("a row group lacks its columns"))? })
    }

    /// The column of the first of these names that there is.
    ///
    /// # Errors
    /// When there is none, or its values are lists.
    pub(crate) fn find(&self, names: &[&str]) -> Result<usize> {
        let at = self.columns.iter().position(|column| names.contains(&column.path.as_str()));
        let paths = || self.columns.iter().map(|c| c.path.as_str()).collect::<Vec<_>>().join(", ");
        let at = at.ok_or_else(|| format!("has columns {}, expected `{}`", paths(), names[0]))?;
        match self.columns[at].repeated {
            false => Ok(at),
            true => Err(format!("column `{}` holds lists, expected one value a row", self.columns[at].path)),
        }
    }

    pub(crate) fn n_groups(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn column(&self, column: usize) -> &Column {
        &self.columns[column]
    }

    pub(super) fn chunk(&self, group: usize, column: usize) -> Chunk {
        self.groups[group][column]
    }
}

fn no_schema() -> String {
    damaged("it lacks its schema")
}

/// The leaves of the schema, which is a tree written from the root downwards.
fn columns(schema: &[&Struct]) -> Option<Vec<Column>> {
    /// A node whose children are still to come.
    struct Open {
        path: String,
        level: u32,
        repeated: bool,
        children: usize,
    }
    let (root, rest) = schema.split_first()?;
    let mut open = vec![Open { path: String::new(), level: 0, repeated: false, children: root.count(5)? }];
    let mut columns = Vec::new();
    for element in rest {
        while open.last()?.children == 0 {
            open.pop();
        }
        let parent = open.last_mut()?;
        parent.children -= 1;
        let name = element.text(4)?;
        let dot = if parent.path.is_empty() { "" } else { "." };
        let path = format!("{}{dot}{name}", parent.path);
        let level = parent.level + u32::from(element.int(3) != Some(0)); // 0: required
        let repeated = parent.repeated || element.int(3) == Some(2);
        match element.count(5) {
            None | Some(0) => {
                let kind = match element.int(1)? {
                    1 => Kind::Int32,
                    2 => Kind::Int64,
                    6 => Kind::Bytes,
                    _ => Kind::Other,
                };
                columns.push(Column { path, kind, level, repeated });
            }
            Some(children) => open.push(Open { path, level, repeated, children }),
        }
        if columns.len() > MOST_COLUMNS || open.len() > 8 || open.last()?.path.len() > 1 << 10 {
            return None;
        }
    }
    Some(columns)
}

fn chunks(group: &Struct, n_columns: usize) -> Option<Vec<Chunk>> {
    let chunks = group.structures(1)?;
    let chunk = |chunk: &Struct| {
        let meta = chunk.structure(3)?;
        let data = u64::try_from(meta.int(9)?).ok()?;
        // Some writers say 0 where there is no dictionary.
        let dictionary = meta.int(11).and_then(|at| u64::try_from(at).ok());
        let start = dictionary.filter(|&at| at > 0 && at < data).unwrap_or(data);
        let length = u64::try_from(meta.int(7)?).ok()?;
        Some(Chunk { start, length, n_values: meta.count(5)?, codec: meta.int(4)? })
    };
    (chunks.len() == n_columns).then(|| chunks.into_iter().map(chunk).collect())?
}
