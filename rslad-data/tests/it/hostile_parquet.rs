//! Parquet files written by hand, so that each part can claim what it likes.

use super::damaged::message;
use super::published::{Set, label, picture, pixel};
use rslad_data::{Image, Split, open};
use std::fs;
use std::time::Instant;
use tempfile::TempDir;

/// A value of Thrift's compact protocol.
enum Value {
    Int(i64),
    Text(&'static str),
    List(Vec<Value>),
    Struct(Vec<(u8, Value)>),
}
use Value::{Int, List, Struct, Text};

impl Value {
    fn kind(&self) -> u8 {
        match self {
            Int(_) => 6,
            Text(_) => 8,
            List(_) => 9,
            Struct(_) => 12,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Int(n) => varint(out, ((n << 1) ^ (n >> 63)) as u64),
            Text(text) => {
                varint(out, text.len() as u64);
                out.extend(text.as_bytes());
            }
            List(items) => {
                out.push((items.len() as u8) << 4 | items[0].kind());
                items.iter().for_each(|item| item.put(out));
            }
            Struct(fields) => {
                let mut last = 0;
                for (id, value) in fields {
                    out.push((id - last) << 4 | value.kind());
                    value.put(out);
                    last = *id;
                }
                out.push(0);
            }
        }
    }
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// A page: its kind, its own header, and what it holds; `claim` is the size that it says it unpacks to.
fn page(kind: i64, header: (u8, Vec<(u8, Value)>), body: &[u8], claim: usize) -> Vec<u8> {
    let sizes = vec![(1, Int(kind)), (2, Int(claim as i64)), (3, Int(body.len() as i64))];
    let mut out = vec![];
    let own = (header.0, Struct(header.1));
    Struct(sizes.into_iter().chain([own]).collect()).put(&mut out);
    out.extend(body);
    out
}

fn dictionary(n: i64, body: &[u8]) -> Vec<u8> {
    page(2, (7, vec![(1, Int(n)), (2, Int(0))]), body, body.len())
}

/// A data page: levels as one run, then values.
fn data(n: i64, encoding: i64, level: u8, values: &[u8]) -> Vec<u8> {
    let mut run = vec![];
    varint(&mut run, (n as u64) << 1);
    run.push(level);
    let body = [&(run.len() as u32).to_le_bytes()[..], &run, values].concat();
    let header = vec![(1, Int(n)), (2, Int(encoding)), (3, Int(3)), (4, Int(3))];
    page(0, (5, header), &body, body.len())
}

fn data_v2(n: i64, encoding: i64, values: &[u8]) -> Vec<u8> {
    let body = [&[(n as u8) << 1, 2], values].concat();
    let header = vec![
        (1, Int(n)),
        (2, Int(0)),
        (3, Int(n)),
        (4, Int(encoding)),
        (5, Int(2)),
        (6, Int(0)),
        (7, Int(0)),
    ];
    page(3, (8, header), &body, body.len())
}

/// Values of bytes in plain encoding.
fn plain(values: &[Vec<u8>]) -> Vec<u8> {
    values.iter().flat_map(|value| [&(value.len() as u32).to_le_bytes()[..], value].concat()).collect()
}

/// A file of one row group, with these pages of images and `n` labels.
struct File {
    pages: Vec<u8>,
    n: i64,
    codec: i64,
    repetition: i64,
}

impl File {
    fn of(pages: &[Vec<u8>], n: i64) -> Self {
        Self { pages: pages.concat(), n, codec: 0, repetition: 1 }
    }

