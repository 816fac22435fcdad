//! The pages of a column chunk, one after another: each has a head, levels that say which values are missing,
//! and the values or their places in the chunk's dictionary.

use super::footer::{Chunk, Column, Footer, Kind};
use super::thrift::Struct;
use super::{Result, damaged, hybrid};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Take};

/// Writers aim at one megabyte, and some write a row group's images as one page.
const MOST_UNPACKED: usize = 1 << 28;
/// Snappy unpacks three bytes to at most 64; what claims more is a trap.
const MOST_RATIO: usize = 32;
/// More rows than any data set of such images has.
const MOST_VALUES: usize = 1 << 20;

/// Gets the values of a page.
type Visit<'v> = &'v mut dyn FnMut(&[&[u8]]) -> Result<()>;

/// The whole numbers of a column in a row group.
///
/// # Errors
/// When it holds something else, a value is missing, or the file is damaged.
pub(crate) fn integers(file: &File, footer: &Footer, group: usize, column: usize) -> Result<Vec<i64>> {
    let size = match footer.column(column).kind {
        Kind::Int32 => 4,
        Kind::Int64 => 8,
        _ => return Err(format!("column `{}` holds no whole numbers", footer.column(column).path)),
    };
    let number = |bytes: &[u8]| {
        let mut wide = [if bytes[size - 1] < 0x80 { 0 } else { 0xff }; 8];
        wide[..size].copy_from_slice(bytes);
        i64::from_le_bytes(wide)
    };
    let mut numbers = Vec::new();
    Pages::open(file, footer.column(column), footer.chunk(group, column))?.read(&mut |values| {
        numbers.extend(values.iter().map(|value| number(value)));
        Ok(())
    })?;
    Ok(numbers)
}

/// Shows the values of a column of bytes in a row group, page by page.
///
/// # Errors
/// As [`integers`], and those of `visit`.
pub(crate) fn bytes(
    file: &File,
    footer: &Footer,
    group: usize,
    column: usize,
    visit: Visit<'_>,
) -> Result<()> {
    if footer.column(column).kind != Kind::Bytes {
        return Err(format!("`{}` is no column of bytes", footer.column(column).path));
    }
    Pages::open(file, footer.column(column), footer.chunk(group, column))?.read(visit)
}

/// A column chunk, as far as it has been read.
struct Pages<'f> {
    reader: Take<BufReader<&'f File>>,
    column: &'f Column,
    packed: bool,
    dictionary: Option<Values>,
    left: usize, // values still to come
}

/// Values in plain encoding: the bytes of a page, and where each value lies in them.
struct Values {
    bytes: Vec<u8>,
    ranges: Vec<(u32, u32)>,
}

impl Values {
    fn get(&self, (from, to): (u32, u32)) -> &[u8] {
        &self.bytes[from as usize..to as usize]
    }
}

impl<'f> Pages<'f> {
    fn open(file: &'f File, column: &'f Column, chunk: Chunk) -> Result<Self> {
        let packed = match chunk.codec {
            0 => false,
            1 => true,
            codec => {
                let names = ["gzip", "lzo", "brotli", "lz4", "zstd", "lz4"];
                let name = usize::try_from(codec - 2).ok().and_then(|at| names.get(at)).unwrap_or(&"?");
                return Err(format!("column `{}` is packed by {name}, expected snappy", column.path));
            }
        };
        if chunk.n_values > MOST_VALUES {
            return Err(format!("has more than {MOST_VALUES} rows"));
        }
        let mut reader = BufReader::new(file);
        reader.seek(SeekFrom::Start(chunk.start)).map_err(damaged)?;
        let reader = reader.take(chunk.length);
        Ok(Self { reader, column, packed, dictionary: None, left: chunk.n_values })
    }

    fn read(mut self, visit: Visit<'_>) -> Result<()> {
        while self.left > 0 {
            let head = Struct::read(&mut self.reader)?;
            let sizes = head.count(2).zip(head.count(3));
            let sizes = sizes.filter(|(_, size)| *size <= MOST_UNPACKED);
            let (unpacked, size) = sizes.ok_or_else(|| damaged("a page without a possible size"))?;
            let mut body = Vec::new();
            (&mut self.reader).take(size as u64).read_to_end(&mut body).map_err(damaged)?;
            if body.len() != size {
                return Err(damaged("a page that is cut short"));
            }
            match (head.int(1), head.structure(5), head.structure(7), head.structure(8)) {
                (Some(0), Some(data), ..) => self.data(data, body, unpacked, visit)?,
                (Some(3), .., Some(data)) => self.data_v2(data, body, unpacked, visit)?,
                (Some(2), _, Some(dictionary), _) => self.keep(dictionary, body, unpacked)?,
                (Some(1), ..) => {} // an index
                _ => return Err(damaged("a page of no known kind")),
            }
        }
        Ok(())
    }

    fn keep(&mut self, head: &Struct, body: Vec<u8>, unpacked: usize) -> Result<()> {
        let n = head.count(1).ok_or_else(|| damaged("a dictionary without a size"))?;
        if self.dictionary.is_some() {
            return Err(damaged("two dictionaries in one column"));
        }
        self.dictionary = Some(self.plain(self.unpack(body, unpacked)?, 0, n)?);
        Ok(())
    }

