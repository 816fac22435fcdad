//! Parquet files, as far as image data sets need them: columns of bytes and of whole numbers, read page by
//! page.
//!
//! The files come from strangers, and every size in them is a claim. The `parquet` crate allocates what a
//! page claims to unpack to and panics on pages that contradict each other, so this reader is our own: it allocates
//! in proportion to the bytes that the file holds, and what it does not expect is an error. It reads
//! what the writers of image data sets use (flat columns in plain or dictionary encoding, plain or packed by
//! snappy), and names the rest.
//!
//! Source: <https://github.com/apache/parquet-format>, `parquet.thrift` and `Encodings.md`.

mod footer;
mod hybrid;
mod pages;
mod thrift;

pub(crate) use footer::Footer;
pub(crate) use pages::{bytes, integers};

/// What is wrong with a file: it follows the file's name.
type Result<T> = std::result::Result<T, String>;

fn damaged(what: impl std::fmt::Display) -> String {
    format!("is damaged or no parquet file ({what})")
}
