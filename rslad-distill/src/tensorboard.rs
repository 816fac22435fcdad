//! Event files for TensorBoard: the curves of a run, one file a sitting.
//!
//! An event file is a list of records, each a length, its checksum, a protobuf message and its checksum.
//! Of the messages only the few fields that scalars need are declared here.
//!
//! # Source
//! `tensorflow/core/util/event.proto`, `framework/summary.proto`, `lib/io/record_writer.h`.

use crate::error::Result;
use crate::observer::{Beginning, EpochEvent, EvalEvent, Observer, StepEvent};
use prost::Message;
use rslad_models::Error as ModelError;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes the curves of a run.
#[derive(Debug)]
pub struct TensorBoard {
    directory: PathBuf,
    writer: Option<Writer>,
    steps_per_epoch: u64,
    failed: Option<ModelError>,
}

/// Steps of an epoch that become points; an epoch of more writes every so many.
const POINTS: u64 = 100;

impl TensorBoard {
    /// A watcher that writes `events.out.tfevents.*` into a directory once the run begins.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.into(), writer: None, steps_per_epoch: 1, failed: None }
    }

    /// Whether everything could be written. After a failure nothing more was tried: curves are no reason
    /// to end a run.
    ///
    /// # Errors
    /// The first failure.
    pub fn finish(self) -> Result<()> {
        self.failed.map_or(Ok(()), |error| Err(error.into()))
    }

    fn write(&mut self, events: &[Event]) {
        let Some(writer) = &mut self.writer else { return };
        if let Err(error) = writer.write(events) {
            self.writer = None;
            self.failed = Some(error);
        }
    }

    fn open(&mut self) {
        match Writer::create(&self.directory) {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => self.failed = Some(error),
        }
    }
}

impl Observer for TensorBoard {
    fn begin(&mut self, e: &Beginning) {
        self.steps_per_epoch = e.steps_per_epoch;
        self.open();
        let done = (e.epoch - 1) * e.steps_per_epoch + e.steps_done;
        // What an earlier sitting wrote beyond the state that it left is void.
        let start = Content::SessionLog(SessionLog { status: SessionLog::START });
        self.write(&[
            Event::now(0, Content::FileVersion("brain.Event:2".into())),
            Event::now(done + 1, start),
        ]);
    }

    fn step(&mut self, e: &StepEvent) {
        if !e.step.is_multiple_of(self.steps_per_epoch.div_ceil(POINTS)) {
            return;
        }
        let mut values = scalars("step", e.loss, &e.terms);
        values.extend([Value::new("step/lr", e.lr), Value::new("step/grad_norm", e.grad_norm)]);
        let step = (e.epoch - 1) * self.steps_per_epoch + e.step;
        self.write(&[Event::now(step, Content::Summary(Summary { value: values }))]);
    }

    fn epoch(&mut self, e: &EpochEvent) {
        let values = scalars("epoch", e.loss, &e.terms);
        self.write(&[Event::now(
            e.epoch * self.steps_per_epoch,
            Content::Summary(Summary { value: values }),
        )]);
    }

    fn eval(&mut self, e: &EvalEvent) {
        let values = [("clean", e.clean), ("robust", e.robust)];
        let group = if e.weights == "raw" { e.on.to_string() } else { format!("{}-{}", e.on, e.weights) };
        let value = values.map(|(name, v)| Value::new(&format!("{group}/{name}"), v)).to_vec();
        self.write(&[Event::now(e.epoch * self.steps_per_epoch, Content::Summary(Summary { value }))]);
    }
}

fn scalars(group: &str, loss: f64, terms: &BTreeMap<String, f64>) -> Vec<Value> {
    let terms = terms.iter().map(|(name, mean)| Value::new(&format!("{group}/{name}"), *mean));
    [Value::new(&format!("{group}/loss"), loss)].into_iter().chain(terms).collect()
}

/// An open event file.
#[derive(Debug)]
struct Writer {
    path: PathBuf,
    file: File,
}

impl Writer {
    /// A new file, named as TensorBoard expects: time, host, process.
    fn create(directory: &Path) -> std::result::Result<Self, ModelError> {
        let host =
            std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "localhost".into());
        let seconds = since_1970() as u64;
        let name = format!("events.out.tfevents.{seconds:010}.{}.{}", host.trim(), std::process::id());
        let mut n = 0;
        loop {
            let path = directory.join(format!("{name}.{n}"));
            match File::create_new(&path) {
                Ok(file) => return Ok(Self { path, file }),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => n += 1,
                Err(source) => return Err(ModelError::Write { path, bytes: 0, source }),
            }
        }
    }

    fn write(&mut self, events: &[Event]) -> std::result::Result<(), ModelError> {
        let bytes: Vec<u8> = events.iter().flat_map(|event| record(&event.encode_to_vec())).collect();
        let failed = |source| ModelError::Write { path: self.path.clone(), bytes: bytes.len(), source };
        self.file.write_all(&bytes).map_err(failed)
    }
}

fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let checksum = |bytes: &[u8]| masked(crc32c::crc32c(bytes)).to_le_bytes();
    [&length[..], &checksum(&length), message, &checksum(message)].concat()
}

/// A checksum of data that holds checksums of its own is masked, so that it differs from them.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "Content", tags = "3, 5, 7")]
    content: Option<Content>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Content {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl SessionLog {
    const START: i32 = 1;
}

impl Event {
    fn now(step: u64, content: Content) -> Self {
        Self { wall_time: since_1970(), step: step as i64, content: Some(content) }
    }
}

impl Value {
    fn new(tag: &str, value: f64) -> Self {
        Self { tag: tag.into(), simple_value: Some(value as f32) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::Update;

    #[test]
    fn checksums_are_those_of_the_format() {
        // Test vector of RFC 3720, B.4, and the mask of it by hand.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked(0x8a91_36aa), 0x0fd7_fffa);
    }

    #[test]
    fn a_record_is_length_checksum_message_checksum() {
        let record = record(b"abc");
        assert_eq!(record[..8], [3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&record[12..15], b"abc");
        assert_eq!(record.len(), 8 + 4 + 3 + 4);
    }

    /// The events of a file, its checksums compared.
    fn read(path: &Path) -> Vec<Event> {
        let bytes = std::fs::read(path).unwrap();
        let (mut rest, mut events) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let message = &rest[12..12 + length];
            assert_eq!(word(8), masked(crc32c::crc32c(&rest[..8])));
            assert_eq!(word(12 + length), masked(crc32c::crc32c(message)));
            events.push(Event::decode(message).unwrap());
            rest = &rest[12 + length + 4..];
        }
        events
    }

    #[test]
    fn a_continued_run_says_from_which_step_on_earlier_curves_are_void() {
        let dir = tempfile::tempdir().unwrap();
        let mut board = TensorBoard::new(dir.path());
        board.begin(&Beginning { epochs: 9, steps_per_epoch: 250, epoch: 3, steps_done: 7 });
        for step in 8u32..=13 {
            let terms = BTreeMap::from([("kl".to_string(), 0.5)]);
            let (lr, loss, grad_norm, update) = (0.1, f64::from(step), 2.0, Update::Taken);
            board.step(&StepEvent { epoch: 3, step: u64::from(step), lr, loss, terms, grad_norm, update });
        }
        board.eval(&EvalEvent {
            epoch: 3,
            weights: "raw",
            on: "validation",
            n: 4,
            clean: 0.75,
            robust: 0.5,
            loss: None,
            best: true,
        });
        board.finish().unwrap();

        let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let events = read(&file);
        assert_eq!(events[0].content, Some(Content::FileVersion("brain.Event:2".into())));
        let start = Some(Content::SessionLog(SessionLog { status: 1 }));
        assert_eq!((events[1].step, &events[1].content), (2 * 250 + 7 + 1, &start));
        let points = |event: &Event| match &event.content {
            Some(Content::Summary(s)) => {
                s.value.iter().map(|v| (v.tag.clone(), v.simple_value.unwrap())).collect()
            }
            _ => Vec::new(),
        };
        let point = |tag: &str, value: f32| (tag.to_string(), value);
        assert_eq!(events[2].step, 509, "every third step of 250 makes at most a hundred points");
        let expected = [
            point("step/loss", 9.0),
            point("step/kl", 0.5),
            point("step/lr", 0.1),
            point("step/grad_norm", 2.0),
        ];
        assert_eq!(points(&events[2]), expected);
        assert_eq!(events[4].step, 750);
        assert_eq!(points(&events[4]), [point("validation/clean", 0.75), point("validation/robust", 0.5)]);
        assert_eq!(events.len(), 5);
    }

    #[test]
    fn a_directory_that_is_gone_stops_the_curves_and_is_told_at_the_end() {
        let mut board = TensorBoard::new(Path::new("nowhere/at/all"));
        board.begin(&Beginning { epochs: 1, steps_per_epoch: 1, epoch: 1, steps_done: 0 });
        board.epoch(&EpochEvent { epoch: 1, loss: 1.0, terms: BTreeMap::new() });
        let error = board.finish().unwrap_err().to_string();
        assert!(error.contains("nowhere/at/all/events.out.tfevents"), "{error}");
    }
}