    fn bytes(&self) -> Vec<u8> {
        let run = [&[8u8][..], &{
            let mut run = vec![];
            varint(&mut run, (self.n as u64) << 1);
            run.push(0);
            run
        }]
        .concat();
        let numbers: Vec<u8> = (0..10i64).flat_map(i64::to_le_bytes).collect();
        let labels = match self.n {
            0..=10 => {
                let labels = (0..self.n).flat_map(|i| i64::from(label(i as usize, 10)).to_le_bytes());
                data(self.n, 0, 1, &labels.collect::<Vec<_>>())
            }
            n => [dictionary(10, &numbers), data(n, 8, 1, &run)].concat(),
        };
        let mut out = b"PAR1".to_vec();
        out.extend(&self.pages);
        out.extend(&labels);
        let element = |kind: Option<i64>, name, repetition, children: Option<i64>| {
            let fields = [kind.map(|k| (1, Int(k))), Some((3, Int(repetition))), Some((4, Text(name)))];
            Struct(fields.into_iter().flatten().chain(children.map(|n| (5, Int(n)))).collect())
        };
        let schema = vec![
            element(None, "schema", 0, Some(2)),
            element(None, "img", 1, Some(1)),
            element(Some(6), "bytes", self.repetition, None),
            element(Some(2), "label", 1, None),
        ];
        let chunk = |start: usize, length: usize, codec| {
            let about = [(4, codec), (5, self.n), (7, length as i64), (9, start as i64)];
            Struct(vec![(3, Struct(about.map(|(id, n)| (id, Int(n))).into()))])
        };
        let chunks =
            vec![chunk(4, self.pages.len(), self.codec), chunk(4 + self.pages.len(), labels.len(), 0)];
        let group = Struct(vec![(1, List(chunks)), (3, Int(self.n))]);
        let start = out.len();
        Struct(vec![(2, List(schema)), (3, Int(self.n)), (4, List(vec![group]))]).put(&mut out);
        let length = (out.len() - start) as u32;
        out.extend(length.to_le_bytes());
        out.extend(b"PAR1");
        out
    }
}

fn pictures(n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|i| picture(i, image::ImageFormat::Png)).collect()
}

const NAME: &str = "test-00000-of-00001.parquet";

#[test]
fn pages_of_every_kind_that_is_read_give_the_same_images() {
    let places = |bits: u8, packed: &[u8]| [&[bits, 3], packed].concat(); // one run of eight, packed
    for pages in [
        vec![data(3, 0, 2, &plain(&pictures(3)))],
        vec![data(1, 0, 2, &plain(&pictures(1))), data(2, 0, 2, &plain(&pictures(3)[1..]))],
        vec![data_v2(3, 0, &plain(&pictures(3)))],
        vec![dictionary(3, &plain(&pictures(3))), data(3, 8, 2, &places(2, &[0b10_01_00]))],
        vec![dictionary(3, &plain(&pictures(3))), data_v2(3, 2, &places(2, &[0b10_01_00]))],
    ] {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join(NAME), File::of(&pages, 3).bytes()).unwrap();
        let read = open(&format!("cifar10:{}", dir.path().display()), Split::Test).unwrap();
        assert_eq!(read.labels(), [0, 1, 2].map(|i| u32::from(label(i, 10))));
        for image in 0..3 {
            let Image::Levels { values, .. } = read.image(image) else { panic!("bytes") };
            assert_eq!(values[1024 + 3 * 32 + 5], pixel(image, 1, 3, 5));
        }
    }
}

#[test]
fn pages_that_claim_too_much_or_contradict_each_other_are_refused_at_once() {
    let check = |file: File, expected: &str| {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join(NAME), file.bytes()).unwrap();
        let clock = Instant::now();
        let said = message(Set::Cifar10, dir.path(), Split::Test);
        assert!(said.contains(expected), "{said}, not {expected}");
        assert!(clock.elapsed().as_secs() < 1, "{expected} took {:?}", clock.elapsed());
    };
    let of = |pages: &[Vec<u8>]| File::of(pages, 3);
    let whole = || plain(&pictures(3));
    let run = |n: u64, value: u8| {
        let mut run = vec![8]; // bits
        varint(&mut run, n << 1);
        run.push(value);
        run
    };
    let header = || (5, vec![(1, Int(3)), (2, Int(0)), (3, Int(3)), (4, Int(3))]);
    let packed = |pages: &[Vec<u8>]| File { codec: 1, ..of(pages) };
    let mut bomb = vec![];
    varint(&mut bomb, 1 << 30); // what snappy claims itself
    bomb.extend([0; 20]);
    check(
        packed(&[page(0, header(), &bomb, 1 << 30)]),
        "a page of 25 bytes that claims to unpack to 1073741824",
    );
    check(packed(&[page(0, header(), &bomb, 700)]), "a page of 1073741824 bytes, expected 700");
    check(packed(&[page(0, header(), b"\xbc\x05xyz", 700)]), "is damaged or no parquet file");
    check(of(&[page(0, header(), b"", 1 << 40)]), "expected 1099511627776");
    check(of(&[data(3, 0, 2, &whole()[..500])]), "a page with fewer values than it says");
    check(of(&[data(4, 0, 2, &whole())]), "pages with more values than their column");
    check(of(&[data(2, 0, 2, &whole())]), "is damaged or no parquet file");
    check(of(&[data(3, 8, 2, &run(3, 0))]), "a page that lacks its dictionary");
    check(of(&[dictionary(3, &whole()), data(3, 8, 2, &run(3, 3))]), "a value that its dictionary lacks");
    check(of(&[dictionary(3, &whole()), dictionary(3, &whole())]), "two dictionaries in one column");
    check(of(&[dictionary(i64::from(i32::MAX), &whole())]), "fewer values than it says");
    check(of(&[dictionary(-1, &whole())]), "a dictionary without a size");
    check(of(&[data(3, 0, 1, &whole())]), "column `img.bytes` has missing values, expected one a row");
    check(
        of(&[data(3, 6, 2, &whole())]),
        "column `img.bytes` is in encoding 6, expected plain or dictionary",
    );
    check(of(&[page(9, header(), &[], 0)]), "a page of no known kind");
    check(File { codec: 6, ..of(&[]) }, "column `img.bytes` is packed by zstd, expected snappy");
    check(File { repetition: 2, ..of(&[]) }, "column `img.bytes` holds lists, expected one value a row");
    check(File::of(&[], 1 << 21), "has more than 1048576 rows");
    let n = 1 << 19;
    let many = [dictionary(1, &plain(&pictures(1))), data(n, 8, 2, &run(n as u64, 0))];
    check(File::of(&many, n), "bytes of images, a trap");
}
