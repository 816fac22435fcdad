//! What an evaluation has decided so far, one line a verdict, so that the same command goes on where it
//! was interrupted.
//!
//! | file | what |
//! |---|---|
//! | `journal.jsonl` | what is asked, then a verdict a line |
//! | `journal.points` | the points of those verdicts, f32, where they are kept |
//!
//! A line is whole or it is the last one and not read; a point that is not what its line says is not
//! read either. A verdict is a function of the question and the example, so it does not matter which of
//! them a crash has kept. Both files go when the result is written.

use crate::say;
use anyhow::Result;
use rslad_attacks::{Ledger, Place, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::evaluation::SaveAdversarial;
use crate::exit::Ended;

const POINTS: &str = "journal.points";

/// How long verdicts may be in the hands of the operating system only.
const BETWEEN_SYNCS: Duration = Duration::from_secs(5);

pub(crate) struct Journal {
    dir: PathBuf,
    /// What is asked, hashed.
    question: String,
    save: SaveAdversarial,
    /// How many bytes a point takes.
    size: u64,
    /// The verdicts of earlier sittings.
    known: HashMap<(String, usize, u64), Verdict>,
    /// Where the last point of each example is, by column.
    kept: Kept,
    /// The files, once there is something to write.
    open: Option<Open>,
    /// Why writing has failed: the evaluation goes on without.
    given_up: Option<String>,
}

type Kept = BTreeMap<String, BTreeMap<u64, Point>>;

/// A point in the file of points.
#[derive(Clone, Copy)]
struct Point {
    /// Of the attack that found it. An example that fell meets no other of its column.
    stage: usize,
    place: u64,
    hash: u64,
}

struct Open {
    lines: File,
    points: File,
    written: u64,
    synced: Instant,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    journal: u32,
    question: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    column: String,
    stage: usize,
    id: u64,
    robust: bool,
    prediction: u32,
    finite: bool,
    linf: f32,
    survives_8_bit: bool,
    /// The place and the hash of the point among those kept.
    point: Option<(u64, u64)>,
}

impl Journal {
    /// The journal of a directory: what it knows of this question.
    ///
    /// # Errors
    /// When it is the journal of another question.
    pub(crate) fn open(dir: &Path, question: &str, save: SaveAdversarial, shape: [usize; 3]) -> Result<Self> {
        let mut journal = Self {
            dir: dir.to_path_buf(),
            question: question.to_owned(),
            save,
            size: (shape.iter().product::<usize>() * size_of::<f32>()) as u64,
            known: HashMap::new(),
            kept: Kept::new(),
            open: None,
            given_up: None,
        };
        journal.read()?;
        Ok(journal)
    }

    /// How many verdicts it knows.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether a directory holds one.
    pub(crate) fn is_kept(dir: &Path) -> bool {
        lines_of(dir).exists()
    }

    /// Removes the files.
    pub(crate) fn remove(dir: &Path) {
        for file in [lines_of(dir), points_of(dir)] {
            let _ = std::fs::remove_file(file); // gone already, or left for the next run to find done
        }
    }

    fn read(&mut self) -> Result<()> {
        let Ok(text) = std::fs::read(lines_of(&self.dir)) else { return Ok(()) };
        let mut points = File::open(points_of(&self.dir)).ok();
        let mut lines = text.split_inclusive(|byte| *byte == b'\n');
        let header = lines.next().and_then(|line| serde_json::from_slice::<Header>(line).ok());
        if header.is_none_or(|header| header.journal != 1 || header.question != self.question) {
            let file = lines_of(&self.dir);
            return Err(Ended::Usage(format!(
                "{}: an unfinished evaluation of another question (model, data, attacks, radius, seed, shard \
                 or version); choose another --out, or remove it",
                file.display()
            ))
            .into());
        }
        for line in lines.take_while(|line| line.ends_with(b"\n")) {
            let Ok(line) = serde_json::from_slice::<Line>(line) else { break };
            let point = line.point.map(|(place, hash)| Point { stage: line.stage, place, hash });
            if self.save == SaveAdversarial::Yes {
                let found = point.zip(points.as_mut());
                let Some((point, file)) = found else { continue };
                if read_point(file, point, self.size).is_err() {
                    continue; // not what the line says: it is found again
                }
                self.keep(&line.column, line.id, point);
            }
            let Line { column, stage, id, robust, prediction, finite, linf, survives_8_bit, .. } = line;
            let verdict = Verdict { id, robust, prediction, finite, linf, survives_8_bit, x_adv: None };
            self.known.insert((column, stage, id), verdict);
        }
        Ok(())
    }

    /// The last point counts.
    fn keep(&mut self, column: &str, id: u64, point: Point) {
        let of_column = match self.kept.get_mut(column) {
            Some(of_column) => of_column,
            None => self.kept.entry(column.to_owned()).or_default(),
        };
        let last = of_column.entry(id).or_insert(point);
        if point.stage >= last.stage {
            *last = point;
        }
    }

    /// The point that each example of a column was left with.
    pub(crate) fn into_points(self) -> Points {
        let Self { dir, size, kept, given_up, .. } = self;
        Points { file: points_of(&dir), size, kept, lost: given_up }
    }

    fn write(&mut self, place: &Place<'_>, verdicts: &[Verdict]) -> io::Result<()> {
        if self.open.is_none() {
            self.open = Some(self.start()?);
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let (mut lines, mut points, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for verdict in verdicts {
            let mut point = None;
            if let (SaveAdversarial::Yes, Some(x_adv)) = (self.save, &verdict.x_adv) {
                let pixels =
                    x_adv.flatten_all().and_then(|x| x.to_vec1::<f32>()).map_err(io::Error::other)?;
                let bytes: Vec<u8> = pixels.iter().flat_map(|p| p.to_le_bytes()).collect();
                let (stage, hash) = (place.number, fnv1a(&bytes));
                point = Some((open.written, hash));
                kept.push((verdict.id, Point { stage, place: open.written, hash }));
                open.written += 1;
                points.extend(bytes);
            }
            serde_json::to_writer(&mut lines, &line(place, verdict, point))?;
            lines.push(b'\n');
        }
        open.points.write_all(&points)?;
        open.lines.write_all(&lines)?;
        if open.synced.elapsed() >= BETWEEN_SYNCS {
            open.points.sync_data()?;
            open.lines.sync_data()?;
            open.synced = Instant::now();
        }
        for (id, point) in kept {
            self.keep(place.column, id, point);
        }
        Ok(())
    }

    /// Opens the files to go on behind what is known.
    fn start(&self) -> io::Result<Open> {
        let append = |file: PathBuf| OpenOptions::new().create(true).append(true).open(file);
        let (mut lines, points) = (append(lines_of(&self.dir))?, append(points_of(&self.dir))?);
        // A torn end is cut off, or the next line would be part of it.
        let text = std::fs::read(lines_of(&self.dir))?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        lines.set_len(whole as u64)?;
        let written = points.metadata()?.len().div_ceil(self.size);
        points.set_len(written * self.size)?;
        if whole == 0 {
            let header = Header { journal: 1, question: self.question.clone() };
            serde_json::to_writer(&mut lines, &header)?;
            lines.write_all(b"\n")?;
        }
        Ok(Open { lines, points, written, synced: Instant::now() })
    }
}

impl Ledger for Journal {
    fn find(&self, place: &Place<'_>, id: u64) -> Option<Verdict> {
        self.known.get(&(place.column.to_owned(), place.number, id)).cloned()
    }

    /// Never an error: a disk that cannot hold the journal must not cost the result.
    fn add(&mut self, place: &Place<'_>, verdicts: &[Verdict]) -> rslad_attacks::Result<()> {
        if self.given_up.is_some() {
            return Ok(());
        }
        if let Err(error) = self.write(place, verdicts) {
            self.given_up = Some(error.to_string());
            self.open = None;
            Self::remove(&self.dir);
            say::note(format!(
                "warning: {}: cannot write ({error}); going on, but an interruption will cost the work",
                lines_of(&self.dir).display()
            ));
        }
        Ok(())
    }
}

/// The points of an evaluation, as its journal has kept them.
pub(crate) struct Points {
    file: PathBuf,
    size: u64,
    kept: Kept,
    /// Why they are not all there.
    lost: Option<String>,
}

impl Points {
    /// Writes the point of each of these examples, one after the other: what `clean` gives where no attack was run.
    ///
    /// # Errors
    /// When the points are not there, or a write fails.
    pub(crate) fn copy(
        &self,
        column: &str,
        ids: &[u64],
        clean: impl Fn(u64) -> io::Result<Vec<u8>>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        if let Some(why) = &self.lost {
            return Err(io::Error::other(format!("the adversarial images could not be kept ({why})")));
        }
        let none = BTreeMap::new();
        let kept = self.kept.get(column).unwrap_or(&none);
        let mut file = None;
        for &id in ids {
            let bytes = match kept.get(&id) {
                None => clean(id)?,
                Some(&point) => {
                    let file = match &mut file {
                        Some(file) => file,
                        closed => closed.insert(File::open(&self.file)?),
                    };
                    read_point(file, point, self.size)?
                }
            };
            out.write_all(&bytes)?;
        }
        Ok(())
    }
}

/// The bytes of a point, where they are still what was written.
fn read_point(file: &mut File, point: Point, size: u64) -> io::Result<Vec<u8>> {
    let damaged = || io::Error::other(format!("{POINTS} is damaged at point {}", point.place));
    let start = point.place.checked_mul(size).ok_or_else(damaged)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes)?;
    match fnv1a(&bytes) == point.hash && bytes.len() as u64 == size {
        true => Ok(bytes),
        false => Err(damaged()),
    }
}

fn line(place: &Place<'_>, verdict: &Verdict, point: Option<(u64, u64)>) -> Line {
    let Verdict { id, robust, prediction, finite, linf, survives_8_bit, .. } = *verdict;
    let (column, stage) = (place.column.to_owned(), place.number);
    Line { column, stage, id, robust, prediction, finite, linf, survives_8_bit, point }
}

fn lines_of(dir: &Path) -> PathBuf {
    dir.join("journal.jsonl")
}

fn points_of(dir: &Path) -> PathBuf {
    dir.join(POINTS)
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    const PLACE: Place<'static> = Place { column: "aa", attack: "square", number: 1, of: 2 };

    fn verdict(id: u64) -> Verdict {
        let x_adv = Tensor::full(id as f32 / 9.0, (1, 2, 2), &Device::Cpu).unwrap();
        let linf = 0.1 + id as f32 / 77.0;
        let (robust, prediction) = (id.is_multiple_of(2), 3);
        Verdict { id, robust, prediction, finite: true, linf, survives_8_bit: !robust, x_adv: Some(x_adv) }
    }

    fn open(dir: &Path, save: SaveAdversarial) -> Journal {
        Journal::open(dir, "q", save, [1, 2, 2]).unwrap()
    }

    fn same(a: &Verdict, b: &Verdict) -> bool {
        a.id == b.id && a.robust == b.robust && a.linf == b.linf
    }

    fn bytes(verdict: &Verdict) -> Vec<u8> {
        let pixels = verdict.x_adv.as_ref().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        pixels.iter().flat_map(|p| p.to_le_bytes()).collect()
    }

    /// The points of these examples; nothing for one that has none.
    fn points(journal: Journal, ids: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        journal.into_points().copy("aa", ids, |_| Ok(Vec::new()), &mut out).unwrap();
        out
    }

    #[test]
    fn what_was_written_is_known_again() {
        let dir = tempfile::tempdir().unwrap();
        for ids in [[1, 2], [3, 4]] {
            open(dir.path(), SaveAdversarial::Yes).add(&PLACE, &ids.map(verdict)).unwrap();
        }
        let mut journal = open(dir.path(), SaveAdversarial::Yes);
        assert_eq!(journal.len(), 4);
        assert!((1..=4).all(|id| same(&journal.find(&PLACE, id).unwrap(), &verdict(id))));
        assert!(journal.find(&PLACE, 5).is_none());
        assert!(journal.find(&Place { number: 0, ..PLACE }, 1).is_none());
        journal.add(&PLACE, &[verdict(5)]).unwrap();
        assert_eq!(points(journal, &[5, 2, 6]), [bytes(&verdict(5)), bytes(&verdict(2))].concat());
        Journal::remove(dir.path());
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
    }

    #[test]
    fn the_point_of_the_last_attack_counts() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path(), SaveAdversarial::Yes);
        let first = Place { number: 0, ..PLACE };
        journal.add(&first, &[verdict(2), verdict(3)]).unwrap();
        journal.add(&PLACE, &[Verdict { x_adv: verdict(7).x_adv, ..verdict(2) }]).unwrap();
        let expected = [bytes(&verdict(7)), bytes(&verdict(3))].concat();
        assert_eq!(points(journal, &[2, 3]), expected);
        assert_eq!(points(open(dir.path(), SaveAdversarial::Yes), &[2, 3]), expected);
    }

    #[test]
    fn a_journal_cut_anywhere_knows_a_part_and_goes_on() {
        let whole = tempfile::tempdir().unwrap();
        open(whole.path(), SaveAdversarial::Yes).add(&PLACE, &[1, 2, 3].map(verdict)).unwrap();
        let lines = std::fs::read(lines_of(whole.path())).unwrap();
        let kept = std::fs::read(points_of(whole.path())).unwrap();
        let header = lines.iter().position(|b| *b == b'\n').unwrap() + 1;
        for cut in (header..lines.len()).step_by(7) {
            for cut_points in [0, 5, 16, 33, kept.len()] {
                let dir = tempfile::tempdir().unwrap();
                std::fs::write(lines_of(dir.path()), &lines[..cut]).unwrap();
                std::fs::write(points_of(dir.path()), &kept[..cut_points]).unwrap();
                let mut journal = open(dir.path(), SaveAdversarial::Yes);
                assert!(journal.len() < 3 && journal.known.values().all(|v| same(v, &verdict(v.id))));
                let missing: Vec<u64> = (1..=3).filter(|id| journal.find(&PLACE, *id).is_none()).collect();
                journal.add(&PLACE, &missing.into_iter().map(verdict).collect::<Vec<_>>()).unwrap();
                let journal = open(dir.path(), SaveAdversarial::Yes);
                assert_eq!(journal.len(), 3, "cut at {cut} and {cut_points}");
                assert!(journal.known.values().all(|v| same(v, &verdict(v.id))));
                assert_eq!(points(journal, &[1, 2, 3]), kept, "cut at {cut} and {cut_points}");
            }
        }
    }

    #[test]
    fn points_that_are_wanted_and_were_not_kept_make_a_verdict_unknown() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), SaveAdversarial::No).add(&PLACE, &[verdict(1)]).unwrap();
        assert_eq!(open(dir.path(), SaveAdversarial::No).len(), 1);
        assert_eq!(open(dir.path(), SaveAdversarial::Yes).len(), 0);
    }

    #[test]
    fn damaged_points_are_not_written_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path(), SaveAdversarial::Yes);
        journal.add(&PLACE, &[verdict(1)]).unwrap();
        let mut kept = std::fs::read(points_of(dir.path())).unwrap();
        kept[3] ^= 1;
        std::fs::write(points_of(dir.path()), kept).unwrap();
        assert_eq!(open(dir.path(), SaveAdversarial::Yes).len(), 0);
        let copied = journal.into_points().copy("aa", &[1], |_| Ok(Vec::new()), &mut Vec::new());
        assert!(copied.unwrap_err().to_string().contains("damaged at point 0"));
    }

    #[test]
    fn another_question_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), SaveAdversarial::No).add(&PLACE, &[verdict(1)]).unwrap();
        let message = Journal::open(dir.path(), "other", SaveAdversarial::No, [1, 2, 2]).err().unwrap();
        assert!(message.to_string().contains("of another question"), "{message}");
    }
}