    /// Levels, with their length before them, and values, all of it packed.
    fn data(&mut self, head: &Struct, body: Vec<u8>, unpacked: usize, visit: Visit<'_>) -> Result<()> {
        let (n, encoding) = self.n_and_encoding(head.count(1), head.int(2))?;
        let body = self.unpack(body, unpacked)?;
        let mut at = 0;
        if self.column.level > 0 {
            if head.int(3) != Some(RLE) {
                return Err(damaged("levels in another encoding than runs"));
            }
            let length = body.first_chunk().map(|length| u32::from_le_bytes(*length) as usize);
            let levels = length.and_then(|length| body[4..].get(..length));
            let levels = levels.ok_or_else(|| damaged("a page without its levels"))?;
            self.check_levels(levels, n)?;
            at = 4 + levels.len();
        }
        self.show(body, at, n, encoding, visit)
    }

    /// Levels, which are never packed, and values.
    fn data_v2(&mut self, head: &Struct, body: Vec<u8>, unpacked: usize, visit: Visit<'_>) -> Result<()> {
        let (n, encoding) = self.n_and_encoding(head.count(1), head.int(4))?;
        let lengths = head.count(5).zip(head.count(6)); // of definition and repetition levels
        let levels = lengths.filter(|(_, repetition)| *repetition == 0).and_then(|(n, _)| body.get(..n));
        let levels = levels.ok_or_else(|| damaged("a page without its levels"))?;
        if self.column.level > 0 {
            self.check_levels(levels, n)?;
        }
        let values = body[levels.len()..].to_vec();
        let unpacked = unpacked.checked_sub(levels.len()).ok_or_else(|| damaged("a page without values"))?;
        let values = if head.int(7) == Some(0) { values } else { self.unpack(values, unpacked)? };
        self.show(values, 0, n, encoding, visit)
    }

    fn n_and_encoding(&mut self, n: Option<usize>, encoding: Option<i64>) -> Result<(usize, i64)> {
        let known = n.zip(encoding).ok_or_else(|| damaged("a page without a number of values"))?;
        let left = self.left.checked_sub(known.0);
        self.left = left.ok_or_else(|| damaged("pages with more values than their column"))?;
        Ok(known)
    }

    fn check_levels(&self, levels: &[u8], n: usize) -> Result<()> {
        let bits = u32::BITS - self.column.level.leading_zeros();
        match hybrid::numbers(levels, bits, n)?.iter().all(|&level| level == self.column.level) {
            true => Ok(()),
            false => Err(format!("column `{}` has missing values, expected one a row", self.column.path)),
        }
    }

    /// Shows the values that begin at a place in a page.
    fn show(&self, body: Vec<u8>, at: usize, n: usize, encoding: i64, visit: Visit<'_>) -> Result<()> {
        match encoding {
            PLAIN => {
                let values = self.plain(body, at, n)?;
                visit(&values.ranges.iter().map(|&range| values.get(range)).collect::<Vec<_>>())
            }
            PLAIN_DICTIONARY | RLE_DICTIONARY => {
                let no_dictionary = || damaged("a page that lacks its dictionary");
                let dictionary = self.dictionary.as_ref().ok_or_else(no_dictionary)?;
                let (bits, places) =
                    body[at..].split_first().ok_or_else(|| damaged("a page without values"))?;
                let places = hybrid::numbers(places, (*bits).into(), n)?;
                let value = |&place: &u32| dictionary.ranges.get(place as usize);
                let ranges: Option<Vec<_>> = places.iter().map(value).collect();
                let ranges = ranges.ok_or_else(|| damaged("a value that its dictionary lacks"))?;
                visit(&ranges.into_iter().map(|&range| dictionary.get(range)).collect::<Vec<_>>())
            }
            _ => Err(format!(
                "column `{}` is in encoding {encoding}, expected plain or dictionary",
                self.column.path
            )),
        }
    }

    /// `n` values from a place in a page on.
    fn plain(&self, bytes: Vec<u8>, at: usize, n: usize) -> Result<Values> {
        let mut ranges = Vec::new();
        let mut at = at;
        for _ in 0..n {
            let (before, size) = match self.column.kind {
                Kind::Int32 => (0, 4),
                Kind::Int64 => (0, 8),
                _ => {
                    let length = bytes.get(at..).and_then(|rest| rest.first_chunk());
                    (4, u32::from_le_bytes(*length.ok_or_else(too_few)?) as usize)
                }
            };
            let from = at + before;
            at = from.checked_add(size).filter(|&end| end <= bytes.len()).ok_or_else(too_few)?;
            ranges.push((from as u32, at as u32)); // a page is smaller than MOST_UNPACKED
        }
        Ok(Values { bytes, ranges })
    }

    fn unpack(&self, body: Vec<u8>, unpacked: usize) -> Result<Vec<u8>> {
        let trap = unpacked > MOST_UNPACKED || unpacked > MOST_RATIO * (body.len() + 1);
        if trap && self.packed {
            let packed = body.len();
            return Err(damaged(format!("a page of {packed} bytes that claims to unpack to {unpacked}")));
        }
        let claimed =
            if self.packed { snap::raw::decompress_len(&body).map_err(damaged)? } else { body.len() };
        if claimed != unpacked || claimed > MOST_UNPACKED {
            return Err(damaged(format!("a page of {claimed} bytes, expected {unpacked}")));
        }
        match self.packed && unpacked > 0 {
            true => snap::raw::Decoder::new().decompress_vec(&body).map_err(damaged),
            false => Ok(body),
        }
    }
}

const PLAIN: i64 = 0;
const PLAIN_DICTIONARY: i64 = 2;
const RLE: i64 = 3;
const RLE_DICTIONARY: i64 = 8;

fn too_few() -> String {
    damaged("a page with fewer values than it says")
}
