//! Writes small data sets in the forms that CIFAR is published in. None of it is shared with the readers.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs;
use std::path::Path;

/// The value of a pixel, by image, channel, row and column: no symmetry maps it to itself.
pub fn pixel(image: usize, channel: usize, row: usize, column: usize) -> u8 {
    (image * 37 + channel * 83 + row * 3 + column * 5) as u8
}

/// Labels of `n` images in so many classes.
pub fn label(image: usize, classes: usize) -> u8 {
    ((7 * image + 3) % classes) as u8
}

/// One of the two data sets, as far as its files are concerned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Set {
    Cifar10,
    Cifar100,
}

impl Set {
    pub fn name(self) -> &'static str {
        if self == Self::Cifar10 { "cifar10" } else { "cifar100" }
    }

    pub fn classes(self) -> usize {
        if self == Self::Cifar10 { 10 } else { 100 }
    }

    /// A record of the binary files.
    pub fn record(self, image: usize) -> Vec<u8> {
        let mut record = vec![label(image, self.classes())];
        if self == Self::Cifar100 {
            record.insert(0, label(image, 20));
        }
        for channel in 0..3 {
            for row in 0..32 {
                record.extend((0..32).map(|column| pixel(image, channel, row, column)));
            }
        }
        record
    }

    pub fn records(self, images: std::ops::Range<usize>) -> Vec<u8> {
        images.flat_map(|image| self.record(image)).collect()
    }

    /// A pickle of protocol 2 with the array that NumPy writes.
    pub fn pickle(self, images: std::ops::Range<usize>) -> Vec<u8> {
        let n = images.len();
        let data: Vec<u8> =
            images.clone().flat_map(|image| self.record(image).split_off(self.labels())).collect();
        let mut out = b"\x80\x02}(".to_vec();
        out.extend(b"U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R");
        out.extend([&b"(K\x01M"[..], &(n as u16).to_le_bytes(), b"M\x00\x0c\x86"].concat());
        out.extend(b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T");
        out.extend((data.len() as u32).to_le_bytes());
        out.extend([&data[..], b"tb"].concat());
        let mut list = |key: &[u8], classes: usize| {
            out.extend([&[b'U', key.len() as u8][..], key, b"]("].concat());
            out.extend(images.clone().flat_map(|image| [b'K', label(image, classes)]));
            out.push(b'e');
        };
        match self {
            Self::Cifar10 => list(b"labels", 10),
            Self::Cifar100 => {
                list(b"fine_labels", 100);
                list(b"coarse_labels", 20);
            }
        }
        out.extend(b"u.");
        out
    }

    fn labels(self) -> usize {
        if self == Self::Cifar10 { 1 } else { 2 }
    }

    /// The files of both splits, with this ending, in the folder of the archives: 5 images to train on and
    /// 2 to test on (the numbers 5 and 6).
    pub fn files(self, ending: &str) -> Vec<(String, Vec<u8>)> {
        let contents = |images| if ending == ".bin" { self.records(images) } else { self.pickle(images) };
        match self {
            Self::Cifar10 => {
                let mut files = vec![(format!("data_batch_1{ending}"), contents(0..1))];
                files.extend((2..=5).map(|i| (format!("data_batch_{i}{ending}"), contents(i - 1..i))));
                files.push((format!("test_batch{ending}"), contents(5..7)));
                files
            }
            Self::Cifar100 => {
                vec![(format!("train{ending}"), contents(0..5)), (format!("test{ending}"), contents(5..7))]
            }
        }
    }
}

pub fn write(folder: &Path, files: &[(String, Vec<u8>)]) {
    fs::create_dir_all(folder).unwrap();
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

/// A `.tar.gz` of these files in one folder, last file first: the official one is in no order either.
pub fn archive(folder: &str, files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(vec![], Compression::fast()));
    let mut add = |name: String, kind: tar::EntryType, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    add(format!("{folder}/"), tar::EntryType::Directory, b"");
    add(format!("{folder}/readme.html"), tar::EntryType::Regular, b"<html>");
    for (name, bytes) in files.iter().rev() {
        add(format!("{folder}/{name}"), tar::EntryType::Regular, bytes);
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// A parquet file with the hub's columns.
#[cfg(feature = "parquet")]
pub fn parquet(set: Set, images: std::ops::Range<usize>, format: image::ImageFormat) -> Vec<u8> {
    let pictures = images.clone().map(|image| picture(image, format)).collect();
    let labels = |classes| images.clone().map(|image| i64::from(label(image, classes))).collect();
    match set {
        Set::Cifar10 => parquet_of(pictures, &[("label", labels(10))]),
        Set::Cifar100 => parquet_of(pictures, &[("fine_label", labels(100)), ("coarse_label", labels(20))]),
    }
}

#[cfg(feature = "parquet")]
pub fn picture(image: usize, format: image::ImageFormat) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(32, 32, |x, y| {
        image::Rgb([0, 1, 2].map(|channel| pixel(image, channel, y as usize, x as usize)))
    });
    let mut out = std::io::Cursor::new(vec![]);
    picture.write_to(&mut out, format).unwrap();
    out.into_inner()
}

/// A parquet file of pictures and columns of whole numbers, two rows to a row group.
#[cfg(feature = "parquet")]
pub fn parquet_of(pictures: Vec<Vec<u8>>, labels: &[(&str, Vec<i64>)]) -> Vec<u8> {
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use std::sync::Arc;

    let columns: String = labels.iter().map(|(name, _)| format!("optional int64 {name};")).collect();
    let schema = format!(
        "message schema {{ optional group img {{ optional binary bytes; optional binary path (UTF8); }} {columns} }}"
    );
    let schema = Arc::new(parquet::schema::parser::parse_message_type(&schema).unwrap());
    let properties = WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
    let mut out = vec![];
    let mut file = SerializedFileWriter::new(&mut out, schema, Arc::new(properties)).unwrap();
    for (at, chunk) in pictures.chunks(2).enumerate() {
        let mut group = file.next_row_group().unwrap();
        let bytes: Vec<ByteArray> = chunk.iter().cloned().map(ByteArray::from).collect();
        let paths: Vec<ByteArray> = chunk.iter().map(|_| ByteArray::from("a.png")).collect();
        for values in [bytes, paths] {
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&values, Some(&vec![2; values.len()]), None).unwrap();
            column.close().unwrap();
        }
        for (_, labels) in labels {
            let values = &labels[2 * at..(2 * at + 2).min(labels.len())];
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<Int64Type>().write_batch(values, Some(&vec![1; values.len()]), None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    file.close().unwrap();
    out
}
